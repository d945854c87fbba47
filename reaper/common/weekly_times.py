"""Times of the week on a wall clock, such as `Sun 02:00-04:00 Europe/Berlin`.

A moment lies within such a time when the wall clock of the zone then shows a time within it. So the time is an hour
shorter or longer in a night in which the clocks are changed, and of an hour that comes twice both are meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from math import inf

from reaper.common.time_zones import offset_changes, zone_name

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_FORM = re.compile(
    r"(?:(?P<days>[A-Za-z]+(?:\s*[-,]\s*[A-Za-z]+)*)\s+)?"
    r"(?P<start>[0-9]{1,2}:[0-9]{2})\s*-\s*(?P<end>[0-9]{1,2}:[0-9]{2})(?:\s+(?P<zone>\S+))?"
)
_MINUTE, _DAY, _WEEK = 60, 86_400, 7 * 86_400
_EXAMPLES = "such as 'Sun 02:00-04:00 Europe/Berlin', 'Mon-Fri 22:00-02:00 UTC', or '12:00-12:30 UTC' for every day"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MONDAY = 4 * _DAY
_SOME_WEEK = datetime(2024, 1, 1, tzinfo=UTC)

Interval = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class WeeklyTime:
    """`text` is how it was written. `starts` are seconds of the week, from Monday 00:00 on the wall clock of `zone`.

    Each time takes so many `seconds` on that clock.
    """

    text: str
    zone: str
    starts: tuple[int, ...]
    seconds: int

    def __str__(self) -> str:
        return self.text

    def within(self, first: float, last: float) -> Iterator[tuple[float, float]]:
        """Those of these times that touch what lies between two moments, in seconds since 1970, in no order.

        Where the clock is changed within a time, its parts before and after that come apart.
        """
        changes = offset_changes(self.zone)
        bounds = zip((-inf, *changes.at), (*changes.at, inf), changes.offsets, strict=True)
        for begin, end, offset in bounds:
            if begin > last or end < first:
                continue
            # As seconds of the wall clock that has this offset: there, every week is the same.
            from_week = int((max(first, begin) + offset - _FIRST_MONDAY) // _WEEK) - 1
            to_week = int((min(last, end) + offset - _FIRST_MONDAY) // _WEEK) + 1
            for week in range(from_week, to_week + 1):
                for start in self.starts:
                    at = _FIRST_MONDAY + week * _WEEK + start - offset
                    clipped = max(at, begin), min(at + self.seconds, end)
                    if clipped[0] < clipped[1] and clipped[1] >= first and clipped[0] <= last:
                        yield clipped


def parse_weekly_time(text: object, quoted: Callable[[object], str] = repr) -> WeeklyTime:
    """Raises ValueError, with a message for the user, for what is no such time. `quoted` spells a wrong value."""
    if not isinstance(text, str) or (match := _FORM.fullmatch(text.strip())) is None:
        raise ValueError(f"expected days, a time and a time zone, {_EXAMPLES}, not {quoted(text)}")
    if match["zone"] is None:
        raise ValueError(f"expected a time zone after the time, {_EXAMPLES}, not {quoted(text)}")
    days = sorted(set(chain.from_iterable(_days(part) for part in (match["days"] or "mon-sun").split(","))))
    start, end = _time_of_day(match["start"]), _time_of_day(match["end"])
    if start in (end, _DAY):
        whole_day = "such as 00:00-24:00 for a whole day"
        raise ValueError(f"expected a time that ends after its start, {whole_day}, not {quoted(text)}")
    zone = zone_name(match["zone"], quoted)
    return WeeklyTime(text.strip(), zone, tuple(day * _DAY + start for day in days), (end - start) % _DAY or _DAY)


def _days(part: str) -> Iterator[int]:
    names = [name.strip() for name in part.split("-")]
    numbers = [_day(name) for name in names]
    if len(numbers) > 2:
        raise ValueError(f"expected a range of two days, such as mon-fri, not {part.strip()!r}")
    first, last = numbers[0], numbers[-1]
    yield from ((first + n) % 7 for n in range((last - first) % 7 + 1))


def _day(name: str) -> int:
    for known in (_DAYS, _NAMES):
        if name.casefold() in known:
            return known.index(name.casefold())
    raise ValueError(f"expected a day of the week ({', '.join(_DAYS)}), not {name!r}")


def _time_of_day(text: str) -> int:
    hours, minutes = map(int, text.split(":"))
    if minutes > 59 or hours * 60 + minutes > 24 * 60:
        raise ValueError(f"expected a time of day from 00:00 to 24:00, not {text!r}")
    return hours * 3600 + minutes * _MINUTE


def intervals(times: Iterable[WeeklyTime], first: datetime, last: datetime) -> list[Interval]:
    """When it is any of these times: all intervals that touch what lies between two moments, apart and in order.

    One that began before `first`, or that ends after `last`, is there from its beginning to its end, as long as that
    is not more than a week away.
    """
    low, high = (first - _EPOCH).total_seconds(), (last - _EPOCH).total_seconds()
    found = sorted(chain.from_iterable(time.within(low - _WEEK, high + _WEEK) for time in times))
    merged = list[tuple[float, float]]()
    for start, end in found:
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return [(_moment(start), _moment(end)) for start, end in merged if end > low and start < high]


def leaves_time(times: Iterable[WeeklyTime]) -> bool:
    """Whether at least an hour of a week is none of these times."""
    end = _SOME_WEEK + timedelta(seconds=_WEEK)
    within = intervals(times, _SOME_WEEK, end)
    spent = sum((min(last, end) - max(first, _SOME_WEEK) for first, last in within), timedelta())
    return timedelta(seconds=_WEEK) - spent >= timedelta(hours=1)


def _moment(seconds: float) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)
