"""The cap on how many jobs of a source are ended in a while: it holds a slow mistake, which the breaker lets pass.

What counts are jobs that are ended because they are silent, and those that a restart is only said to have interrupted:
by sweeps, commands and Celery tasks. What an operator ends by name, or after a question with the number, does not.
A sweep asks before it ends anything, and takes as many places as it has found stale jobs: when there are not enough, it
ends none. So two processes that share the state directory do not take the same places, and a process that is killed
leaves its places taken. After the sweep, the places of jobs that it did not end are given back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from reaper.common.rates import Rate
from reaper.errors import StateUnavailable

_SLOTS = 60


class EndedLately(Protocol):
    """Keeps how many jobs were ended, by source and slot of time. Raises StateUnavailable."""

    def take(self, source: str, jobs: int, most: int, slots: int, slot_seconds: float) -> tuple[int | None, int]:
        """Count so many jobs, unless that is more than `most` in the last `slots`: the slot they are counted in, None
        when they are not; and how many had been counted before.
        """

    def counted(self, source: str, slots: int, slot_seconds: float) -> int:
        """How many are counted in the last `slots`."""

    def correct(self, source: str, slot: int, jobs: int) -> None:
        """Add so many jobs to those that `take` has counted; less than 0 takes them off."""

    def forget(self, source: str) -> None:
        """Count from now on."""


@dataclass(slots=True)
class Places:
    """What a sweep may end: `held` says why it may end nothing. `used`: how many places stay taken when it is over."""

    used: int = 0
    held: str | None = None


@dataclass(frozen=True, slots=True)
class EndingCap:
    """At most so many jobs in such a time. `origin` says where that was set."""

    most: Rate
    origin: str
    ended: EndedLately

    @contextmanager
    def places(self, source: str, jobs: int, *, released: bool) -> Iterator[Places]:
        """For so many jobs. With `released`, a person has seen their number, and the count begins again after them.

        Raises StateUnavailable: then it is not known how many jobs were ended.
        """
        if not jobs:
            yield Places()
            return
        slot, before = self.ended.take(source, jobs, self.most.jobs, _SLOTS, self.most.seconds / _SLOTS)
        if slot is None:
            if released:
                self.ended.forget(source)
            yield Places(held=None if released else self.reason(jobs, before))
            return
        places = Places(used=jobs)
        try:
            yield places
        finally:
            if places.used != jobs:
                with suppress(StateUnavailable):  # then too many are counted, and never too few
                    self.ended.correct(source, slot, places.used - jobs)

    def would_hold(self, source: str, jobs: int) -> str | None:
        """Why so many jobs could not be ended now; None when they could. Raises StateUnavailable."""
        before = self.ended.counted(source, _SLOTS, self.most.seconds / _SLOTS)
        return self.reason(jobs, before) if jobs and before + jobs > self.most.jobs else None

    def reason(self, jobs: int, before: int) -> str:
        """Why so many jobs are too many."""
        return (
            f"{jobs} stale job(s) and {before} that were ended lately are more than {self.most}, the most that this "
            f"source may end ({self.origin})"
        )
