"""Notifies systemd: READY, STATUS, RELOADING, STOPPING, and WATCHDOG while sweeps make progress.

The protocol is that of sd_notify(3) and sd_watchdog_enabled(3): a datagram of NAME=value lines to the socket that
NOTIFY_SOCKET names. Without that variable nothing is sent.

READY is sent when every source's database has been reached. An unavailable database delays it by a minute at most,
because other units may wait for this one: then the daemon is READY without it, and STATUS says so.

WATCHDOG has no timer of its own. The main loop sends it, and only while every source is swept in time and every sweep
makes progress: its last statement began or ended no longer ago than a statement may take. Three states are no reason
for a restart: an unavailable database that is tried again, a breaker that holds, a halted supervisor. Two are: a
schedule that has died, and a sweep that waits for an answer longer than every limit.
"""

from __future__ import annotations

import faulthandler
import threading
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager

import structlog

from reaper.config import Settings
from reaper.daemon.sd_notify import NotifySocket, watchdog_seconds
from reaper.model import JobCounts, Outcome, ReapedJob, SweepReport
from reaper.scheduling.scheduler import State, Supervisor
from reaper.scheduling.source_runner import SourceRunner
from reaper.sweep.summary import error_in_one_line, sweep_in_one_line

_START_SECONDS = 60.0
_EXTEND_SECONDS = 30
_PINGS_PER_INTERVAL = 3
"""How often WATCHDOG is sent within the interval that systemd expects."""
_SLACK_SECONDS = 60.0
"""Added to the limits, for work without a limit: DNS lookups, an overloaded machine."""
_MAX_NAMED = 5

_log = structlog.get_logger("reaper")


class Systemd:
    """A listener of sweeps that reports the state of the daemon to systemd."""

    def __init__(
        self,
        notify: NotifySocket,
        watchdog: float | None = None,
        *,
        start_seconds: float = _START_SECONDS,
        slack_seconds: float = _SLACK_SECONDS,
    ) -> None:
        self._notify, self._watchdog = notify, watchdog
        self._started_at, self._start_seconds, self._slack_seconds = time.monotonic(), start_seconds, slack_seconds
        self.stall_limit_seconds = slack_seconds
        """How long a statement of a sweep may last before WATCHDOG is no longer sent."""
        self._lock = threading.Lock()
        self._reports: dict[str, SweepReport | None] = {}
        self._reached: set[str] = set()
        self._ready = False
        self._last_ping = float("-inf")
        self._no_progress_reason: str | None = None
        self._reload_problems: Sequence[str] = ()

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Systemd:
        """Create it from NOTIFY_SOCKET and WATCHDOG_*, and remove them: child processes must not use them.

        Raises ConfigError for a wrong WATCHDOG_USEC.
        """
        return cls(NotifySocket(environ.pop("NOTIFY_SOCKET", None)), watchdog_seconds(environ))

    def set_sources(self, settings: Settings) -> None:
        """The sources that are swept, and the limits of their statements."""
        with self._lock:
            self._reports = {name: self._reports.get(name) for name in settings.sources}
            self._reached &= settings.sources.keys()
        deadlines = (source.broker_deadline_seconds for source in settings.sources.values())
        # Twice: the server cancels a statement in time, but its answer may need as long again on a slow network.
        limits = 2 * (settings.statement_timeout_seconds + settings.connect_timeout_seconds)
        self.stall_limit_seconds = limits + max(deadlines, default=0) + self._slack_seconds

    # --- the life of the process -----------------------------------------------------------------------------

    def on_tick(self, supervisor: Supervisor) -> None:
        """One round of the main loop, once a second."""
        if not self._ready:
            self._report_start()
        if self._watchdog is not None:
            self._ping_watchdog(self._watchdog, self._find_trouble(supervisor))

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """A block in which the configuration is read again."""
        if self._ready:
            self._notify.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        try:
            yield
        finally:
            if self._ready:
                self._notify.send(READY=1, STATUS=self._status_line())

    def reloaded(self, problems: Sequence[str]) -> None:
        """A reload was accepted (no problems) or refused. STATUS shows the problems until one is accepted."""
        self._reload_problems = tuple(problems)

    def stopping(self) -> None:
        """The daemon stops: no sweep begins any more."""
        self._notify.send(STOPPING=1, STATUS="Finishing the running batches.")

    def _report_start(self) -> None:
        waited_seconds = time.monotonic() - self._started_at
        with self._lock:
            missing = self._reports.keys() - self._reached
        if missing and waited_seconds < self._start_seconds:
            self._notify.send(EXTEND_TIMEOUT_USEC=_EXTEND_SECONDS * 1_000_000, STATUS=self._status_line())
            return
        self._ready = True
        if self._watchdog is not None and not faulthandler.is_enabled():
            # When the watchdog kills the process, the journal shows where each thread hung.
            faulthandler.enable()
        self._notify.send(READY=1, STATUS=self._status_line())

    # --- the watchdog ----------------------------------------------------------------------------------------

    def _ping_watchdog(self, interval_seconds: float, reason: str | None) -> None:
        if reason is not None:
            if self._no_progress_reason is None:
                _log.error(
                    "Reaper makes no progress; it sends no WATCHDOG, so that the service manager restarts it.",
                    reason=reason,
                )
                self._notify.send(STATUS=f"No progress: {reason}.")
        elif time.monotonic() - self._last_ping >= interval_seconds / _PINGS_PER_INTERVAL:
            self._last_ping = time.monotonic()
            self._notify.send(WATCHDOG=1)
        self._no_progress_reason = reason

    def _find_trouble(self, supervisor: Supervisor) -> str | None:
        """Why the daemon makes no progress; None while it does."""
        if supervisor.state is State.FINISHED:
            return "the schedule of sweeps has died"
        return next(filter(None, map(self._runner_trouble, supervisor.runners)), None)

    def _runner_trouble(self, runner: SourceRunner) -> str | None:
        if runner.sweeping:
            still_seconds = runner.still_seconds
            return (
                f"the sweep of {runner.name} has stood still for {still_seconds:.0f} s"
                if still_seconds > self.stall_limit_seconds
                else None
            )
        return (
            f"{runner.name} is not swept: {runner.overdue_seconds:.0f} s late"
            if runner.overdue_seconds > self._slack_seconds
            else None
        )

    # --- listener -------------------------------------------------------------------------------------

    def surveyed(self, source: str, census: JobCounts) -> None:  # noqa: ARG002
        self._mark_reached(source)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """Progress is measured by statements, not by batches."""

    def swept(self, report: SweepReport) -> None:
        if not report.database_away:
            self._mark_reached(report.source)
        with self._lock:
            if report.source not in self._reports:
                return
            self._reports[report.source] = report
        if self._no_progress_reason is None:
            self._notify.send(STATUS=self._status_line())

    def _mark_reached(self, source: str) -> None:
        with self._lock:
            self._reached.add(source)

    def _status_line(self) -> str:
        with self._lock:
            reports = sorted(self._reports.items(), key=lambda item: (not _troubled(item[1]), item[0]))
        lines = [f"{name}: {sweep_in_one_line(report)}" for name, report in reports[:_MAX_NAMED]]
        if more := len(reports) - len(lines):
            lines.append(f"and {more} more sources")
        return "; ".join([*_reload_lines(self._reload_problems), *lines])


def _reload_lines(problems: Sequence[str]) -> Iterator[str]:
    if problems:
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        yield f"new configuration refused, the old one stays: {error_in_one_line(problems[0])}{others}"


def _troubled(report: SweepReport | None) -> bool:
    return report is None or not (report.succeeded or report.outcome is Outcome.STANDBY)
