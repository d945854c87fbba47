"""Ending the candidates of a survey, batch by batch, one short transaction each.

Two batches are in hand at a time, each on a connection of its own: while the database works on one, the other is
prepared, and a second processor is not left idle. Batches share no job, so they cannot be in each other's way.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from queue import SimpleQueue

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.common.background_gc import gc_in_background_thread
from reaper.database.errors import ErrorKind, classify, short_message
from reaper.errors import DatabaseUnavailable, LogBusy, PartialTransition, TooManyFailures
from reaper.model import FailedTransition, Key, ReapedJob
from reaper.source import Candidate, Claim, Source

CONNECTIONS = 2
_TRIES = 3
_MOST_REFUSED = 50
_MOST_SLOW = 12


@dataclass(slots=True)
class BatchResult:
    """What became of a batch."""

    reaped: list[ReapedJob] = field(default_factory=list)
    lost: int = 0
    locked: list[Key] = field(default_factory=list)
    failures: list[FailedTransition] = field(default_factory=list)
    longest: float = 0.0
    error: DBAPIError | None = None


class BatchRunner:
    """Ends batches of candidates as of one moment."""

    def __init__(self, source: Source, claim: Claim, instead: Claim | None = None) -> None:
        """`instead` ends those jobs whose transition by `claim` a unique key does not allow."""
        self._source, self._claim, self._fallback = source, claim, instead
        # Two batches may want the same log, or the same rows that belong to their jobs.
        self._connections = 1 if claim.log_lock.statements or claim.related_row_locks else CONNECTIONS
        self._refused = self._slow = 0
        self._problem: Exception | None = None

    def run(self, connection: Connection, batches: Iterable[Sequence[Candidate]]) -> Iterator[BatchResult]:
        """End batch after batch; what became of each, in their order. `batches` is read as they are worked off.

        Raises DBAPIError when a statement cannot be run at all, TooManyRefused when it makes no sense to go on; what
        was in hand is finished and told first.
        """
        waiting = iter(batches)
        first = list(islice(waiting, self._connections))
        with gc_in_background_thread(), ExitStack() as stack:
            lanes = [connection, *self._more_connections(stack, len(first) - 1)]
            free: SimpleQueue[Connection] = SimpleQueue()
            for lane in lanes:
                free.put(lane)
            pool = stack.enter_context(ThreadPoolExecutor(len(lanes), thread_name_prefix="reap"))
            in_hand: deque[Future[BatchResult]] = deque()
            for batch in chain(first, waiting):
                in_hand.append(pool.submit(self._run_batch, free, batch))
                if len(in_hand) < len(lanes):
                    continue
                yield self._record(in_hand.popleft().result())
                if self._problem:
                    break
            while in_hand:
                yield self._record(in_hand.popleft().result())
            if self._problem:
                raise self._problem

    def _more_connections(self, stack: ExitStack, wanted: int) -> list[Connection]:
        """A connection more for a second lane; without one the first has to do."""
        try:
            return [stack.enter_context(self._source.connect()) for _ in range(wanted)]
        except DatabaseUnavailable:
            return []

    def _run_batch(self, free: SimpleQueue[Connection], batch: Sequence[Candidate]) -> BatchResult:
        lane, done = free.get(), BatchResult()
        try:
            self._end_batch(lane, batch, done, _TRIES)
        except DBAPIError as error:
            # Parts of the batch may be done: they are told with the error, not lost to it.
            done.error = error
        finally:
            free.put(lane)
        return done

    def _record(self, done: BatchResult) -> BatchResult:
        self._refused += len(done.failures)
        if done.error is not None:
            self._problem = self._problem or done.error
        elif self._refused > _MOST_REFUSED:
            last = done.failures[-1].error if done.failures else "see the log"
            self._problem = self._problem or TooManyFailures(f"the database refused {self._refused} jobs: {last}")
        return done

    # --- one batch -------------------------------------------------------------------------------------------

    def _end_batch(self, lane: Connection, batch: Sequence[Candidate], done: BatchResult, tries: int) -> None:
        """End a batch; when the database refuses it, end its halves, down to the one job that is to blame."""
        try:
            self._attempt(lane, batch, done, self._claim, patient=tries == 1)
        except DBAPIError as error:
            kind = classify(error)
            if kind in (ErrorKind.TRANSIENT, ErrorKind.DUPLICATE) and tries > 1:
                self._end_batch(lane, batch, done, tries - 1)
            elif kind is ErrorKind.DUPLICATE and len(batch) == 1 and self._fallback is not None:
                self._run_fallback(lane, batch, done, self._fallback)
            elif kind in (ErrorKind.ROW, ErrorKind.DUPLICATE, ErrorKind.TRANSIENT) or (
                kind is ErrorKind.TIMEOUT and self._may_be_slow()
            ):
                self._bisect(lane, batch, done, error)
            else:
                raise
        except PartialTransition as error:
            self._bisect(lane, batch, done, error)
        except LogBusy:
            if tries > 1:
                self._end_batch(lane, batch, done, tries - 1)
            else:
                # Whoever is writing may be writing a sign of life.
                done.locked += [candidate.key for candidate in batch]

    def _run_fallback(self, lane: Connection, batch: Sequence[Candidate], done: BatchResult, instead: Claim) -> None:
        try:
            self._attempt(lane, batch, done, instead, patient=True)
        except LogBusy:
            done.locked += [candidate.key for candidate in batch]
        except (DBAPIError, PartialTransition) as error:
            if isinstance(error, DBAPIError) and classify(error) not in (
                ErrorKind.ROW,
                ErrorKind.DUPLICATE,
                ErrorKind.TRANSIENT,
            ):
                raise
            done.failures.append(FailedTransition(key=batch[0].key, error=short_message(error)))

    def _may_be_slow(self) -> bool:
        """Half a batch may make it in time; but each try takes long, so not for ever."""
        self._slow += 1
        return self._slow <= _MOST_SLOW

    def _bisect(self, lane: Connection, batch: Sequence[Candidate], done: BatchResult, error: Exception) -> None:
        if len(batch) == 1:
            done.failures.append(FailedTransition(key=batch[0].key, error=short_message(error)))
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if len(done.failures) <= _MOST_REFUSED:
                self._end_batch(lane, half, done, _TRIES)

    def _attempt(
        self, lane: Connection, batch: Sequence[Candidate], done: BatchResult, claim: Claim, *, patient: bool = False
    ) -> None:
        begun = time.monotonic()
        try:
            with self._source.transaction(lane):
                claimed = claim.run(lane, batch, long_wait=patient)
        finally:
            done.longest = max(done.longest, time.monotonic() - begun)
        done.reaped += claimed.reaped
        done.lost += claimed.lost
        done.locked += claimed.locked
