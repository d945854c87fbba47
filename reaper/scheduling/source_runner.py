"""Runs the sweeps of one source: one at a time, with the state, the lease and the retry delay that they share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from reaper.database.lease import ttl_for
from reaper.errors import SourceBusy
from reaper.liveness import LivenessReport
from reaper.memory import ContactStore, RefusedJobStore
from reaper.model import JobCounts, Key, ReapedJob, SweepReport
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.contact_recorder import record_contact, resume_downtime
from reaper.sweep.halt_switch import HaltSwitch
from reaper.sweep.listeners import ListenerGroup, SweepSubscriber
from reaper.sweep.options import SweepOptions
from reaper.sweep.refused_jobs import RefusedJobs
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import failed_report, sweep

_MAX_DOUBLINGS = 16
_SOONEST_SECONDS = 1.0
"""No sweep is made sooner after another one for the sake of workers that go."""


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """How long after one sweep the next is due: the interval, or less while the database cannot be reached."""

    interval_seconds: float

    def delay_after(self, failures: int) -> float:
        """Seconds until the next sweep after so many failures in a row: 1, 2, 4, ..., at most the interval."""
        if not failures:
            return self.interval_seconds
        return min(self.interval_seconds, 2.0 ** min(failures - 1, _MAX_DOUBLINGS))


class SourceRunner:
    """Sweeps one source when asked, and notifies its subscribers. Thread-safe; the sweeps never overlap."""

    def __init__(
        self,
        source: Source,
        downtime: DowntimeTracker,
        retry_schedule: RetrySchedule,
        breaker: Breaker,
        batch_size: int,
        host: str,
        subscribers: Sequence[SweepSubscriber],
        halt: HaltSwitch | None = None,
        contacts: ContactStore | None = None,
        refused_jobs: RefusedJobStore | None = None,
    ) -> None:
        """`contacts` keeps when this database was last reached, `refused_jobs` which jobs it refuses to end; None:
        nothing does.
        """
        self.source, self.downtime, self.retry_schedule = source, downtime, retry_schedule
        self._listeners = ListenerGroup(subscribers)
        self._state = SourceState(refused_jobs=RefusedJobs(refused_jobs, source.name))
        self.lease = source.lease(ttl_for(retry_schedule.interval_seconds))
        self._stopping = threading.Event()
        self._busy = threading.Lock()
        self.halt = halt or HaltSwitch()
        self._contacts = contacts
        if contacts is not None:
            downtime.before_first_contact = partial(resume_downtime, contacts)
        self.options = SweepOptions(
            host=host,
            batch_size=batch_size,
            breaker=breaker,
            should_stop=self._stopping.is_set,
            is_halted=lambda: self.halt.is_halted,
        )
        self._failures = 0
        self._last_end = time.monotonic()

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def liveness(self) -> LivenessReport | None:
        """The answer of the witness outside the database to the last sweep; None when none has been asked yet."""
        return self._state.liveness

    @property
    def liveness_seconds_ago(self) -> float:
        """How long ago that answer was received; infinite without one."""
        return time.monotonic() - self._state.liveness_at

    @property
    def refused(self) -> int:
        """How many jobs the database refuses to end: they are set aside."""
        return len(self._state.refused_jobs)

    def refusal(self, key: Key) -> str | None:
        """The error with which the database refuses to end a job that is set aside; None for any other."""
        return self._state.refused_jobs.error_of(key)

    @property
    def sweeping(self) -> bool:
        return self._busy.locked()

    @property
    def still_seconds(self) -> float:
        """For how long the sweep in progress has ended no statement; 0 while there is none."""
        return time.monotonic() - self.source.activity.at if self.sweeping else 0.0

    @property
    def overdue_seconds(self) -> float:
        """By how many seconds the next sweep is late; 0 or less while none is."""
        return 0.0 if self.sweeping else time.monotonic() - self._last_end - self.delay_seconds

    @property
    def delay_seconds(self) -> float:
        """From the end of the last sweep to the next, in seconds.

        Less than an interval where a worker is gone before that: its jobs do not wait for the interval, too.
        """
        delay, goes_in = self.retry_schedule.delay_after(self._failures), self._state.worker_goes_at - self._last_end
        return min(delay, max(_SOONEST_SECONDS, goes_in)) if not self._failures else delay

    def tick(self) -> SweepReport | None:
        """One sweep, now. None after `stop`, and while another sweep or exclusive section is in progress."""
        try:
            with self.exclusive():
                return self._sweep(self.options)
        except SourceBusy:
            return None

    def sweep_now(
        self, *, release: int = 0, patience_seconds: float = 0.0, check: Callable[[], None] = lambda: None
    ) -> SweepReport:
        """One sweep, now, that the breaker does not hold if it would end at most `release` jobs.

        `check` is called when no other sweep is in progress any more, and may raise. Raises SourceBusy when another one
        takes longer than `patience_seconds`, and after `stop`.
        """
        with self.exclusive(patience_seconds):
            check()
            return self._sweep(replace(self.options, override_breaker_up_to=release))

    @contextmanager
    def exclusive(self, patience_seconds: float = 0.0) -> Iterator[None]:
        """A section during which nothing else sweeps this source or ends its jobs. Raises SourceBusy."""
        if not self.sweeping:
            # Before the lock is taken: a reader that sees it held must not see the time when it was held before.
            self.source.activity.touch()
        if self._stopping.is_set() or not self._busy.acquire(timeout=max(0.0, patience_seconds)):
            raise SourceBusy(f"source {self.name} is being swept just now; try again in a moment")
        try:
            yield
        finally:
            if self._stopping.is_set():
                # `join` may have given up waiting: then nothing else would release the lease for a replica.
                self._release()
            self._busy.release()

    def _sweep(self, options: SweepOptions) -> SweepReport:
        """A sweep, reported to the subscribers. A defect of ours is reported as a failed sweep, and raised."""
        try:
            report = sweep(self.source, self.downtime, self._state, options, self.lease, self)
            self._failures = self._failures + 1 if report.database_away else 0
        except Exception as defect:
            self._listeners.swept(failed_report(self.source.name, f"{type(defect).__name__}: {defect}"))
            raise
        finally:
            self._last_end = time.monotonic()
        self._listeners.swept(report)
        if self._contacts is not None:
            record_contact(self._contacts, self.source, self.downtime, report)
        return report

    def stop(self) -> None:
        """End a sweep in progress after its batch, and begin no other."""
        self._stopping.set()

    def join(self, patience_seconds: float) -> bool:
        """After `stop`: wait for the sweep to end and release the lease. False when that takes too long."""
        if not self._busy.acquire(timeout=max(0.0, patience_seconds)):
            return False
        self._release()
        return True

    def _release(self) -> None:
        self.lease.release()
        self.source.close()

    # --- a listener of its own sweeps, and of jobs that are ended by hand --------------------------------------

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """Jobs that a sweep or an operator has ended: later sweeps look whether they still show signs of life."""
        self._state.reaped_jobs.track(batch)
        self._listeners.reaped(source, sweep_id, batch)

    def surveyed(self, source: str, census: JobCounts) -> None:
        self._listeners.surveyed(source, census)
