"""One source under watch: everything that is kept from one of its sweeps to the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from reaper.database.lease import ttl_for
from reaper.errors import SourceBusy
from reaper.liveness import LivenessReport
from reaper.memory import ContactStore
from reaper.model import JobCounts, Key, ReapedJob, SweepReport
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.database_contact import record_contact
from reaper.sweep.halt import HaltSwitch
from reaper.sweep.listeners import ListenerGroup, SweepSubscriber
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import failed_report, sweep


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """How often to sweep, in seconds."""

    interval_seconds: float

    def delay_after(self, failures: int) -> float:
        """Until the next try: soon after a first failure, later and later, never later than a sweep is due."""
        return min(self.interval_seconds, 2.0 ** min(failures - 1, 16)) if failures else self.interval_seconds


class SourceRunner:
    """Sweeps one source when told to, and tells its subscribers."""

    def __init__(
        self,
        source: Source,
        downtime: DowntimeTracker,
        pace: RetrySchedule,
        breaker: Breaker,
        batch_size: int,
        host: str,
        subscribers: Sequence[SweepSubscriber],
        halt: HaltSwitch | None = None,
        contacts: ContactStore | None = None,
    ) -> None:
        """`contacts` keeps when this database was last reached; None: nothing does."""
        self.source, self.downtime, self.retry_schedule = source, downtime, pace
        self._listeners = ListenerGroup(subscribers)
        self._state = SourceState()
        self._lease = source.lease(ttl_for(pace.interval_seconds))
        self._stopping = threading.Event()
        self._busy = threading.Lock()
        self.halt = halt or HaltSwitch()
        self.options = SweepOptions(
            host=host,
            batch_size=batch_size,
            breaker=breaker,
            should_stop=self._stopping.is_set,
            is_halted=lambda: self.halt.is_halted,
        )
        self._contacts = contacts
        self._failures = 0
        self._last_end = time.monotonic()

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def liveness(self) -> LivenessReport | None:
        """What the witness outside the database said to the last sweep; None when none has been asked yet."""
        return self._state.liveness

    @property
    def refused(self) -> frozenset[Key]:
        """Jobs that the database has refused to end, and that are left alone for a while."""
        return frozenset(tuple(self._state.refused_until))

    @property
    def sweeping(self) -> bool:
        return self._busy.locked()

    @property
    def overdue_seconds(self) -> float:
        """By how many seconds the next sweep is late; not positive while all is well."""
        return 0.0 if self.sweeping else time.monotonic() - self._last_end - self.delay_seconds

    @property
    def delay_seconds(self) -> float:
        """From the end of the last sweep to the next, in seconds."""
        return self.retry_schedule.delay_after(self._failures)

    def tick(self) -> SweepReport | None:
        """One sweep, now. None when told to stop, or while another one works."""
        try:
            with self.exclusive():
                return self._sweep(self.options)
        except SourceBusy:
            return None

    def sweep_now(
        self, *, release: int = 0, patience_seconds: float = 0.0, check: Callable[[], None] = lambda: None
    ) -> SweepReport:
        """One sweep, at once, whatever the schedule. The breaker lets one with up to `release` stale jobs through.

        Raises Busy when another one works for longer than `patience_seconds`, and when told to stop; and what `check`
        raises, which is asked when no other one works any more.
        """
        with self.exclusive(patience_seconds):
            check()
            return self._sweep(replace(self.options, override_breaker_up_to=release))

    def dry_run(self, patience_seconds: float = 0.0) -> SweepReport:
        """What a sweep would do now. Nobody is told of it, and nothing is changed. Raises Busy like `sweep_now`."""
        with self.exclusive(patience_seconds):
            options = replace(self.options, dry_run=True)
            return sweep(self.source, self.downtime, SourceState(), options, None, _NullListener())

    @contextmanager
    def exclusive(self, patience_seconds: float = 0.0) -> Iterator[None]:
        """While it lasts no sweep works on this source, and nothing else that is done alone. Raises Busy."""
        if not self.sweeping:
            # Before the lock: whoever sees it held must not see when it was held last.
            self.source.activity.touch()
        if self._stopping.is_set() or not self._busy.acquire(timeout=max(0.0, patience_seconds)):
            raise SourceBusy(f"source {self.name} is being swept just now; try again in a moment")
        try:
            yield
        finally:
            if self._stopping.is_set():
                # `finish` may have given up waiting: nobody else would let the next one sweep.
                self._release()
            self._busy.release()

    def _sweep(self, options: SweepOptions) -> SweepReport:
        """A sweep, told to the subscribers; a defect of our own is told as a failed one, and raised."""
        try:
            report = sweep(self.source, self.downtime, self._state, options, self._lease, self)
            self._failures = self._failures + 1 if report.database_away else 0
        except Exception as defect:
            self._listeners.swept(failed_report(self.source.name, f"{type(defect).__name__}: {defect}"))
            raise
        finally:
            self._last_end = time.monotonic()
        self._listeners.swept(report)
        if self._contacts is not None:
            record_contact(self._contacts, self.source, report)
        return report

    def stop(self) -> None:
        """End the sweep that works after its batch, and begin no other."""
        self._stopping.set()

    def join(self, patience_seconds: float) -> bool:
        """After `stop`: wait for the sweep to end and give the lease back. False when it takes too long."""
        if not self._busy.acquire(timeout=max(0.0, patience_seconds)):
            return False
        self._release()
        return True

    def _release(self) -> None:
        self._lease.release()
        self.source.close()

    # --- passes on what a sweep says while it works ----------------------------------------------------------

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """Jobs that have been ended, by a sweep or by hand: sweeps look whether they show life."""
        self._state.reaped_jobs.track(batch)
        self._listeners.reaped(source, sweep_id, batch)

    def surveyed(self, source: str, census: JobCounts) -> None:
        self._listeners.surveyed(source, census)


class _NullListener:
    """Whom a rehearsal tells: it ends no jobs, and what it counts is in its report."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """Never called."""

    def surveyed(self, source: str, census: JobCounts) -> None:
        """In the report."""
