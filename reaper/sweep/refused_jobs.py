"""Jobs that the database refuses to end, or to delete: set aside, and tried again after a pause that grows with each
refusal.

They delay no other job: a pass (a sweep, or a purge) tries a few of them, those first that were refused longest ago,
when all others are done. When one of them is ended, its cause may be gone: then the others with that cause are tried at
once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from reaper.memory import RefusedJob, RefusedJobStore
from reaper.memory.refused_jobs import MAX_JOBS
from reaper.model import FailedTransition, Key, RefusalCause
from reaper.source import Candidate

FIRST_PAUSE_SECONDS = 600.0
LONGEST_PAUSE_SECONDS = 6 * 3600.0
"""The pause after a first refusal; it doubles with each further one, up to this."""

MAX_TRIED_AGAIN = 100
"""How many of them a pass tries again."""
MAX_CAUSES = 20
OTHER_CAUSES = "other causes"

_MAX_ERROR_LENGTH = 500
_VARYING = re.compile(r"\S*\d\S*")


def cause_of(key: Key, error: str) -> str:
    """What the errors of all jobs with one cause have in common: without words with digits, and the job's key."""
    cause = _VARYING.sub("#", error)
    for part in key:
        if len(part) > 1:
            cause = cause.replace(part, "#")
    return cause


@dataclass(slots=True)
class _Refusal:
    """`due` and `refused_at` are moments of the monotonic clock, in seconds."""

    error: str
    cause: str
    refusals: int
    refused_at: float
    due: float


class RefusedJobs:
    """The refused jobs of one source. For the thread of the pass; `error_of` may be called by others."""

    def __init__(
        self, store: RefusedJobStore | None = None, source: str = "", monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`store` keeps them beyond the process; None: nothing does."""
        self._store, self._source, self._monotonic = store, source, monotonic
        self._jobs: dict[Key, _Refusal] | None = None
        self._seen, self._changed, self._over = set[Key](), set[Key](), set[Key]()

    def __len__(self) -> int:
        return len(self._jobs or ())

    def error_of(self, key: Key) -> str | None:
        """The error of the job's last refusal; None for a job that is not refused."""
        refusal = (self._jobs or {}).get(key)
        return refusal.error if refusal else None

    # --- one pass ------------------------------------------------------------------------------------------------

    def begin_pass(self) -> None:
        """At the first pass of a process: go on with what the one before it has kept."""
        self._seen = set()
        if self._jobs is None:
            kept = self._store.load(self._source) if self._store else ()
            self._jobs = dict(self._loaded(kept))

    def _loaded(self, kept: Sequence[RefusedJob]) -> Iterator[tuple[Key, _Refusal]]:
        now = self._monotonic()
        for job in kept:
            pause = _pause(job.refusals)
            due = now + min(max(job.due_in_seconds, 0.0), pause)
            yield job.key, _Refusal(job.error, cause_of(job.key, job.error), job.refusals, due - pause, due)

    def count_among(self, batches: Iterable[Sequence[Candidate]]) -> int:
        """How many of these candidates were refused before."""
        jobs = self._jobs
        return sum(candidate.key in jobs for batch in batches for candidate in batch) if jobs else 0

    def set_aside(self, batch: Sequence[Candidate], aside: dict[Key, Candidate]) -> list[Candidate]:
        """The candidates without those that were refused before, which are put `aside`."""
        jobs = self._jobs or {}
        known = {candidate.key: candidate for candidate in batch if candidate.key in jobs}
        aside |= known
        self._seen |= known.keys()
        return [candidate for candidate in batch if candidate.key not in known] if known else list(batch)

    def to_try_again(self, aside: dict[Key, Candidate], batch_size: int) -> Iterator[list[Candidate]]:
        """Takes from `aside` one that is due after the other, refused longest ago first; with each that is ended, all
        others with its cause.

        Read on only when the one before has been tried, and what became of it is recorded.
        """
        jobs, now = self._jobs or {}, self._monotonic()
        due = sorted((key for key in aside if jobs[key].due <= now), key=lambda key: jobs[key].refused_at)
        for key in due[:MAX_TRIED_AGAIN]:
            if key not in aside:
                continue
            cause = jobs[key].cause
            yield [aside.pop(key)]
            if key not in jobs:
                others = iter([other for other in aside if jobs[other].cause == cause])
                while batch := [aside.pop(other) for other in islice(others, batch_size)]:
                    yield batch

    def record_refused(self, failures: Iterable[FailedTransition]) -> None:
        """The database refused these."""
        now = self._monotonic()
        for failure in failures:
            self._record(failure.key, failure.error, now, refused=True)

    def record_cut_off(self, candidates: Iterable[Candidate], error: str) -> None:
        """These were given too little time to know whether they would be refused: they are due at once."""
        now = self._monotonic()
        for candidate in candidates:
            self._record(candidate.key, error, now, refused=False)

    def _record(self, key: Key, error: str, now: float, *, refused: bool) -> None:
        if self._jobs is None:
            self._jobs = {}
        before = self._jobs.pop(key, None)
        refusals = (before.refusals if before else 0) + refused
        if len(self._jobs) < MAX_JOBS:
            error = error[:_MAX_ERROR_LENGTH]
            due = now + _pause(refusals) if refused else now
            self._jobs[key] = _Refusal(error, cause_of(key, error), refusals, now, due)
            self._changed.add(key)

    def record_tried(self, keys: Iterable[Key]) -> None:
        """These have been tried again: those whose refusal was not recorded by now are refused no longer."""
        for key in keys:
            if self._jobs and key not in self._changed and self._jobs.pop(key, None) is not None:
                self._over.add(key)

    def end_pass(self, *, complete: bool) -> None:
        """Keep what has changed. `complete`: all candidates were looked at, and no other job is stale."""
        if self._jobs is None:
            return
        if complete:
            self.record_tried(self._jobs.keys() - self._seen)
        if self._store is not None:
            self._store.save(self._source, self._kept(), self._over - self._jobs.keys())
        self._changed, self._over = set(), set()

    def _kept(self) -> list[RefusedJob]:
        jobs, now = self._jobs or {}, self._monotonic()
        changed = ((key, jobs[key]) for key in self._changed if key in jobs)
        return [RefusedJob(key, job.error, job.refusals, job.due - now) for key, job in changed]

    # --- what there is -------------------------------------------------------------------------------------------

    def causes(self) -> tuple[RefusalCause, ...]:
        """All of them by cause."""
        now, tally = self._monotonic(), RefusalTally()
        for key, job in (self._jobs or {}).items():
            tally.add_job(key, job.error, job.cause, job.due - now)
        return tally.causes()


def causes_of(jobs: Iterable[RefusedJob]) -> tuple[RefusalCause, ...]:
    """Refused jobs that were kept, by cause."""
    tally = RefusalTally()
    for job in jobs:
        tally.add_job(job.key, job.error, cause_of(job.key, job.error), job.due_in_seconds)
    return tally.causes()


class RefusalTally:
    """Counts refused jobs by cause. Beyond MAX_CAUSES of them, the others are taken together."""

    def __init__(self) -> None:
        self._causes: dict[str, RefusalCause] = {}

    def add(self, failures: Iterable[FailedTransition]) -> None:
        """Jobs that the database has just refused."""
        for failure in failures:
            self.add_job(failure.key, failure.error, cause_of(failure.key, failure.error), 0.0)

    def add_job(self, key: Key, error: str, cause: str, due_in_seconds: float) -> None:
        """One job, and in how many seconds it is tried again."""
        if cause not in self._causes and len(self._causes) >= MAX_CAUSES:
            cause = error = OTHER_CAUSES
        due_in = max(0.0, due_in_seconds)
        known = self._causes.setdefault(cause, RefusalCause(key, error, 0, due_in))
        due_in = min(known.due_in_seconds, due_in)
        self._causes[cause] = replace(known, jobs=known.jobs + 1, due_in_seconds=due_in)

    def causes(self) -> tuple[RefusalCause, ...]:
        """Most jobs first."""
        return tuple(sorted(self._causes.values(), key=lambda cause: -cause.jobs))


def _pause(refusals: int) -> float:
    """How long a job that was refused so often is left alone, in seconds."""
    return min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(max(refusals, 1) - 1, 16))
