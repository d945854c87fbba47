"""Ends the candidates of a survey, batch by batch, one short transaction each.

Two batches are in progress at a time, each on a connection of its own: while the database works on one, the other is
prepared, and a second processor is not idle. Batches share no job, so they do not block each other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from queue import SimpleQueue

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.common.background_gc import gc_in_background_thread
from reaper.database.errors import ErrorKind, classify, short_message
from reaper.errors import DatabaseUnavailable, LogBusy, PartialTransition, TooManyFailures
from reaper.model import FailedTransition, Key, ReapedJob
from reaper.source import Candidate, Claim, Source
from reaper.sweep.batch_bisection import BatchBisection

CONNECTIONS = 2
_MAX_REFUSED = 50


@dataclass(slots=True)
class BatchResult:
    """What became of the jobs of a batch. `longest` is its longest transaction, in seconds.

    `error` is what ended the batch before all of its jobs were done.
    """

    reaped: list[ReapedJob] = field(default_factory=list)
    lost: int = 0
    locked: list[Key] = field(default_factory=list)
    failures: list[FailedTransition] = field(default_factory=list)
    longest: float = 0.0
    error: DBAPIError | None = None


class BatchRunner:
    """Ends batches of candidates with one claim, and so as of one moment."""

    def __init__(self, source: Source, claim: Claim, fallback: Claim | None = None) -> None:
        """`fallback` ends the jobs whose transition by `claim` would violate a unique key."""
        self._source, self._claim, self._fallback = source, claim, fallback
        self._max_connections = 1 if source.batches_share_locks else CONNECTIONS
        self._bisection = BatchBisection()
        self._refused = 0
        self._problem: Exception | None = None

    def run(self, connection: Connection, batches: Iterable[Sequence[Candidate]]) -> Iterator[BatchResult]:
        """End batch after batch, and yield their results in the same order. `batches` is read as they are needed.

        Raises DBAPIError when a statement cannot be run at all, TooManyFailures when the database refuses too many
        jobs; batches in progress are finished and yielded first.
        """
        waiting = iter(batches)
        first = list(islice(waiting, self._max_connections))
        with gc_in_background_thread(), ExitStack() as stack:
            connections = [connection, *self._more_connections(stack, len(first) - 1)]
            free: SimpleQueue[Connection] = SimpleQueue()
            for free_connection in connections:
                free.put(free_connection)
            pool = stack.enter_context(ThreadPoolExecutor(len(connections), thread_name_prefix="reap"))
            in_progress: deque[Future[BatchResult]] = deque()
            for batch in chain(first, waiting):
                in_progress.append(pool.submit(self._run_batch, free, batch))
                if len(in_progress) < len(connections):
                    continue
                yield self._record(in_progress.popleft().result())
                if self._problem:
                    break
            while in_progress:
                yield self._record(in_progress.popleft().result())
            if self._problem:
                raise self._problem

    def _more_connections(self, stack: ExitStack, count: int) -> list[Connection]:
        """So many more connections; none when the database gives no more, and the first must do."""
        try:
            return [stack.enter_context(self._source.connect()) for _ in range(count)]
        except DatabaseUnavailable:
            return []

    def _record(self, result: BatchResult) -> BatchResult:
        self._refused += len(result.failures)
        if result.error is not None:
            self._problem = self._problem or result.error
        elif self._refused > _MAX_REFUSED:
            last = result.failures[-1].error if result.failures else "see the log"
            self._problem = self._problem or TooManyFailures(f"the database refused {self._refused} jobs: {last}")
        return result

    # --- one batch -------------------------------------------------------------------------------------------

    def _run_batch(self, free: SimpleQueue[Connection], batch: Sequence[Candidate]) -> BatchResult:
        connection, result = free.get(), BatchResult()
        try:
            self._bisection.run(
                batch,
                partial(self._attempt, connection, result, self._claim),
                partial(self._refuse, connection, result),
                lambda: len(result.failures) > _MAX_REFUSED,
            )
        except DBAPIError as error:
            # Parts of the batch may be done: they are reported with the error, not lost to it.
            result.error = error
        finally:
            free.put(connection)
        return result

    def _attempt(
        self, connection: Connection, result: BatchResult, claim: Claim, batch: Sequence[Candidate], last: bool
    ) -> None:
        """One transaction. The last attempt waits longer for a log that is being written."""
        begun = time.monotonic()
        try:
            with self._source.transaction(connection):
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

    def _refuse(self, connection: Connection, result: BatchResult, candidate: Candidate, error: Exception) -> None:
        """A job that the database refuses to end: end it by the fallback, where there is one, or report it."""
        if self._fallback is not None and isinstance(error, DBAPIError) and classify(error) is ErrorKind.DUPLICATE:
            refused_with = self._run_fallback(connection, result, self._fallback, candidate)
        else:
            refused_with = error
        if refused_with is not None:
            result.failures.append(FailedTransition(key=candidate.key, error=short_message(refused_with)))

    def _run_fallback(
        self, connection: Connection, result: BatchResult, fallback: Claim, candidate: Candidate
    ) -> Exception | None:
        """The error with which the database refuses this too. Raises DBAPIError for a failure that is not the job's."""
        try:
            self._attempt(connection, result, fallback, [candidate], True)
        except PartialTransition as error:
            return error
        except DBAPIError as error:
            if classify(error) not in (ErrorKind.ROW, ErrorKind.DUPLICATE, ErrorKind.TRANSIENT):
                raise
            return error
        return None
