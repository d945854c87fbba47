"""SweepReport → log. Each thing is said once per change, not once per minute."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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

_NAMED_PER_SWEEP = 100
_DIGITS = re.compile(r"[0-9]+")
_AWAY = "away"


@dataclass(slots=True)
class _Logged:
    """What has been said of a source, and is not said again."""

    error: str | None = None
    failed_cycles: int = 0
    held: bool = False
    standby: bool = False
    witness_trouble: str | None = None
    revoke_trouble: bool = False
    late_trouble: str | None = None
    overdue: frozenset[Key] = frozenset()
    sweep_id: str = ""
    named: int = 0


class EventLog:
    """What operators read. A listener of sweeps, which come from a thread per source."""

    def __init__(self, logger: Any = None) -> None:
        self._log = logger or structlog.get_logger("reaper")
        self._told: defaultdict[str, _Logged] = defaultdict(_Logged)
        self._purge_errors: dict[str, str] = {}

    def set_sources(self, sources: Iterable[str]) -> None:
        """Forget what was said of all others: should they come back, it is news."""
        for gone in self._told.keys() - set(sources):
            del self._told[gone]
        for gone in self._purge_errors.keys() - set(sources):
            del self._purge_errors[gone]

    def surveyed(self, source: str, census: JobCounts) -> None:
        self._log.debug("Reaper surveyed.", source=source, running=census.running, stale=census.stale)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """The first of a sweep by name; the audit events have them all. Where there are none, the log has."""
        told = self._told[source]
        if told.sweep_id != sweep_id:
            told.sweep_id, told.named = sweep_id, 0
        room = max(0, _NAMED_PER_SWEEP - told.named)
        for job in (job for n, job in enumerate(batch) if n < room or job.evidence):
            self._log.warning(
                "Reaped interrupted job." if job.reason == Reason.INTERRUPTED else "Reaped stale job.",
                source=source,
                job=messages.format_key(job.key),
                kind=job.kind,
                reason=job.reason,
                age_seconds=job.age_seconds,
                silence_seconds=job.silence_seconds,
                witness=job.witness,
                sweep_id=sweep_id,
                **({"evidence": dict(job.evidence)} if job.evidence else {}),
            )
        told.named += len(batch)

    def swept(self, report: SweepReport) -> None:
        self._failure(report)
        self._leadership(report)
        self._breaker(report)
        self._witness(report)
        self._revoke(report)
        for evidence in report.newly_spared:
            self._spared(report, evidence)
        if report.newly_spared_total > len(report.newly_spared):
            rest = report.newly_spared_total - len(report.newly_spared)
            self._log.info("Reaper skipped more live jobs.", source=report.source, jobs=rest)
        for failure in report.failures:
            self._log.error(
                "Reaper could not end a job.",
                source=report.source,
                job=messages.format_key(failure.key),
                error=failure.error,
                sweep_id=report.sweep_id,
            )
        self._locked(report)
        self._late(report)
        if report.reaped:
            self._log.warning(
                f"Reaped {report.reaped} stale job(s).",
                source=report.source,
                reaped=report.reaped,
                lost=report.lost,
                locked=report.locked_total,
                refused=len(report.failures),
                seconds=round(report.duration_seconds, 3),
                sweep_id=report.sweep_id,
            )

    def purged(self, source: str, rows: int) -> None:
        self._log.debug("Reaper purged a batch.", source=source, rows=rows)

    def purge_ended(self, report: PurgeReport) -> None:
        for reason, rows in report.refusals.items():
            self._log.error("Reaper could not purge finished jobs.", source=report.source, rows=rows, error=reason)
        if report.purged or report.outcome is Outcome.DONE:
            self._log.info(
                f"Purged {report.purged} finished job(s).",
                source=report.source,
                purged=report.purged,
                before=report.before,
                left=report.left,
                refused=sum(report.refusals.values()),
                outcome=report.outcome.value,
                seconds=round(report.duration_seconds, 3),
            )
        self._purge_failure(report)

    def changed(self, change: AuditRecord) -> None:
        """Who did what over HTTP: always worth a line, also when it was refused."""
        self._log.warning(
            "Reaper was told to act.",
            who=change.who,
            remote=change.remote,
            action=change.action,
            target=change.target,
            result=change.result,
            details=dict(change.details),
        )

    def _purge_failure(self, report: PurgeReport) -> None:
        source, told = report.source, self._purge_errors
        if report.outcome is not Outcome.FAILED:
            told.pop(source, None)
            return
        state = _AWAY if report.database_away else _DIGITS.sub("#", report.error or "")
        if told.get(source) != state:
            told[source] = state
            self._log.error(
                "Reaper purge failed", source=source, error=report.error, database_away=report.database_away
            )

    def _failure(self, report: SweepReport) -> None:
        source, told = report.source, self._told[report.source]
        if report.outcome is Outcome.FAILED:
            told.failed_cycles += 1
            # While the database is away the reason often changes from try to try, and the state does not.
            state = _AWAY if report.database_away else _DIGITS.sub("#", report.error or "")
            if told.error != state:
                told.error = state
                self._log.error(
                    "Reaper cycle failed", source=source, error=report.error, database_away=report.database_away
                )
        elif told.error is not None and (told.error == _AWAY or report.outcome is not Outcome.STANDBY):
            # A standby has met the database, and no more: what else went wrong is not known to be over.
            self._log.info("Reaper cycle recovered.", source=source, failed_cycles=told.failed_cycles)
            told.error, told.failed_cycles = None, 0

    def _leadership(self, report: SweepReport) -> None:
        told = self._told[report.source]
        standby = report.outcome is Outcome.STANDBY
        if report.outcome is not Outcome.FAILED and standby != told.standby:
            told.standby = standby
            message = "Reaper stands by: another replica sweeps." if standby else "Reaper has taken the sweeps over."
            self._log.info(message, source=report.source)

    def _witness(self, report: SweepReport) -> None:
        source, told, trouble = report.source, self._told[report.source], report.witness_trouble
        if report.asked_witness and (trouble is None) != (told.witness_trouble is None):
            if trouble is not None:
                message = "Reaper's witness is of no use: nobody is ended for its silence."
                self._log.error(message, source=source, error=trouble)
            else:
                self._log.info("Reaper's witness is of use again.", source=source)
            told.witness_trouble = trouble

    def _revoke(self, report: SweepReport) -> None:
        told, trouble = self._told[report.source], report.revoke_trouble
        if report.asked_witness and report.witness_trouble is None:
            if trouble is not None and not told.revoke_trouble:
                message = "Reaper could not have workers end tasks of ended jobs."
                self._log.error(message, source=report.source, error=trouble)
            told.revoke_trouble = trouble is not None

    def _late(self, report: SweepReport) -> None:
        source, told, trouble = report.source, self._told[report.source], report.late_trouble
        for sign in report.late[:_NAMED_PER_SWEEP]:
            self._late_sign(report, sign)
        if (more := len(report.late) - _NAMED_PER_SWEEP) > 0:
            self._log.error("Reaper ended more jobs that show life afterwards.", source=source, jobs=more)
        if report.looked_back and (trouble is None) != (told.late_trouble is None):
            if trouble is not None:
                message = "Reaper cannot see whether ended jobs show life afterwards."
                self._log.error(message, source=source, error=trouble)
            else:
                self._log.info("Reaper sees ended jobs again.", source=source)
            told.late_trouble = trouble

    def _late_sign(self, report: SweepReport, sign: LateSign) -> None:
        """With both evidences: what it was ended for, and what it did then."""
        self._log.error(
            "Reaper ended a job that shows life afterwards.",
            source=report.source,
            job=messages.format_key(sign.key),
            kind=sign.kind,
            reason=sign.reason,
            reaped_at=sign.reaped_at,
            age_seconds=sign.age_seconds,
            silence_seconds=sign.silence_seconds,
            witness=sign.last_witness,
            what=sign.what,
            late_witness=sign.witness,
            late_at=sign.at,
            status=sign.status,
            status_then=sign.status_then,
            finished=sign.finished,
            told_before=sign.told_before,
            why=messages.describe_late_sign(sign),
            sweep_id=report.sweep_id,
        )

    def _breaker(self, report: SweepReport) -> None:
        source, told = report.source, self._told[report.source]
        if report.outcome is Outcome.HELD and not told.held:
            told.held = True
            census = report.census
            self._log.error(
                "Reaper breaker is open: nearly everything fell silent at once, nothing is reaped.",
                source=source,
                stale=census.stale if census else None,
                running=census.running if census else None,
                remedy="look for what silenced the workers; `reaper sweep --force` goes through once",
            )
        elif report.outcome is Outcome.DONE and told.held:
            told.held = False
            self._log.info("Reaper breaker is closed.", source=source)

    def _spared(self, report: SweepReport, evidence: Evidence) -> None:
        self._log.info(
            "Reaper skipped live job.",
            source=report.source,
            job=messages.format_key(evidence.key),
            kind=evidence.kind,
            age_seconds=evidence.age_seconds,
            silence_seconds=evidence.silence_seconds,
            timeout_seconds=evidence.timeout_seconds,
            witness=evidence.witness,
            **({"unknown": evidence.unknown} if evidence.unknown is not None else {}),
        )

    def _locked(self, report: SweepReport) -> None:
        told = self._told[report.source]
        overdue = {locked.key: locked for locked in report.locked if locked.overdue}
        for key in overdue.keys() - told.overdue:
            self._overdue_lock(report.source, overdue[key])
        told.overdue = frozenset(overdue)

    def _overdue_lock(self, source: str, locked: LockedCandidate) -> None:
        holder = locked.holder
        self._log.warning(
            "Reaper spares a stale job whose row is locked.",
            source=source,
            job=messages.format_key(locked.key),
            held_seconds=round(locked.held_seconds),
            pid=holder.pid if holder else None,
            application=holder.application if holder else None,
            user=holder.user if holder else None,
            state=holder.state if holder else None,
            since=holder.since if holder else None,
        )
