"""What the service manager is told: READY, STATUS, RELOADING, STOPPING, and WATCHDOG while sweeps progress.

The protocol is that of sd_notify(3) and sd_watchdog_enabled(3): a datagram of NAME=value lines to the socket that
NOTIFY_SOCKET names. Without that variable nobody is told anything.

READY comes when every source's database has been met. One that is away does not hold the start up for ever, for what
waits for this unit would wait as long: after a minute the daemon is READY without it, and STATUS says so.

WATCHDOG has no timer of its own. It is said from the main loop, and only while every source is swept in time and every
sweep moves: its last statement began or ended no longer ago than a statement may take. A database that is away and
tried again, a breaker that holds and a supervisor that is halted are no reason to be restarted; a schedule that died is
one, and so is a sweep that waits for an answer which no limit will ever end.
"""

from __future__ import annotations

import faulthandler
import os
import socket
import threading
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager

import structlog

from reaper.config import Settings
from reaper.errors import ConfigError
from reaper.model import JobCounts, Outcome, ReapedJob, SweepReport
from reaper.scheduling.scheduler import State, Supervisor
from reaper.scheduling.source_runner import SourceRunner
from reaper.sweep.summary import error_in_one_line, sweep_in_one_line

_START_SECONDS = 60.0
_MORE_SECONDS = 30
_SEND_SECONDS = 1.0
_PINGS = 3
"""How often WATCHDOG is said within the time that the manager gives."""
_SLACK_SECONDS = 60.0
"""For what no limit is set for: looking a host's name up, a machine that is short of everything."""
_NAMED = 5

_log = structlog.get_logger("reaper")


class Notify:
    """Sends to the service manager, where there is one. Thread-safe."""

    def __init__(self, address: str | None) -> None:
        self._address = f"\0{address[1:]}" if address and address.startswith("@") else address
        self._failed = False

    def send(self, **lines: object) -> None:
        """One message. A manager that cannot be told is no reason to end: the log has it, once."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in lines.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.settimeout(_SEND_SECONDS)
                to.connect(self._address)
                to.send(message.encode())
            self._failed = False
        except OSError as error:
            if not self._failed:
                _log.warning("Reaper cannot reach the service manager.", error=error.strerror or str(error))
            self._failed = True


def watchdog_seconds(environ: MutableMapping[str, str]) -> float | None:
    """Within which time WATCHDOG is expected; None when it is not, or not of this process.

    Raises ConfigError for what no service manager says.
    """
    given, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
    if not given or pid not in ("", str(os.getpid())):
        return None
    if not given.isascii() or not given.isdigit() or int(given) == 0:
        raise ConfigError([f"WATCHDOG_USEC: expected microseconds, got {given!r}"])
    return int(given) / 1e6


class Systemd:
    """Tells the service manager how the daemon does. A listener of sweeps."""

    def __init__(
        self,
        notify: Notify,
        watchdog: float | None = None,
        *,
        start_seconds: float = _START_SECONDS,
        slack_seconds: float = _SLACK_SECONDS,
    ) -> None:
        self._notify, self._watchdog = notify, watchdog
        self._begun, self._start, self._slack = time.monotonic(), start_seconds, slack_seconds
        self._timeouts = slack_seconds
        self._changing = threading.Lock()
        self._reports: dict[str, SweepReport | None] = {}
        self._met: set[str] = set()
        self._ready = False
        self._pinged = float("-inf")
        self._stuck: str | None = None
        self._refused: Sequence[str] = ()

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Systemd:
        """As the environment says, which is cleared of it: a child must not speak in this process's name.

        Raises ConfigError for what no service manager says.
        """
        return cls(Notify(environ.pop("NOTIFY_SOCKET", None)), watchdog_seconds(environ))

    def set_sources(self, settings: Settings) -> None:
        """These are the sources that are to be swept."""
        with self._changing:
            self._reports = {name: self._reports.get(name) for name in settings.sources}
            self._met &= settings.sources.keys()
        deadlines = (source.broker_deadline_seconds for source in settings.sources.values())
        # Twice: the server ends a statement in time, and answers when the network lets it.
        limits = 2 * (settings.statement_timeout_seconds + settings.connect_timeout_seconds)
        self._timeouts = limits + max(deadlines, default=0) + self._slack

    # --- the life of the process -----------------------------------------------------------------------------

    def on_tick(self, supervisor: Supervisor) -> None:
        """The main loop has come round: once a second."""
        if not self._ready:
            self._begin()
        if self._watchdog is not None:
            self._ping(self._watchdog, self._trouble(supervisor))

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """While the configuration is read again."""
        if self._ready:
            self._notify.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        try:
            yield
        finally:
            if self._ready:
                self._notify.send(READY=1, STATUS=self._status())

    def reloaded(self, problems: Sequence[str]) -> None:
        """A new configuration has been taken, or refused for these reasons: STATUS says so until one is taken."""
        self._refused = tuple(problems)

    def stopping(self) -> None:
        """No sweep begins any more."""
        self._notify.send(STOPPING=1, STATUS="Finishing the batches in hand.")

    def _begin(self) -> None:
        waited = time.monotonic() - self._begun
        with self._changing:
            missing = self._reports.keys() - self._met
        if missing and waited < self._start:
            self._notify.send(EXTEND_TIMEOUT_USEC=_MORE_SECONDS * 1_000_000, STATUS=self._status())
            return
        self._ready = True
        if self._watchdog is not None and not faulthandler.is_enabled():
            # Where each thread hung when the watchdog ended them is worth more than the restart.
            faulthandler.enable()
        self._notify.send(READY=1, STATUS=self._status())

    # --- the watchdog ----------------------------------------------------------------------------------------

    def _ping(self, within: float, trouble: str | None) -> None:
        if trouble is not None:
            if self._stuck is None:
                _log.error("Reaper makes no progress, and leaves it to the watchdog to restart it.", reason=trouble)
                self._notify.send(STATUS=f"No progress: {trouble}.")
        elif time.monotonic() - self._pinged >= within / _PINGS:
            self._pinged = time.monotonic()
            self._notify.send(WATCHDOG=1)
        self._stuck = trouble

    def _trouble(self, supervisor: Supervisor) -> str | None:
        """Why this is no progress; None while it is."""
        if supervisor.state is State.FINISHED:
            return "the schedule of sweeps has ended"
        return next(filter(None, map(self._trouble_of, supervisor.runners)), None)

    def _trouble_of(self, runner: SourceRunner) -> str | None:
        if runner.sweeping:
            still = time.monotonic() - runner.source.activity.at
            return f"the sweep of {runner.name} has stood still for {still:.0f} s" if still > self._timeouts else None
        return (
            f"{runner.name} is not swept: {runner.overdue_seconds:.0f} s late"
            if runner.overdue_seconds > self._slack
            else None
        )

    # --- what sweeps say -------------------------------------------------------------------------------------

    def surveyed(self, source: str, census: JobCounts) -> None:  # noqa: ARG002
        self._meet(source)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """Each statement of a sweep has been noticed already."""

    def swept(self, report: SweepReport) -> None:
        if not report.database_away:
            self._meet(report.source)
        with self._changing:
            if report.source not in self._reports:
                return
            self._reports[report.source] = report
        if self._stuck is None:
            self._notify.send(STATUS=self._status())

    def _meet(self, source: str) -> None:
        with self._changing:
            self._met.add(source)

    def _status(self) -> str:
        with self._changing:
            reports = sorted(self._reports.items(), key=lambda item: (not _troubled(item[1]), item[0]))
        told = [f"{name}: {sweep_in_one_line(report)}" for name, report in reports[:_NAMED]]
        if more := len(reports) - len(told):
            told.append(f"and {more} more sources")
        return "; ".join([*_refusal(self._refused), *told])


def _refusal(problems: Sequence[str]) -> Iterator[str]:
    if problems:
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        yield f"new configuration refused, the old one stays: {error_in_one_line(problems[0])}{others}"


def _troubled(report: SweepReport | None) -> bool:
    return report is None or report.outcome not in (Outcome.DONE, Outcome.STANDBY)
