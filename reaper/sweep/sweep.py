"""One sweep: survey a source once, end what is stale in batches, return a report. The schedule is elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.database.errors import ErrorKind, classify, short_message
from reaper.database.lease import Lease
from reaper.errors import DatabaseUnavailable, KeyNotUnique, RowsHidden, SpellingUnclear, StateUnavailable
from reaper.model import (
    DowntimeNotice,
    Evidence,
    FailedTransition,
    FutureSigns,
    JobCounts,
    JobHold,
    KeptJob,
    Key,
    LockedCandidate,
    Outcome,
    Reason,
    SweepReport,
    Verdict,
)
from reaper.source import AuditInfo, Candidate, Source, add_counts, with_stale
from reaper.source.ending_cap import Places
from reaper.source.kept_jobs import KeptTally, without_kept
from reaper.source.requeue_counts import MAX_COUNTED, REQUEUE, may_requeue
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.first_seen import name_of
from reaper.sweep.batch_runner import BatchResult, BatchRunner
from reaper.sweep.candidate_spool import CandidateSpool
from reaper.sweep.downtime_notice import downtime_notice
from reaper.sweep.late_signs import LateSignScan, scan_for_late_signs
from reaper.sweep.listeners import SweepListener
from reaper.sweep.options import MAX_LISTED, SweepOptions, new_sweep_id
from reaper.sweep.slow_survey import SlowSurvey
from reaper.sweep.source_state import SourceState
from reaper.sweep.spared_jobs import MAX_TRACKED
from reaper.sweep.task_revocation import TaskRevocation

_CUT_OFF = "was cut off, since the database refuses other jobs only after a long time"
_MAX_OBSERVED = 10_000
"""So many jobs are remembered as reported; while they are stale, an observing sweep reports no others."""
_FUTURE_LOOK_SECONDS, _FUTURE_LOOK_SHARE = 60.0, 50
"""Signs of life in the future are looked for at most so often, and for at most a fiftieth of the time."""

Spools = dict[tuple[Source, Reason], CandidateSpool]
"""The candidates of each of the views that a sweep ends jobs of, the source itself first, for each reason."""


class _SweepRun:
    """The progress of one sweep. Use `sweep`."""

    def __init__(
        self,
        source: Source,
        downtime: DowntimeTracker,
        source_state: SourceState,
        options: SweepOptions,
        lease: Lease | None,
        listener: SweepListener,
    ) -> None:
        self.source, self.downtime, self.source_state, self.options = source, downtime, source_state, options
        self.lease, self.listener = lease, listener
        self.id = new_sweep_id()
        self.census: JobCounts | None = None
        self.start_lost: JobCounts | None = None
        self.start_lost_trouble: str | None = None
        self.newly_overdue = self.reaped = self.lost = 0
        self.failures: list[FailedTransition] = []
        self.locked: list[Key] = []
        self.named_locked: list[LockedCandidate] = []
        self.newly_spared: list[Evidence] = []
        self.newly_spared_total = 0
        self.would_reap: list[Evidence] = []
        self.refused_now = self.set_aside = self.postponed = 0
        self.longest_transaction = self.excluded_seconds = 0.0
        self.judged_at: str | None = None
        self.downtime_notice: DowntimeNotice | None = None
        self.asked_probe = False
        self.witness_trouble: str | None = None
        self.revocation = TaskRevocation(source.options.probe, source_state.unconfirmed_revocations)
        self.late_scan: LateSignScan | None = None
        self.future_signs: FutureSigns | None = None
        self.unknown_moments: tuple[str, ...] = ()
        self.future_signs_trouble: str | None = None
        self.slow_survey = SlowSurvey(source, source_state)
        self.holds: Mapping[Key, JobHold] = {}
        self.kept = KeptTally(MAX_LISTED)
        self.requeued, self.failed_for_good = deque[Key](maxlen=MAX_COUNTED), list[Key]()
        self.cap_reason: str | None = None
        self.quiet_until: str | None = None

    def run(self) -> Outcome:
        self.source_state.worker_goes_at = math.inf
        with self.source.connect() as connection:
            # A standby tracks downtime too: when it takes over, it must know in which time no sign could be written.
            context = self.source.begin_evaluation(connection, self.downtime)
        self.judged_at = context.now.isoformat()
        self.excluded_seconds = self.downtime.excluded_seconds(self.source.thresholds.stall.seconds)
        self.downtime_notice = downtime_notice(self.downtime, self.source.thresholds.shortest_stall_seconds)
        if self.lease is not None and not self.lease.acquire():
            return Outcome.STANDBY
        context = self._ask_probe(context)
        with self.source.cached_connection() as connection, ExitStack() as stack:
            new_spool = partial(CandidateSpool, self.options.batch_size)
            context = self._look_for_future_signs(connection, context)
            context = self._see_jobs_without_start(connection, context)
            context = self._look_at_workers(connection, context)
            self.unknown_moments = tuple(context.unknown_moments.values())
            passes = [(view, Reason.JOB_TIMEOUT) for view in self.source.swept_views]
            if context.lost_workers.states:
                passes.append((self.source, Reason.WORKER_LOST))
            spools = {one: stack.enter_context(new_spool()) for one in passes}
            outcome = self._pass(connection, context, spools)
            if outcome not in (Outcome.STOPPED, Outcome.STANDBY) and not self.options.dry_run:
                self.late_scan = scan_for_late_signs(self.source, connection, context, self.source_state.reaped_jobs)
            return outcome

    def _pass(self, connection: Connection, context: EvaluationContext, spools: Spools) -> Outcome:
        self.source_state.refused_jobs.begin_pass()
        census = self._survey(connection, context, spools)
        self._notice_spared(connection, context, self.source.swept_views)
        if self.options.dry_run:
            self._is_quiet()
            if (cap := self.source.options.cap) is not None:
                self.cap_reason = cap.would_hold(self.source.name, self._to_end(census))
            self._preview(connection, context, spools)
            return Outcome.DONE
        if self.source.options.observed is not None:
            self._observe(connection, context, spools)
            return Outcome.OBSERVED
        if self._is_quiet():
            return Outcome.QUIET
        if self.options.held_by_breaker(census):
            return Outcome.HELD
        if census.vanished and census.stale:
            self.source_state.sign_sample.forget()
        if self.options.is_halted():
            return Outcome.HALTED
        with self._places(census) as places:
            if places.held is not None:
                self.cap_reason = places.held
                return Outcome.HELD
            try:
                return self._end_stale(connection, context, spools)
            finally:
                places.used = self.reaped

    def _places(self, census: JobCounts) -> AbstractContextManager[Places]:
        """The places of these jobs under the cap of the source."""
        if (cap := self.source.options.cap) is None:
            return nullcontext(Places())
        return cap.places(self.source.name, self._to_end(census), released=self.options.released(census))

    @staticmethod
    def _to_end(census: JobCounts) -> int:
        return max(0, census.stale - census.kept - census.refused)

    def _end_stale(self, connection: Connection, context: EvaluationContext, spools: Spools) -> Outcome:
        outcome = Outcome.DONE
        try:
            for (view, reason), spool in spools.items():
                if outcome is Outcome.DONE and spool.count:
                    outcome = self._reap(connection, context, view, reason, spool)
            complete = outcome is Outcome.DONE and self.start_lost_trouble is None
        except BaseException:
            complete = False
            raise
        finally:
            self.source_state.refused_jobs.end_pass(complete=complete)
            self.source.count_requeues(context, self.requeued, self.failed_for_good)
        self._name_holders(connection, context)
        return outcome

    def _ask_probe(self, context: EvaluationContext) -> EvaluationContext:
        context = self.source.ask_probe(context)
        self.source_state.liveness, self.source_state.liveness_at = context.liveness, time.monotonic()
        self.asked_probe = context.liveness is not None
        self.witness_trouble = context.liveness.trouble if context.liveness else None
        observes = self.options.dry_run or self.source.options.observed is not None
        acting = not (observes or self.options.is_halted() or self._is_quiet())
        if context.liveness is not None and self.witness_trouble is None and acting:
            self.revocation.retry_earlier(context.liveness)
        return context

    def _look_for_future_signs(self, connection: Connection, context: EvaluationContext) -> EvaluationContext:
        """Not in each sweep: it asks once more about each job past its timeout. A dry run remembers nothing."""
        begun = time.monotonic()
        state, keep = self.source_state, not self.options.dry_run
        if begun < state.next_future_look:
            return context
        try:
            if keep:
                context, self.future_signs = self.source.look_for_future_signs(connection, context)
            context = self.source.look_for_other_units(connection, context)
            context, state.local_look = self.source.look_for_local_times(
                connection, context, state.local_look, keep=keep
            )
        except DBAPIError as error:
            # Such as one that took too long: jobs are judged by what is remembered, and the others are spared.
            if classify(error) is ErrorKind.UNAVAILABLE:
                raise
            self.future_signs_trouble = short_message(error)
        ended = time.monotonic()
        self.source_state.next_future_look = ended + max(_FUTURE_LOOK_SECONDS, _FUTURE_LOOK_SHARE * (ended - begun))
        return context

    def _see_jobs_without_start(self, connection: Connection, context: EvaluationContext) -> EvaluationContext:
        """Where the sweep before has counted any, and in the first sweep: it reads the running jobs once more."""
        if self.options.dry_run or not self.source_state.may_lack_starts:
            return context
        return self.source.see_jobs_without_start(connection, context)

    def _look_at_workers(self, connection: Connection, context: EvaluationContext) -> EvaluationContext:
        """In each sweep: what a worker was between two looks is not known. A dry run remembers nothing."""
        if self.options.dry_run:
            return context
        context = self.source.look_at_workers(connection, context)
        next_seconds = context.lost_workers.next_seconds
        self.source_state.worker_goes_at = math.inf if next_seconds is None else time.monotonic() + next_seconds
        return context

    # --- survey ----------------------------------------------------------------------------------------------

    def _survey(self, connection: Connection, context: EvaluationContext, spools: Spools) -> JobCounts:
        """One read finds all candidates; batches then go by key."""
        self.slow_survey.sweep_begins(connection)
        self.holds = self.source.holds(context)
        self.census = self._survey_view(connection, context, self.source, spools[self.source, Reason.JOB_TIMEOUT])
        if (spool := spools.get((self.source, Reason.WORKER_LOST))) is not None:
            self.census = self._survey_worker_lost(connection, context, spool, self.census)
        lost = self.source.start_lost
        if lost is not None and (lost, Reason.JOB_TIMEOUT) in spools:
            self.start_lost = self._survey_start_lost(connection, context, lost, spools)
        self.slow_survey.survey_ends()
        if self.start_lost is not None:
            self.census = add_counts(self.census, self.start_lost)
        if not self.options.dry_run:
            with self.source.transaction(connection, read_only=True):
                vanished = self.source_state.sign_sample.look(self.source, connection, context)
            self.census = replace(self.census, vanished=vanished)
        self.source_state.may_lack_starts = self.census.without_start > 0
        self.listener.surveyed(self.source.name, self.census)
        return self.census

    def _survey_view(
        self, connection: Connection, context: EvaluationContext, view: Source, spool: CandidateSpool
    ) -> JobCounts:
        with self.source.transaction(connection, read_only=True):
            self.slow_survey.statement_begins()
            census, newly_overdue = view.survey.count(connection, context, self.source_state.previous_context)
            self.slow_survey.statement_begins()
            spool.fill(view.survey.stream(connection, context))
        self.newly_overdue += newly_overdue
        refused = self.source_state.refused_jobs.count_among(spool.batches())
        kept = self._count_kept(spool)
        return replace(with_stale(census, spool.count), refused=refused, kept=kept)

    def _survey_worker_lost(
        self, connection: Connection, context: EvaluationContext, spool: CandidateSpool, census: JobCounts
    ) -> JobCounts:
        """The jobs that are stale only because their worker is gone, which the census then includes."""
        with self.source.transaction(connection, read_only=True):
            self.slow_survey.statement_begins()
            with_lost = self.source.survey.with_worker_lost(connection, context, census)
            if with_lost.worker_lost:
                spool.fill(self.source.survey.stream_lost(connection, context))
        refused = self.source_state.refused_jobs.count_among(spool.batches())
        return replace(with_lost, refused=census.refused + refused, kept=census.kept + self._count_kept(spool))

    def _count_kept(self, spool: CandidateSpool) -> int:
        """How many of the candidates are kept; the first of all views are listed."""
        if not (self.holds or self.source.options.never):
            return 0
        before = self.kept.total
        for batch in spool.batches():
            for _ in self.kept.take_out(batch, self.holds):
                pass
        return self.kept.total - before

    def _survey_start_lost(
        self, connection: Connection, context: EvaluationContext, lost: Source, spools: Spools
    ) -> JobCounts | None:
        """None when they could not be found, such as for want of an index: the other jobs are swept all the same."""
        try:
            return self._survey_view(connection, context, lost, spools[lost, Reason.JOB_TIMEOUT])
        except DBAPIError as error:
            if classify(error) is ErrorKind.UNAVAILABLE:
                raise
            del spools[lost, Reason.JOB_TIMEOUT]
            self.start_lost_trouble = short_message(error)
            return None

    def _notice_spared(self, connection: Connection, context: EvaluationContext, views: Sequence[Source]) -> None:
        """Jobs past their timeout that are alive, or may be: each is reported once, also one that is first seen so."""
        previous, self.source_state.previous_context = self.source_state.previous_context, context
        tracker = self.source_state.spared_jobs
        if self.census is None or self.census.spared == 0:
            tracker.clear()
            return
        complete = self.census.past_timeout <= MAX_TRACKED
        with self.source.transaction(connection, read_only=True):
            new = self._spared_since(connection, context, views, None if complete else previous)
            if complete and not tracker.complete:
                passed = set(self._spared_since(connection, context, views, previous))
                tracker.count([key for key in new if key not in passed])
            new = tracker.unreported(new)
            judged = _evidence(connection, context, views, new[:MAX_LISTED])
            again = tracker.maybe_alive_now()[: MAX_LISTED - len(judged)]
            judged += _evidence(connection, context, views, again)
        tracker.complete = complete
        tracker.count(new[MAX_LISTED:])
        self.newly_spared = tracker.to_report(judged)
        total = len(new) if complete else min(self.newly_overdue, self.census.spared)
        self.newly_spared_total = len(self.newly_spared) + max(0, total - MAX_LISTED)

    def _spared_since(
        self,
        connection: Connection,
        context: EvaluationContext,
        views: Sequence[Source],
        previous: EvaluationContext | None,
    ) -> list[Key]:
        """Spared jobs that have passed their timeout since then; None: at any time. At most so many as are tracked."""
        if self.census is None or (previous is not None and self.newly_overdue == 0):
            return []
        limit = MAX_TRACKED if previous is None and self.census.past_timeout <= MAX_TRACKED else MAX_LISTED + 1
        stale = self.census.stale
        spared = (view.survey.newly_spared(connection, context, previous, limit, stale) for view in views)
        return [key for keys in spared for key in keys][:limit]

    def _preview(self, connection: Connection, context: EvaluationContext, spools: Spools) -> None:
        in_batches = ((view, batch) for (view, _), spool in spools.items() for batch in spool.batches())
        candidates = ((view, list(without_kept(batch, self.holds))) for view, batch in in_batches)
        for view, batch in candidates:
            with self.source.transaction(connection, read_only=True):
                keys = [c.key for c in batch][: MAX_LISTED - len(self.would_reap)]
                judged = view.lookup.evidence(connection, context, keys)
            self.would_reap += [evidence for evidence in judged if evidence.verdict is Verdict.STALE]
            if len(self.would_reap) >= MAX_LISTED:
                return

    def _observe(self, connection: Connection, context: EvaluationContext, spools: Spools) -> None:
        """Find the jobs that a sweep would end, and that none before has reported: the first of them are listed.

        Jobs that are not stale any more are forgotten, so that a later silence of theirs is reported again.
        """
        before, still = self.source_state.observed_jobs, set[Key]()
        room = min(MAX_LISTED, _MAX_OBSERVED - len(before))
        for (view, _), spool in spools.items():
            for batch in spool.batches():
                keys = [candidate.key for candidate in without_kept(batch, self.holds)]
                still.update(key for key in keys if key in before)
                new = [key for key in keys if key not in before][: max(0, room - len(self.would_reap))]
                if new:
                    with self.source.transaction(connection, read_only=True):
                        judged = view.lookup.evidence(connection, context, new)
                    self.would_reap += [evidence for evidence in judged if evidence.verdict is Verdict.STALE]
        self.source_state.observed_jobs = still | {evidence.key for evidence in self.would_reap}

    # --- reap ------------------------------------------------------------------------------------------------

    def _reap(
        self,
        connection: Connection,
        context: EvaluationContext,
        view: Source,
        reason: Reason,
        spool: CandidateSpool,
    ) -> Outcome:
        audit_info = AuditInfo(source=self.source.name, sweep_id=self.id, host=self.options.host, reason=reason)
        action = view.options.worker_lost_action if reason is Reason.WORKER_LOST else view.options.action
        claims = view.claim(context, audit_info, action), view.fallback_claim(context, audit_info)
        refused_jobs, aside = self.source_state.refused_jobs, dict[Key, Candidate]()
        used_up = view.requeues_used_up() if may_requeue(view.profile, action) else frozenset()
        to_fail = list[Candidate]()
        outcome: Outcome | None = None

        def should_stop() -> bool:
            nonlocal outcome
            outcome = outcome or self._reason_to_stop()
            return outcome is not None

        def batches() -> Iterator[list[Candidate]]:
            for batch in spool.batches():
                if should_stop():
                    return
                # A claim leaves them alone, too; but there is no need to lock their rows.
                fresh = refused_jobs.set_aside(list(without_kept(batch, self.holds)), aside)
                to_fail.extend(candidate for candidate in fresh if name_of(candidate.key) in used_up)
                if fresh := [candidate for candidate in fresh if name_of(candidate.key) not in used_up]:
                    yield fresh

        def refused_before() -> Iterator[list[Candidate]]:
            for batch in refused_jobs.to_try_again(aside, self.options.batch_size):
                if again.out_of_time or should_stop():
                    aside.update({candidate.key: candidate for candidate in batch})
                    return
                yield batch
                refused_jobs.record_tried(candidate.key for candidate in batch)

        runner = BatchRunner(self.source, *claims, should_stop)
        again = BatchRunner(self.source, *claims, should_stop, one_by_one=True)
        for result in runner.run(connection, batches()):
            self._record_batch(context, result)
            aside |= {candidate.key: candidate for candidate in result.cut_off}
        for result in again.run(connection, refused_before()):
            self._record_batch(context, result)
        if to_fail and not should_stop():
            self._fail_for_good(connection, context, view, audit_info, to_fail)
        self.set_aside += len(aside)
        self.postponed += runner.postponed + again.postponed
        return outcome or Outcome.DONE

    def _fail_for_good(
        self,
        connection: Connection,
        context: EvaluationContext,
        view: Source,
        audit_info: AuditInfo,
        jobs: Sequence[Candidate],
    ) -> None:
        """Fail jobs that sweeps have started again too often: they kill their workers."""
        limit = view.options.requeue_limit
        assert limit is not None
        claim = view.claim(context, replace(audit_info, not_requeued=limit.why), "fail")
        runner = BatchRunner(self.source, claim, None, lambda: self._reason_to_stop() is not None)
        size = self.options.batch_size
        for result in runner.run(connection, (jobs[n : n + size] for n in range(0, len(jobs), size))):
            self._record_batch(context, result)
            self.failed_for_good += [job.key for job in result.reaped]
        self.postponed += runner.postponed

    def _reason_to_stop(self) -> Outcome | None:
        if self.options.should_stop():
            return Outcome.STOPPED
        if self.options.is_halted():
            return Outcome.HALTED
        if self._is_quiet():
            return Outcome.QUIET
        if self.lease is not None and not self.lease.renew_if_due():
            return Outcome.STANDBY
        return None

    def _is_quiet(self) -> bool:
        """Asked again before each batch: quiet time may begin meanwhile."""
        until = self.source.quiet_until()
        self.quiet_until = None if until is None else until.isoformat()
        return until is not None

    def _record_batch(self, context: EvaluationContext, result: BatchResult) -> None:
        self.reaped += len(result.reaped)
        self.lost += result.lost
        self.locked += result.locked
        self._record_kept(result.kept)
        self.refused_now += len(result.failures)
        self.failures += result.failures[: MAX_LISTED - len(self.failures)]
        self.longest_transaction = max(self.longest_transaction, result.longest)
        self.source_state.refused_jobs.record_refused(result.failures)
        self.source_state.refused_jobs.record_cut_off(result.cut_off, _CUT_OFF)
        self.requeued += [job.key for job in result.reaped if job.action == REQUEUE]
        if result.reaped:
            self.listener.reaped(self.source.name, self.id, result.reaped)
        self.revocation.revoke_tasks_of(result.reaped, context.liveness)

    def _record_kept(self, kept: Sequence[KeptJob]) -> None:
        """Jobs that an operator has held since the survey."""
        for job in kept:
            self.kept.add(job)
        if kept and self.census is not None:
            self.census = replace(self.census, kept=self.kept.total)

    # --- locked rows -------------------------------------------------------------------------------------------

    def _name_holders(self, connection: Connection, context: EvaluationContext) -> None:
        """Name the session that has a stale job's row locked: longer than the stall window, it may hide a dead job."""
        now, since = time.monotonic(), self.source_state.locked_since
        self.source_state.locked_since = {key: since.get(key, now) for key in self.locked}
        longest_first = sorted(self.locked, key=self.source_state.locked_since.__getitem__)
        for key in longest_first[:MAX_LISTED]:
            holder = self.source.lock_holder(connection, key)
            with self.source.transaction(connection, read_only=True):
                judged = _evidence(connection, context, self.source.swept_views, [key])
            seen = now - self.source_state.locked_since[key]
            held = max(seen, holder.held_seconds or 0.0) if holder else seen
            stall = judged[0].stall_seconds if judged else float("inf")
            self.named_locked.append(LockedCandidate(key=key, held_seconds=held, overdue=held > stall, holder=holder))


def _evidence(
    connection: Connection, context: EvaluationContext, views: Sequence[Source], keys: Sequence[Key]
) -> list[Evidence]:
    """The evidence on jobs that may be of any of these views."""
    return [job for view in views for job in view.lookup.evidence(connection, context, keys)]


def sweep(
    source: Source,
    downtime: DowntimeTracker,
    source_state: SourceState,
    options: SweepOptions,
    lease: Lease | None,
    listener: SweepListener,
) -> SweepReport:
    """Survey one source and end what is stale. Never raises for trouble with the database: the report has it."""
    begun = time.monotonic()
    state = _SweepRun(source, downtime, source_state, options, lease, listener)
    error: str | None = None
    away = deaf = False
    try:
        outcome = state.run()
    except DatabaseUnavailable as problem:
        outcome, error, away, deaf = Outcome.FAILED, str(problem), True, True
    except (DBAPIError, KeyNotUnique, RowsHidden, SpellingUnclear, StateUnavailable) as problem:
        outcome, error = Outcome.FAILED, short_message(problem)
        kind = classify(problem) if isinstance(problem, DBAPIError) else None
        away = kind is ErrorKind.UNAVAILABLE
        deaf = away
        if kind is ErrorKind.TIMEOUT:
            deaf, error = state.slow_survey.timed_out(error)
    except Exception:
        _release_lease_unless_halted(lease, options)
        raise
    if deaf:
        downtime.record_failure()
    if outcome is Outcome.FAILED or (state.refused_now and not state.reaped):
        _release_lease_unless_halted(lease, options)
    return _report(state, outcome, error, away=away, duration=time.monotonic() - begun)


def _release_lease_unless_halted(lease: Lease | None, options: SweepOptions) -> None:
    """Let a replica sweep what this process cannot, for want of a privilege or of disk.

    Not while halted: then no replica is to sweep it either.
    """
    if lease is not None and not options.is_halted():
        lease.release()


def failed_report(source: str, error: str) -> SweepReport:
    """The report of a sweep that a defect has ended before it could make one."""
    return SweepReport(source=source, sweep_id="", outcome=Outcome.FAILED, duration_seconds=0.0, error=error)


def _report(state: _SweepRun, outcome: Outcome, error: str | None, *, away: bool, duration: float) -> SweepReport:
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
        refused_now=state.refused_now,
        refused_total=state.refused_now + state.set_aside,
        refusals=state.source_state.refused_jobs.causes(),
        postponed=state.postponed,
        would_reap=tuple(state.would_reap),
        longest_transaction_seconds=state.longest_transaction,
        deaf_seconds=state.excluded_seconds,
        downtime=state.downtime_notice,
        database_away=away,
        asked_witness=state.asked_probe,
        witness_trouble=state.witness_trouble,
        revoke_trouble=state.revocation.trouble,
        looked_back=state.late_scan is not None,
        late=state.late_scan.late if state.late_scan else (),
        late_trouble=state.late_scan.trouble if state.late_scan else None,
        leads=outcome not in (Outcome.STANDBY, Outcome.FAILED),
        judged_at=state.judged_at,
        spelling=tuple(f"{subject}: {message}" for subject, message in state.source.spelling.notes()),
        diverted=state.source.diverted,
        unknown_moments=state.unknown_moments,
        error=error,
        dry_run=state.options.dry_run,
        start_lost=state.start_lost,
        start_lost_trouble=state.start_lost_trouble,
        future_signs=state.future_signs,
        future_signs_trouble=None if outcome is Outcome.FAILED else state.future_signs_trouble,
        kept=tuple(state.kept.first),
        holds=len(state.holds),
        cap=state.cap_reason,
        quiet_until=state.quiet_until if outcome is Outcome.QUIET or state.options.dry_run else None,
    )
