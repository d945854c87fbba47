"""Closes interrupted jobs once, when the daemon starts, for sources with `close_interrupted_at_start`."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import structlog
from sqlalchemy.exc import DBAPIError

from reaper.common import messages
from reaper.config import Settings, SourceSettings
from reaper.database.errors import short_message
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.model import JobCounts, ReapedJob
from reaper.operations.close_interrupted import CloseInterruptedOptions, CloseInterruptedResult, close_interrupted
from reaper.operations.end_in_batches import BulkOptions
from reaper.source import Source, SpellingDecision
from reaper.source.factory import NO_STORES, SourceStores, create_source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.halt_switch import HaltSwitch
from reaper.sweep.listeners import ListenerGroup, SweepSubscriber

LISTEN_SECONDS = 10.0
_RETRY_SECONDS = 2.0
_FAILED = "Reaper could not close interrupted jobs; sweeps end them once they are stale."

_log = structlog.get_logger("reaper")


class StartupRecovery:
    """Runs `close_interrupted` in one thread for each source. A listener that forwards to the subscribers of sweeps."""

    def __init__(
        self,
        subscribers: Sequence[SweepSubscriber],
        halt: HaltSwitch | None = None,
        stores: SourceStores = NO_STORES,
    ) -> None:
        self._halt, self._stores = halt or HaltSwitch(), stores
        self._listeners = ListenerGroup(subscribers)
        self._stopping = threading.Event()
        self._threads: dict[str, threading.Thread] = {}

    @property
    def sources(self) -> Sequence[str]:
        """The sources for which it has begun."""
        return tuple(self._threads)

    def begin(self, settings: Settings, settings_of_source: SourceSettings, decision: SpellingDecision) -> None:
        """Start the thread of a source. `decision` is that of its sweeps.

        Raises ConfigError when the source cannot be created.
        """
        source = create_source(settings, settings_of_source, stores=self._stores, decision=decision)
        downtime = DowntimeTracker(settings.restart_grace_seconds)
        options = CloseInterruptedOptions(
            settings_of_source.close_interrupted_window_seconds,
            LISTEN_SECONDS,
            self._stopping.wait,
            Breaker.from_settings(settings),
            holder=settings_of_source.close_interrupted_holder,
            dry_run=settings_of_source.observe,
        )
        bulk = BulkOptions(socket.gethostname(), settings.batch_size, self, self._must_stop)
        thread = threading.Thread(
            target=self._run,
            args=(source, downtime, options, bulk),
            name=f"close-interrupted {settings_of_source.name}",
            daemon=True,
        )
        self._threads[settings_of_source.name] = thread
        thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Let running batches finish, at most `timeout_seconds`."""
        self._stopping.set()
        self.join(timeout_seconds)

    def join(self, timeout_seconds: float) -> bool:
        """Wait until every thread has ended. False when one has not within `timeout_seconds`."""
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads.values())

    def _must_stop(self) -> bool:
        return self._stopping.is_set() or self._halt.is_halted

    def _run(
        self, source: Source, downtime: DowntimeTracker, options: CloseInterruptedOptions, bulk: BulkOptions
    ) -> None:
        try:
            closed = self._close_with_retry(source, downtime, options, bulk)
        except DBAPIError as error:
            _log.error(
                _FAILED,
                source=source.name,
                error=short_message(error),
            )
        except ReaperError as error:
            _log.error(
                _FAILED,
                source=source.name,
                error=str(error),
            )
        except Exception as defect:  # noqa: BLE001  nothing else reports an error of this thread
            problem = f"{type(defect).__name__}: {defect}"
            _log.exception(
                _FAILED,
                source=source.name,
                error=problem,
            )
        else:
            if closed is not None:
                _log_result(closed)

    def _close_with_retry(
        self, source: Source, downtime: DowntimeTracker, options: CloseInterruptedOptions, bulk: BulkOptions
    ) -> CloseInterruptedResult | None:
        """Retry while the database is unavailable, for as long as the window.

        After that no job can be within the window. Returns None when the daemon stops meanwhile.
        """
        started = time.monotonic()
        while True:
            try:
                # Jobs that were claimed since this daemon started are not those of the server before.
                since_start = replace(options, started_ago_seconds=time.monotonic() - started)
                return close_interrupted(source, downtime, since_start, bulk)
            except DatabaseUnavailable:
                downtime.record_failure()
                if time.monotonic() - started > options.window_seconds:
                    raise
            if self._stopping.wait(_RETRY_SECONDS):
                return None

    # --- listener ------------------------------------------------------------------------------

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self._listeners.reaped(source, sweep_id, batch)

    def surveyed(self, source: str, census: JobCounts) -> None:
        self._listeners.surveyed(source, census)


def _log_result(closed: CloseInterruptedResult) -> None:
    if closed.dry_run:
        _log.info(
            "Reaper observes the source, and closed no interrupted job.",
            source=closed.source,
            found=closed.interrupted,
            would_close=[messages.format_key(job.key) for job in closed.listed],
            held=closed.held,
        )
        return
    if closed.held is not None:
        _log.error(
            "Reaper closed no interrupted jobs: the breaker holds them. Sweeps end them once they are stale.",
            source=closed.source,
            found=closed.interrupted,
            reason=closed.held,
            next="if they were interrupted: reaper close-interrupted --source "
            f"{closed.source} --only-server --started-ago AGE --release {closed.interrupted}",
        )
        return
    _log.info(
        f"Reaper closed {closed.bulk_result.reaped} interrupted job(s).",
        source=closed.source,
        found=closed.interrupted,
        closed=closed.bulk_result.reaped,
        window_seconds=closed.window_seconds,
        sweep_id=closed.run_id,
    )
    for failure in closed.bulk_result.failures:
        job = messages.format_key(failure.key)
        _log.error(
            "Reaper could not end a job: the database refused it.", source=closed.source, job=job, error=failure.error
        )
