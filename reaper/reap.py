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

from reaper.garbage import collected_apart
from reaper.model import DatabaseAway, Failure, Key, Reaped, ReaperError
from reaper.source import Candidate, Claim, HalfDone, LogBusy, Source, Trouble, in_one_line, trouble

LANES = 2
_TRIES = 3
_MOST_REFUSED = 50
_MOST_SLOW = 12


@dataclass(slots=True)
class Done:
    """What became of a batch."""

    reaped: list[Reaped] = field(default_factory=list)
    lost: int = 0
    locked: list[Key] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    longest: float = 0.0
    error: DBAPIError | None = None


class TooManyRefused(ReaperError):
    """The database refuses one job after the other: something is wrong with all of them."""


class Reap:
    """Ends batches of candidates as of one moment."""

    def __init__(self, source: Source, claim: Claim, instead: Claim | None = None) -> None:
        """`instead` ends those jobs whose transition by `claim` a unique key does not allow."""
        self._source, self._claim, self._instead = source, claim, instead
        # Two batches may want the same log, or the same rows that belong to their jobs.
        self._lanes = 1 if claim.lock_log or claim.parts else LANES
        self._refused = self._slow = 0
        self._problem: Exception | None = None

    def run(self, connection: Connection, batches: Iterable[Sequence[Candidate]]) -> Iterator[Done]:
        """End batch after batch; what became of each, in their order. `batches` is read as they are worked off.

        Raises DBAPIError when a statement cannot be run at all, TooManyRefused when it makes no sense to go on; what
        was in hand is finished and told first.
        """
        waiting = iter(batches)
        first = list(islice(waiting, self._lanes))
        with collected_apart(), ExitStack() as stack:
            lanes = [connection, *self._more_lanes(stack, len(first) - 1)]
            free: SimpleQueue[Connection] = SimpleQueue()
            for lane in lanes:
                free.put(lane)
            pool = stack.enter_context(ThreadPoolExecutor(len(lanes), thread_name_prefix="reap"))
            in_hand: deque[Future[Done]] = deque()
            for batch in chain(first, waiting):
                in_hand.append(pool.submit(self._on_a_lane, free, batch))
                if len(in_hand) < len(lanes):
                    continue
                yield self._noted(in_hand.popleft().result())
                if self._problem:
                    break
            while in_hand:
                yield self._noted(in_hand.popleft().result())
            if self._problem:
                raise self._problem

    def _more_lanes(self, stack: ExitStack, wanted: int) -> list[Connection]:
        """A connection more for a second lane; without one the first has to do."""
        try:
            return [stack.enter_context(self._source.connect()) for _ in range(wanted)]
        except DatabaseAway:
            return []

    def _on_a_lane(self, free: SimpleQueue[Connection], batch: Sequence[Candidate]) -> Done:
        lane, done = free.get(), Done()
        try:
            self._end(lane, batch, done, _TRIES)
        except DBAPIError as error:
            # Parts of the batch may be done: they are told with the error, not lost to it.
            done.error = error
        finally:
            free.put(lane)
        return done

    def _noted(self, done: Done) -> Done:
        self._refused += len(done.failures)
        if done.error is not None:
            self._problem = self._problem or done.error
        elif self._refused > _MOST_REFUSED:
            last = done.failures[-1].error if done.failures else "see the log"
            self._problem = self._problem or TooManyRefused(f"the database refused {self._refused} jobs: {last}")
        return done

    # --- one batch -------------------------------------------------------------------------------------------

    def _end(self, lane: Connection, batch: Sequence[Candidate], done: Done, tries: int) -> None:
        """End a batch; when the database refuses it, end its halves, down to the one job that is to blame."""
        try:
            self._once(lane, batch, done, self._claim, patient=tries == 1)
        except DBAPIError as error:
            kind = trouble(error)
            if kind in (Trouble.PASSING, Trouble.TWIN) and tries > 1:
                self._end(lane, batch, done, tries - 1)
            elif kind is Trouble.TWIN and len(batch) == 1 and self._instead is not None:
                self._fail_instead(lane, batch, done, self._instead)
            elif kind in (Trouble.ROW, Trouble.TWIN, Trouble.PASSING) or (kind is Trouble.SLOW and self._may_be_slow()):
                self._divide(lane, batch, done, error)
            else:
                raise
        except HalfDone as error:
            self._divide(lane, batch, done, error)
        except LogBusy:
            if tries > 1:
                self._end(lane, batch, done, tries - 1)
            else:
                # Whoever is writing may be writing a sign of life.
                done.locked += [candidate.key for candidate in batch]

    def _fail_instead(self, lane: Connection, batch: Sequence[Candidate], done: Done, instead: Claim) -> None:
        try:
            self._once(lane, batch, done, instead, patient=True)
        except LogBusy:
            done.locked += [candidate.key for candidate in batch]
        except (DBAPIError, HalfDone) as error:
            if isinstance(error, DBAPIError) and trouble(error) not in (Trouble.ROW, Trouble.TWIN, Trouble.PASSING):
                raise
            done.failures.append(Failure(key=batch[0].key, error=in_one_line(error)))

    def _may_be_slow(self) -> bool:
        """Half a batch may make it in time; but each try takes long, so not for ever."""
        self._slow += 1
        return self._slow <= _MOST_SLOW

    def _divide(self, lane: Connection, batch: Sequence[Candidate], done: Done, error: Exception) -> None:
        if len(batch) == 1:
            done.failures.append(Failure(key=batch[0].key, error=in_one_line(error)))
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if len(done.failures) <= _MOST_REFUSED:
                self._end(lane, half, done, _TRIES)

    def _once(
        self, lane: Connection, batch: Sequence[Candidate], done: Done, claim: Claim, *, patient: bool = False
    ) -> None:
        begun = time.monotonic()
        try:
            with self._source.transaction(lane):
                claimed = claim.run(lane, batch, patient=patient)
        finally:
            done.longest = max(done.longest, time.monotonic() - begun)
        done.reaped += claimed.reaped
        done.lost += claimed.lost
        done.locked += claimed.locked
