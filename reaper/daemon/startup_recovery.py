"""What is done once, when the daemon starts: closing what was interrupted, for the sources that ask for it."""

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
from reaper.model import JobCounts, ReapedJob
from reaper.operations.bulk_end import BulkOptions
from reaper.operations.resume import ResumeOptions, ResumeResult, resume
from reaper.source import Source
from reaper.source.factory import create_source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.halt import HaltSwitch
from reaper.sweep.listeners import ListenerGroup, SweepSubscriber

LISTEN_SECONDS = 10.0
_AGAIN_SECONDS = 2.0

_log = structlog.get_logger("reaper")


class StartupRecovery:
    """A thread for each of these sources. A listener, which tells the subscribers of sweeps."""

    def __init__(self, subscribers: Sequence[SweepSubscriber], halt: HaltSwitch | None = None) -> None:
        self._halt = halt or HaltSwitch()
        self._listeners = ListenerGroup(subscribers)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, settings: Settings, found: SourceSettings) -> None:
        """Raises ConfigError when the source cannot be made."""
        source = create_source(settings, found)
        downtime = DowntimeTracker(settings.restart_grace_seconds)
        options = ResumeOptions(found.resume_window_seconds, LISTEN_SECONDS, self._stopping.wait)
        hand = BulkOptions(socket.gethostname(), settings.batch_size, self, self._told_to_stop)
        thread = threading.Thread(
            target=self._run, args=(source, downtime, options, hand), name=f"resume {found.name}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def stop(self, patience_seconds: float) -> None:
        """Finish the batches in hand."""
        self._stopping.set()
        deadline = time.monotonic() + patience_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _told_to_stop(self) -> bool:
        return self._stopping.is_set() or self._halt.is_halted

    def _run(self, source: Source, downtime: DowntimeTracker, options: ResumeOptions, hand: BulkOptions) -> None:
        try:
            resumed = self._patiently(source, downtime, options, hand)
        except DBAPIError as error:
            _log.error("Reaper could not close what was interrupted.", source=source.name, error=short_message(error))
        except ReaperError as error:
            _log.error("Reaper could not close what was interrupted.", source=source.name, error=str(error))
        except Exception as defect:  # noqa: BLE001  a thread of its own: nobody else would hear of it
            problem = f"{type(defect).__name__}: {defect}"
            _log.exception("Reaper could not close what was interrupted.", source=source.name, error=problem)
        else:
            if resumed is not None:
                _tell(resumed)

    def _patiently(
        self, source: Source, downtime: DowntimeTracker, options: ResumeOptions, hand: BulkOptions
    ) -> ResumeResult | None:
        """A database that is still starting is waited for; beyond the window there is nothing left to close."""
        begun = time.monotonic()
        while True:
            try:
                return resume(source, downtime, options, hand)
            except DatabaseUnavailable:
                downtime.record_failure()
                if time.monotonic() - begun > options.window_seconds:
                    raise
            if self._stopping.wait(_AGAIN_SECONDS):
                return None

    # --- passes on what is done ------------------------------------------------------------------------------

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self._listeners.reaped(source, sweep_id, batch)

    def surveyed(self, source: str, census: JobCounts) -> None:
        self._listeners.surveyed(source, census)


def _tell(resumed: ResumeResult) -> None:
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
        _log.error("Reaper could not end a job.", source=resumed.source, job=job, error=failure.error)
