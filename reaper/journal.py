"""SweepReport → log. Each thing is said once per change, not once per minute."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import structlog

from reaper.model import Census, Evidence, Key, Locked, Outcome, Reaped, SweepReport

_NAMED_PER_SWEEP = 100
_DIGITS = re.compile(r"[0-9]+")


def name_of(key: Key) -> str:
    """A job's key as people write it."""
    return "/".join(key)


class Journal:
    """What operators read. A listener of sweeps."""

    def __init__(self, logger: Any = None) -> None:
        self._log = logger or structlog.get_logger("reaper")
        self._error: dict[str, str] = {}
        self._failed: dict[str, int] = {}
        self._held: set[str] = set()
        self._standby: dict[str, bool] = {}
        self._overdue: dict[str, set[Key]] = {}
        self._named: tuple[str, int] = ("", 0)

    def surveyed(self, source: str, census: Census) -> None:
        self._log.debug("Reaper surveyed.", source=source, running=census.running, stale=census.stale)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[Reaped]) -> None:
        """The first of a sweep by name; the audit events have them all."""
        named = self._named[1] if self._named[0] == sweep_id else 0
        for job in batch[: max(0, _NAMED_PER_SWEEP - named)]:
            self._log.warning(
                "Reaped stale job.",
                source=source,
                job=name_of(job.key),
                kind=job.kind,
                reason=job.reason,
                age_seconds=job.age_seconds,
                silence_seconds=job.silence_seconds,
                witness=job.witness,
                sweep_id=sweep_id,
            )
        self._named = (sweep_id, named + len(batch))

    def swept(self, report: SweepReport) -> None:
        self._failure(report)
        self._leadership(report)
        self._breaker(report)
        for evidence in report.newly_spared:
            self._spared(report, evidence)
        if report.newly_spared_total > len(report.newly_spared):
            rest = report.newly_spared_total - len(report.newly_spared)
            self._log.info("Reaper skipped more live jobs.", source=report.source, jobs=rest)
        for failure in report.failures:
            self._log.error(
                "Reaper could not end a job.",
                source=report.source,
                job=name_of(failure.key),
                error=failure.error,
                sweep_id=report.sweep_id,
            )
        self._locked(report)
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

    def _failure(self, report: SweepReport) -> None:
        source = report.source
        if report.outcome is Outcome.FAILED:
            self._failed[source] = self._failed.get(source, 0) + 1
            # While the database is away the reason often changes from try to try, and the state does not.
            state = "away" if report.database_away else _DIGITS.sub("#", report.error or "")
            if self._error.get(source) != state:
                self._error[source] = state
                self._log.error(
                    "Reaper cycle failed", source=source, error=report.error, database_away=report.database_away
                )
        elif source in self._error:
            del self._error[source]
            self._log.info("Reaper cycle recovered.", source=source, failed_cycles=self._failed.pop(source))

    def _leadership(self, report: SweepReport) -> None:
        if report.outcome is Outcome.FAILED:
            return
        standby = report.outcome is Outcome.STANDBY
        if standby != self._standby.get(report.source, False):
            self._standby[report.source] = standby
            message = "Reaper stands by: another replica sweeps." if standby else "Reaper has taken the sweeps over."
            self._log.info(message, source=report.source)

    def _breaker(self, report: SweepReport) -> None:
        source = report.source
        if report.outcome is Outcome.HELD and source not in self._held:
            self._held.add(source)
            census = report.census
            self._log.error(
                "Reaper breaker is open: nearly everything fell silent at once, nothing is reaped.",
                source=source,
                stale=census.stale if census else None,
                running=census.running if census else None,
                remedy="look for what silenced the workers; `reaper sweep --force` goes through once",
            )
        elif report.outcome is Outcome.DONE and source in self._held:
            self._held.remove(source)
            self._log.info("Reaper breaker is closed.", source=source)

    def _spared(self, report: SweepReport, evidence: Evidence) -> None:
        self._log.info(
            "Reaper skipped live job.",
            source=report.source,
            job=name_of(evidence.key),
            kind=evidence.kind,
            age_seconds=evidence.age_seconds,
            silence_seconds=evidence.silence_seconds,
            timeout_seconds=evidence.timeout_seconds,
            witness=evidence.witness,
        )

    def _locked(self, report: SweepReport) -> None:
        told = self._overdue.get(report.source, set())
        overdue = {locked.key: locked for locked in report.locked if locked.overdue}
        for key in overdue.keys() - told:
            self._overdue_lock(report.source, overdue[key])
        self._overdue[report.source] = set(overdue)

    def _overdue_lock(self, source: str, locked: Locked) -> None:
        holder = locked.holder
        self._log.warning(
            "Reaper spares a stale job whose row is locked.",
            source=source,
            job=name_of(locked.key),
            held_seconds=round(locked.held_seconds),
            pid=holder.pid if holder else None,
            application=holder.application if holder else None,
            user=holder.user if holder else None,
            state=holder.state if holder else None,
            since=holder.since if holder else None,
        )
