"""The recent past of this daemon, for the page and the API: bounded, in memory only, lost when the process ends.

Ages are seconds before now, by the monotonic clock, because the host's clock may be wrong. Moments from the database
are by its clock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reaper.memory import CommandReap
from reaper.model import AuditRecord, JobCounts, Key, LateSign, Outcome, PurgeReport, ReapedJob, SweepReport

_MAX_SWEEPS = 500
_MAX_ENDED = 200
_MAX_OTHERS = 100


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """One sweep in short. `ended_at` is a reading of the monotonic clock."""

    source: str
    sweep_id: str
    outcome: Outcome
    ended_at: float
    duration_seconds: float
    judged_at: str | None
    census: JobCounts | None
    reaped: int
    lost: int
    locked: int
    refused: int
    late: int
    error: str | None

    @property
    def seconds_ago(self) -> float:
        return time.monotonic() - self.ended_at


@dataclass(frozen=True, slots=True)
class EndedRecord:
    """One job that was ended. `by`: who requested it over HTTP, or ended it with a command or a Celery task beside the
    daemon; None for a scheduled sweep.
    """

    source: str
    sweep_id: str
    job: ReapedJob
    by: str | None
    recorded_at: float

    @property
    def seconds_ago(self) -> float:
        return time.monotonic() - self.recorded_at


@dataclass(frozen=True, slots=True)
class LateRecord:
    """A sign of life of a job after it had been ended."""

    source: str
    sign: LateSign
    recorded_at: float

    @property
    def seconds_ago(self) -> float:
        return time.monotonic() - self.recorded_at


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One administrative request over HTTP."""

    change: AuditRecord
    recorded_at: float

    @property
    def seconds_ago(self) -> float:
        return time.monotonic() - self.recorded_at


class History:
    """A listener of sweeps, purges and administrative requests. Every read returns the newest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sweeps: dict[str, deque[SweepRecord]] = {}
        self._reports: dict[str, SweepReport] = {}
        self._held: dict[str, JobCounts] = {}
        self._ended: deque[EndedRecord] = deque(maxlen=_MAX_ENDED)
        self._late: deque[LateRecord] = deque(maxlen=_MAX_OTHERS)
        self._requested_by: deque[tuple[str, str]] = deque(maxlen=_MAX_OTHERS)
        self._audit: deque[AuditEntry] = deque(maxlen=_MAX_OTHERS)

    def set_sources(self, sources: Iterable[str]) -> None:
        """Keep the sweeps of these sources only. Jobs that were ended in other sources are kept."""
        with self._lock:
            names = set(sources)
            self._sweeps = {name: self._sweeps.get(name, deque(maxlen=_MAX_SWEEPS)) for name in names}
            self._reports = {name: report for name, report in self._reports.items() if name in names}
            self._held = {name: census for name, census in self._held.items() if name in names}

    # --- listener --------------------------------------------------------------------------------------------

    def surveyed(self, source: str, census: JobCounts) -> None:
        """The report of the sweep has the counts."""

    def attribute(self, sweep_id: str, by: str) -> None:
        """Jobs that are ended under this id, from now on, were requested by `by`."""
        with self._lock:
            self._requested_by.append((sweep_id, by))

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        now = time.monotonic()
        with self._lock:
            by = next((who for id_, who in self._requested_by if id_ == sweep_id), None)
            # Without the evidence, which the log has: it would take most of the memory of the history.
            self._ended.extend(
                EndedRecord(source, sweep_id, job._replace(evidence=None), by, now) for job in batch[-_MAX_ENDED:]
            )

    def reaped_elsewhere(self, reaps: Iterable[CommandReap]) -> None:
        """Jobs that commands and Celery tasks have ended beside the daemon."""
        now = time.monotonic()
        with self._lock:
            ended = (EndedRecord(r.source, r.sweep_id, r.job, r.by, now - r.seconds_ago) for r in reaps)
            merged = sorted((*self._ended, *ended), key=lambda record: record.recorded_at)
            self._ended = deque(merged, maxlen=_MAX_ENDED)

    def swept(self, report: SweepReport) -> None:
        now = time.monotonic()
        with self._lock:
            if (sweeps := self._sweeps.get(report.source)) is None:
                return
            self._reports[report.source] = report
            if report.outcome is Outcome.HELD and report.census is not None:
                self._held[report.source] = report.census
            elif report.outcome is not Outcome.FAILED:
                self._held.pop(report.source, None)
            self._late.extend(LateRecord(report.source, sign, now) for sign in report.late)
            sweeps.append(
                SweepRecord(
                    source=report.source,
                    sweep_id=report.sweep_id,
                    outcome=report.outcome,
                    ended_at=now,
                    duration_seconds=report.duration_seconds,
                    judged_at=report.judged_at,
                    census=report.census,
                    reaped=report.reaped,
                    lost=report.lost,
                    locked=report.locked_total,
                    refused=report.refused_total,
                    late=len(report.late),
                    error=report.error,
                )
            )

    def purged(self, source: str, rows: int) -> None:
        """Purges are not part of the history."""

    def purge_ended(self, report: PurgeReport) -> None:
        """The log has the report."""

    def changed(self, change: AuditRecord) -> None:
        with self._lock:
            self._audit.append(AuditEntry(change, time.monotonic()))

    # --- read ------------------------------------------------------------------------------------------------

    def sweeps(self, source: str | None, limit: int) -> list[SweepRecord]:
        with self._lock:
            records = [swept for name, of in self._sweeps.items() if source in (None, name) for swept in of]
        return sorted(records, key=lambda swept: swept.ended_at, reverse=True)[:limit]

    def last(self, source: str) -> SweepReport | None:
        """The report of the source's last sweep."""
        with self._lock:
            return self._reports.get(source)

    def held(self, source: str) -> JobCounts | None:
        """Counts of the last sweep that the breaker held; None when the breaker is closed."""
        with self._lock:
            return self._held.get(source)

    def counted(self, source: str) -> JobCounts | None:
        """The counts of the newest sweep that got so far as to count; None when the history has none."""
        with self._lock:
            sweeps = reversed(self._sweeps.get(source, ()))
            return next((swept.census for swept in sweeps if swept.census is not None), None)

    def succeeded_seconds_ago(self, source: str) -> float | None:
        """Seconds since this replica's last successful sweep; None when there is none in the history."""
        with self._lock:
            swept = reversed(self._sweeps.get(source, ()))
            return next((s.seconds_ago for s in swept if s.outcome is Outcome.DONE), None)

    def endings(self, limit: int) -> list[EndedRecord]:
        with self._lock:
            return list(self._ended)[-limit:][::-1]

    def ending_of(self, source: str, key: Key) -> EndedRecord | None:
        """How the job was ended; None when it is not in the history."""
        with self._lock:
            return next((e for e in reversed(self._ended) if e.source == source and e.job.key == key), None)

    def late(self, limit: int) -> list[LateRecord]:
        with self._lock:
            return list(self._late)[-limit:][::-1]

    def changes(self, limit: int) -> list[AuditEntry]:
        with self._lock:
            return list(self._audit)[-limit:][::-1]
