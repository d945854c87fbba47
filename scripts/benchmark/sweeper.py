"""Runs sweeps as the daemon does, on the databases of `benchmark.fixtures`."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

from benchmark.report import InvalidMeasurement
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
# A longer stall window than the default: jobs that are live when loaded must still be live at the end of a long run.
THRESHOLDS = Thresholds(timeout=Threshold(6 * 3600, "default"), stall=Threshold(3600, "default"))
_OPTIONS = SweepOptions(host=HOST, batch_size=1000, breaker=Breaker(50, 1.0))


class BatchTimes:
    """A sweep listener that records when the survey and each batch after it ended (monotonic seconds)."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:  # noqa: ARG002
        self.ends.append(time.perf_counter())

    def surveyed(self, source: str, census: JobCounts) -> None:  # noqa: ARG002
        self.ends = [time.perf_counter()]


class Sweeper:
    """One source that is swept repeatedly: statements stay compiled, and state is kept between sweeps.

    With `with_lease` it holds the lease between sweeps, as the daemon does; `reaper sweep` takes no lease.
    """

    def __init__(self, url: str, *, with_lease: bool = False) -> None:
        # The server was restarted for the measurement. Silence across that restart counts.
        self._source, self._downtime, self._state = _source(url), DowntimeTracker(0), SourceState()
        self._lease = self._source.lease(180) if with_lease else None
        self.batches = BatchTimes()
        # As the daemon does once it has started.
        gc.collect()
        gc.freeze()

    def sweep(self, expected: int) -> SweepReport:
        """Run one sweep. Raises InvalidMeasurement unless it reaped exactly `expected` jobs."""
        report = sweep(self._source, self._downtime, self._state, _OPTIONS, self._lease, self.batches)
        if report.outcome is not Outcome.DONE or report.reaped != expected or report.failures:
            raise InvalidMeasurement(
                f"a sweep ended as {report.outcome} and reaped {report.reaped} of {expected} jobs: {report.error}"
            )
        return report

    def release(self) -> None:
        """Release the lease, which closes its connection."""
        if self._lease is not None:
            self._lease.release()


def _source(url: str) -> Source:
    return Source(SOURCE, url, resolve("protea"), THRESHOLDS, Timeouts(statement=300, connect=5))
