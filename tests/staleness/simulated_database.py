"""A database whose clock and restarts are set by the test, and its downtime tracker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reaper.model import DISTANT_PAST, ServerClock
from reaper.staleness.downtime import DowntimeHistory, DowntimeTracker

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
STALL = 1800.0


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


class SimulatedDatabase:
    """The clock of a database, the start of its server, and our clock. The test sets them, in seconds after noon."""

    def __init__(self, grace: float = 60, *, started: float = -86400) -> None:
        self.tick = 100.0
        self.clock = 0.0
        self.started = started
        self.grace = grace
        self.downtime = DowntimeTracker(grace, lambda: self.tick)

    def begin_process(self) -> None:
        """Another process begins, and knows nothing."""
        self.downtime = DowntimeTracker(self.grace, lambda: self.tick)

    def resume(self, history: DowntimeHistory) -> bool:
        """Whether the first contact of this process goes on from what another one has noted."""
        return self.downtime.resume(history, self._clock())

    def next_process(self) -> bool:
        """Another process takes over and meets the same server; whether it goes on from what this one has noted."""
        history = self.downtime.history()
        self.begin_process()
        return history is not None and self.resume(history)

    def _clock(self) -> ServerClock:
        return ServerClock(now=at(self.clock), server_started=at(self.started))

    def wait(self, seconds: float) -> None:
        self.tick += seconds
        self.clock += seconds

    def contact(self) -> None:
        self.downtime.record_contact(self._clock())

    def fail(self) -> None:
        self.downtime.record_failure()

    def cutoff(self, stall: float = STALL) -> float | None:
        """The cutoff in seconds after noon; None when it cannot be reached."""
        cutoff = self.downtime.cutoff(stall).at
        return None if cutoff == DISTANT_PAST else (cutoff - NOON).total_seconds()

    def excluded_seconds(self) -> float:
        """How much further back than a stall window the cutoff is; infinite while it cannot be reached."""
        cutoff = self.cutoff()
        return float("inf") if cutoff is None else self.clock - cutoff - STALL
