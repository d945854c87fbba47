"""How many jobs to attempt in one transaction while the database refuses some of them, and for how long.

A refused transaction costs its time, and tells only that one of its jobs is to blame. Where few jobs are refused, large
pieces find them with few transactions; where most are, or where a refusal takes long, single jobs do. So the size is
halved by a refusal and doubled by successes, once these have taken as long as the last refusal did.
"""

from __future__ import annotations

import math
import threading

SLOW_SECONDS = 0.25
"""Once a refusal took longer than this, attempts are limited to this and to ten times what successes took."""

_SINGLE_SECONDS = 0.02
_TOLERATED = 10.0
_ASSUMED_SECONDS_PER_JOB = 0.02


class PieceSize:
    """For the attempts of one pass. Thread-safe. Durations are seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._size = math.inf
        self._refusal_seconds = self._slowest_refusal = self._credit = 0.0
        self._seconds_per_job: float | None = None

    def of(self, jobs: int) -> int:
        """How many of so many jobs to attempt next."""
        return jobs if jobs <= self._size else int(self._size)

    def limit_seconds(self, jobs: int) -> float:
        """How long an attempt of so many jobs may take: as long as it likes while no refusal was slow."""
        if self._slowest_refusal <= SLOW_SECONDS:
            return math.inf
        seconds_per_job = _ASSUMED_SECONDS_PER_JOB if self._seconds_per_job is None else self._seconds_per_job
        return SLOW_SECONDS + _TOLERATED * jobs * seconds_per_job

    def succeeded(self, jobs: int, seconds: float) -> None:
        with self._lock:
            known = self._seconds_per_job
            self._seconds_per_job = seconds / jobs if known is None else min(known, seconds / jobs)
            self._credit += seconds
            if self._credit >= self._refusal_seconds:
                self._size, self._credit = max(self._size, 2.0 * jobs), 0.0

    def refused(self, jobs: int, seconds: float) -> int:
        """An attempt of so many jobs was refused after that time. The size of the pieces to cut it into."""
        with self._lock:
            bisecting, one_by_one = seconds * math.log2(jobs), jobs * _SINGLE_SECONDS
            size = max(1, jobs // 2) if bisecting <= one_by_one else 1
            self._size = size
            self._refusal_seconds, self._credit = seconds, 0.0
            self._slowest_refusal = max(self._slowest_refusal, seconds)
            return size
