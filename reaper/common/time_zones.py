"""Time zones: names of the tz database, and offsets from UTC."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

from reaper.common.suggestions import nearest

_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>0[0-9]|1[0-4]):(?P<minutes>00|15|30|45)")
_UTC_NAMES = frozenset({"UTC", "Etc/UTC", "GMT", "Etc/GMT", "UCT", "Etc/UCT", "Zulu", "Etc/Zulu", "Universal"})
_EXPECTED = "expected the name of a time zone, such as America/New_York, or an offset from UTC, such as -05:00"
_FIRST_YEAR, _LAST_YEAR = 2000, 2040
_DAY = timedelta(days=1)


class OffsetChanges(NamedTuple):
    """The offsets of a zone from UTC, in seconds: `offsets[0]` at first, `offsets[n + 1]` from `at[n]` on.

    `at` is in seconds since 1970, in UTC. The changes are those from 2000 to 2040; earlier and later moments have the
    first and the last of the offsets.
    """

    at: tuple[int, ...]
    offsets: tuple[int, ...]


def zone_name(text: object, quoted: Callable[[object], str] = repr) -> str:
    """The zone as statements name it; every name of UTC becomes "UTC".

    Raises ValueError for what is no zone, which `quoted` spells in the message.
    """
    if isinstance(text, str):
        if text in _UTC_NAMES or text in ("+00:00", "-00:00"):
            return "UTC"
        if _OFFSET.fullmatch(text) or text in available_timezones():
            return text
    raise ValueError(f"{_EXPECTED}, not {quoted(text)}{_hint(text)}")


def _hint(text: object) -> str:
    names = available_timezones()
    if not names:
        return "; this host has no tz database (install tzdata), so only offsets are known"
    near = nearest(text, sorted(names)) if isinstance(text, str) else None
    return f"; did you mean {near!r}?" if near else ""


def fixed_offset(zone: str) -> int | None:
    """The seconds by which a zone that is an offset is ahead of UTC; None for a name."""
    if zone == "UTC":
        return 0
    if (match := _OFFSET.fullmatch(zone)) is None:
        return None
    seconds = int(match["hours"]) * 3600 + int(match["minutes"]) * 60
    return -seconds if match["sign"] == "-" else seconds


@lru_cache(maxsize=64)
def offset_changes(zone: str) -> OffsetChanges:
    """The offsets of a zone."""
    if (fixed := fixed_offset(zone)) is not None:
        return OffsetChanges((), (fixed,))
    place, moment = ZoneInfo(zone), datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC)
    at, offsets = list[int](), [_offset(place, moment)]
    while moment.year < _LAST_YEAR:
        later = moment + _DAY
        if (offset := _offset(place, later)) != offsets[-1]:
            at.append(_change_between(place, moment, later))
            offsets.append(offset)
        moment = later
    return OffsetChanges(tuple(at), tuple(offsets))


def _offset(place: ZoneInfo, moment: datetime) -> int:
    offset = moment.astimezone(place).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def _change_between(place: ZoneInfo, before: datetime, after: datetime) -> int:
    """The first second with the offset of `after`."""
    low, high, offset = int(before.timestamp()), int(after.timestamp()), _offset(place, after)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(place, datetime.fromtimestamp(middle, UTC)) == offset else (middle, high)
    return high
