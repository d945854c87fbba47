"""The scheduled purges of one source: deletes its finished jobs when asked, one purge at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol

from reaper.database.lease import Lease
from reaper.memory import RefusedJobStore
from reaper.model import Outcome, PurgeReport
from reaper.operations.purge import PurgeOptions, purge, refused_by_purges, require_purgeable
from reaper.source import Source
from reaper.source.purge import purge_lease
from reaper.sweep.halt_switch import HaltSwitch

_LEASE_SECONDS = 60.0


class PurgeSubscriber(Protocol):
    """Called during every scheduled purge, and at its end: metrics, log."""

    def purged(self, source: str, rows: int) -> None:
        """A batch has been deleted, and that is committed."""

    def purge_ended(self, report: PurgeReport) -> None: ...


class ScheduledPurge:
    """Purges one source when asked, and notifies its subscribers. It has a lease of its own: sweeps go on beside it."""

    def __init__(
        self,
        source: Source,
        days_to_keep: float,
        batch_size: int,
        subscribers: Sequence[PurgeSubscriber],
        halt: HaltSwitch | None = None,
        refused_jobs: RefusedJobStore | None = None,
    ) -> None:
        """`refused_jobs` keeps which jobs the database refuses to delete beyond the process. Raises NotPurgeable."""
        require_purgeable(source.profile)
        self._refused = refused_by_purges(refused_jobs, source.name)
        self._source, self._subscribers = source, tuple(subscribers)
        self._stopping = threading.Event()
        self._busy = threading.Lock()
        self._halt = halt or HaltSwitch()
        self.options = PurgeOptions(days_to_keep, batch_size, should_stop=self._should_stop)

    @property
    def name(self) -> str:
        return self._source.name

    def tick(self) -> PurgeReport | None:
        """One purge, now. None after `stop`, while halted, and while another one is in progress."""
        if self._should_stop() or not self._busy.acquire(blocking=False):
            return None
        try:
            return self._purge()
        finally:
            self._busy.release()

    def _purge(self) -> PurgeReport:
        """A purge, reported to the subscribers. A defect of ours is reported as a failed purge, and raised."""
        try:
            report = purge(self._source, self.options, self, self._lease(), self._refused)
        except Exception as defect:
            self._report(failed_report(self.name, f"{type(defect).__name__}: {defect}"))
            raise
        self._report(report)
        return report

    def _should_stop(self) -> bool:
        return self._stopping.is_set() or self._halt.is_halted

    def _lease(self) -> Lease:
        return purge_lease(self._source.engine, lambda: self._source.tables, _LEASE_SECONDS)

    def _report(self, report: PurgeReport) -> None:
        for subscriber in self._subscribers:
            subscriber.purge_ended(report)

    def stop(self) -> None:
        """End a purge in progress after its batch, and begin no other."""
        self._stopping.set()

    def join(self, patience_seconds: float) -> bool:
        """After `stop`: wait for the purge to end. False when that takes too long."""
        return self._busy.acquire(timeout=max(0.0, patience_seconds))

    # --- a listener of its own purges ------------------------------------------------------------------------

    def purging(self, source: str, found: int | None) -> None:
        """Not reported: no progress bar waits for a scheduled purge."""

    def purged(self, source: str, rows: int) -> None:
        for subscriber in self._subscribers:
            subscriber.purged(source, rows)


def failed_report(source: str, error: str) -> PurgeReport:
    """The report of a purge that a defect has ended before it could make one."""
    return PurgeReport(source=source, outcome=Outcome.FAILED, duration_seconds=0.0, error=error)
