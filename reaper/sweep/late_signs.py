"""Late signs: jobs that show life after they were ended.

Such a job was killed by mistake, or its worker is one that nobody has stopped: its job is over and it does not know.
What this process has ended is remembered for a day, some thousands of jobs, and looked at in every sweep: of very many
some are. A process that ends forgets; what replicas and commands end is not known here; and what a job does without a
trace in its rows cannot be seen.

Not a sign is whatever the transition itself wrote, with all that its triggers wrote, down to how its column rounds;
nor what follows when the job is started anew, or put back to be. Missed is what a worker did in a transaction that
began before the transition and was committed after it, when nothing follows.
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
RETENTION_SECONDS = 24 * 3600.0
MAX_PER_SWEEP = 1_000
"""How many ended jobs of a source are remembered, for how long, and how many of them are looked at in a sweep."""

_LOOK_SECONDS = 5.0


@dataclass(slots=True)
class _Ended:
    job: ReapedJob
    remains: PostTransitionState
    until: float
    heard: bool = False


class ReapedJobTracker:
    """Jobs of one source that have been ended, oldest first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: dict[Key, _Ended] = {}
        self._next = 0
        self._room = MAX_PER_SWEEP

    def __len__(self) -> int:
        return len(self._ended)

    def remember(self, batch: Sequence[ReapedJob]) -> None:
        """Those of which something remains. Of too many the newest are kept."""
        until = time.monotonic() + RETENTION_SECONDS
        with self._lock:
            for job in batch[-MAX_TRACKED:]:
                self._ended.pop(job.key, None)
                if job.state_after is not None:
                    self._ended[job.key] = _compact(job, job.state_after, until)
            self._forget_oldest(len(self._ended) - MAX_TRACKED)

    def next_keys(self) -> dict[Key, _Ended]:
        """Which to look at now: the newest, and some of the others in turn."""
        with self._lock:
            now = time.monotonic()
            self._forget_oldest(sum(ended.until <= now for ended in self._ended.values()))
            keys = list(self._ended)
            if not keys:
                self._room = MAX_PER_SWEEP
            if len(keys) > self._room:
                newest = self._room - self._room // 2
                keys, others = keys[-newest:], keys[:-newest]
                begin = self._next % len(others)
                turn = (others[begin:] + others[:begin])[: self._room // 2]
                self._next = begin + len(turn)
                keys += turn
            return {key: self._ended[key] for key in keys}

    def forget(self, ended: _Ended) -> None:
        """Unless it has been ended anew meanwhile."""
        with self._lock:
            if self._ended.get(ended.job.key) is ended:
                del self._ended[ended.job.key]

    def shrink_sample(self) -> None:
        """A look took too long: half as many are due from now on, until nothing is remembered any more."""
        with self._lock:
            self._room = max(1, min(self._room, len(self._ended)) // 2)

    def _forget_oldest(self, count: int) -> None:
        for key in list(self._ended)[: max(0, count)]:
            del self._ended[key]


@dataclass(frozen=True, slots=True)
class LateSignScan:
    """What a look found, or why it found nothing."""

    late: Sequence[LateSign] = ()
    trouble: str | None = None


def scan_for_late_signs(
    source: Source, connection: Connection, context: EvaluationContext, remembered: ReapedJobTracker
) -> LateSignScan | None:
    """Look at ended jobs, in one short transaction; None when there are none to look at.

    What a database refuses here is told and no more: sweeps do not depend on it. Raises DBAPIError when it is away.
    """
    due = remembered.next_keys()
    if not due:
        return None
    try:
        with source.transaction(connection, read_only=True, at_most=_LOOK_SECONDS):
            seen = source.follow_up.snapshots(connection, context, list(due))
    except DBAPIError as error:
        kind = classify(error)
        if kind is ErrorKind.UNAVAILABLE:
            raise
        if kind is ErrorKind.TIMEOUT:
            remembered.shrink_sample()
        return LateSignScan(trouble=short_message(error))
    found = [_told(remembered, ended, seen.get(key)) for key, ended in due.items()]
    return LateSignScan([sign for sign in found if sign is not None])


def _told(remembered: ReapedJobTracker, ended: _Ended, seen: JobSnapshot | None) -> LateSign | None:
    """What is new of one job. Forgets it when it is over with it."""
    remains = ended.remains
    if seen is None or seen.identity != remains.identity or _put_back(remains, seen):
        remembered.forget(ended)
        return None
    sign, finish = _newest(remains, seen), newer_than_transition(remains, seen.finished_at)
    changed = _changed(remains, seen)
    if (changed and not seen.entry) or (finish and seen.finished):
        remembered.forget(ended)
        return _late_sign(ended, seen, "status", sign or (None, finish))
    if (sign is None and not changed) or ended.heard:
        return None
    late = _late_sign(ended, seen, "event", sign or (None, None))
    ended.heard = True
    return late


def _changed(remains: PostTransitionState, seen: JobSnapshot) -> bool:
    return seen.running or seen.status != remains.status


def _put_back(remains: PostTransitionState, seen: JobSnapshot) -> bool:
    """It has been started anew although nothing says so, or waits for that."""
    waits = not seen.running and seen.finished is False and not seen.entry
    return _changed(remains, seen) and (remains.requeued or waits)


def _newest(remains: PostTransitionState, seen: JobSnapshot) -> tuple[str, Sign] | None:
    found = {witness: sign for witness, sign in seen.signs.items() if newer_than_transition(remains, sign)}
    witness = max(found, key=lambda each: found[each].epoch, default=None)
    return None if witness is None else (witness, found[witness])


def newer_than_transition(remains: PostTransitionState, sign: Sign | None) -> Sign | None:
    """The sign, when it is from after the transition; else None.

    A column may have rounded up what the transition itself wrote: to a whole millisecond, or to a whole second.
    """
    if sign is None or not remains.epoch + 0.001 < sign.epoch < math.inf or sign.epoch == math.ceil(remains.epoch):
        return None
    return sign


def _late_sign(ended: _Ended, seen: JobSnapshot, what: str, sign: tuple[str | None, Sign | None]) -> LateSign:
    job, (witness, context) = ended.job, sign
    return LateSign(
        key=job.key,
        kind=job.kind,
        reason=job.reason,
        reaped_at=job.reaped_at,
        silence_seconds=job.silence_seconds,
        last_witness=job.witness,
        what=what,
        witness=witness,
        at=context.at if context else None,
        status=seen.status,
        status_then=ended.remains.status,
        finished=what == "status" and not seen.running,
        told_before=ended.heard,
        age_seconds=job.age_seconds,
    )


def _compact(job: ReapedJob, remains: PostTransitionState, until: float) -> _Ended:
    """Without what is not told, and with one text for what is the same in many jobs."""
    kind, witness, status = _shared(job.kind), _shared(job.witness), _shared(remains.status)
    return _Ended(
        job._replace(kind=kind, witness=witness, task=None, evidence=None, state_after=None),
        remains._replace(status=status),
        until,
    )


def _shared(text: str | None) -> str | None:
    return None if text is None else sys.intern(text)
