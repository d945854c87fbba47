"""Ends the candidates of a survey, batch by batch, one short transaction each.

Two batches are in progress at a time, each on a connection of its own: while the database works on one, the other is
prepared, and a second processor is not idle. Batches share no job, so they do not block each other.

A batch that the database refuses waits until the others have been attempted. Its jobs are then attempted in smaller
pieces, down to those that are to blame, for as long as there is time for refusals.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from math import inf
from queue import SimpleQueue

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.common.background_gc import gc_in_background_thread
from reaper.database.errors import ErrorKind, classify, is_timeout, short_message
from reaper.errors import DatabaseUnavailable, LogBusy, PartialTransition, StateUnavailable
from reaper.model import FailedTransition, KeptJob, Key, ReapedJob
from reaper.source import Candidate, Claim, Source
from reaper.sweep.batch_bisection import BatchBisection

CONNECTIONS = 2
MAX_REFUSED = 25_000
"""How many jobs may be refused in one run, one by one; the others wait for the next."""
MAX_REFUSED_SECONDS = 15.0
"""How long slow refusals may take in one run, in all."""
_SLICE_SECONDS = 0.25
_MAX_WAITING = 20_000


@dataclass(slots=True)
class BatchResult:
    """What became of the jobs of a batch. `longest` is its longest transaction, in seconds.

    `cut_off` were given less time than a statement has otherwise, which was not enough. `error` is what ended the batch
    before all of its jobs were done.
    """

    reaped: list[ReapedJob] = field(default_factory=list)
    lost: int = 0
    locked: list[Key] = field(default_factory=list)
    kept: list[KeptJob] = field(default_factory=list)
    failures: list[FailedTransition] = field(default_factory=list)
    cut_off: list[Candidate] = field(default_factory=list)
    longest: float = 0.0
    error: DBAPIError | StateUnavailable | None = None


class BatchRunner:
    """Ends batches of candidates with one claim, and so as of one moment."""

    def __init__(
        self,
        source: Source,
        claim: Claim,
        fallback: Claim | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        *,
        one_by_one: bool = False,
    ) -> None:
        """`fallback` ends the jobs whose transition by `claim` would violate a unique key.

        `should_stop` is asked before the pieces of refused batches are attempted. `one_by_one`: the next batch is read
        when the result of the one before was, and every attempt may take as long as a statement may.
        """
        self._source, self._claim, self._fallback = source, claim, fallback
        self._max_connections = 1 if source.batches_share_locks or one_by_one else CONNECTIONS
        self._one_by_one = one_by_one
        self._bisection = BatchBisection[Candidate]()
        self._should_stop = should_stop
        self._refused = 0
        self._problem: Exception | None = None
        self.postponed = 0
        """Jobs of refused batches for which no time was left."""

    def run(self, connection: Connection, batches: Iterable[Sequence[Candidate]]) -> Iterator[BatchResult]:
        """End batch after batch, and yield what became of them. `batches` is read as they are needed.

        Raises DBAPIError when a statement cannot be run at all, and StateUnavailable when it is not known which jobs
        are held; batches in progress are finished and yielded first.
        """
        waiting = iter(batches)
        first = list(islice(waiting, self._max_connections))
        fresh = chain(first, waiting)
        with gc_in_background_thread(), ExitStack() as stack:
            connections = [connection, *self._more_connections(stack, len(first) - 1)]
            free: SimpleQueue[Connection] = SimpleQueue()
            for free_connection in connections:
                free.put(free_connection)
            pool = stack.enter_context(ThreadPoolExecutor(len(connections), thread_name_prefix="reap"))
            in_progress: deque[Future[BatchResult]] = deque()
            while True:
                while len(in_progress) < len(connections) and (work := self._next_work(fresh)) is not None:
                    in_progress.append(pool.submit(self._run_slice, free, *work))
                if not in_progress:
                    break
                result = in_progress.popleft().result()
                self._problem = self._problem or result.error
                yield result
            self.postponed += self._bisection.drop_waiting()
            if self._problem:
                raise self._problem

    def _next_work(self, fresh: Iterator[Sequence[Candidate]]) -> tuple[Sequence[Candidate], bool] | None:
        """The next jobs to attempt, and whether they are a batch that was not attempted yet; None: there are none now.

        Batches go first, unless too many jobs of refused ones are kept in memory.
        """
        if self._problem:
            return None
        if self.out_of_time:
            self.postponed += self._bisection.drop_waiting()
        most_waiting = 1 if self._one_by_one else _MAX_WAITING
        if self._bisection.waiting < most_waiting and (batch := next(fresh, None)) is not None:
            return batch, True
        if self._bisection.waiting == 0 or self._should_stop():
            return None
        piece = self._bisection.next_piece()
        return None if piece is None else (piece, False)

    @property
    def out_of_time(self) -> bool:
        """Whether refusals have taken all of the time that they get."""
        return self._refused >= MAX_REFUSED or self._bisection.slow_seconds > MAX_REFUSED_SECONDS

    def _more_connections(self, stack: ExitStack, count: int) -> list[Connection]:
        """So many more connections; none when the database gives no more, and the first must do."""
        try:
            return [stack.enter_context(self._source.connect()) for _ in range(count)]
        except DatabaseUnavailable:
            return []

    # --- one batch -------------------------------------------------------------------------------------------

    def _run_slice(self, free: SimpleQueue[Connection], jobs: Sequence[Candidate], whole: bool) -> BatchResult:
        """A whole batch; or a piece of a refused one, and further pieces for as long as a batch takes."""
        connection, result = free.get(), BatchResult()
        end = time.monotonic() + _SLICE_SECONDS
        piece: Sequence[Candidate] | None = jobs
        try:
            while piece is not None:
                self._run_piece(connection, result, piece)
                more = not whole and time.monotonic() < end and not self.out_of_time
                piece = self._bisection.next_piece() if more else None
        except (DBAPIError, StateUnavailable) as error:
            # Parts of the batch may be done: they are reported with the error, not lost to it.
            result.error = error
        finally:
            free.put(connection)
        return result

    def _run_piece(self, connection: Connection, result: BatchResult, piece: Sequence[Candidate]) -> None:
        limit = inf if self._one_by_one else self._bisection.limit_seconds(len(piece))
        error = self._bisection.attempt(
            piece, partial(self._attempt, connection, result, self._claim, piece, limit), limited=limit < inf
        )
        if error is not None:
            self._refuse(connection, result, piece[0], error, limit)

    def _attempt(
        self,
        connection: Connection,
        result: BatchResult,
        claim: Claim,
        batch: Sequence[Candidate],
        limit_seconds: float,
        last: bool,
    ) -> None:
        """One transaction. The last attempt waits longer for a log that is being written."""
        begun = time.monotonic()
        try:
            with self._source.transaction(connection, at_most=limit_seconds):
                claimed = claim.run(connection, batch, long_wait=last)
            self._source.remember_reaped(claimed.reaped)
        except LogBusy:
            if not last:
                raise
            # What is being written may be a sign of life.
            result.locked += [candidate.key for candidate in batch]
            return
        finally:
            result.longest = max(result.longest, time.monotonic() - begun)
        result.reaped += claimed.reaped
        result.lost += claimed.lost
        result.locked += claimed.locked
        result.kept += claimed.kept

    def _refuse(
        self,
        connection: Connection,
        result: BatchResult,
        candidate: Candidate,
        error: Exception,
        limit_seconds: float,
    ) -> None:
        """A job that the database refuses to end: end it by the fallback, where there is one, or report it."""
        refused_with: Exception | None = error
        if self._fallback is not None and isinstance(error, DBAPIError) and classify(error) is ErrorKind.DUPLICATE:
            refused_with = self._run_fallback(connection, result, self._fallback, candidate)
        if refused_with is None:
            return
        self._refused += 1
        if limit_seconds < inf and is_timeout(refused_with):
            result.cut_off.append(candidate)
        else:
            result.failures.append(FailedTransition(key=candidate.key, error=short_message(refused_with)))

    def _run_fallback(
        self, connection: Connection, result: BatchResult, fallback: Claim, candidate: Candidate
    ) -> Exception | None:
        """The error with which the database refuses this too. Raises DBAPIError for a failure that is not the job's."""
        try:
            self._attempt(connection, result, fallback, [candidate], inf, True)
        except PartialTransition as error:
            return error
        except DBAPIError as error:
            if classify(error) not in (ErrorKind.ROW, ErrorKind.DUPLICATE, ErrorKind.TRANSIENT):
                raise
            return error
        return None
