"""Writes sweeps, purges and administrative requests to the log. A lasting state is logged once, when it changes."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from reaper.common import messages
from reaper.model import (
    AuditRecord,
    Evidence,
    JobCounts,
    Key,
    LateSign,
    LockedCandidate,
    Outcome,
    PurgeReport,
    ReapedJob,
    Reason,
    SweepReport,
)
from reaper.observers.decision_log import DecisionLog
from reaper.observers.log_fields import (
    downtime_fields,
    future_sign_fields,
    is_kept_by_log,
    late_sign_fields,
    locked_job_fields,
    purge_fields,
    reaped_job_fields,
    spared_job_fields,
    sweep_fields,
)
from reaper.observers.reminders import Reminder
from reaper.sweep.breaker import look_first
from reaper.sweep.refused_jobs import cause_of
from reaper.sweep.summary import release_command

_MAX_JOBS_PER_SWEEP = 100
_MANY_MORE = 10
_VANISHED_REMEDY = (
    "find out whether the table of events was swapped, emptied or hidden; sweeps go on when signs are seen again, or "
    "when the breaker is released"
)
_DIGITS = re.compile(r"[0-9]+")
_UNAVAILABLE = "away"


@dataclass(slots=True)
class _Logged:
    """What has been logged of a source, and is not logged again."""

    failure: Reminder
    breaker: Reminder
    witness: Reminder
    error: str | None = None
    failed_cycles: int = 0
    held: bool = False
    standby: bool = False
    witness_trouble: str | None = None
    revoke_trouble: bool = False
    late_trouble: str | None = None
    spelling: Sequence[str] = ()
    diverted: Sequence[str] = ()
    unknown_moments: Sequence[str] = ()
    start_unknown: bool = False
    interruption: tuple[str | None, str] | None = None
    nothing_before: str | None = None
    start_lost_trouble: bool = False
    refused: dict[str, int] = field(default_factory=dict)
    postponed: bool = False
    future_signs: int = 0
    future_signs_trouble: bool = False
    overdue: frozenset[Key] = frozenset()
    sweep_id: str = ""
    jobs_logged: int = 0


class DaemonLog:
    """A listener of sweeps and purges. Each source calls it from a thread of its own."""

    def __init__(self, logger: Any = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = logger or structlog.get_logger("reaper")
        self._logged = defaultdict[str, _Logged](lambda: _Logged(Reminder(clock), Reminder(clock), Reminder(clock)))
        self._decisions = DecisionLog(self._log)
        self._purge_errors = defaultdict[str, Reminder](lambda: Reminder(clock))
        self._purge_refusals: dict[str, dict[str, int]] = {}  # by source: of each cause, how many when it was logged

    def set_sources(self, sources: Iterable[str]) -> None:
        """Forget all other sources: if one is configured again, its states are logged again."""
        for gone in self._logged.keys() - set(sources):
            del self._logged[gone]
        for gone in self._purge_errors.keys() - set(sources):
            del self._purge_errors[gone]
        for gone in self._purge_refusals.keys() - set(sources):
            del self._purge_refusals[gone]

    def surveyed(self, source: str, census: JobCounts) -> None:
        self._log.debug("Reaper surveyed a source.", source=source, running=census.running, stale=census.stale)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """Log the first jobs of a sweep, and all jobs of which the log keeps what is nowhere else."""
        logged = self._logged[source]
        if logged.sweep_id != sweep_id:
            logged.sweep_id, logged.jobs_logged = sweep_id, 0
        room = max(0, _MAX_JOBS_PER_SWEEP - logged.jobs_logged)
        for job in (job for n, job in enumerate(batch) if n < room or is_kept_by_log(job)):
            self._log.warning(
                "Reaped interrupted job." if job.reason == Reason.INTERRUPTED else "Reaped stale job.",
                source=source,
                sweep_id=sweep_id,
                **reaped_job_fields(job),
            )
        logged.jobs_logged += len(batch)

    def swept(self, report: SweepReport) -> None:
        self._log_failure(report)
        self._log_spelling(report)
        self._log_diverted(report)
        self._log_unknown_moments(report)
        self._log_unknown_starts(report)
        self._log_downtime(report)
        self._log_leadership(report)
        self._log_breaker(report)
        self._log_witness(report)
        self._log_revocation(report)
        self._log_start_lost(report)
        self._log_future_signs(report)
        for evidence in report.newly_spared:
            self._log_spared(report, evidence)
        if report.newly_spared_total > len(report.newly_spared):
            rest = report.newly_spared_total - len(report.newly_spared)
            self._log.info("Reaper skipped more jobs past their timeout.", source=report.source, jobs=rest)
        self._decisions.swept(report)
        self._log_refusals(report)
        self._log_locked(report)
        self._log_late_signs(report)
        if report.reaped:
            self._log.warning(
                f"Reaped {report.reaped} stale job(s).",
                source=report.source,
                **sweep_fields(report),
            )

    def purged(self, source: str, rows: int) -> None:
        self._log.debug("Reaper purged a batch of finished jobs.", source=source, rows=rows)

    def purge_ended(self, report: PurgeReport) -> None:
        self._log_purge_refusals(report)
        if report.purged or report.outcome is Outcome.DONE:
            self._log.info(
                f"Purged {report.purged} finished job(s).",
                source=report.source,
                **purge_fields(report),
            )
        if report.outcome is Outcome.OBSERVED:
            self._log.info(
                "Reaper observes the source, and purged nothing.",
                source=report.source,
                would_purge=report.found,
                before=report.before,
            )
        self._log_purge_failure(report)

    def changed(self, change: AuditRecord) -> None:
        """Log who changed what over HTTP, also when it was refused."""
        self._log.warning(
            "Reaper handled an administrative request.",
            who=change.who,
            remote=change.remote,
            action=change.action,
            target=change.target,
            result=change.result,
            details=dict(change.details),
        )

    def _log_purge_refusals(self, report: PurgeReport) -> None:
        if report.outcome in (Outcome.STANDBY, Outcome.FAILED) and not report.refusals:
            return
        current = {cause_of((), reason): (reason, rows) for reason, rows in report.refusals.items()}
        logged = self._purge_refusals.setdefault(report.source, {})
        new, gone = _new_and_gone(logged, {cause: rows for cause, (_, rows) in current.items()})
        for cause in new:
            reason, rows = current[cause]
            message = "Reaper could not purge some finished jobs: the database refused it."
            self._log.error(message, source=report.source, rows=rows, error=reason)
        for cause in gone:
            message = "Reaper has no finished job any more that the database refuses to purge for this cause."
            self._log.info(message, source=report.source, error=cause)

    def _log_purge_failure(self, report: PurgeReport) -> None:
        source, logged = report.source, self._purge_errors
        if report.outcome is not Outcome.FAILED:
            logged.pop(source, None)
            return
        state = _UNAVAILABLE if report.database_away else _DIGITS.sub("#", report.error or "")
        if logged[source].is_due(state):
            self._log.error(
                "Reaper purge failed", source=source, error=report.error, database_away=report.database_away
            )

    def _log_failure(self, report: SweepReport) -> None:
        """Again at growing intervals while it lasts: a log that was rotated says it, too."""
        source, logged = report.source, self._logged[report.source]
        if report.outcome is Outcome.FAILED:
            logged.failed_cycles += 1
            # While the database is unavailable, the reason often differs between attempts: log it once.
            state = _UNAVAILABLE if report.database_away else _DIGITS.sub("#", report.error or "")
            logged.error = state
            if logged.failure.is_due(state):
                self._log.error(
                    "Reaper cycle failed",
                    source=source,
                    error=report.error,
                    database_away=report.database_away,
                    **_lasting(logged.failure, logged.failed_cycles),
                )
        elif logged.error is not None and (logged.error == _UNAVAILABLE or report.outcome is not Outcome.STANDBY):
            # A standby has only reached the database: another kind of failure may still be there.
            self._log.info("Reaper cycle recovered.", source=source, failed_cycles=logged.failed_cycles)
            logged.error, logged.failed_cycles = None, 0
            logged.failure.forget()

    def _log_spelling(self, report: SweepReport) -> None:
        """Once, and again when a reload has decided it otherwise."""
        logged = self._logged[report.source]
        if report.spelling and report.spelling != logged.spelling:
            text = "Reaper takes names and values that differ only by case as the database spells them."
            self._log.info(text, source=report.source, spelling=report.spelling)
            logged.spelling = report.spelling

    def _log_diverted(self, report: SweepReport) -> None:
        """Once, and again when they change."""
        logged = self._logged[report.source]
        if report.diverted and report.diverted != logged.diverted:
            text = "A table of the profile's name is found first elsewhere now; sweeps go on with the one before."
            self._log.warning(text, source=report.source, names=report.diverted)
        logged.diverted = report.diverted

    def _log_unknown_moments(self, report: SweepReport) -> None:
        """Once, and again when they change; and when they are known again."""
        if report.outcome in (Outcome.FAILED, Outcome.STANDBY):
            return
        logged = self._logged[report.source]
        if report.unknown_moments and report.unknown_moments != logged.unknown_moments:
            text = "The moments of columns are not what they are taken for; the jobs that have them are left alone."
            self._log.warning(text, source=report.source, columns=report.unknown_moments)
        elif logged.unknown_moments and not report.unknown_moments:
            self._log.info("The moments of all columns are known again.", source=report.source)
        logged.unknown_moments = report.unknown_moments

    def _log_unknown_starts(self, report: SweepReport) -> None:
        """When there are more jobs without a start than are remembered, and when there no longer are."""
        if report.census is None:
            return
        logged, jobs = self._logged[report.source], report.census.start_unknown
        if jobs and not logged.start_unknown:
            text = "Too many running jobs have no start: some are young until others of them have ended."
            without_start = report.census.without_start
            self._log.warning(text, source=report.source, jobs=jobs, without_start=without_start)
        elif logged.start_unknown and not jobs:
            self._log.info(
                "All running jobs without a start count from when the reaper first saw them.", source=report.source
            )
        logged.start_unknown = jobs > 0

    def _log_downtime(self, report: SweepReport) -> None:
        """Log each interruption once, and until when it keeps silent jobs from being ended."""
        logged, notice = self._logged[report.source], report.downtime
        if report.judged_at is None:
            return
        interruption = None if notice is None else (notice.away_from, notice.silence_counts_from)
        if notice is not None and interruption != logged.interruption:
            fields = downtime_fields(notice)
            if notice.nothing_before is not None:
                text = f"Reaper ends no job for its silence before {notice.nothing_before}."
                self._log.warning(text, source=report.source, **fields)
            else:
                text = "Reaper does not count the database's downtime as silence."
                self._log.info(text, source=report.source, **fields)
        nothing_before = None if notice is None else notice.nothing_before
        if logged.nothing_before is not None and nothing_before is None:
            self._log.info("Reaper ends jobs for their silence again.", source=report.source)
        logged.interruption, logged.nothing_before = interruption, nothing_before

    def _log_leadership(self, report: SweepReport) -> None:
        logged = self._logged[report.source]
        standby = report.outcome is Outcome.STANDBY
        if report.outcome is not Outcome.FAILED and standby != logged.standby:
            logged.standby = standby
            message = (
                "Reaper stands by: another replica sweeps."
                if standby
                else "Reaper has taken over the sweeps from another replica."
            )
            self._log.info(message, source=report.source)

    def _log_witness(self, report: SweepReport) -> None:
        source, logged, trouble = report.source, self._logged[report.source], report.witness_trouble
        if not report.asked_witness:
            return
        if trouble is not None:
            if logged.witness.is_due(_UNAVAILABLE):
                message = "Celery workers could not be inspected; their jobs are left alone until they can be."
                self._log.error(message, source=source, error=trouble)
        elif logged.witness_trouble is not None:
            self._log.info("Celery workers can be inspected again.", source=source)
            logged.witness.forget()
        logged.witness_trouble = trouble

    def _log_refusals(self, report: SweepReport) -> None:
        """Each cause once, and again when ten times as many jobs are refused for it."""
        logged = self._logged[report.source]
        if report.outcome in (Outcome.STANDBY, Outcome.FAILED) and not report.refused_now:
            return
        current = {cause_of(cause.key, cause.error): cause for cause in report.refusals}
        new, gone = _new_and_gone(logged.refused, {name: cause.jobs for name, cause in current.items()})
        for cause in (current[name] for name in new):
            self._log.error(
                "Reaper could not end a job: the database refused it.",
                source=report.source,
                job=messages.format_key(cause.key),
                error=cause.error,
                more=f"{cause.jobs - 1:,} more like this" if cause.jobs > 1 else None,
                sweep_id=report.sweep_id,
            )
        for name in gone:
            self._log.info(
                "Reaper has no job any more that the database refuses for this cause.", source=report.source, error=name
            )
        if report.postponed and not logged.postponed:
            text = "Reaper left stale jobs to the next sweep: refusals of the database took too long."
            self._log.warning(text, source=report.source, jobs=report.postponed, sweep_id=report.sweep_id)
        logged.postponed = report.postponed > 0

    def _log_revocation(self, report: SweepReport) -> None:
        logged, trouble = self._logged[report.source], report.revoke_trouble
        if report.asked_witness and report.witness_trouble is None:
            if trouble is not None and not logged.revoke_trouble:
                message = "Celery tasks of reaped jobs could not be revoked; they may still be running."
                self._log.error(message, source=report.source, error=trouble)
            logged.revoke_trouble = trouble is not None

    def _log_start_lost(self, report: SweepReport) -> None:
        logged, trouble = self._logged[report.source], report.start_lost_trouble
        if trouble is not None and not logged.start_lost_trouble:
            message = "Jobs whose start was lost could not be looked for; the other jobs were swept."
            self._log.error(message, source=report.source, error=trouble)
        elif report.start_lost is not None and logged.start_lost_trouble:
            self._log.info("Jobs whose start was lost can be looked for again.", source=report.source)
        if trouble is not None or report.start_lost is not None:
            logged.start_lost_trouble = trouble is not None

    def _log_future_signs(self, report: SweepReport) -> None:
        """When there are some, again when there are more, and when there are none any more."""
        logged, found, trouble = self._logged[report.source], report.future_signs, report.future_signs_trouble
        if trouble is not None and not logged.future_signs_trouble:
            message = "Signs of life in the future could not be looked for; jobs with new ones are spared meanwhile."
            self._log.error(message, source=report.source, error=trouble)
        logged.future_signs_trouble = trouble is not None or (found is None and logged.future_signs_trouble)
        if found is None:
            return
        if found.jobs > logged.future_signs:
            text = "Jobs have signs of life in the future; these count from when the reaper first saw them."
            self._log.warning(text, source=report.source, **future_sign_fields(found))
        elif logged.future_signs and not found.jobs:
            self._log.info("No job has signs of life in the future any more.", source=report.source)
        logged.future_signs = found.jobs

    def _log_late_signs(self, report: SweepReport) -> None:
        source, logged, trouble = report.source, self._logged[report.source], report.late_trouble
        for sign in report.late[:_MAX_JOBS_PER_SWEEP]:
            self._log_late_sign(report, sign)
        if (more := len(report.late) - _MAX_JOBS_PER_SWEEP) > 0:
            self._log.error("More reaped jobs showed a sign of life afterwards.", source=source, jobs=more)
        if report.looked_back and (trouble is None) != (logged.late_trouble is None):
            if trouble is not None:
                message = "Reaped jobs could not be checked for later signs of life; the next sweep tries again."
                self._log.error(message, source=source, error=trouble)
            else:
                self._log.info("Reaped jobs can be checked for later signs of life again.", source=source)
            logged.late_trouble = trouble

    def _log_late_sign(self, report: SweepReport, sign: LateSign) -> None:
        """Log why the job was ended, and what it did afterwards."""
        self._log.error(
            "A reaped job showed a sign of life afterwards; it may have been ended wrongly.",
            source=report.source,
            sweep_id=report.sweep_id,
            **late_sign_fields(sign),
        )

    def _log_breaker(self, report: SweepReport) -> None:
        source, logged = report.source, self._logged[report.source]
        if report.outcome is Outcome.HELD and logged.breaker.is_due("held"):
            logged.held = True
            census = report.census
            vanished = census.vanished if census else ()
            self._log.error(
                "Reaper's cap is reached: many jobs were ended lately; no further one is ended."
                if report.cap is not None
                else "Reaper breaker is open: signs of life have vanished, which is no silence; no job is ended."
                if vanished
                else "Reaper breaker is open: nearly all running jobs fell silent at once; no job is ended.",
                source=source,
                stale=census.stale if census else None,
                running=census.running if census else None,
                **({"witnesses": list(vanished)} if vanished else {}),
                **({"reason": report.cap} if report.cap is not None else {}),
                remedy=f"{look_first(source)}; {_remedy(report)}",
            )
        elif report.outcome is Outcome.DONE and logged.held:
            logged.held = False
            logged.breaker.forget()
            self._log.info("Reaper breaker is closed: sweeps end jobs again.", source=source)

    def _log_spared(self, report: SweepReport, evidence: Evidence) -> None:
        """Only a job with a recent sign of life is called alive."""
        if messages.spared_as_unknown(evidence):
            silent = "silent job" if evidence.silence_seconds is not None else "job whose silence is unknown"
            text = f"Reaper spared a {silent}: whether it is alive is not known."
        elif messages.spared_by_downtime(evidence):
            text = "Reaper spared a silent job: the database was away during its silence."
        else:
            text = "Reaper skipped live job."
        self._log.info(text, source=report.source, **spared_job_fields(evidence))

    def _log_locked(self, report: SweepReport) -> None:
        logged = self._logged[report.source]
        overdue = {locked.key: locked for locked in report.locked if locked.overdue}
        for key in overdue.keys() - logged.overdue:
            self._log_overdue_lock(report.source, overdue[key])
        logged.overdue = frozenset(overdue)

    def _log_overdue_lock(self, source: str, locked: LockedCandidate) -> None:
        self._log.warning(
            "Reaper spares a stale job while another session locks its row.",
            source=source,
            **locked_job_fields(locked),
        )


def _lasting(failure: Reminder, cycles: int) -> dict[str, object]:
    """Fields of a failure that is logged again: for how long it has lasted, and how many sweeps it has cost."""
    return {"failed_cycles": cycles, "for_seconds": round(failure.seconds)} if cycles > 1 else {}


def _new_and_gone(logged: dict[str, int], current: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Which causes of refusals are to be logged now, each with its number of jobs: once, and again when there are ten
    times as many. And those that are over. Both are taken into `logged`.
    """
    new = [name for name, jobs in current.items() if jobs >= _MANY_MORE * logged.get(name, 0)]
    gone = sorted(logged.keys() - current.keys())
    for name in gone:
        del logged[name]
    logged.update({name: current[name] for name in new})
    return new, gone


def _remedy(report: SweepReport) -> str:
    """What an operator does about sweeps that are held."""
    if report.cap is not None:
        stale = report.census.stale if report.census else "N"
        return f"if they are dead, `reaper clear --release {stale}` ends as many, or fewer; the cap then begins at 0"
    if report.census and report.census.vanished:
        return _VANISHED_REMEDY
    return f"find out why the workers fell silent; if the jobs are dead, {release_command(report)}"
