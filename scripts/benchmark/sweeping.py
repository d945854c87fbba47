"""Sweeps as the daemon makes them, of the databases of `benchmark.scene`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmark.figures import Invalid
from reaper.daemon import runtime
from reaper.database.timeouts import Timeouts
from reaper.model import JobCounts, Outcome, ReapedJob, SweepReport, Threshold, Thresholds
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep

HOST = "bench"
SOURCE = "main"
# Longer than the default, so that who was heard of while loading is still heard of at the end of a long run.
THRESHOLDS = Thresholds(timeout=Threshold(6 * 3600, "default"), stall=Threshold(3600, "default"))
_ORDERS = SweepOptions(host=HOST, batch_size=1000, breaker=Breaker(50, 1.0))


class Batches:
    """A listener that keeps nothing but when the survey was done, and each batch after it."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:  # noqa: ARG002
        self.ends.append(time.perf_counter())

    def surveyed(self, source: str, census: JobCounts) -> None:  # noqa: ARG002
        self.ends = [time.perf_counter()]


class Sweeper:
    """One source, swept again and again: its statements stay compiled and what was told once is not told again.

    One that `leads` holds the lease between its sweeps, as the daemon does; `reaper sweep` has none.
    """

    def __init__(self, url: str, *, leads: bool = False) -> None:
        # The server was restarted to be measured; silence across that is to be trusted.
        self._source, self._downtime, self._memory = _source(url), DowntimeTracker(0), SourceState()
        self._lease = self._source.lease(180) if leads else None
        self.batches = Batches()
        runtime.settle()

    def sweep(self, expected: int) -> SweepReport:
        """Raises Invalid unless exactly so many jobs were reaped."""
        report = sweep(self._source, self._downtime, self._memory, _ORDERS, self._lease, self.batches)
        if report.outcome is not Outcome.DONE or report.reaped != expected or report.failures:
            raise Invalid(f"a sweep {report.outcome} with {report.reaped} of {expected} jobs: {report.error}")
        return report

    def release(self) -> None:
        """Leave nothing connected."""
        if self._lease is not None:
            self._lease.release()


def _source(url: str) -> Source:
    return Source(SOURCE, url, resolve("protea"), THRESHOLDS, Timeouts(statement=300, connect=5))
