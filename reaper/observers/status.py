"""Health of the daemon: the last report of each source, and whether the main loop runs. For /live and /ready."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reaper.model import JobCounts, Outcome, ReapedJob, SweepReport
from reaper.sweep.halt_switch import HaltSwitch

_MAX_TICK_SECONDS = 15.0
_MAX_MISSED_INTERVALS = 3


@dataclass(slots=True)
class _Failure:
    at: float
    error: str | None


@dataclass(slots=True)
class _SourceState:
    since: float
    report: SweepReport | None = None
    succeeded_at: float | None = None
    failure: _Failure | None = None
    held: str | None = None


class Status:
    """A listener of sweeps. HTTP requests read it from other threads."""

    def __init__(self, halt: HaltSwitch | None = None) -> None:
        self._halt = halt or HaltSwitch()
        self.interval_seconds = 0.0
        self._lock = threading.Lock()
        self._sources: dict[str, _SourceState] = {}
        self._last_tick = time.monotonic()
        self.reload_problems: Sequence[str] = ()
        """Problems of the configuration that the last reload refused; empty when it was accepted."""

    def set_sources(self, sources: Iterable[str], interval_seconds: float) -> None:
        """The health of these sources counts, and of no others."""
        with self._lock:
            self.interval_seconds = interval_seconds
            self._sources = {name: self._sources.get(name, _SourceState(since=time.monotonic())) for name in sources}

    def on_tick(self) -> None:
        """Called by each round of the daemon's main loop."""
        self._last_tick = time.monotonic()

    def reloaded(self, problems: Sequence[str]) -> None:
        """A reload was accepted (no problems) or refused."""
        self.reload_problems = tuple(problems)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """Does not concern health."""

    def surveyed(self, source: str, census: JobCounts) -> None:
        """Does not concern health."""

    def swept(self, report: SweepReport) -> None:
        with self._lock:
            state = self._sources.get(report.source)
            if state is None:
                return
            state.report = report
            if report.outcome is not Outcome.FAILED:
                state.held = _why_held(report) if report.outcome is Outcome.HELD else None
            if report.outcome in (Outcome.STANDBY, Outcome.HELD, Outcome.HALTED) or report.succeeded:
                state.succeeded_at = time.monotonic()
            if report.outcome is Outcome.FAILED and not report.database_away:
                state.failure = _Failure(time.monotonic(), report.error)
            elif report.outcome is not Outcome.STANDBY:
                state.failure = None

    @property
    def alive(self) -> bool:
        """Whether the main loop runs."""
        return time.monotonic() - self._last_tick < _MAX_TICK_SECONDS

    def problems(self) -> dict[str, list[str]]:
        """For each source the reasons why it is not ready; an empty list when it is."""
        with self._lock:
            return {name: self._problems_of(known) for name, known in self._sources.items()}

    def _problems_of(self, state: _SourceState) -> list[str]:
        problems = []
        report, oldest = state.report, _MAX_MISSED_INTERVALS * self.interval_seconds
        if report is None:
            return ["no sweep has ended yet"]
        if report.database_away:
            problems.append(f"database away: {report.error}")
        elif report.outcome is Outcome.FAILED:
            problems.append(f"last sweep failed: {report.error}")
        elif state.failure is not None and time.monotonic() - state.failure.at <= oldest:
            # Another replica holds the lease now. That does not mean that the failure is over: it may fail there, too.
            problems.append(f"last sweep as the leader failed: {state.failure.error}")
        age = time.monotonic() - (state.succeeded_at if state.succeeded_at is not None else state.since)
        if age > oldest:
            problems.append(f"no successful sweep for {age:.0f} s (more than {oldest:.0f} s)")
        elif state.succeeded_at is None and not problems:
            problems.append("no sweep has succeeded yet")
        problems += [*report.diverted, *report.unknown_moments]
        if state.held is not None:
            problems.append(state.held)
        if (halted := self._halt.current) is not None:
            problems.append(f"halted by {halted.by}")
        return problems


def _why_held(report: SweepReport) -> str:
    if report.cap is not None:
        return f"cap reached: {report.cap}"
    return "breaker open: nearly all running jobs fell silent at once"
