"""Closes interrupted jobs once, when the daemon starts, for sources with `resume_at_start`."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import DBAPIError

from reaper.common import messages
from reaper.config import Settings, SourceSettings
from reaper.database.errors import short_message
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.memory import FirstSeenJobStore, FutureSignStore, LocalColumnStore, ReapedRowStore
from reaper.model import JobCounts, ReapedJob
from reaper.operations.end_in_batches import BulkOptions
from reaper.operations.resume import ResumeOptions, ResumeResult, resume
from reaper.source import Source, SpellingDecision
from reaper.source.factory import create_source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.halt_switch import HaltSwitch
from reaper.sweep.listeners import ListenerGroup, SweepSubscriber

LISTEN_SECONDS = 10.0
_RETRY_SECONDS = 2.0
_FAILED = "Reaper could not close interrupted jobs; sweeps end them once they are stale."

_log = structlog.get_logger("reaper")


class StartupRecovery:
    """Runs `resume` in one thread for each source. A listener that forwards to the subscribers of sweeps."""

    def __init__(
        self,
        subscribers: Sequence[SweepSubscriber],
        halt: HaltSwitch | None = None,
        reaped_rows: ReapedRowStore | None = None,
        future_signs: FutureSignStore | None = None,
        first_seen: FirstSeenJobStore | None = None,
        local_columns: LocalColumnStore | None = None,
    ) -> None:
        self._halt, self._reaped_rows = halt or HaltSwitch(), reaped_rows
        self._future_signs, self._first_seen, self._local_columns = future_signs, first_seen, local_columns
        self._listeners = ListenerGroup(subscribers)
        self._stopping = threading.Event()
        self._threads: dict[str, threading.Thread] = {}

    @property
    def sources(self) -> Sequence[str]:
        """The sources whose resume has begun."""
        return tuple(self._threads)

    def begin(self, settings: Settings, settings_of_source: SourceSettings, decision: SpellingDecision) -> None:
        """Start the thread of a source. `decision` is that of its sweeps.

        Raises ConfigError when the source cannot be created.
        """
        source = create_source(
            settings,
            settings_of_source,
            reaped_rows=self._reaped_rows,
            future_signs=self._future_signs,
            first_seen=self._first_seen,
            local_columns=self._local_columns,
            decision=decision,
        )
        downtime = DowntimeTracker(settings.restart_grace_seconds)
        options = ResumeOptions(settings_of_source.resume_window_seconds, LISTEN_SECONDS, self._stopping.wait)
        bulk = BulkOptions(socket.gethostname(), settings.batch_size, self, self._must_stop)
        thread = threading.Thread(
            target=self._run,
            args=(source, downtime, options, bulk),
            name=f"resume {settings_of_source.name}",
            daemon=True,
        )
        self._threads[settings_of_source.name] = thread
        thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Let running batches finish, at most `timeout_seconds`."""
        self._stopping.set()
        self.join(timeout_seconds)

    def join(self, timeout_seconds: float) -> bool:
        """Wait until every resume has ended. False when one has not within `timeout_seconds`."""
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads.values())

    def _must_stop(self) -> bool:
        return self._stopping.is_set() or self._halt.is_halted

    def _run(self, source: Source, downtime: DowntimeTracker, options: ResumeOptions, bulk: BulkOptions) -> None:
        try:
            resumed = self._resume_with_retry(source, downtime, options, bulk)
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
            if resumed is not None:
                _log_result(resumed)

    def _resume_with_retry(
        self, source: Source, downtime: DowntimeTracker, options: ResumeOptions, bulk: BulkOptions
    ) -> ResumeResult | None:
        """Retry while the database is unavailable, for as long as the resume window.

        After that no job can be within the window. Returns None when the daemon stops meanwhile.
        """
        started = time.monotonic()
        while True:
            try:
                return resume(source, downtime, options, bulk)
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


def _log_result(resumed: ResumeResult) -> None:
    _log.info(
        f"Reaper closed {resumed.bulk_result.reaped} interrupted job(s).",
        source=resumed.source,
        found=resumed.interrupted,
        closed=resumed.bulk_result.reaped,
        window_seconds=resumed.window_seconds,
        sweep_id=resumed.run_id,
    )
    for failure in resumed.bulk_result.failures:
        job = messages.format_key(failure.key)
        _log.error(
            "Reaper could not end a job: the database refused it.", source=resumed.source, job=job, error=failure.error
        )
