"""How PostgreSQL spells the expressions of `reaper.sql.expressions`."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import (
    Boolean,
    Float,
    Numeric,
    String,
    Text,
    and_,
    bindparam,
    case,
    cast,
    column,
    extract,
    func,
    literal_column,
    null,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import array as pg_array
from sqlalchemy.types import DateTime

from reaper.model import TimestampFormat
from reaper.sql.element import Element, Spelling
from reaper.sql.keys import KEY_COLUMN_VALUES, Array
from reaper.sql.types import INSTANT


def now() -> Element:
    return func.statement_timestamp()


def itself(value: Element) -> Element:
    return value


def newest(*instants: Element) -> Element:
    return func.greatest(*instants)


def largest(*numbers: Element) -> Element:
    return func.greatest(*numbers, 0.0)


def seconds(later: Element, earlier: Element) -> Element:
    finite = and_(func.isfinite(earlier, type_=Boolean), func.isfinite(later, type_=Boolean))
    elapsed = func.round(cast(extract("epoch", later - earlier), Numeric), 3, type_=Numeric)
    return case((finite, elapsed), else_=null())


def epoch(context: Element) -> Element:
    """Not EXTRACT, which makes a numeric first: several times as slow, for the same float."""
    return func.date_part("epoch", context, type_=Float)


def in_words(duration: Element) -> Element:
    whole = func.make_interval(0, 0, 0, 0, 0, 0, cast(duration, Float))
    return case(
        (duration >= 3600, func.to_char(whole, 'FMHH24"h "FMMI"m"')),
        (duration >= 60, func.to_char(whole, 'FMMI"m "FMSS"s"')),
        (duration.is_not(None), func.to_char(whole, 'FMSS"s"')),
        else_="an unknown time",
    )


def in_utc(context: Element) -> Element:
    return func.to_char(func.timezone("UTC", context), 'YYYY-MM-DD"T"HH24:MI:SS"Z"', type_=String)


def json_object(*flat: Element) -> Element:
    return func.jsonb_build_object(*flat)


def text_of(value: Element) -> Element:
    return cast(value, Text)


def no_text() -> Element:
    return cast(null(), Text)


def concat(*texts: Element) -> Element:
    return func.concat(*texts)


def count_if(condition: Element) -> Element:
    return func.count().filter(condition)


def named(value: Element, text: Element) -> Element:
    return value == text


def keyed(*keys: Element) -> Element:
    """Of a key of several columns each is compared, by an index, and then all of them together, as text."""
    each = [key == func.any(bindparam(KEY_COLUMN_VALUES.format(n), type_=Array())) for n, key in enumerate(keys)]
    if len(keys) == 1:
        return each[0]
    texts = [cast(bindparam(KEY_COLUMN_VALUES.format(n), type_=Array()), ARRAY(Text)) for n in range(len(keys))]
    columns: list[Element] = [column(f"key_{n}") for n in range(len(keys))]
    wanted = func.unnest(*texts).table_valued(*columns).render_derived(name="wanted")
    return and_(*each, tuple_(*(text_of(key) for key in keys)).in_(select(*wanted.c)))


def no_instant() -> Element:
    return cast(null(), INSTANT)


def one_of(text: Element, values: Element) -> Element:
    return text == func.any(values)


def later(context: Element, by: Element) -> Element:
    return context + func.make_interval(0, 0, 0, 0, 0, 0, cast(by, Float))


def appended(array: Element, member: Element) -> Element:
    return func.coalesce(array, literal_column("'[]'")).op("||")(func.jsonb_build_array(member))


def member(document: Element, *path: Element) -> Element:
    return document.op("#>")(pg_array(path))


def length(array: Element) -> Element:
    return func.jsonb_array_length(func.to_jsonb(array))


# --- how columns store moments -----------------------------------------------------------------------------


def _from_utc(stored: Element) -> Element:
    return func.timezone("UTC", stored)


def _to_utc(context: Element) -> Element:
    return func.timezone("UTC", context, type_=DateTime())


def _from_seconds(stored: Element) -> Element:
    return func.to_timestamp(stored)


def _from_milliseconds(stored: Element) -> Element:
    return func.to_timestamp(stored / literal_column("1000.0", Numeric))


def _to_seconds(context: Element) -> Element:
    return cast(extract("epoch", context), Numeric)


def _to_milliseconds(context: Element) -> Element:
    return _to_seconds(context) * literal_column("1000", Numeric)


TO_INSTANT: Mapping[TimestampFormat, Spelling] = {
    TimestampFormat.TIMESTAMPTZ: itself,
    TimestampFormat.NAIVE: _from_utc,
    TimestampFormat.EPOCH_S: _from_seconds,
    TimestampFormat.EPOCH_MS: _from_milliseconds,
}
FROM_INSTANT: Mapping[TimestampFormat, Spelling] = {
    TimestampFormat.NAIVE: _to_utc,
    TimestampFormat.EPOCH_S: _to_seconds,
    TimestampFormat.EPOCH_MS: _to_milliseconds,
}
