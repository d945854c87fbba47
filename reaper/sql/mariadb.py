"""How MariaDB writes the expressions of `reaper.sql.expressions`.

MariaDB has neither infinities nor time zones, so a moment is a DATETIME(6) in UTC. Its collations take different texts
for equal. Its GREATEST and CONCAT are NULL as soon as one argument is.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    or_,
    tuple_,
)
from sqlalchemy.types import BigInteger, Numeric

from reaper.common.time_zones import offset_changes
from reaper.sql import elements
from reaper.sql.elements import Element, RawSql, compiled_on, zone_of
from reaper.sql.iso_text import ISO_MOMENT, ISO_NONE, ISO_OFFSET, ISO_TIME_OF_DAY
from reaper.sql.keys import KEY_COLUMN_VALUES, STORED_KEYS, WHOLE_KEYS, ValueList
from reaper.sql.types import (
    EXACT_COLLATION,
    FIRST_EPOCH,
    FLOAT,
    INFINITY,
    INSTANT,
    LAST_EPOCH,
    MINUS_INFINITY,
    Bytes,
    is_document,
    is_instant,
)

_MICROSECOND: Element = literal_column("MICROSECOND")
_SECOND: Element = literal_column("SECOND")
_1970: Element = literal_column("TIMESTAMP'1970-01-01 00:00:00.000000'")
# Earlier than every date. A row that holds it means "none", as NULL does.
_ZERO: Element = literal_column("CAST('0000-00-00 00:00:00' AS DATETIME(6))")
_NONE: Element = literal_column("TIMESTAMP'1970-01-02 00:00:00.000000'")
_SINCE_1973: Element = literal_column("TIMESTAMP'1973-03-03 09:46:39.000000'")
_LAST: Element = literal_column("TIMESTAMP'9999-12-31 23:59:59.999999'")
_UTC = offset_changes("UTC")
_UUID_BYTES, _UUID_HYPHENS = 16, (9, 14, 19, 24)

# For the dialects "mysql" and "mariadb", and the default: `str(statement)` has no dialect.
mariadb = compiled_on()


@mariadb(elements.CurrentInstant)
def now() -> Element:
    return func.now(literal_column("6"))


@mariadb(elements.BoundInstant)
def bound_instant(value: Element) -> Element:
    # MariaDB takes a literal for text, and a CASE of several too.
    # Imported late: with PostgreSQL alone it is not needed, and it takes memory.
    from sqlalchemy.dialects import mysql

    return cast(value, mysql.DATETIME(fsp=6))


@mariadb(elements.Newest)
def newest(*instants: Element) -> Element:
    return func.nullif(func.greatest(*(func.coalesce(moment, _ZERO) for moment in instants)), _ZERO)


@mariadb(elements.LargestNumber)
def largest_number(*numbers: Element) -> Element:
    zero: Element = literal_column("0e0")
    return func.greatest(*(func.coalesce(number, zero) for number in numbers), zero)


@mariadb(elements.SecondsBetween)
def seconds_between(later: Element, earlier: Element) -> Element:
    elapsed = func.timestampdiff(_MICROSECOND, _finite(earlier), _finite(later), type_=Numeric)
    return func.round(elapsed * literal_column("0.000001", Numeric), literal_column("3"))


def _finite(moment: Element) -> Element:
    for end in (MINUS_INFINITY, INFINITY):
        moment = func.nullif(moment, bound_instant(literal(end, INSTANT)))
    return moment


@mariadb(elements.Epoch)
def epoch(moment: Element) -> Element:
    return _microseconds(moment) * literal_column("1e-6", Numeric)


@mariadb(elements.InstantAt)
def instant_at(epoch: Element) -> Element:
    return add_seconds(_1970, cast(epoch, Numeric(20, 6)))


@mariadb(elements.IntervalSeconds)
def interval_seconds(time: Element) -> Element:
    return cast(func.time_to_sec(time), FLOAT)


def _microseconds(moment: Element) -> Element:
    return func.timestampdiff(_MICROSECOND, _1970, moment, type_=Numeric)


@mariadb(elements.DurationText)
def duration_text(seconds: Element) -> Element:
    hours, minutes, whole_seconds = (seconds.op("DIV")(literal_column(size)) for size in ("3600", "60", "1"))
    rest_minutes, rest_seconds = (func.mod(count, literal_column("60")) for count in (minutes, whole_seconds))
    return case(
        (seconds >= 3600, func.concat(hours, "h ", rest_minutes, "m")),
        (seconds >= 60, func.concat(minutes, "m ", rest_seconds, "s")),
        (seconds >= 0, func.concat(whole_seconds, "s")),
        else_="an unknown time",
    )


@mariadb(elements.UtcText)
def utc_text(moment: Element) -> Element:
    return func.date_format(moment, "%Y-%m-%dT%H:%i:%SZ")


@mariadb(elements.JsonObject)
def json_object(*names_and_values: Element) -> Element:
    return func.json_object(*(_json_value(part) for part in names_and_values))


def _json_value(value: Element) -> Element:
    """A moment as PostgreSQL writes it to JSON: without zeros at the end of the fraction."""
    if not is_instant(value.type):
        return value
    full_text = func.date_format(value, "%Y-%m-%dT%H:%i:%S.%f")
    return func.concat(func.regexp_replace(full_text, "[.]?0+$", ""), "+00:00")


@mariadb(elements.TextOf)
def text_of(value: Element) -> Element:
    text = _text_of_bytes(value, value.type.most) if isinstance(value.type, Bytes) else value
    return _as_text(text).collate(EXACT_COLLATION)


def _text_of_bytes(value: Element, most: int) -> Element:
    """Hexadecimal digits; 16 bytes in a column for as many as a UUID."""
    digits: Element = func.lower(func.hex(value))
    if most != _UUID_BYTES:
        return digits
    uuid = digits
    for place in _UUID_HYPHENS:
        uuid = func.insert(uuid, literal_column(str(place)), literal_column("0"), literal_column("'-'"))
    return case((func.length(value) == literal_column(str(_UUID_BYTES)), uuid), else_=digits)


@mariadb(elements.KeyValue)
def key_value(column: Element, text: Element) -> Element:
    return func.unhex(func.replace(text, literal_column("'-'"), literal_column("''"))) if _is_bytes(column) else text


def _is_bytes(column: Element) -> bool:
    return isinstance(column.type, Bytes)


def _as_text(value: Element) -> Element:
    from sqlalchemy.dialects import mysql

    return cast(value, mysql.CHAR(charset="utf8mb4"))


@mariadb(elements.NullText)
def null_text() -> Element:
    return text_of(null())


@mariadb(elements.Hash)
def hash_of(text: Element) -> Element:
    return func.sha2(text, literal_column("256"))


@mariadb(elements.Concat)
def concat(*texts: Element) -> Element:
    return func.concat_ws("", *texts)


@mariadb(elements.RandomShare)
def random_share() -> Element:
    return func.rand()


@mariadb(elements.CountIf)
def count_if(condition: Element) -> Element:
    return func.count(case((condition, literal_column("1"))))


@mariadb(elements.EqualsTypedText)
def equals_typed_text(column: Element, text: Element) -> Element:
    if _is_bytes(column):
        return column == key_value(column, text)
    # A column of numbers takes any text for the number that it begins with, or for 0. So the texts are compared too.
    return and_(column == text, _as_text(column) == text)


@mariadb(elements.NotBefore)
def not_before(column: Element, moment: Element) -> Element:
    """MariaDB asks the index itself how many rows there are."""
    return column >= moment


@mariadb(elements.KeyInBatch)
def key_in_batch(*key: Element) -> Element:
    """The columns are compared with literals, which uses an index whatever their types and collations, then as text.

    A join with the keys as rows, of JSON_TABLE for example, uses no index on a column of another character set.
    """
    of_bytes = tuple(map(_is_bytes, key))
    if len(key) == 1:
        [column], values = key, KEY_COLUMN_VALUES.format(0)
        is_in = _is_in(column, values, *of_bytes)
        return is_in if any(of_bytes) else and_(is_in, _is_in(text_of(column), values))
    same = _is_in(tuple_(*key), STORED_KEYS if any(of_bytes) else WHOLE_KEYS, *of_bytes)
    return and_(same, _is_in(tuple_(*map(text_of, key)), WHOLE_KEYS))


def _is_in(value: Element, values: str, *of_bytes: bool) -> ColumnElement[bool]:
    return value.bool_op("IN")(bindparam(values, type_=ValueList(*of_bytes)))


@mariadb(elements.NullInstant)
def null_instant() -> Element:
    return bound_instant(null())


@mariadb(elements.TextIn)
def text_in(text: Element, values: Element) -> Element:
    rows = f"COLUMNS (v TEXT CHARACTER SET utf8mb4 COLLATE {EXACT_COLLATION} PATH '$')"
    return RawSql([text, " IN (SELECT v FROM JSON_TABLE(", values, f", '$[*]' {rows}) reaper_one_of)"])


@mariadb(elements.LikePattern)
def like_pattern(text: Element, pattern: Element) -> Element:
    return text.like(pattern, escape="!")


@mariadb(elements.AddSeconds)
def add_seconds(moment: Element, seconds: Element) -> Element:
    return func.timestampadd(_MICROSECOND, _rounded(seconds * literal_column("1e6", Numeric)), moment)


@mariadb(elements.JsonAppend)
def json_append(array: Element, member: Element) -> Element:
    return func.json_array_append(
        func.coalesce(array, literal_column("'[]'")), literal_column("'$'"), _array_member(member)
    )


def _array_member(value: Element) -> Element:
    """MariaDB takes a document for text, unless a function has just made it."""
    return func.json_query(value, literal_column("'$'")) if is_document(value.type) else _json_value(value)


@mariadb(elements.JsonMember)
def json_member(document: Element, *path: Element) -> Element:
    if not path:
        return document
    names: list[Element] = []
    for name in path:
        names += [literal_column("'.'"), func.json_quote(name)]
    return func.json_extract(document, func.concat(literal_column("'$'"), *names))


@mariadb(elements.JsonTextMember)
def json_text_member(document: Element, name: Element) -> Element:
    return func.json_value(document, func.concat(literal_column("'$.'"), func.json_quote(name)))


@mariadb(elements.ArrayLength)
def array_length(array: Element) -> Element:
    return func.json_length(array)


# --- moments as columns store them -----------------------------------------------------------------------------


@mariadb(elements.RealMoment)
def real_moment(moment: Element) -> Element:
    if (column := elements.column_in_utc(moment)) is not None:
        # Several times as fast as GREATEST.
        return case((column > _NONE, column))
    return func.nullif(func.greatest(moment, _NONE), _NONE)


@mariadb(elements.RealMomentSince1973)
def real_moment_since_1973(moment: Element) -> Element:
    return func.nullif(func.greatest(moment, _SINCE_1973), _SINCE_1973)


@mariadb(elements.FromTimestamptz)
def from_timestamp(stored: Element) -> Element:
    """A TIMESTAMP, which the session shows in UTC."""
    return func.nullif(stored, _ZERO)


@mariadb(elements.FromNaive)
def from_naive(stored: Element, zone: Element) -> Element:
    """A DATETIME. Of a local time that comes twice it is the later moment, as on PostgreSQL."""
    changes = offset_changes(zone_of(zone))
    if changes == _UTC:
        return func.nullif(stored, _ZERO)
    # Clocks that are put back to 1:00, and clocks that are put forward to 3:00, show their new offset from then on.
    local = [at + offset for at, offset in zip(changes.at, changes.offsets[1:], strict=True)]
    return func.timestampadd(_SECOND, -_offset_at(stored, local, changes.offsets), func.nullif(stored, _ZERO))


def _offset_at(moment: Element, changes: Sequence[int], offsets: Sequence[int]) -> Element:
    """The offset at a moment. The zones of the server are not used: most servers have not loaded them."""
    if not changes:
        return literal_column(str(offsets[0]), BigInteger)
    seconds = func.timestampdiff(_SECOND, _1970, moment)
    number = func.interval(seconds, *(literal_column(str(change)) for change in changes), type_=BigInteger)
    one: Element = literal_column("1", BigInteger)
    return cast(func.elt(number + one, *(literal_column(str(offset)) for offset in offsets)), BigInteger)


@mariadb(elements.FromEpochSeconds)
def from_epoch_seconds(stored: Element) -> Element:
    return _after_1970(stored, 1_000_000, FIRST_EPOCH, LAST_EPOCH)


@mariadb(elements.FromEpochMilliseconds)
def from_epoch_milliseconds(stored: Element) -> Element:
    return _after_1970(stored, 1000, FIRST_EPOCH * 1000, LAST_EPOCH * 1000)


def _after_1970(stored: Element, microseconds: int, first: int, last: int) -> Element:
    """Outside of these, the product may be too large for a number: one row would make every statement fail that reads
    it. The last moment that is not infinite stands for all later ones.
    """
    in_range = func.least(stored, literal_column(str(last)))
    number = _rounded(in_range * literal_column(f"{microseconds}e0", Numeric))
    moment = func.timestampadd(_MICROSECOND, number, _1970)
    return case((stored >= literal_column(str(first)), moment), else_=null_instant())


@mariadb(elements.FromIsoText)
def from_iso_text(stored: Element, zone: Element) -> Element:
    """Calculated, since 30 February is no date that could be cast."""
    time = func.regexp_substr(func.substr(stored, literal_column("12")), _text_literal(ISO_TIME_OF_DAY))
    first_of_month = bound_instant(func.concat(func.left(stored, literal_column("8")), literal_column("'01 '"), time))
    days = cast(func.substr(stored, literal_column("9"), literal_column("2")), BigInteger)
    local = func.timestampadd(literal_column("DAY"), days - literal_column("1", BigInteger), first_of_month)
    offset = func.regexp_substr(func.substr(stored, literal_column("17")), _text_literal(ISO_OFFSET))
    hours = cast(func.substr(offset, literal_column("2"), literal_column("2")), BigInteger)
    minutes = case(
        (func.char_length(offset) > literal_column("3"), cast(func.right(offset, literal_column("2")), BigInteger)),
        else_=literal_column("0"),
    )
    seconds = hours * literal_column("3600", BigInteger) + minutes * literal_column("60", BigInteger)
    west = func.left(offset, literal_column("1")) == literal_column("'-'")
    named = func.timestampadd(_SECOND, case((west, seconds), else_=-seconds), local)
    zulu = func.lower(func.right(stored, literal_column("1"))) == literal_column("'z'")
    in_zone = from_naive(local, zone)
    is_none = or_(stored.is_(None), stored.op("REGEXP")(_text_literal(ISO_NONE)))
    return case(
        (
            stored.op("REGEXP")(_text_literal(ISO_MOMENT)),
            case((offset != literal_column("''"), named), (zulu, local), else_=in_zone),
        ),
        (is_none, null_instant()),
        else_=_LAST,
    )


def _text_literal(text: str) -> Element:
    return literal_column(f"'{text}'")


def _rounded(number: Element) -> Element:
    return cast(func.round(number), BigInteger())


@mariadb(elements.ToNaive)
def to_naive(moment: Element, zone: Element) -> Element:
    changes = offset_changes(zone_of(zone))
    if changes == _UTC:
        return moment
    return func.timestampadd(_SECOND, _offset_at(moment, changes.at, changes.offsets), moment)


@mariadb(elements.ToIsoText)
def to_iso_text(moment: Element, _zone: Element) -> Element:
    return func.date_format(moment, "%Y-%m-%dT%H:%i:%S.%fZ")


@mariadb(elements.ToEpochSeconds)
def to_epoch_seconds(moment: Element) -> Element:
    return _microseconds(moment) * literal_column("0.000001", Numeric)


@mariadb(elements.ToEpochMilliseconds)
def to_epoch_milliseconds(moment: Element) -> Element:
    return _microseconds(moment) * literal_column("0.001", Numeric)
