"""What is known of the daemon's health: the last report of each source, and whether the loop turns."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reaper.model import JobCounts, Outcome, ReapedJob, SweepReport
from reaper.sweep.halt import HaltSwitch

_LOOP_SECONDS = 15.0
_INTERVALS = 3


@dataclass(slots=True)
class _Failure:
    at: float
    error: str | None


@dataclass(slots=True)
class _Known:
    since: float
    report: SweepReport | None = None
    tended: float | None = None
    failure: _Failure | None = None
    held: bool = False


class Status:
    """Written by the sweeps, read by HTTP. A listener of sweeps."""

    def __init__(self, halt: HaltSwitch | None = None) -> None:
        self._halt = halt or HaltSwitch()
        self._interval = 0.0
        self._lock = threading.Lock()
        self._sources: dict[str, _Known] = {}
        self._turned = time.monotonic()
        self.refused: Sequence[str] = ()
        """What is wrong with the newest configuration, which a reload has refused: the one before is in force."""

    def set_sources(self, sources: Iterable[str], interval_seconds: float) -> None:
        """These sources, and no others, decide."""
        with self._lock:
            self._interval = interval_seconds
            self._sources = {name: self._sources.get(name, _Known(since=time.monotonic())) for name in sources}

    def on_tick(self) -> None:
        """The daemon's main loop has come round."""
        self._turned = time.monotonic()

    def reloaded(self, problems: Sequence[str]) -> None:
        """A new configuration has been taken, or refused for these reasons."""
        self.refused = tuple(problems)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """Single jobs say nothing about health."""

    def surveyed(self, source: str, census: JobCounts) -> None:
        """Neither does their number."""

    def swept(self, report: SweepReport) -> None:
        with self._lock:
            known = self._sources.get(report.source)
            if known is None:
                return
            known.report = report
            if report.outcome is not Outcome.FAILED:
                known.held = report.outcome is Outcome.HELD
            if report.outcome in (Outcome.DONE, Outcome.STANDBY, Outcome.HELD, Outcome.HALTED):
                known.tended = time.monotonic()
            if report.outcome is Outcome.FAILED and not report.database_away:
                known.failure = _Failure(time.monotonic(), report.error)
            elif report.outcome is not Outcome.STANDBY:
                known.failure = None

    @property
    def alive(self) -> bool:
        """The loop turns."""
        return time.monotonic() - self._turned < _LOOP_SECONDS

    def problems(self) -> dict[str, list[str]]:
        """For each source what keeps it from being ready; an empty list when nothing does."""
        with self._lock:
            return {name: self._of(known) for name, known in self._sources.items()}

    def _of(self, known: _Known) -> list[str]:
        found = []
        report, oldest = known.report, _INTERVALS * self._interval
        if report is None:
            return ["no sweep has ended yet"]
        if report.database_away:
            found.append(f"database away: {report.error}")
        elif report.outcome is Outcome.FAILED:
            found.append(f"last sweep failed: {report.error}")
        elif known.failure is not None and time.monotonic() - known.failure.at <= oldest:
            # Whoever holds the lease now may fare no better: that somebody has it says nothing of this failure.
            found.append(f"last sweep as the leader failed: {known.failure.error}")
        age = time.monotonic() - (known.tended if known.tended is not None else known.since)
        if age > oldest:
            found.append(f"no successful sweep for {age:.0f} s (more than {oldest:.0f} s)")
        elif known.tended is None and not found:
            found.append("no sweep has succeeded yet")
        if known.held:
            found.append("breaker open: nearly everything fell silent at once")
        if (halted := self._halt.current) is not None:
            found.append(f"halted by {halted.by}")
        return found
