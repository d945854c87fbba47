"""Late signs of life: jobs that show activity after they were ended.

Such a job was ended by mistake, or its worker was never stopped and does not know that its job is over. The jobs that
this process has ended are tracked for a day, up to some thousands, and each sweep looks at them, at a sample where
there are many. A restart of the process forgets them; jobs ended by replicas and by commands are not tracked; and
activity that leaves no trace in the rows cannot be seen.

Not a late sign: changes made by the reap itself (including those of its triggers, and rounding by the column type), and
activity after the job was started again or put back into its queue. Not seen: what a worker wrote in a transaction that
began before the reap and was committed after it, if nothing follows.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.database.errors import ErrorKind, classify, short_message
from reaper.model import Key, LateSign, PostTransitionState, ReapedJob
from reaper.source import MAX_FOLLOWED, JobSnapshot, Sign, Source
from reaper.staleness.evaluation_context import EvaluationContext

MAX_TRACKED = MAX_FOLLOWED
"""How many ended jobs of a source are tracked."""

RETENTION_SECONDS = 24 * 3600.0
"""For how long each is tracked."""

MAX_PER_SWEEP = 1_000
"""How many of them one sweep looks at."""

_SCAN_SECONDS = 5.0


@dataclass(slots=True)
class _TrackedJob:
    """An ended job. `expires_at` is on the monotonic clock; `reported`: a sign of life of it has been reported."""

    job: ReapedJob
    post_state: PostTransitionState
    expires_at: float
    reported: bool = False


class ReapedJobTracker:
    """Ended jobs of one source, oldest first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[Key, _TrackedJob] = {}
        self._rotation = 0
        self._sample_size = MAX_PER_SWEEP

    def __len__(self) -> int:
        return len(self._jobs)

    def track(self, batch: Sequence[ReapedJob]) -> None:
        """Track those jobs whose row is still there. Beyond MAX_TRACKED, the oldest are dropped."""
        expires_at = time.monotonic() + RETENTION_SECONDS
        with self._lock:
            for job in batch[-MAX_TRACKED:]:
                self._jobs.pop(job.key, None)
                if job.state_after is not None:
                    self._jobs[job.key] = _compact(job, job.state_after, expires_at)
            self._drop_oldest(len(self._jobs) - MAX_TRACKED)

    def next_sample(self) -> dict[Key, _TrackedJob]:
        """The jobs to look at now: the newest, and some of the others in rotation."""
        with self._lock:
            now = time.monotonic()
            self._drop_oldest(sum(tracked.expires_at <= now for tracked in self._jobs.values()))
            keys = list(self._jobs)
            if not keys:
                self._sample_size = MAX_PER_SWEEP
            if len(keys) > self._sample_size:
                newest = self._sample_size - self._sample_size // 2
                keys, others = keys[-newest:], keys[:-newest]
                begin = self._rotation % len(others)
                rotated = (others[begin:] + others[:begin])[: self._sample_size // 2]
                self._rotation = begin + len(rotated)
                keys += rotated
            return {key: self._jobs[key] for key in keys}

    def forget(self, tracked: _TrackedJob) -> None:
        """Track it no more, unless the job has been ended again meanwhile."""
        with self._lock:
            if self._jobs.get(tracked.job.key) is tracked:
                del self._jobs[tracked.job.key]

    def shrink_sample(self) -> None:
        """A scan took too long: halve the sample from now on, until nothing is tracked any more."""
        with self._lock:
            self._sample_size = max(1, min(self._sample_size, len(self._jobs)) // 2)

    def _drop_oldest(self, count: int) -> None:
        for key in list(self._jobs)[: max(0, count)]:
            del self._jobs[key]


@dataclass(frozen=True, slots=True)
class LateSignScan:
    """The late signs that one scan has found, or why it could not look."""

    late: Sequence[LateSign] = ()
    trouble: str | None = None


def scan_for_late_signs(
    source: Source, connection: Connection, context: EvaluationContext, tracker: ReapedJobTracker
) -> LateSignScan | None:
    """Look at tracked jobs, in one short transaction; None when there are none.

    An error of the database is reported as trouble, since sweeps do not depend on this. Raises DBAPIError when the
    database is away.
    """
    sample = tracker.next_sample()
    if not sample:
        return None
    try:
        with source.transaction(connection, read_only=True, at_most=_SCAN_SECONDS):
            snapshots = source.post_transition.snapshots(connection, context, list(sample))
            if source.start_lost is not None and (others := [key for key in sample if key not in snapshots]):
                snapshots |= source.start_lost.post_transition.snapshots(connection, context, others)
    except DBAPIError as error:
        kind = classify(error)
        if kind is ErrorKind.UNAVAILABLE:
            raise
        if kind is ErrorKind.TIMEOUT:
            tracker.shrink_sample()
        return LateSignScan(trouble=short_message(error))
    signs = [_check_job(tracker, tracked, snapshots.get(key)) for key, tracked in sample.items()]
    return LateSignScan([sign for sign in signs if sign is not None])


def _check_job(tracker: ReapedJobTracker, tracked: _TrackedJob, snapshot: JobSnapshot | None) -> LateSign | None:
    """The late sign of one job that has not been reported yet. Forgets a job that can show no further ones."""
    before = tracked.post_state
    if snapshot is None or snapshot.identity != before.identity or _was_requeued(before, snapshot):
        tracker.forget(tracked)
        return None
    sign, finish = _newest_sign(before, snapshot), newer_than_transition(before, snapshot.finished_at)
    changed = _status_changed(before, snapshot)
    if (changed and not snapshot.entry) or (finish and snapshot.finished):
        tracker.forget(tracked)
        return _late_sign(tracked, snapshot, "status", sign or (None, finish))
    if (sign is None and not changed) or tracked.reported:
        return None
    late = _late_sign(tracked, snapshot, "event", sign or (None, None))
    tracked.reported = True
    return late


def _status_changed(before: PostTransitionState, snapshot: JobSnapshot) -> bool:
    return snapshot.running or snapshot.status != before.status


def _was_requeued(before: PostTransitionState, snapshot: JobSnapshot) -> bool:
    """It has been started again, although its identity is the same, or waits to be."""
    waits = not snapshot.running and snapshot.finished is False and not snapshot.entry
    return _status_changed(before, snapshot) and (before.requeued or waits)


def _newest_sign(before: PostTransitionState, snapshot: JobSnapshot) -> tuple[str, Sign] | None:
    newer = {witness: sign for witness, sign in snapshot.signs.items() if newer_than_transition(before, sign)}
    newest = max(newer, key=lambda witness: newer[witness].epoch, default=None)
    return None if newest is None else (newest, newer[newest])


def newer_than_transition(before: PostTransitionState, sign: Sign | None) -> Sign | None:
    """The sign, if it is from after the transition; else None.

    A column may have rounded up what the transition itself wrote: to a whole millisecond, or to a whole second.
    """
    if sign is None or not before.epoch + 0.001 < sign.epoch < math.inf or sign.epoch == math.ceil(before.epoch):
        return None
    return sign


def _late_sign(
    tracked: _TrackedJob, snapshot: JobSnapshot, what: str, seen: tuple[str | None, Sign | None]
) -> LateSign:
    job, (witness, sign) = tracked.job, seen
    return LateSign(
        key=job.key,
        kind=job.kind,
        reason=job.reason,
        reaped_at=job.reaped_at,
        silence_seconds=job.silence_seconds,
        last_witness=job.witness,
        what=what,
        witness=witness,
        at=sign.at if sign else None,
        status=snapshot.status,
        status_then=tracked.post_state.status,
        finished=what == "status" and not snapshot.running,
        told_before=tracked.reported,
        age_seconds=job.age_seconds,
    )


def _compact(job: ReapedJob, post_state: PostTransitionState, expires_at: float) -> _TrackedJob:
    """Without the fields that no late sign reports; texts that many jobs have in common are stored once."""
    kind, witness, status = _interned(job.kind), _interned(job.witness), _interned(post_state.status)
    return _TrackedJob(
        job._replace(kind=kind, witness=witness, task=None, evidence=None, state_after=None),
        post_state._replace(status=status),
        expires_at,
    )


def _interned(text: str | None) -> str | None:
    return None if text is None else sys.intern(text)
