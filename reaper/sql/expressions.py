"""The expressions that differ between databases, each with the one meaning that the rule needs.

Every statement runs in a session whose time zone is UTC (see `reaper.database.dialect`), so JSON made here has ISO 8601
times in UTC, and means the same on each database. `reaper.sql.postgresql` and `reaper.sql.mariadb` write the
expressions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Delete,
    Dialect,
    Numeric,
    Select,
    String,
    TableClause,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
)
from sqlalchemy.types import NullType, TypeEngine

from reaper.model import StoredTime, TimestampFormat
from reaper.sql import elements
from reaper.sql.elements import Element, LockTable, RawSql
from reaper.sql.types import DOCUMENT, FLOAT, INFINITY, INSTANT, TEXTS

__all__ = [
    "DOCUMENT",
    "FLOAT",
    "INSTANT",
    "OWN_PATH",
    "TEXTS",
    "Element",
    "LockTable",
    "add_seconds",
    "along_own_path",
    "array_length",
    "assigned",
    "can_only_be",
    "compares_as_stored",
    "concat",
    "count_if",
    "duration_text",
    "epoch",
    "equals_typed_text",
    "exact_instant",
    "fingerprint",
    "from_instant",
    "infinity",
    "instant",
    "instant_at",
    "instant_parameter",
    "interval_seconds",
    "json_append",
    "json_member",
    "json_object",
    "json_text_member",
    "key_in_batch",
    "key_value",
    "largest_number",
    "matches_glob",
    "newest",
    "not_before",
    "now",
    "null_instant",
    "null_text",
    "own_path_set",
    "parameter",
    "raw_sql",
    "seconds_between",
    "shortened",
    "table_number",
    "text_in",
    "text_of",
    "to_instant",
    "untyped",
    "utc_text",
    "view_definition",
]

SHOWN_LENGTH = 200
"""Characters of a text that are sent where it is only shown."""


# --- moments -------------------------------------------------------------------------------------------------


def now() -> Element:
    """The database's clock, read once per statement."""
    return elements.CurrentInstant()


def instant(value: datetime) -> Element:
    """A moment of the database's clock, bound."""
    return elements.BoundInstant(literal(value, INSTANT))


def instant_parameter(name: str) -> Element:
    """A moment that has a value only when the statement is run."""
    return elements.BoundInstant(parameter(name, INSTANT))


def infinity() -> Element:
    """The moment that is later than all others."""
    return elements.BoundInstant(literal(INFINITY, INSTANT))


def null_instant() -> Element:
    """NULL as a moment."""
    return elements.NullInstant()


def add_seconds(moment: Element, seconds: Element | float) -> Element:
    """The moment that many seconds later."""
    return elements.AddSeconds(moment, seconds if isinstance(seconds, ColumnElement) else literal(seconds, FLOAT))


def newest(*instants: Element) -> Element:
    """The latest of several moments; NULLs do not count."""
    return elements.Newest(*instants) if len(instants) > 1 else instants[0]


def seconds_between(later: Element, earlier: Element) -> Element:
    """From `earlier` to `later`, in seconds to the millisecond; NULL when either is infinite or NULL."""
    return elements.SecondsBetween(later, earlier)


def epoch(moment: Element) -> Element:
    """Seconds since 1970 as a float, which takes infinities and dates that Python's datetime cannot."""
    return elements.Epoch(moment)


def instant_at(epoch: Element) -> Element:
    """The moment so many seconds after 1970, a text that the reaper has written itself: it is within the calendar.

    `to_instant` is for what others have stored.
    """
    return elements.InstantAt(epoch)


def interval_seconds(interval: Element) -> Element:
    """The seconds of a column of durations: an interval, or MariaDB's TIME."""
    return elements.IntervalSeconds(interval)


# --- moments as columns store them ------------------------------------------------------------------------------


def to_instant(stored: Element, time: StoredTime) -> Element:
    """The moment that a stored value stands for; NULL for NULL, and for values that systems write for "none".

    These are all moments until 2 January 1970, and numbers of milliseconds until March 1973, with which 0, -1, year 1,
    -infinity and zero dates are NULL on every database alike. A local time that comes twice is the later of its two
    moments: so it can only spare a job. A text that is no moment is the end of time, which is in the future, and is not
    taken for silence.
    """
    if time.format is TimestampFormat.EPOCH_MS:
        return elements.RealMomentSince1973(_converted(stored, time))
    return elements.RealMoment(_converted(stored, time))


def can_only_be(unit: TimestampFormat, number: Element) -> ColumnElement[bool]:
    """A number of this unit, and not of the other one: as one of it, it is a moment from 2001 to 5138; as one of the
    other, from January 1970 to March 1973, or beyond the year 30,000.
    """
    first, last = _CAN_ONLY_BE[unit]
    return and_(number >= literal_column(first, Numeric), number < literal_column(last, Numeric))


_CAN_ONLY_BE = {
    TimestampFormat.EPOCH_S: ("1000000000", "100000000000"),
    TimestampFormat.EPOCH_MS: ("1000000000000", "100000000000000"),
}


def exact_instant(stored: Element, time: StoredTime) -> Element:
    """The same, with those values as the moments that they are: for a calculation whose result is written back."""
    return _converted(stored, time)


def _converted(stored: Element, time: StoredTime) -> Element:
    return elements.FROM_STORED[time.format](stored, *_zone(time))


def from_instant(moment: Element, time: StoredTime) -> Element:
    """A moment as a column stores it: to be compared with the column, or to be written there.

    An epoch keeps its fraction: a column of whole numbers is compared exactly, and rounds what is written to it. A
    local time, or a text, is for writing, and for a rough comparison: see `compares_as_stored`.
    """
    if time.format is TimestampFormat.TIMESTAMPTZ:
        return moment
    return elements.TO_STORED[time.format](moment, *_zone(time))


def compares_as_stored(time: StoredTime) -> bool:
    """Whether stored values have the same order as their moments: not in local time, nor as texts."""
    return not time.is_local and time.format is not TimestampFormat.ISO_TEXT


def _zone(time: StoredTime) -> list[Element]:
    """The zone, where moments of this format may need it."""
    if time.format not in (TimestampFormat.NAIVE, TimestampFormat.ISO_TEXT):
        return []
    return [elements.zone_literal(time.zone or "UTC")]


# --- texts -----------------------------------------------------------------------------------------------------


def text_of(value: Element) -> Element:
    """Any column as text, which is equal only to the very same text."""
    return elements.TextOf(value)


def null_text() -> Element:
    """NULL as text."""
    return elements.NullText()


def concat(*parts: str | Element) -> Element:
    """Texts one after the other; NULLs are left out."""
    return elements.Concat(*(literal(part, String) if isinstance(part, str) else part for part in parts))


def shortened(text: Element) -> Element:
    """A text that is only shown, cut after SHOWN_LENGTH characters: a mark then says how long it was.

    The mark is ASCII: the database's encoding may have no other characters. The bytes are counted first, which
    PostgreSQL does without reading a long value.
    """
    length, cut = func.char_length(text), literal(SHOWN_LENGTH)
    marked = concat(func.left(text, cut, type_=String), "... (", text_of(length), " characters)")
    return case((func.octet_length(text) > cut, case((length > cut, marked), else_=text)), else_=text)


def fingerprint(text: Element) -> Element:
    """A text that is only compared: itself, or a hash where it is long."""
    return case((func.octet_length(text) > literal(SHOWN_LENGTH), elements.Hash(text)), else_=text)


def duration_text(seconds: Element) -> Element:
    """Seconds in the two largest units: `31h 12m`, `12m 5s`, `5s`; in words for NULL, and for less than none."""
    return elements.DurationText(seconds)


def utc_text(moment: Element) -> Element:
    """A moment as text to the second, in UTC."""
    return elements.UtcText(moment)


# --- JSON and arrays ---------------------------------------------------------------------------------------------


def json_object(members: Mapping[str, Element]) -> Element:
    """A JSON object with these members."""
    return elements.JsonObject(*(part for name, value in members.items() for part in (literal(name, String), value)))


def json_member(document: Element, path: Sequence[str] = ()) -> Element:
    """The member of a JSON document at this path of names; the document itself for an empty path."""
    return elements.JsonMember(document, *(literal(name, String) for name in path))


def json_text_member(document: Element, name: Element) -> Element:
    """The member with this name of a JSON object whose members are texts; NULL without such a member."""
    return elements.JsonTextMember(document, name)


def json_append(array: Element, member: Element) -> Element:
    """A JSON array with one member more; NULL counts as an empty array."""
    return elements.JsonAppend(array, member)


def array_length(array: Element) -> Element:
    """The number of members of an array or a JSON array."""
    return elements.ArrayLength(array)


# --- numbers and counts -------------------------------------------------------------------------------------------


def largest_number(*numbers: Element) -> Element:
    """The largest of these numbers and of zero; NULLs do not count."""
    return elements.LargestNumber(*numbers)


def random_share() -> Element:
    """A number from 0 up to 1, another one for each row."""
    return elements.RandomShare()


def count_if(*conditions: ColumnElement[bool]) -> Element:
    """The number of rows for which all of these conditions hold."""
    return elements.CountIf(and_(*conditions))


# --- conditions -----------------------------------------------------------------------------------------------------


def text_in(text: Element, values: Element) -> ColumnElement[bool]:
    """A text is one of those of a parameter of type TEXTS."""
    return elements.TextIn(text, values)


def matches_glob(text: Element, pattern: str) -> ColumnElement[bool]:
    """A text, made by `text_of`, matches this pattern as a whole: `*` is any text, `?` one character. Case counts."""
    escaped = "".join(f"!{character}" if character in "!%_" else character for character in pattern)
    like = escaped.replace("*", "%").replace("?", "_")
    return elements.LikePattern(text, literal(like, String))


def not_before(column: Element, moment: Element) -> ColumnElement[bool]:
    """A column that stores moments is not before another one, of the same format. An index on it is used.

    However old the statistics are, PostgreSQL takes this for a ninth of the rows or more. Else it takes a moment that
    is newer than all of its statistics for one that no row has reached: it then compares each job with each such row.
    """
    return elements.NotBefore(column, moment)


def equals_typed_text(column: Element, text: Element) -> ColumnElement[bool]:
    """The column holds the value that a person typed as this text, an untyped parameter.

    PostgreSQL raises DBAPIError for a text that does not fit the column's type; on MariaDB no row matches.
    """
    return elements.EqualsTypedText(column, text)


def key_value(key_column: Element, text: Element) -> Element:
    """The value of a key column whose text, a parameter, the database has given: to be compared with the column."""
    return elements.KeyValue(key_column, text)


def key_in_batch(key_columns: Sequence[Element]) -> ColumnElement[bool]:
    """These columns are one of the keys that `reaper.sql.keys.key_parameters` binds. An index on them is used."""
    return elements.KeyInBatch(*key_columns)


# --- others --------------------------------------------------------------------------------------------------------


def parameter(name: str, value_type: TypeEngine[Any] | None = None) -> Element:
    """A parameter that has a value only when the statement is run.

    Without a type, the database takes that from the context.
    """
    return bindparam(name, type_=value_type or NullType())


def untyped(value: object) -> Element:
    """A bound value whose type the database takes from its context: an enum's label, a uuid."""
    return bindparam(None, value, type_=NullType(), unique=True)


def assigned(value: Element) -> Element:
    """A value that a statement writes to a column, whatever the names of its parameters and of the column are."""
    return elements.Assigned(value)


def raw_sql(parts: Sequence[str | Element]) -> Element:
    """The parts one after the other, in brackets: text as it is, expressions as they compile."""
    return RawSql(parts)


# --- statements that write --------------------------------------------------------------------------------------

OWN_PATH = "reaper_own_path"
"""The parameter with the role's own search path (see `reaper.database.dialect.Dialect.own_path`)."""

Writing = TypeVar("Writing", bound=Select[Any] | Update | Delete)


def along_own_path(statement: Writing, dialect: Dialect) -> Writing:
    """The statement with the role's own search path, along which the user's triggers and constraints find their names.

    The server evaluates the condition once, before it reads the first row. The names of the statement itself have been
    looked up by then, along the path of the transaction; the next statement is to pin that again.
    """
    if dialect.name != "postgresql":
        return statement
    writing: Any = statement
    along: Writing = writing.where(own_path_set())
    return along


def table_number(table: TableClause) -> Element:
    """The number of the table that a name means when the statement runs; NULL for none. PostgreSQL only."""
    return elements.TableNumber(table)


def view_definition(number: Element) -> Element:
    """A hash of the definition of the view with this number. PostgreSQL only."""
    return elements.ViewDefinition(number)


def own_path_set() -> ColumnElement[bool]:
    """The condition of `along_own_path`, for a statement on PostgreSQL."""
    return elements.OwnPathSet(parameter(OWN_PATH, String()))
