"""Closes jobs that were interrupted when their own server went away, as soon as it is back, before their timeout.

The restart is the database's now when `resume` begins: it is made to run right after the job system's server has
started. A job was interrupted if it ran before the restart, had its last sign of life within the window before it, and
has shown none since. Other servers may work on jobs of the same source: signs of life are therefore awaited for a
while, and the jobs are judged once more behind their locks, as in a sweep.

Limitation: a job of another server that shows no sign of life during that wait looks like an interrupted one. Wait for
longer than such jobs are usually silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection

from reaper.errors import ReaperError
from reaper.model import DISTANT_PAST, Evidence, Key, Reason
from reaper.operations.end_in_batches import BulkOptions, BulkResult, end_in_bulk
from reaper.source import AuditInfo, Candidate, Source
from reaper.source.interrupted_jobs import Restart, interrupted_candidates
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.batch_runner import BatchRunner
from reaper.sweep.options import MAX_LISTED, new_sweep_id

_MAX_WAIT_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class ResumeOptions:
    """How it is to be done. `wait` is called with seconds to wait; it returns True to stop."""

    window_seconds: float
    listen_seconds: float
    wait: Callable[[float], bool]
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class ResumeResult:
    """What was found and done. `interrupted` counts the interrupted jobs; a dry run lists the first MAX_LISTED."""

    source: str
    run_id: str
    restart: str
    window_seconds: float
    interrupted: int
    dry_run: bool
    listed: Sequence[Evidence]
    bulk_result: BulkResult


def resume(
    source: Source, downtime: DowntimeTracker, options: ResumeOptions, bulk_options: BulkOptions
) -> ResumeResult | None:
    """Close what was interrupted. None when `wait` has stopped it before anything was done.

    Raises DatabaseUnavailable and DBAPIError for trouble with the database; ReaperError when it was
    away too often to await signs of life.
    """
    return _ResumeRun(source, downtime, options, bulk_options).run()


class _ResumeRun:
    """The progress of one run. Use `resume`."""

    def __init__(
        self, source: Source, downtime: DowntimeTracker, options: ResumeOptions, bulk_options: BulkOptions
    ) -> None:
        self.source, self.downtime, self.options, self.bulk_options = source, downtime, options, bulk_options
        self.id = new_sweep_id()

    def run(self) -> ResumeResult | None:
        with self.source.connect() as connection:
            context = self.source.ask_probe(self.source.begin_evaluation(connection, self.downtime))
            restart = Restart(context.now, self.options.window_seconds)
            before = {candidate.key: sign for candidate, sign in self._candidates(connection, restart, context)}
        if before and not self._await_signs(restart.at):
            return None
        with self.source.connect() as connection:
            context = self.source.ask_probe(self.source.begin_evaluation(connection, self.downtime))
            after = self._candidates(connection, restart, context) if before else []
            # A job whose last sign has changed is alive, even if its worker's clock is behind.
            silent = [candidate for candidate, sign in after if before.get(candidate.key) == sign]
            return self._close(connection, restart, context, silent)

    def _close(
        self, connection: Connection, restart: Restart, context: EvaluationContext, silent: Sequence[Candidate]
    ) -> ResumeResult:
        listed, bulk_result = list[Evidence](), BulkResult()
        if self.options.dry_run:
            keys: list[Key] = [candidate.key for candidate in silent[:MAX_LISTED]]
            with self.source.transaction(connection, read_only=True):
                listed = self.source.lookup.evidence(connection, context, keys)
        elif silent:
            bulk_result = self._end(connection, restart, context, silent)
        return ResumeResult(
            source=self.source.name,
            run_id=self.id,
            restart=restart.at.isoformat(),
            window_seconds=self.options.window_seconds,
            interrupted=len(silent),
            dry_run=self.options.dry_run,
            listed=listed,
            bulk_result=bulk_result,
        )

    def _end(
        self, connection: Connection, restart: Restart, context: EvaluationContext, silent: Sequence[Candidate]
    ) -> BulkResult:
        audit_info = AuditInfo(self.source.name, self.id, self.bulk_options.host, Reason.INTERRUPTED, restart.message)
        claim = self.source.claim(context, audit_info, restart=restart)
        fallback = self.source.fallback_claim(context, audit_info, restart)
        runner = BatchRunner(self.source, claim, fallback, self.bulk_options.should_stop)
        batches = _in_batches(silent, self.bulk_options.batch_size)
        return end_in_bulk(self.source, connection, runner, batches, self.id, self.bulk_options)

    # --- awaiting signs of life ------------------------------------------------------------------------------

    def _await_signs(self, restart: datetime) -> bool:
        """Wait until signs of life could be written for long enough since the restart. False when stopped.

        Raises ReaperError when the database is away too often for that.
        """
        begun = time.monotonic()
        while (missing := self._missing_seconds(restart)) > 0:
            if time.monotonic() - begun > _MAX_WAIT_SECONDS:
                raise ReaperError("nothing was closed: the database was away while signs of life were waited for")
            if self.options.wait(missing):
                return False
            with self.source.connect() as connection:
                self.source.begin_evaluation(connection, self.downtime)
        return True

    def _missing_seconds(self, restart: datetime) -> float:
        """How much longer to wait."""
        listen = self.options.listen_seconds
        cutoff = self.downtime.cutoff(listen)
        if cutoff.at == DISTANT_PAST:
            return (cutoff.not_before - self.downtime.now).total_seconds() + listen
        return (restart - cutoff.at).total_seconds()

    def _candidates(
        self, connection: Connection, restart: Restart, context: EvaluationContext
    ) -> Sequence[tuple[Candidate, float]]:
        with self.source.transaction(connection, read_only=True):
            return interrupted_candidates(self.source.statements, connection, context, restart)


def _in_batches(candidates: Sequence[Candidate], size: int) -> Iterator[list[Candidate]]:
    waiting = iter(candidates)
    while batch := list(islice(waiting, size)):
        yield batch
