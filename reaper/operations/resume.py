"""Jobs whose server went away and came back: closed at once, and not only after their timeout.

The restart is the database's now when `resume` begins: it is made to run right after the job system's server has
started. A job was interrupted when it ran before, was last heard of within the window before the restart, and has not
been heard of since. Other servers may work on jobs of the same source: for a while everybody is listened to, and the
jobs are judged once more, behind their locks, as a sweep judges.

Its limitation: a job of another server that shows no sign of life for as long as we listen looks like one that was
interrupted. Listen for longer than such jobs are usually silent.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection

from reaper.errors import ReaperError
from reaper.model import DISTANT_PAST, Evidence, Key, Reason
from reaper.operations.bulk import BulkOptions, BulkResult, end_in_bulk
from reaper.source import AuditInfo, Candidate, Source
from reaper.source.interrupted import Interrupted
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.batches import BatchRunner
from reaper.sweep.options import MAX_LISTED

_MOST_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class ResumeOptions:
    """How it is to be done: durations in seconds. `wait` lets time pass, and tells whether to stop."""

    window: float
    listen: float
    wait: Callable[[float], bool]
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Resumed:
    """What was found and done. `found` counts the interrupted jobs; the first of them are `named` in a dry run."""

    source: str
    run_id: str
    restart: str
    window_seconds: float
    found: int
    dry_run: bool
    named: Sequence[Evidence]
    toll: BulkResult


class Resume:
    """One run. Use `resume`."""

    def __init__(self, source: Source, downtime: DowntimeTracker, options: ResumeOptions, hand: BulkOptions) -> None:
        self.source, self.downtime, self.options, self.hand = source, downtime, options, hand
        self.id = uuid.uuid4().hex[:12]

    def run(self) -> Resumed | None:
        with self.source.connect() as connection:
            context = self.source.ask_probe(self.source.begin_evaluation(connection, self.downtime))
            judge = Interrupted(self.source.rule, context.now, self.options.window)
            before = {candidate.key: seen for candidate, seen in self._candidates(connection, judge, context)}
        if before and not self._listen(judge.restart):
            return None
        with self.source.connect() as connection:
            context = self.source.ask_probe(self.source.begin_evaluation(connection, self.downtime))
            after = self._candidates(connection, judge, context) if before else []
            # One whose sign has changed lives, even if its worker's clock is behind.
            silent = [candidate for candidate, seen in after if before.get(candidate.key) == seen]
            return self._told(connection, judge, context, silent)

    def _told(
        self, connection: Connection, judge: Interrupted, context: EvaluationContext, silent: Sequence[Candidate]
    ) -> Resumed:
        named, toll = list[Evidence](), BulkResult()
        if self.options.dry_run:
            keys: list[Key] = [candidate.key for candidate in silent[:MAX_LISTED]]
            with self.source.transaction(connection, read_only=True):
                named = self.source.lookup.evidence(connection, context, keys)
        elif silent:
            toll = self._end(connection, judge, context, silent)
        return Resumed(
            source=self.source.name,
            run_id=self.id,
            restart=judge.restart.isoformat(),
            window_seconds=self.options.window,
            found=len(silent),
            dry_run=self.options.dry_run,
            named=named,
            toll=toll,
        )

    def _end(
        self, connection: Connection, judge: Interrupted, context: EvaluationContext, silent: Sequence[Candidate]
    ) -> BulkResult:
        audit_info = AuditInfo(self.source.name, self.id, self.hand.host, Reason.INTERRUPTED, judge.message)
        claim = self.source.claim(context, audit_info, predicate=judge)
        reap = BatchRunner(self.source, claim, self.source.fallback_claim(context, audit_info, judge))
        return end_in_bulk(self.source, connection, reap, _in_batches(silent, self.hand.batch_size), self.id, self.hand)

    # --- listening -------------------------------------------------------------------------------------------

    def _listen(self, restart: datetime) -> bool:
        """Until everybody could be heard for long enough since the restart. False when told to stop.

        Raises ReaperError when the database is away too often for that.
        """
        begun = time.monotonic()
        while (missing := self._missing(restart)) > 0:
            if time.monotonic() - begun > _MOST_SECONDS:
                raise ReaperError("nothing was closed: the database was away while signs of life were waited for")
            if self.options.wait(missing):
                return False
            with self.source.connect() as connection:
                self.source.begin_evaluation(connection, self.downtime)
        return True

    def _missing(self, restart: datetime) -> float:
        """How many seconds of listening are missing."""
        listen, cutoff = self.options.listen, self.downtime.cutoff(self.options.listen)
        if cutoff.at == DISTANT_PAST:
            return (cutoff.not_before - self.downtime.now).total_seconds() + listen
        return (restart - cutoff.at).total_seconds()

    def _candidates(
        self, connection: Connection, judge: Interrupted, context: EvaluationContext
    ) -> Sequence[tuple[Candidate, float]]:
        with self.source.transaction(connection, read_only=True):
            return judge.candidates(connection, context)


def resume(source: Source, downtime: DowntimeTracker, options: ResumeOptions, hand: BulkOptions) -> Resumed | None:
    """Close what was interrupted. None when told to stop before anything was done.

    Raises DatabaseAway, DBAPIError and TooManyRefused for trouble with the database; ReaperError when it could not be
    listened to.
    """
    return Resume(source, downtime, options, hand).run()


def _in_batches(candidates: Sequence[Candidate], size: int) -> Iterator[list[Candidate]]:
    waiting = iter(candidates)
    while batch := list(islice(waiting, size)):
        yield batch
