"""How a profile says in which format its columns store moments, and in which zone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from reaper.common.suggestions import nearest
from reaper.common.time_zones import zone_name
from reaper.model import StoredTime, TimestampFormat
from reaper.profile.base import listed

FORMATS_WITH_ZONE = (TimestampFormat.NAIVE, TimestampFormat.ISO_TEXT)
"""Formats whose moments may lack a zone."""


def _stored_time(value: Any) -> StoredTime:
    if isinstance(value, StoredTime):
        return value
    if isinstance(value, str):
        return StoredTime(_format(value))
    if not isinstance(value, Mapping) or len(value) != 1:
        formats = listed(format.value for format in TimestampFormat)
        raise ValueError(f'expected one of {formats}, or a zone such as {{ naive = "America/New_York" }}')
    [(name, zone)] = value.items()
    if (format := _format(name)) not in FORMATS_WITH_ZONE:
        raise ValueError(
            f"{name!r} has no zone that could be said; expected {listed(format.value for format in FORMATS_WITH_ZONE)}"
        )
    return StoredTime(format, zone_name(zone))


def _format(text: Any) -> TimestampFormat:
    try:
        return TimestampFormat(text)
    except ValueError:
        formats = [format.value for format in TimestampFormat]
        near = nearest(text, formats) if isinstance(text, str) else None
        hint = f"; did you mean {near!r}?" if near else ""
        raise ValueError(f"expected {listed(formats)}, not {text!r}{hint}") from None


def as_written(time: StoredTime) -> str | dict[str, str]:
    """As the file has it."""
    return time.format.value if time.zone is None else {time.format.value: time.zone}


Time = Annotated[
    StoredTime, PlainValidator(_stored_time), PlainSerializer(as_written, return_type=str | dict[str, str])
]
"""A format of moments: "naive", or { naive = "America/New_York" } where its zone is said."""


def split_key(key: str, tables: Iterable[str]) -> tuple[str, str | None]:
    """The table of a key of `times`, and the column where the key is TABLE.COLUMN."""
    if key in tables:
        return key, None
    table, dot, column = key.rpartition(".")
    return (table, column) if dot and table in tables else (key, None)
