"""The few expressions that differ between databases, each with the one meaning the rule needs.

Every statement runs with the session's time zone set to UTC (see `reaper.database.dialect`), so JSON made here has
ISO 8601 times in UTC, and means the same on each database. How each spells them stands in `reaper.sql.element`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Executable,
    Integer,
    Numeric,
    String,
    TableClause,
    and_,
    bindparam,
    literal,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import DateTime, NullType

from reaper.model import DISTANT_PAST, Key, TimestampFormat
from reaper.sql import mariadb, postgresql
from reaper.sql.element import DialectElement, Element, RawSql
from reaper.sql.keys import parameters
from reaper.sql.types import DOCUMENT, FLOAT, INFINITY, INSTANT, MINUS_INFINITY, TEXTS

__all__ = [
    "DOCUMENT",
    "FLOAT",
    "INSTANT",
    "Element",
    "LockTable",
    "add_seconds",
    "array_length",
    "concat",
    "count_if",
    "duration_text",
    "epoch",
    "equals_typed_text",
    "from_instant",
    "infinity",
    "instant",
    "json_append",
    "json_member",
    "json_object",
    "key_in_batch",
    "key_parameters",
    "largest_number",
    "newest",
    "now",
    "null_instant",
    "null_text",
    "raw_sql",
    "seconds_between",
    "text_in",
    "text_of",
    "to_instant",
    "untyped",
    "utc_text",
]


def now() -> Element:
    """The database's clock, read once per statement."""
    return DialectElement(INSTANT, postgresql.now, mariadb.now)


def instant(value: datetime) -> Element:
    """A moment of the database's clock, bound. LONG_AGO is bound as the one that no other comes before."""
    bound = literal(MINUS_INFINITY if value == DISTANT_PAST else value, INSTANT)
    return DialectElement(INSTANT, postgresql.itself, mariadb.bound, bound)


def infinity() -> Element:
    """The moment that never comes."""
    return DialectElement(INSTANT, postgresql.itself, mariadb.bound, literal(INFINITY, INSTANT))


def null_instant() -> Element:
    """A NULL that is a moment."""
    return DialectElement(INSTANT, postgresql.no_instant, mariadb.no_instant)


def add_seconds(context: Element, by: Element | float) -> Element:
    """A moment so many seconds later."""
    seconds = by if isinstance(by, ColumnElement) else literal(by, FLOAT)
    return DialectElement(INSTANT, postgresql.later, mariadb.later, context, seconds)


def to_instant(stored: Element, time: TimestampFormat) -> Element:
    """The moment that a stored value stands for; NULL for NULL, and for MariaDB's zero date."""
    return DialectElement(INSTANT, postgresql.TO_INSTANT[time], mariadb.TO_INSTANT[time], stored)


def from_instant(context: Element, time: TimestampFormat) -> Element:
    """A moment as a column stores it: to be compared with the column, or to be written there.

    An epoch keeps its fraction: a column of whole numbers is compared exactly, and takes the nearest.
    """
    if time is TimestampFormat.TIMESTAMPTZ:
        return context
    kind = DateTime() if time is TimestampFormat.NAIVE else Numeric()
    return DialectElement(kind, postgresql.FROM_INSTANT[time], mariadb.FROM_INSTANT[time], context)


def untyped(value: object) -> Element:
    """A bound value whose type the database takes from its context: an enum's label, a uuid."""
    return bindparam(None, value, type_=NullType(), unique=True)


def newest(*instants: Element) -> Element:
    """The latest of several moments; NULLs do not count."""
    return DialectElement(INSTANT, postgresql.newest, mariadb.newest, *instants) if len(instants) > 1 else instants[0]


def largest_number(*numbers: Element) -> Element:
    """The largest of these numbers and of zero; NULLs do not count."""
    return DialectElement(Numeric(), postgresql.largest, mariadb.largest, *numbers)


def seconds_between(later: Element, earlier: Element) -> Element:
    """From `earlier` to `later`, in seconds to the millisecond; NULL when either is infinite or NULL."""
    return DialectElement(Numeric(), postgresql.seconds, mariadb.seconds, later, earlier)


def epoch(context: Element) -> Element:
    """Seconds since 1970 as a float, which takes infinities and dates that Python's datetime cannot."""
    return DialectElement(FLOAT, postgresql.epoch, mariadb.epoch, context)


def duration_text(duration: Element) -> Element:
    """Seconds in the two units that matter: `31h 12m`, `12m 5s`, `5s`."""
    return DialectElement(String(), postgresql.in_words, mariadb.in_words, duration)


def utc_text(context: Element) -> Element:
    """A moment as text to the second, in UTC."""
    return DialectElement(String(), postgresql.in_utc, mariadb.in_utc, context)


def json_object(members: Mapping[str, Element]) -> Element:
    """A JSON object with these members."""
    flat: list[Element] = []
    for name, value in members.items():
        flat += [literal(name, String), value]
    return DialectElement(DOCUMENT, postgresql.json_object, mariadb.json_object, *flat)


def json_member(document: Element, path: Sequence[str] = ()) -> Element:
    """What stands in a JSON document below these names; the document itself below none."""
    if not path:
        return DialectElement(DOCUMENT, postgresql.itself, mariadb.itself, document)
    return DialectElement(
        DOCUMENT, postgresql.member, mariadb.member, document, *(literal(name, String) for name in path)
    )


def json_append(array: Element, member: Element) -> Element:
    """A JSON array with one member more; NULL is an empty one."""
    return DialectElement(DOCUMENT, postgresql.appended, mariadb.appended, array, member)


def array_length(array: Element) -> Element:
    """How many members an array or a JSON array has."""
    return DialectElement(Integer(), postgresql.length, mariadb.length, array)


def text_of(value: Element) -> Element:
    """Any column as text, which is equal only to the very same text."""
    return DialectElement(String(), postgresql.text_of, mariadb.text_of, value)


def null_text() -> Element:
    """A NULL that is text."""
    return DialectElement(String(), postgresql.no_text, mariadb.no_text)


def concat(*parts: str | Element) -> Element:
    """Texts one after the other; a NULL is passed over."""
    texts = (literal(p, String) if isinstance(p, str) else p for p in parts)
    return DialectElement(String(), postgresql.concat, mariadb.concat, *texts)


def text_in(text: Element, values: Collection[str]) -> ColumnElement[bool]:
    """A text is among these, however many they are."""
    return DialectElement(NullType(), postgresql.one_of, mariadb.one_of, text, literal(sorted(values), TEXTS))


def count_if(*conditions: ColumnElement[bool]) -> Element:
    """How many of the rows all of these conditions hold for."""
    return DialectElement(Integer(), postgresql.count_if, mariadb.count_if, and_(*conditions))


def equals_typed_text(column: Element, text: str) -> ColumnElement[bool]:
    """The column holds what this text, typed by a person, names.

    PostgreSQL raises DBAPIError for a text that does not fit the column's type; on MariaDB it names nothing.
    """
    return DialectElement(NullType(), postgresql.named, mariadb.named, column, untyped(text))


def key_in_batch(columns: Sequence[Element]) -> ColumnElement[bool]:
    """These columns are one of the keys that `key_parameters` binds. An index on them is used."""
    return DialectElement(NullType(), postgresql.keyed, mariadb.keyed, *columns)


def key_parameters(keys: Iterable[Key]) -> dict[str, object]:
    """What `keyed` binds."""
    return parameters(keys)


def raw_sql(parts: Sequence[str | Element]) -> Element:
    """The parts one after the other, in brackets: text as it is, expressions as they compile."""
    return RawSql(parts)


class LockTable(Executable, ClauseElement):
    """Nobody writes to the table until the transaction ends; whoever reads it is not in the way."""

    inherit_cache = False

    def __init__(self, table: TableClause) -> None:
        self.table = table


@compiles(LockTable)
def _lock_table(element: LockTable, compiler: Any, **_: Any) -> str:
    return f"LOCK TABLE {compiler.preparer.format_table(element.table)} IN SHARE ROW EXCLUSIVE MODE"
