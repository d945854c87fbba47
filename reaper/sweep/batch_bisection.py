"""Cuts a refused batch into pieces, down to the jobs that are to blame, so that they delay no other.

The same for batches of stale jobs that are ended and for batches of finished jobs that are deleted.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from reaper.database.errors import ErrorKind, classify
from reaper.errors import LogBusy, PartialTransition
from reaper.sweep.adaptive_batch_size import SLOW_SECONDS, PieceSize

Item = TypeVar("Item")

_MAX_ATTEMPTS = 3
_MAX_TIMEOUTS = 12
_MAX_PATIENT = 10
_DUE_TO_SIZE = (ErrorKind.TIMEOUT, ErrorKind.TRANSIENT)
_BLAMES_A_JOB = (ErrorKind.ROW, ErrorKind.DUPLICATE, ErrorKind.TRANSIENT)


class BatchBisection(Generic[Item]):
    """Attempts batches, and keeps the pieces of those that the database refuses. One per pass. Thread-safe.

    `waiting` is how many jobs are in the pieces that wait.
    """

    def __init__(self, blames_a_job: Callable[[DBAPIError], bool] = lambda _: False) -> None:
        """`blames_a_job` knows errors that are one job's trouble for this caller, besides those that always are."""
        self._blames_a_job = blames_a_job
        self._size = PieceSize()
        self._lock = threading.Lock()
        self._pieces: list[Sequence[Item]] = []
        self._timeouts = self._refused_in_a_row = 0
        self.waiting = 0
        self.slow_seconds = 0.0
        """How long those refused attempts took that were slow."""

    def next_piece(self) -> Sequence[Item] | None:
        """The next piece to be attempted; None while none waits."""
        with self._lock:
            if not self._pieces:
                return None
            piece = self._pieces.pop()
            size = self._size.of(len(piece))
            if size < len(piece):
                self._pieces.append(piece[size:])
                piece = piece[:size]
            self.waiting -= len(piece)
            return piece

    def limit_seconds(self, jobs: int) -> float:
        """How long an attempt of so many jobs may take."""
        return self._size.limit_seconds(jobs)

    def attempt(self, piece: Sequence[Item], run: Callable[[bool], None], *, limited: bool = False) -> Exception | None:
        """Attempt a piece. The error, when it is one job and that is to blame; a piece of several is cut, and waits.

        `run` gets whether this is the last attempt, which must not raise LogBusy. `limited`: it ends itself early, so
        that a timeout says nothing about the database. Raises DBAPIError for a failure that every batch would meet.
        """
        begun = time.monotonic()
        error = self._attempt(run, limited=limited)
        seconds = time.monotonic() - begun
        if error is None:
            self._refused_in_a_row = 0
            self._size.succeeded(len(piece), seconds)
            return None
        # A timeout or a deadlock may be due to the number of jobs: half of them may be done.
        too_large = not limited and isinstance(error, DBAPIError) and classify(error) in _DUE_TO_SIZE
        size = len(piece) // 2 if too_large else self._size.refused(len(piece), seconds)
        with self._lock:
            self.slow_seconds += seconds if seconds > SLOW_SECONDS else 0.0
            if len(piece) > 1:
                # Those that are refused slowly may all come first: then the others would have to wait for them.
                parts = random.sample(piece, len(piece)) if seconds > SLOW_SECONDS else piece
                # The second part waits below the first, which is attempted next.
                self._pieces += [parts[size:], parts[:size]]
                self.waiting += len(piece)
                return None
            self._refused_in_a_row += 1
            return error

    def run(
        self,
        batch: Sequence[Item],
        attempt: Callable[[Sequence[Item], bool], None],
        refuse: Callable[[Item, Exception], None],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> int:
        """Attempt a batch and then its pieces, until none waits, or `should_stop` says so before one.

        `refuse` gets each single job that is to blame, and the error. Returns how many jobs are in pieces that were not
        attempted.
        """
        piece: Sequence[Item] | None = batch
        while piece is not None:
            attempted = piece
            error = self.attempt(attempted, lambda last, jobs=attempted: attempt(jobs, last))  # type: ignore[misc]
            if error is not None:
                refuse(attempted[0], error)
            piece = None if should_stop() else self.next_piece()
        return self.drop_waiting()

    def drop_waiting(self) -> int:
        """Attempt none of the pieces that wait. How many jobs those were."""
        with self._lock:
            dropped, self.waiting = self.waiting, 0
            self._pieces.clear()
            return dropped

    def _attempt(self, run: Callable[[bool], None], *, limited: bool) -> Exception | None:
        """The error for which the piece is to be cut; None when it is done."""
        for last in (*[False] * (_MAX_ATTEMPTS - 1), True):
            try:
                run(last)
            except LogBusy:
                if last:
                    raise
            except PartialTransition as error:
                return error
            except DBAPIError as error:
                kind = classify(error)
                if not last and self._may_pass(kind):
                    continue
                if self._blames_a_job(error) or kind in _BLAMES_A_JOB or self._may_be_too_large(kind, limited=limited):
                    return error
                raise
            else:
                return None
        return None

    def _may_pass(self, kind: ErrorKind) -> bool:
        """The same again may succeed. Of many jobs in a row whose keys exist already, the next one's does too."""
        return kind is ErrorKind.TRANSIENT or (kind is ErrorKind.DUPLICATE and self._refused_in_a_row < _MAX_PATIENT)

    def _may_be_too_large(self, kind: ErrorKind, *, limited: bool) -> bool:
        """Half a batch may be done within the time limit. Each try takes that long, so they are not without number."""
        if kind is not ErrorKind.TIMEOUT:
            return False
        if limited:
            return True
        self._timeouts += 1
        return self._timeouts <= _MAX_TIMEOUTS
