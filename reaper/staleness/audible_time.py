"""How far back stall windows of any length reach when downtime is stepped over: a few spans, each a straight line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from reaper.model import DISTANT_PAST

Interval = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class SilenceCutoff:
    """How far back a stall window reaches: a job whose last sign of life is older than `at` is silent.

    Time before `not_before` does not count (DISTANT_PAST: all time does). While less than a stall window has passed
    since then, `at` is DISTANT_PAST, so that no job is silent, and `earliest_possible` is where it would be otherwise.
    """

    at: datetime
    not_before: datetime
    earliest_possible: datetime


class AudibleSpan(NamedTuple):
    """Stall windows that are longer than `longer_than`, and no longer than that of the next span.

    Their cutoff is that much earlier than `cutoff` as they are longer.
    """

    longer_than: timedelta
    cutoff: SilenceCutoff

    def cutoff_of(self, stall: timedelta) -> SilenceCutoff:
        at, not_before, earliest_possible = self.cutoff.at, self.cutoff.not_before, self.cutoff.earliest_possible
        left = stall - self.longer_than
        return SilenceCutoff(_earlier(at, left), not_before, _earlier(earliest_possible, left))


def audible_spans(now: datetime, downtime: Sequence[Interval]) -> tuple[AudibleSpan, ...]:
    """The spans of stall windows that end now, the shortest first. `downtime` is in order, and its parts are apart."""
    spans, at, audible = {timedelta(0): _reaching(now)}, now, timedelta(0)
    for start, end in reversed(downtime):
        audible += max(at - end, timedelta(0))
        at = min(start, at)
        if start == DISTANT_PAST:
            spans[audible] = SilenceCutoff(at=DISTANT_PAST, not_before=end, earliest_possible=end)
            break
        spans[audible] = _reaching(at)
    return tuple(AudibleSpan(*span) for span in spans.items())


def cutoff_of(spans: Iterable[AudibleSpan], stall_seconds: float) -> SilenceCutoff:
    """How far back a stall window of more than no seconds reaches."""
    stall = timedelta(seconds=stall_seconds)
    *_, span = (span for span in spans if span.longer_than < max(stall, timedelta.resolution))
    return span.cutoff_of(stall)


def _reaching(at: datetime) -> SilenceCutoff:
    return SilenceCutoff(at=at, not_before=DISTANT_PAST, earliest_possible=at)


def _earlier(moment: datetime, left: timedelta) -> datetime:
    return moment if moment == DISTANT_PAST else moment - left
