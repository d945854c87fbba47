"""Cuts a refused batch in halves, down to the one job that is to blame, so that it delays no other.

The same for batches of stale jobs that are ended and for batches of finished jobs that are deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from reaper.database.errors import ErrorKind, classify
from reaper.errors import LogBusy, PartialTransition

Item = TypeVar("Item")

_MAX_ATTEMPTS = 3
_MAX_TIMEOUTS = 12
_MAY_PASS = (ErrorKind.TRANSIENT, ErrorKind.DUPLICATE)
_BLAMES_A_JOB = (ErrorKind.ROW, ErrorKind.DUPLICATE, ErrorKind.TRANSIENT)


class BatchBisection:
    """Attempts batches, and cuts those that the database refuses. One per pass; several threads may use it."""

    def __init__(self, blames_a_job: Callable[[DBAPIError], bool] = lambda _: False) -> None:
        """`blames_a_job` knows errors that are one job's trouble for this caller, besides those that always are."""
        self._blames_a_job = blames_a_job
        self._timeouts = 0

    def run(
        self,
        batch: Sequence[Item],
        attempt: Callable[[Sequence[Item], bool], None],
        refuse: Callable[[Item, Exception], None],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Attempt a batch; when the database refuses it, attempt its halves, unless `should_stop` says so before one.

        `attempt` gets the batch, and whether this is its last attempt, which must not raise LogBusy. `refuse` gets each
        single job that is to blame, and the error. Raises DBAPIError for a failure that every batch would meet.
        """
        error = self._attempt(batch, attempt)
        if error is None:
            return
        if len(batch) == 1:
            refuse(batch[0], error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if not should_stop():
                self.run(half, attempt, refuse, should_stop)

    def _attempt(self, batch: Sequence[Item], attempt: Callable[[Sequence[Item], bool], None]) -> Exception | None:
        """The error for which the batch is to be cut; None when it is done."""
        for last in (*[False] * (_MAX_ATTEMPTS - 1), True):
            try:
                attempt(batch, last)
            except LogBusy:
                if last:
                    raise
            except PartialTransition as error:
                return error
            except DBAPIError as error:
                kind = classify(error)
                if kind in _MAY_PASS and not last:
                    continue
                if self._blames_a_job(error) or kind in _BLAMES_A_JOB or self._may_be_too_large(kind):
                    return error
                raise
            else:
                return None
        return None

    def _may_be_too_large(self, kind: ErrorKind) -> bool:
        """Half a batch may be done within the time limit. Each try takes that long, so they are not without number."""
        if kind is not ErrorKind.TIMEOUT:
            return False
        self._timeouts += 1
        return self._timeouts <= _MAX_TIMEOUTS
