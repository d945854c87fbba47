"""One pass over one source: a function that returns a value. No loop around it, no schedule, no clock of the host."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.database.errors import ErrorKind, classify, short_message
from reaper.database.lease import Lease
from reaper.errors import DatabaseUnavailable, RowsHidden, TooManyFailures
from reaper.model import Evidence, FailedTransition, JobCounts, Key, LockedCandidate, Outcome, SweepReport, Verdict
from reaper.source import AuditInfo, Candidate, Source, with_stale
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.batches import BatchResult, BatchRunner
from reaper.sweep.candidate_spool import CandidateSpool
from reaper.sweep.late_signs import LateSignScan, scan_for_late_signs
from reaper.sweep.listeners import SweepListener
from reaper.sweep.options import MAX_LISTED, SweepOptions
from reaper.sweep.state import SourceState
from reaper.sweep.task_revocation import Revoking

_REFUSED_AGAIN_SECONDS = 600.0


class Sweep:
    """The state of one pass while it runs. Use `sweep`."""

    def __init__(
        self,
        source: Source,
        downtime: DowntimeTracker,
        memory: SourceState,
        options: SweepOptions,
        lease: Lease | None,
        listener: SweepListener,
    ) -> None:
        self.source, self.downtime, self.memory, self.options = source, downtime, memory, options
        self.lease, self.listener = lease, listener
        self.id = uuid.uuid4().hex[:12]
        self.census: JobCounts | None = None
        self.crossed = self.reaped = self.lost = 0
        self.failures: list[FailedTransition] = []
        self.locked: list[Key] = []
        self.named_locked: list[LockedCandidate] = []
        self.newly_spared: list[Evidence] = []
        self.newly_spared_total = 0
        self.would_reap: list[Evidence] = []
        self.refused = 0
        self.longest = self.deaf = 0.0
        self.judged_at: str | None = None
        self.asked = False
        self.witness_trouble: str | None = None
        self.revoking = Revoking(source.options.probe, memory.revoked)
        self.looked_back: LateSignScan | None = None

    def run(self) -> Outcome:
        with self.source.connect() as connection:
            # A standby listens too: the day it takes over it must know what it could not have heard.
            context = self.source.begin_evaluation(connection, self.downtime)
        self.judged_at = context.now.isoformat()
        self.deaf = self.downtime.excluded_seconds(self.source.thresholds.stall.seconds)
        if self.lease is not None and not self.lease.acquire():
            return Outcome.STANDBY
        context = self._consult(context)
        with self.source.cached_connection() as connection, CandidateSpool(self.options.batch_size) as spool:
            outcome = self._pass(connection, context, spool)
            if outcome not in (Outcome.STOPPED, Outcome.STANDBY) and not self.options.dry_run:
                self.looked_back = scan_for_late_signs(self.source, connection, context, self.memory.ended)
            return outcome

    def _pass(self, connection: Connection, context: EvaluationContext, spool: CandidateSpool) -> Outcome:
        census = self._survey(connection, context, spool)
        self._notice_spared(connection, context)
        if self.options.dry_run:
            self._preview(connection, context, spool)
            return Outcome.DONE
        if self.options.held(census):
            return Outcome.HELD
        if self.options.halted():
            return Outcome.HALTED
        outcome = self._reap(connection, context, spool)
        self._name_holders(connection, context)
        return outcome

    def _consult(self, context: EvaluationContext) -> EvaluationContext:
        context = self.source.ask_probe(context)
        self.memory.liveness = context.liveness
        self.asked = context.liveness is not None
        self.witness_trouble = context.liveness.trouble if context.liveness else None
        acting = not self.options.dry_run and not self.options.halted()
        if context.liveness is not None and self.witness_trouble is None and acting:
            self.revoking.again(context.liveness)
        return context

    # --- survey ----------------------------------------------------------------------------------------------

    def _survey(self, connection: Connection, context: EvaluationContext, spool: CandidateSpool) -> JobCounts:
        """One read finds the candidates, whatever their number; batches then go by key."""
        with self.source.transaction(connection, read_only=True):
            census, self.crossed = self.source.survey.count(connection, context, self.memory.before)
            spool.fill(self.source.survey.stream(connection, context))
        self.census = with_stale(census, spool.count)
        self.listener.surveyed(self.source.name, self.census)
        return self.census

    def _notice_spared(self, connection: Connection, context: EvaluationContext) -> None:
        """Jobs that have passed their timeout since the last sweep and live: each is named once."""
        if self.census is None or self.census.spared == 0 or self.crossed == 0:
            self.memory.before = context
            return
        with self.source.transaction(connection, read_only=True):
            survey = self.source.survey.newly_spared_query(
                context, self.memory.before, MAX_LISTED + 1, self.census.stale
            )
            crossed = connection.execute(survey)
            keys = [tuple(row) for row in crossed]
            judged = self.source.lookup.evidence(connection, context, keys)
        spared = [evidence for evidence in judged if evidence.verdict is Verdict.SPARED]
        self.newly_spared_total = len(spared) if len(keys) <= MAX_LISTED else self.crossed
        self.newly_spared = spared[:MAX_LISTED]
        self.memory.before = context

    def _preview(self, connection: Connection, context: EvaluationContext, spool: CandidateSpool) -> None:
        for batch in spool.batches():
            with self.source.transaction(connection, read_only=True):
                keys = [c.key for c in batch][: MAX_LISTED - len(self.would_reap)]
                judged = self.source.lookup.evidence(connection, context, keys)
            self.would_reap += [evidence for evidence in judged if evidence.verdict is Verdict.STALE]
            if len(self.would_reap) >= MAX_LISTED:
                return

    # --- reap ------------------------------------------------------------------------------------------------

    def _reap(self, connection: Connection, context: EvaluationContext, spool: CandidateSpool) -> Outcome:
        if spool.count == 0:
            return Outcome.DONE
        audit_info = AuditInfo(source=self.source.name, sweep_id=self.id, host=self.options.host)
        reap = BatchRunner(
            self.source, self.source.claim(context, audit_info), self.source.fallback_claim(context, audit_info)
        )
        outcome = Outcome.DONE

        def willing() -> Iterator[list[Candidate]]:
            nonlocal outcome
            for batch in spool.batches():
                if self.options.stopping():
                    outcome = Outcome.STOPPED
                    return
                if self.options.halted():
                    outcome = Outcome.HALTED
                    return
                if self.lease is not None and not self.lease.renew_if_due():
                    outcome = Outcome.STANDBY
                    return
                if kept := self._without_refused(batch):
                    yield kept

        for done in reap.run(connection, willing()):
            self._take(done)
            self.revoking.ended(done.reaped, context.liveness)
        return outcome

    def _take(self, done: BatchResult) -> None:
        self.reaped += len(done.reaped)
        self.lost += done.lost
        self.locked += done.locked
        self.failures += done.failures
        self.longest = max(self.longest, done.longest)
        self.refused += len(done.failures)
        for failure in done.failures:
            self.memory.refused[failure.key] = time.monotonic() + _REFUSED_AGAIN_SECONDS
        if done.reaped:
            self.listener.reaped(self.source.name, self.id, done.reaped)

    def _without_refused(self, batch: Sequence[Candidate]) -> list[Candidate]:
        """Jobs that the database refused lately are left alone for a while."""
        refused, now = self.memory.refused, time.monotonic()
        for key in [key for key, again in refused.items() if again <= now]:
            del refused[key]
        willing = [candidate for candidate in batch if candidate.key not in refused]
        self.refused += len(batch) - len(willing)
        return willing

    # --- held rows -------------------------------------------------------------------------------------------

    def _name_holders(self, connection: Connection, context: EvaluationContext) -> None:
        """Somebody who keeps a stale job's row locked for longer than its stall window hides a dead job: say who."""
        now, since = time.monotonic(), self.memory.locked_since
        self.memory.locked_since = {key: since.get(key, now) for key in self.locked}
        longest_first = sorted(self.locked, key=self.memory.locked_since.__getitem__)
        for key in longest_first[:MAX_LISTED]:
            with self.source.transaction(connection, read_only=True):
                holder = self.source.lock_holder(connection, key)
                judged = self.source.lookup.evidence(connection, context, [key])
            seen = now - self.memory.locked_since[key]
            held = max(seen, holder.held_seconds or 0.0) if holder else seen
            stall = judged[0].stall_seconds if judged else float("inf")
            self.named_locked.append(LockedCandidate(key=key, held_seconds=held, overdue=held > stall, holder=holder))


def sweep(
    source: Source,
    downtime: DowntimeTracker,
    memory: SourceState,
    options: SweepOptions,
    lease: Lease | None,
    listener: SweepListener,
) -> SweepReport:
    """Survey one source and end what is stale. Never raises for trouble with the database: the report tells it."""
    begun = time.monotonic()
    state = Sweep(source, downtime, memory, options, lease, listener)
    error: str | None = None
    away = deaf = False
    try:
        outcome = state.run()
    except DatabaseUnavailable as problem:
        outcome, error, away, deaf = Outcome.FAILED, str(problem), True, True
    except (DBAPIError, TooManyFailures, RowsHidden) as problem:
        outcome, error = Outcome.FAILED, short_message(problem)
        kind = classify(problem) if isinstance(problem, DBAPIError) else None
        away = kind is ErrorKind.UNAVAILABLE
        # A server that was frozen cancels on waking what took too long meanwhile.
        deaf = kind in (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT)
    except Exception:
        _let_another_try(lease, options)
        raise
    if deaf:
        downtime.record_failure()
    if outcome is Outcome.FAILED or (state.failures and not state.reaped):
        _let_another_try(lease, options)
    return _report(state, outcome, error, away=away, duration=time.monotonic() - begun)


def _let_another_try(lease: Lease | None, options: SweepOptions) -> None:
    """What this process cannot do, for want of a privilege or of disk, a replica may: it must not be kept from it.

    Unless it was halted: then nobody is to do it.
    """
    if lease is not None and not options.halted():
        lease.release()


def failed(source: str, error: str) -> SweepReport:
    """The report of a sweep that did not get far enough to make one."""
    return SweepReport(source=source, sweep_id="", outcome=Outcome.FAILED, duration_seconds=0.0, error=error)


def _report(state: Sweep, outcome: Outcome, error: str | None, *, away: bool, duration: float) -> SweepReport:
    return SweepReport(
        source=state.source.name,
        sweep_id=state.id,
        outcome=outcome,
        duration_seconds=duration,
        census=state.census,
        reaped=state.reaped,
        lost=state.lost,
        newly_spared=tuple(state.newly_spared),
        newly_spared_total=state.newly_spared_total,
        locked=tuple(state.named_locked),
        locked_total=len(state.locked),
        failures=tuple(state.failures),
        refused_total=state.refused,
        would_reap=tuple(state.would_reap),
        longest_transaction_seconds=state.longest,
        deaf_seconds=state.deaf,
        database_away=away,
        asked_witness=state.asked,
        witness_trouble=state.witness_trouble,
        revoke_trouble=state.revoking.trouble,
        looked_back=state.looked_back is not None,
        late=state.looked_back.late if state.looked_back else (),
        late_trouble=state.looked_back.trouble if state.looked_back else None,
        leads=outcome not in (Outcome.STANDBY, Outcome.FAILED),
        judged_at=state.judged_at,
        error=error,
        dry_run=state.options.dry_run,
    )
