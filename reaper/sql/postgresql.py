"""How PostgreSQL writes the expressions of `reaper.sql.expressions`."""

from __future__ import annotations

from functools import reduce

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    Integer,
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
    or_,
    select,
    table,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import array as pg_array
from sqlalchemy.types import DateTime

from reaper.common.time_zones import fixed_offset
from reaper.sql import elements
from reaper.sql.elements import Element, compiled_on, zone_of
from reaper.sql.iso_text import ISO_MOMENT, ISO_NONE, ISO_OFFSET_HOURS, ISO_OFFSET_MINUTES, ISO_SECONDS
from reaper.sql.keys import KEY_COLUMN_VALUES, UntypedArray
from reaper.sql.types import FIRST_EPOCH, INSTANT, LAST_EPOCH

_NONE: Element = literal_column("timestamptz '1970-01-02 00:00:00+00'")
_SINCE_1973: Element = literal_column("timestamptz '1973-03-03 09:46:39+00'")
_INFINITY: Element = literal_column("timestamptz 'infinity'")
_MOST_ARGUMENTS = 100
"""Of a function: FUNC_MAX_ARGS of a server as it is built by default."""

postgresql = compiled_on("postgresql")


@postgresql(elements.CurrentInstant)
def now() -> Element:
    return func.statement_timestamp()


@postgresql(elements.BoundInstant)
def bound_instant(value: Element) -> Element:
    return value


@postgresql(elements.Newest)
def newest(*instants: Element) -> Element:
    return func.greatest(*instants)


@postgresql(elements.LargestNumber)
def largest_number(*numbers: Element) -> Element:
    return func.greatest(*numbers, 0.0)


@postgresql(elements.SecondsBetween)
def seconds_between(later: Element, earlier: Element) -> Element:
    finite = and_(func.isfinite(earlier, type_=Boolean), func.isfinite(later, type_=Boolean))
    elapsed = func.round(cast(extract("epoch", later - earlier), Numeric), 3, type_=Numeric)
    return case((finite, elapsed), else_=null())


@postgresql(elements.Epoch)
def epoch(moment: Element) -> Element:
    # Not EXTRACT, which makes a numeric first: several times as slow, for the same float.
    return func.date_part("epoch", moment, type_=Float)


@postgresql(elements.InstantAt)
def instant_at(epoch: Element) -> Element:
    return func.to_timestamp(cast(epoch, Float))


@postgresql(elements.IntervalSeconds)
def interval_seconds(interval: Element) -> Element:
    return func.date_part("epoch", interval, type_=Float)


@postgresql(elements.DurationText)
def duration_text(seconds: Element) -> Element:
    interval = func.make_interval(0, 0, 0, 0, 0, 0, cast(seconds, Float))
    return case(
        (seconds >= 3600, func.to_char(interval, 'FMHH24"h "FMMI"m"')),
        (seconds >= 60, func.to_char(interval, 'FMMI"m "FMSS"s"')),
        (seconds >= 0, func.to_char(interval, 'FMSS"s"')),
        else_="an unknown time",
    )


@postgresql(elements.UtcText)
def utc_text(moment: Element) -> Element:
    return func.to_char(func.timezone("UTC", moment), 'YYYY-MM-DD"T"HH24:MI:SS"Z"', type_=String)


@postgresql(elements.JsonObject)
def json_object(*names_and_values: Element) -> Element:
    """In several parts where there are many members: no function takes more than a hundred arguments."""
    places = range(0, max(len(names_and_values), 1), _MOST_ARGUMENTS)
    parts: list[Element] = [func.jsonb_build_object(*names_and_values[n : n + _MOST_ARGUMENTS]) for n in places]
    return reduce(lambda document, part: document.op("||", return_type=JSONB())(part), parts)


@postgresql(elements.TextOf)
def text_of(value: Element) -> Element:
    return cast(value, Text)


@postgresql(elements.NullText)
def null_text() -> Element:
    return cast(null(), Text)


@postgresql(elements.Hash)
def hash_of(text: Element) -> Element:
    return func.encode(func.sha256(func.convert_to(text, literal_column("'UTF8'"))), literal_column("'hex'"))


@postgresql(elements.Concat)
def concat(*texts: Element) -> Element:
    return func.concat(*texts)


@postgresql(elements.RandomShare)
def random_share() -> Element:
    return func.random()


@postgresql(elements.CountIf)
def count_if(condition: Element) -> Element:
    return func.count().filter(condition)


@postgresql(elements.EqualsTypedText)
def equals_typed_text(column: Element, text: Element) -> Element:
    return column == text


@postgresql(elements.NotBefore)
def not_before(column: Element, moment: Element) -> Element:
    """The planner takes a value that it does not see for a third of the rows, and multiplies the two conditions."""
    unseen = column >= select(moment).scalar_subquery()
    return and_(unseen, or_(column >= moment, unseen))


@postgresql(elements.KeyInBatch)
def key_in_batch(*key: Element) -> Element:
    """Each column of the key is compared by itself, which uses an index, and then all of them together, as text."""
    values = [bindparam(KEY_COLUMN_VALUES.format(n), type_=UntypedArray()) for n in range(len(key))]
    by_column = [key_column == func.any(bound) for key_column, bound in zip(key, values, strict=True)]
    if len(key) == 1:
        return by_column[0]
    key_columns: list[Element] = [column(f"key_{n}") for n in range(len(key))]
    texts = [cast(bound, ARRAY(Text)) for bound in values]
    keys = func.unnest(*texts).table_valued(*key_columns).render_derived(name="wanted")
    return and_(*by_column, tuple_(*(text_of(key_column) for key_column in key)).in_(select(*keys.c)))


@postgresql(elements.OwnPathSet)
def own_path_set(path: Element) -> Element:
    return (
        select(func.pg_catalog.set_config(literal_column("'search_path'"), path, true())).scalar_subquery().is_not(None)
    )


@postgresql(elements.KeyValue)
def key_value(_column: Element, text: Element) -> Element:
    return text


@postgresql(elements.ViewDefinition)
def view_definition(number: Element) -> Element:
    rules = table("pg_rewrite", *map(column, ("ev_class", "ev_type", "ev_action")), schema="pg_catalog")
    definition = func.pg_catalog.hashtextextended(cast(rules.c.ev_action, Text), literal_column("0"))
    is_its = and_(cast(rules.c.ev_class, BigInteger) == number, cast(rules.c.ev_type, Text) == literal_column("'1'"))
    return select(definition).where(is_its).scalar_subquery()


@postgresql(elements.NullInstant)
def null_instant() -> Element:
    return cast(null(), INSTANT)


@postgresql(elements.TextIn)
def text_in(text: Element, values: Element) -> Element:
    return text == func.any(values)


@postgresql(elements.LikePattern)
def like_pattern(text: Element, pattern: Element) -> Element:
    # A collation of its own: LIKE does not know those that take different texts for equal.
    return text.collate("C").like(pattern, escape="!")


@postgresql(elements.AddSeconds)
def add_seconds(moment: Element, seconds: Element) -> Element:
    return moment + func.make_interval(0, 0, 0, 0, 0, 0, cast(seconds, Float))


@postgresql(elements.JsonAppend)
def json_append(array: Element, member: Element) -> Element:
    return func.coalesce(array, literal_column("'[]'")).op("||")(func.jsonb_build_array(member))


@postgresql(elements.JsonMember)
def json_member(document: Element, *path: Element) -> Element:
    # A column of texts may hold some that are no JSON.
    parsed = case((cast(document, Text).like("{%"), cast(document, JSONB)), else_=cast(null(), JSONB))
    return parsed.op("#>", return_type=JSONB())(pg_array(path)) if path else parsed


@postgresql(elements.JsonTextMember)
def json_text_member(document: Element, name: Element) -> Element:
    return document.op("->>")(name)


@postgresql(elements.ArrayLength)
def array_length(array: Element) -> Element:
    return func.jsonb_array_length(func.to_jsonb(array))


# --- moments as columns store them -----------------------------------------------------------------------------


@postgresql(elements.FromTimestamptz)
def from_timestamptz(stored: Element) -> Element:
    return stored


@postgresql(elements.RealMoment)
def real_moment(moment: Element) -> Element:
    if isinstance(moment, elements.FromTimestamptz) and (column := elements.column_in_utc(moment)) is not None:
        return case((column > _NONE, column))
    return func.nullif(func.greatest(moment, _NONE), _NONE)


@postgresql(elements.RealMomentSince1973)
def real_moment_since_1973(moment: Element) -> Element:
    return func.nullif(func.greatest(moment, _SINCE_1973), _SINCE_1973)


@postgresql(elements.FromNaive)
def from_naive(stored: Element, zone: Element) -> Element:
    """Of a local time that comes twice, the server takes the later moment."""
    return func.timezone(_zone(zone), stored)


def _zone(zone: Element) -> Element:
    """The server reads the sign of an offset in a text the other way round."""
    name = zone_of(zone)
    return zone if fixed_offset(name) in (0, None) else literal_column(f"interval '{name}'")


@postgresql(elements.FromEpochSeconds)
def from_epoch_seconds(stored: Element) -> Element:
    return _in_calendar(stored, func.to_timestamp(stored), FIRST_EPOCH, LAST_EPOCH)


@postgresql(elements.FromEpochMilliseconds)
def from_epoch_milliseconds(stored: Element) -> Element:
    moment = func.to_timestamp(stored / literal_column("1000.0", Numeric))
    return _in_calendar(stored, moment, FIRST_EPOCH * 1000, LAST_EPOCH * 1000)


def _in_calendar(stored: Element, moment: Element, first: int, last: int) -> Element:
    """Outside of these, one row would make every statement fail that reads it. NaN is greater than all numbers."""
    return case(
        (stored.between(literal_column(str(first)), literal_column(str(last))), moment),
        (stored <= literal_column(str(last)), null_instant()),
        (text_of(stored) != literal_column("'NaN'"), cast(literal_column("'infinity'"), INSTANT)),
        else_=null_instant(),
    )


@postgresql(elements.FromIsoText)
def from_iso_text(stored: Element, zone: Element) -> Element:
    """Calculated, since a cast would refuse 30 February, and with that row the whole statement."""

    def part(first: int, digits: int) -> Element:
        return cast(func.substr(stored, literal_column(str(first)), literal_column(str(digits))), Integer)

    def matched(pattern: str) -> Element:
        return func.substring(stored, literal_column(f"'{pattern}'"), type_=Text)

    seconds = cast(func.coalesce(matched(ISO_SECONDS), literal_column("'0'")), Float)
    first_of_month = func.make_timestamp(
        part(1, 4), part(6, 2), literal_column("1"), part(12, 2), part(15, 2), seconds, type_=DateTime()
    )
    local = first_of_month + func.make_interval(0, 0, 0, part(9, 2) - literal_column("1"))
    hours, minutes = matched(ISO_OFFSET_HOURS), matched(ISO_OFFSET_MINUTES)
    ahead = func.make_interval(
        0,
        0,
        0,
        0,
        cast(hours, Integer),
        cast(
            func.concat(func.left(hours, literal_column("1")), func.coalesce(minutes, literal_column("'0'"))), Integer
        ),
    )
    named = func.timezone(literal_column("'UTC'"), local - ahead)
    zulu = func.timezone(literal_column("'UTC'"), local)
    return case(
        (
            stored.op("~")(literal_column(f"'{ISO_MOMENT}'")).is_(True),
            case(
                (hours.is_not(None), named),
                (func.upper(func.right(stored, literal_column("1"))) == literal_column("'Z'"), zulu),
                else_=func.timezone(_zone(zone), local),
            ),
        ),
        (or_(stored.is_(None), stored.op("~")(literal_column(f"'{ISO_NONE}'"))), cast(null(), INSTANT)),
        else_=_INFINITY,
    )


@postgresql(elements.ToNaive)
def to_naive(moment: Element, zone: Element) -> Element:
    return func.timezone(_zone(zone), moment, type_=DateTime())


@postgresql(elements.ToIsoText)
def to_iso_text(moment: Element, _zone: Element) -> Element:
    return func.to_char(func.timezone("UTC", moment), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', type_=String)


@postgresql(elements.ToEpochSeconds)
def to_epoch_seconds(moment: Element) -> Element:
    return cast(extract("epoch", moment), Numeric)


@postgresql(elements.ToEpochMilliseconds)
def to_epoch_milliseconds(moment: Element) -> Element:
    return to_epoch_seconds(moment) * literal_column("1000", Numeric)
