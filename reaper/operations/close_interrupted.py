"""Closes jobs that were interrupted when their own server went away, as soon as it is back, before their timeout.

The caller says which server was restarted, and how long ago. A job was interrupted if that server held it, if it ran
before the restart, had its last sign of life within the window before it, and has shown none since. Signs of life are
awaited for a while all the same, and the jobs are judged once more behind their locks, as in a sweep.

That the profile's `holder` column names the restarted server is the proof. Without one, the caller asserts that no
other server works on the jobs of the source; the breaker holds what is only asserted.

Limitation: a job of another server that shows no sign of life during that wait looks like an interrupted one. Wait for
longer than such jobs are usually silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import Connection

from reaper.errors import ReaperError
from reaper.model import DISTANT_PAST, Evidence, JobCounts, Key, Reason
from reaper.operations.end_in_batches import BulkOptions, BulkResult, end_in_bulk
from reaper.source import AuditInfo, Candidate, Source
from reaper.source.ending_cap import Places
from reaper.source.interrupted_jobs import Restart, interrupted_candidates
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.batch_runner import BatchRunner
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import MAX_LISTED, new_sweep_id

_MAX_WAIT_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class CloseInterruptedOptions:
    """How it is to be done. `wait` is called with seconds to wait; it returns True to stop.

    `holder` is the restarted server, None where only one works on the source. It was started `started_ago_seconds`
    before the database's now, or at `restarted_at`, where a dry run has found out when that was. `breaker` holds what
    `holder` does not prove, unless it is `release` jobs or fewer.
    """

    window_seconds: float
    listen_seconds: float
    wait: Callable[[float], bool]
    breaker: Breaker
    holder: str | None = None
    started_ago_seconds: float = 0.0
    restarted_at: datetime | None = None
    release: int = 0
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class CloseInterruptedResult:
    """What was found and done. `interrupted` counts the interrupted jobs; a dry run lists the first MAX_LISTED.

    `held`: why the breaker or the cap holds it, or the breaker would hold a dry run; None when they do not.
    """

    source: str
    run_id: str
    restart: datetime
    window_seconds: float
    holder: str | None
    interrupted: int
    held: str | None
    dry_run: bool
    listed: Sequence[Evidence]
    bulk_result: BulkResult


def close_interrupted(
    source: Source, downtime: DowntimeTracker, options: CloseInterruptedOptions, bulk_options: BulkOptions
) -> CloseInterruptedResult | None:
    """Close what was interrupted. None when `wait` has stopped it before anything was done.

    Raises DatabaseUnavailable and DBAPIError for trouble with the database; QuietTime; ReaperError when the database
    was away too often to await signs of life.
    """
    return _ClosingRun(source, downtime, options, bulk_options).run()


class _ClosingRun:
    """The progress of one run. Use `close_interrupted`."""

    def __init__(
        self, source: Source, downtime: DowntimeTracker, options: CloseInterruptedOptions, bulk_options: BulkOptions
    ) -> None:
        self.source, self.downtime, self.options, self.bulk_options = source, downtime, options, bulk_options
        self.id = new_sweep_id()

    def run(self) -> CloseInterruptedResult | None:
        with self.source.connect() as connection:
            context = self.source.ask_probe(self.source.begin_evaluation(connection, self.downtime))
            self.source.require_not_quiet()  # in which no sign of life would be heard, however long it waits
            options = self.options
            restarted_at = options.restarted_at or context.now - timedelta(seconds=options.started_ago_seconds)
            restart = Restart(restarted_at, options.window_seconds, options.holder)
            begun = context.now
            before = {candidate.key: sign for candidate, sign in self._candidates(connection, restart, context)}
        if before and not self._await_signs(begun):
            return None
        with self.source.connect() as connection:
            context = self.source.ask_probe(self.source.begin_evaluation(connection, self.downtime))
            after = self._candidates(connection, restart, context) if before else []
            # A job whose last sign has changed is alive, even if its worker's clock is behind.
            silent = [candidate for candidate, sign in after if before.get(candidate.key) == sign]
            if silent and not options.dry_run:
                self.source.require_not_quiet()
            return self._close(connection, restart, context, silent)

    def _close(
        self, connection: Connection, restart: Restart, context: EvaluationContext, silent: Sequence[Candidate]
    ) -> CloseInterruptedResult:
        listed, bulk_result = list[Evidence](), BulkResult()
        held = self._held(connection, context, len(silent))
        if self.options.dry_run:
            keys: list[Key] = [candidate.key for candidate in silent[:MAX_LISTED]]
            with self.source.transaction(connection, read_only=True):
                listed = self.source.lookup.evidence(connection, context, keys)
        elif silent and held is None:
            with self._places(len(silent)) as places:
                held = places.held
                if held is None:
                    bulk_result = self._end(connection, restart, context, silent)
                    places.used = bulk_result.reaped
        return CloseInterruptedResult(
            source=self.source.name,
            run_id=self.id,
            restart=restart.at,
            window_seconds=self.options.window_seconds,
            holder=restart.holder,
            interrupted=len(silent),
            held=held,
            dry_run=self.options.dry_run,
            listed=listed,
            bulk_result=bulk_result,
        )

    def _held(self, connection: Connection, context: EvaluationContext, unproven: int) -> str | None:
        """Why the breaker holds so many jobs. Those that the holder's column proves to be interrupted do not count."""
        if self.options.holder is not None or not unproven:
            return None
        with self.source.transaction(connection, read_only=True):
            census = self.source.survey.count(connection, context, None).census
        counts = JobCounts(census.running, unproven, unproven, None)
        opens = self.options.breaker.opens(counts) and unproven > self.options.release
        return self.options.breaker.reason(counts) if opens else None

    def _places(self, unproven: int) -> AbstractContextManager[Places]:
        """The places of so many jobs under the cap of the source. Those that are proven to be interrupted need none."""
        cap, name = self.source.options.cap, self.source.name
        if cap is None or self.options.holder is not None:
            return nullcontext(Places())
        return cap.places(name, unproven, released=0 < unproven <= self.options.release)

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

    def _await_signs(self, since: datetime) -> bool:
        """Wait until signs of life could be written for long enough since this moment. False when stopped.

        Raises ReaperError when the database is away too often for that.
        """
        begun = time.monotonic()
        while (missing := self._missing_seconds(since)) > 0:
            if time.monotonic() - begun > _MAX_WAIT_SECONDS:
                raise ReaperError("nothing was closed: the database was away while signs of life were waited for")
            if self.options.wait(missing):
                return False
            with self.source.connect() as connection:
                self.source.begin_evaluation(connection, self.downtime)
        return True

    def _missing_seconds(self, since: datetime) -> float:
        """How much longer to wait."""
        listen = self.options.listen_seconds
        cutoff = self.downtime.cutoff(listen)
        if cutoff.at == DISTANT_PAST:
            return (cutoff.not_before - self.downtime.now).total_seconds() + listen
        return (since - cutoff.at).total_seconds()

    def _candidates(
        self, connection: Connection, restart: Restart, context: EvaluationContext
    ) -> Sequence[tuple[Candidate, float]]:
        with self.source.transaction(connection, read_only=True):
            return interrupted_candidates(self.source.statements, connection, context, restart)


def _in_batches(candidates: Sequence[Candidate], size: int) -> Iterator[list[Candidate]]:
    waiting = iter(candidates)
    while batch := list(islice(waiting, size)):
        yield batch
