"""Quiet times: maintenance windows of a source, in which nothing is ended and silence does not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reaper.common.weekly_times import Interval, WeeklyTime, intervals


@dataclass(frozen=True, slots=True)
class QuietTimes:
    """The quiet times of one source, and where they were set."""

    times: tuple[WeeklyTime, ...] = ()
    origin: str = "default"

    def until(self, now: datetime) -> datetime | None:
        """The end of the quiet time that it is at a moment; None when it is not quiet."""
        at = [end for start, end in self.between(now, now + timedelta(seconds=1)) if start <= now < end]
        return max(at, default=None)

    def between(self, first: datetime, last: datetime) -> Sequence[Interval]:
        """The quiet times that touch what lies between two moments, apart and in order."""
        return intervals(self.times, first, last) if self.times else ()

    def refusal(self, until: datetime) -> str:
        """Why nothing is ended, until when, and what passes."""
        return f"{self.why(until)}; nothing was changed. Change or remove `quiet` ({self.origin}) to end jobs before"

    def why(self, until: datetime) -> str:
        """Why nothing is ended, and until when."""
        return f"it is quiet until {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({', '.join(map(str, self.times))})"


ALWAYS_LOUD = QuietTimes()
