"""The few expressions that differ between databases, each with the one meaning the rule needs.

Every statement that shows times runs with the session's TimeZone set to UTC (see `reaper.source.session`), so
JSON made here has ISO 8601 times in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Float,
    Numeric,
    String,
    Text,
    and_,
    bindparam,
    case,
    cast,
    extract,
    func,
    literal,
    null,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import DateTime, NullType

from reaper.hearing import LONG_AGO

INSTANT = DateTime(timezone=True)
FLOAT = Float()

Element = ColumnElement[Any]


def now() -> Element:
    """The database's clock, read once per statement."""
    return func.statement_timestamp(type_=INSTANT)


def instant(value: datetime) -> Element:
    """A moment of the database's clock, bound. LONG_AGO is bound as the one that no other comes before."""
    return literal("-infinity" if value == LONG_AGO else value, INSTANT)


def endless() -> Element:
    """The moment that never comes."""
    return literal("infinity", INSTANT)


def untyped(value: object) -> Element:
    """A bound value whose type the database takes from its context: an enum's label, a uuid."""
    return bindparam(None, value, type_=NullType(), unique=True)


def newest(*instants: Element) -> Element:
    """The latest of several moments; NULLs do not count."""
    return func.greatest(*instants, type_=INSTANT) if len(instants) > 1 else instants[0]


def seconds(later: Element, earlier: Element) -> Element:
    """From `earlier` to `later`, in seconds to the millisecond; NULL when either is infinite or NULL."""
    finite = and_(func.isfinite(earlier, type_=Boolean), func.isfinite(later, type_=Boolean))
    elapsed = func.round(cast(extract("epoch", later - earlier), Numeric), 3, type_=Numeric)
    return case((finite, elapsed), else_=null())


def epoch(moment: Element) -> Element:
    """Seconds since 1970 as a float, which takes infinities and dates that Python's datetime cannot."""
    return cast(extract("epoch", moment), Float)


def in_words(duration: Element) -> Element:
    """Seconds in the two units that matter: `31h 12m`, `12m 5s`, `5s`."""
    whole = func.make_interval(0, 0, 0, 0, 0, 0, cast(duration, Float))
    return case(
        (duration >= 3600, func.to_char(whole, 'FMHH24"h "FMMI"m"')),
        (duration >= 60, func.to_char(whole, 'FMMI"m "FMSS"s"')),
        (duration.is_not(None), func.to_char(whole, 'FMSS"s"')),
        else_="an unknown time",
    )


def in_utc(moment: Element) -> Element:
    """A moment as text to the second, in UTC."""
    return func.to_char(func.timezone("UTC", moment), 'YYYY-MM-DD"T"HH24:MI:SS"Z"', type_=String)


def json_object(members: Mapping[str, Element]) -> Element:
    """A JSON object with these members."""
    flat: list[Element] = []
    for name, value in members.items():
        flat += [literal(name, String), value]
    return type_coerce(func.jsonb_build_object(*flat), JSONB)


def text_of(value: Element) -> Element:
    """Any column as text."""
    return cast(value, Text)


def no_text() -> Element:
    """A NULL that is text."""
    return cast(null(), Text)


def concat(*parts: str | Element) -> Element:
    """Texts one after the other; a NULL is passed over."""
    return func.concat(*(literal(p, String) if isinstance(p, str) else p for p in parts), type_=String)
