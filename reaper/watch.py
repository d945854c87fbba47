"""One source under watch: everything that is kept from one of its sweeps to the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reaper.breaker import Breaker
from reaper.hearing import Hearing
from reaper.model import Census, Reaped, SweepReport
from reaper.source import Source
from reaper.source.lease import ttl_for
from reaper.sweep import Listener, Memory, Orders, failed, sweep


class Subscriber(Listener, Protocol):
    """Told of everything that sweeps do: metrics, journal, status."""

    def swept(self, report: SweepReport) -> None: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to sweep, in seconds."""

    interval: float

    def after(self, failures: int) -> float:
        """Until the next try: soon after a first failure, later and later, never later than a sweep is due."""
        return min(self.interval, 2.0 ** min(failures - 1, 16)) if failures else self.interval


class Watch:
    """Sweeps one source when told to, and tells its subscribers."""

    def __init__(
        self,
        source: Source,
        hearing: Hearing,
        pace: Pace,
        breaker: Breaker,
        batch_size: int,
        host: str,
        subscribers: Sequence[Subscriber],
    ) -> None:
        self.source, self.hearing, self.pace = source, hearing, pace
        self._subscribers = tuple(subscribers)
        self._memory = Memory()
        self._lease = source.lease(ttl_for(pace.interval))
        self._stopping = threading.Event()
        self._busy = threading.Lock()
        self._orders = Orders(host=host, batch_size=batch_size, breaker=breaker, stopping=self._stopping.is_set)
        self._failures = 0
        self._ended = time.monotonic()

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def sweeping(self) -> bool:
        return self._busy.locked()

    @property
    def overdue(self) -> float:
        """By how many seconds the next sweep is late; not positive while all is well."""
        return 0.0 if self.sweeping else time.monotonic() - self._ended - self.delay

    @property
    def delay(self) -> float:
        """From the end of the last sweep to the next, in seconds."""
        return self.pace.after(self._failures)

    def tick(self) -> SweepReport | None:
        """One sweep, now. None when told to stop, or while another one works."""
        if self._stopping.is_set() or not self._busy.acquire(blocking=False):
            return None
        try:
            report = self._sweep()
            self._failures = self._failures + 1 if report.database_away else 0
            return report
        finally:
            if self._stopping.is_set():
                # `finish` may have given up waiting: nobody else would let the next one sweep.
                self._leave()
            self._ended = time.monotonic()
            self._busy.release()

    def _sweep(self) -> SweepReport:
        """A sweep, told to the subscribers; a defect of our own is told as a failed one, and raised."""
        try:
            report = sweep(self.source, self.hearing, self._memory, self._orders, self._lease, self)
        except Exception as defect:
            self._tell(failed(self.source.name, f"{type(defect).__name__}: {defect}"))
            raise
        self._tell(report)
        return report

    def _tell(self, report: SweepReport) -> None:
        for subscriber in self._subscribers:
            subscriber.swept(report)

    def stop(self) -> None:
        """End the sweep that works after its batch, and begin no other."""
        self._stopping.set()

    def finish(self, patience_seconds: float) -> bool:
        """After `stop`: wait for the sweep to end and give the lease back. False when it takes too long."""
        if not self._busy.acquire(timeout=max(0.0, patience_seconds)):
            return False
        self._leave()
        return True

    def _leave(self) -> None:
        self._lease.release()
        self.source.hang_up()

    # --- passes on what a sweep says while it works ----------------------------------------------------------

    def reaped(self, source: str, sweep_id: str, batch: Sequence[Reaped]) -> None:
        for subscriber in self._subscribers:
            subscriber.reaped(source, sweep_id, batch)

    def surveyed(self, source: str, census: Census) -> None:
        for subscriber in self._subscribers:
            subscriber.surveyed(source, census)
