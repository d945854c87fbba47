"""How MariaDB spells the expressions of `reaper.sql.expressions`.

It knows no infinities and no time zones, so a moment is a DATETIME(6) in UTC; its collations hold texts equal that
are not the same; and its GREATEST and CONCAT are NULL as soon as one part is.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import and_, bindparam, case, cast, func, literal, literal_column, null, tuple_
from sqlalchemy.types import BigInteger, Numeric, String

from reaper.model import TimestampFormat
from reaper.sql.element import Element, RawSql, Spelling
from reaper.sql.keys import KEY_COLUMN_VALUES, WHOLE_KEYS
from reaper.sql.types import DOCUMENT, INFINITY, INSTANT, MINUS_INFINITY

_MICROSECOND: Element = literal_column("MICROSECOND")
_1970: Element = literal_column("TIMESTAMP'1970-01-01 00:00:00.000000'")
# Earlier than every date. Rows that hold it mean "none"; so does NULL.
_ZERO: Element = literal_column("CAST('0000-00-00 00:00:00' AS DATETIME(6))")
_EXACT = "utf8mb4_nopad_bin"


def now() -> Element:
    return func.now(literal_column("6"))


def bound(value: Element) -> Element:
    """A literal is text to MariaDB, and a CASE of several would be text too."""
    # Only here: beside PostgreSQL nobody needs it, and it takes its room.
    from sqlalchemy.dialects import mysql

    return cast(value, mysql.DATETIME(fsp=6))


def itself(value: Element) -> Element:
    return value


def newest(*instants: Element) -> Element:
    return func.nullif(func.greatest(*(func.coalesce(each, _ZERO) for each in instants)), _ZERO)


def largest(*numbers: Element) -> Element:
    zero: Element = literal_column("0e0")
    return func.greatest(*(func.coalesce(each, zero) for each in numbers), zero)


def seconds(later: Element, earlier: Element) -> Element:
    elapsed = func.timestampdiff(_MICROSECOND, _finite(earlier), _finite(later), type_=Numeric)
    return func.round(elapsed * literal_column("0.000001", Numeric), literal_column("3"))


def _finite(context: Element) -> Element:
    for end in (MINUS_INFINITY, INFINITY):
        context = func.nullif(context, bound(literal(end, INSTANT)))
    return context


def epoch(context: Element) -> Element:
    return _microseconds(context) * literal_column("1e-6", Numeric)


def _microseconds(context: Element) -> Element:
    return func.timestampdiff(_MICROSECOND, _1970, context, type_=Numeric)


def in_words(duration: Element) -> Element:
    hours, minutes, whole = (duration.op("DIV")(literal_column(size)) for size in ("3600", "60", "1"))
    past_hour, past_minute = (func.mod(count, literal_column("60")) for count in (minutes, whole))
    return case(
        (duration >= 3600, func.concat(hours, "h ", past_hour, "m")),
        (duration >= 60, func.concat(minutes, "m ", past_minute, "s")),
        (duration.is_not(None), func.concat(whole, "s")),
        else_="an unknown time",
    )


def in_utc(context: Element) -> Element:
    return func.date_format(context, "%Y-%m-%dT%H:%i:%SZ")


def json_object(*flat: Element) -> Element:
    return func.json_object(*(_in_json(value) for value in flat))


def _in_json(value: Element) -> Element:
    """Moments as PostgreSQL writes them: with as much of a fraction as there is."""
    if value.type._type_affinity is not INSTANT._type_affinity:
        return value
    in_full = func.date_format(value, "%Y-%m-%dT%H:%i:%S.%f")
    return func.concat(func.regexp_replace(in_full, "[.]?0+$", ""), "+00:00")


def text_of(value: Element) -> Element:
    return _as_text(value).collate(_EXACT)


def _as_text(value: Element) -> Element:
    from sqlalchemy.dialects import mysql

    return cast(value, mysql.CHAR(charset="utf8mb4"))


def no_text() -> Element:
    return text_of(null())


def concat(*texts: Element) -> Element:
    return func.concat_ws("", *texts)


def count_if(condition: Element) -> Element:
    return func.count(case((condition, literal_column("1"))))


def named(value: Element, text: Element) -> Element:
    """A number would take any text for the number that it begins with, or for 0."""
    return and_(value == text, _as_text(value) == text)


def keyed(*keys: Element) -> Element:
    """The columns are compared with literals, by an index whatever their types and collations, and then as text.

    A join with the keys as rows, of JSON_TABLE say, uses no index on a column of another character set.
    """
    if len(keys) == 1:
        [key] = keys
        wanted = bindparam(KEY_COLUMN_VALUES.format(0), expanding=True, type_=String())
        return and_(key.in_(wanted), text_of(key).in_(wanted))
    whole: Element = bindparam(WHOLE_KEYS, expanding=True)
    return and_(tuple_(*keys).in_(whole), tuple_(*(text_of(key) for key in keys)).in_(whole))


def no_instant() -> Element:
    return bound(null())


def one_of(text: Element, values: Element) -> Element:
    rows = f"COLUMNS (v TEXT CHARACTER SET utf8mb4 COLLATE {_EXACT} PATH '$')"
    return RawSql([text, " IN (SELECT v FROM JSON_TABLE(", values, f", '$[*]' {rows}) reaper_one_of)"])


def later(context: Element, by: Element) -> Element:
    return func.timestampadd(_MICROSECOND, _whole(by * literal_column("1e6", Numeric)), context)


def appended(array: Element, member: Element) -> Element:
    return func.json_array_append(func.coalesce(array, literal_column("'[]'")), literal_column("'$'"), _member(member))


def _member(value: Element) -> Element:
    """A document is text to MariaDB, unless a function has just made it."""
    is_document = value.type._type_affinity is DOCUMENT._type_affinity
    return func.json_query(value, literal_column("'$'")) if is_document else _in_json(value)


def member(document: Element, *path: Element) -> Element:
    names: list[Element] = []
    for name in path:
        names += [literal_column("'.'"), func.json_quote(name)]
    return func.json_extract(document, func.concat(literal_column("'$'"), *names))


def length(array: Element) -> Element:
    return func.json_length(array)


# --- how columns store moments -----------------------------------------------------------------------------


def _from_date(stored: Element) -> Element:
    """A DATETIME in UTC, or a TIMESTAMP, which the session shows in UTC."""
    return func.nullif(stored, _ZERO)


def _to_date(context: Element) -> Element:
    return context


def _from_seconds(stored: Element) -> Element:
    return _after_1970(stored * literal_column("1e6", Numeric))


def _from_milliseconds(stored: Element) -> Element:
    return _after_1970(stored * literal_column("1e3", Numeric))


def _after_1970(microseconds: Element) -> Element:
    return func.timestampadd(_MICROSECOND, _whole(microseconds), _1970)


def _whole(number: Element) -> Element:
    return cast(func.round(number), BigInteger())


def _to_seconds(context: Element) -> Element:
    return _microseconds(context) * literal_column("0.000001", Numeric)


def _to_milliseconds(context: Element) -> Element:
    return _microseconds(context) * literal_column("0.001", Numeric)


TO_INSTANT: Mapping[TimestampFormat, Spelling] = {
    TimestampFormat.TIMESTAMPTZ: _from_date,
    TimestampFormat.NAIVE: _from_date,
    TimestampFormat.EPOCH_S: _from_seconds,
    TimestampFormat.EPOCH_MS: _from_milliseconds,
}
FROM_INSTANT: Mapping[TimestampFormat, Spelling] = {
    TimestampFormat.NAIVE: _to_date,
    TimestampFormat.EPOCH_S: _to_seconds,
    TimestampFormat.EPOCH_MS: _to_milliseconds,
}
