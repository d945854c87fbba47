"""What has happened since the daemon started, as far as people want to see it: bounded, and in memory only.

When things happened is told in seconds before now: a host's clock may be wrong. What the database said bears its clock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reaper.model import AuditRecord, JobCounts, Key, LateSign, Outcome, PurgeReport, ReapedJob, SweepReport

_SWEEPS = 500
_REAPS = 200
_OTHERS = 100


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """One sweep in short. `ended` is a reading of the monotonic clock."""

    source: str
    sweep_id: str
    outcome: Outcome
    ended: float
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
        return time.monotonic() - self.ended


@dataclass(frozen=True, slots=True)
class EndedRecord:
    """One job that was ended through this daemon. `by`: who wanted it, None for a sweep of its own accord."""

    source: str
    sweep_id: str
    job: ReapedJob
    by: str | None
    noted: float

    @property
    def seconds_ago(self) -> float:
        return time.monotonic() - self.noted


@dataclass(frozen=True, slots=True)
class LateRecord:
    """A job that showed life after it had been ended."""

    source: str
    sign: LateSign
    noted: float

    @property
    def seconds_ago(self) -> float:
        return time.monotonic() - self.noted


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Something that was asked for over HTTP."""

    change: AuditRecord
    noted: float

    @property
    def seconds_ago(self) -> float:
        return time.monotonic() - self.noted


class History:
    """A listener of sweeps, of purges and of what is asked for over HTTP. Newest first wherever it is read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sweeps: dict[str, deque[SweepRecord]] = {}
        self._reports: dict[str, SweepReport] = {}
        self._held: dict[str, JobCounts] = {}
        self._ended: deque[EndedRecord] = deque(maxlen=_REAPS)
        self._late: deque[LateRecord] = deque(maxlen=_OTHERS)
        self._wanted: deque[tuple[str, str]] = deque(maxlen=_OTHERS)
        self._changes: deque[AuditEntry] = deque(maxlen=_OTHERS)

    def set_sources(self, sources: Iterable[str]) -> None:
        """These sources, and no others, have sweeps; what was ended in others is still told."""
        with self._lock:
            wanted = set(sources)
            self._sweeps = {name: self._sweeps.get(name, deque(maxlen=_SWEEPS)) for name in wanted}
            self._reports = {name: report for name, report in self._reports.items() if name in wanted}
            self._held = {name: census for name, census in self._held.items() if name in wanted}

    # --- listener --------------------------------------------------------------------------------------------

    def surveyed(self, source: str, census: JobCounts) -> None:
        """It is in the report."""

    def attribute(self, sweep_id: str, by: str) -> None:
        """What is ended under this id, from now on, somebody wanted."""
        with self._lock:
            self._wanted.append((sweep_id, by))

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        noted = time.monotonic()
        with self._lock:
            by = next((who for id_, who in self._wanted if id_ == sweep_id), None)
            # Their evidence stands in the log, and would be the greater part of all that is kept here.
            self._ended.extend(
                EndedRecord(source, sweep_id, job._replace(evidence=None), by, noted) for job in batch[-_REAPS:]
            )

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
                    ended=now,
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
        """Finished jobs are nobody's trouble."""

    def purge_ended(self, report: PurgeReport) -> None:
        """The log tells it."""

    def changed(self, change: AuditRecord) -> None:
        with self._lock:
            self._changes.append(AuditEntry(change, time.monotonic()))

    # --- read ------------------------------------------------------------------------------------------------

    def sweeps(self, source: str | None, limit: int) -> list[SweepRecord]:
        with self._lock:
            found = [swept for name, of in self._sweeps.items() if source in (None, name) for swept in of]
        return sorted(found, key=lambda swept: swept.ended, reverse=True)[:limit]

    def last(self, source: str) -> SweepReport | None:
        """The whole report of the source's last sweep."""
        with self._lock:
            return self._reports.get(source)

    def held(self, source: str) -> JobCounts | None:
        """What the breaker holds, as the last sweep that got so far counted it; None when it is closed."""
        with self._lock:
            return self._held.get(source)

    def succeeded_seconds_ago(self, source: str) -> float | None:
        """Since the last sweep of this replica that went well; None before the first, as far as is known."""
        with self._lock:
            swept = reversed(self._sweeps.get(source, ()))
            return next((s.seconds_ago for s in swept if s.outcome is Outcome.DONE), None)

    def endings(self, limit: int) -> list[EndedRecord]:
        with self._lock:
            return list(self._ended)[-limit:][::-1]

    def ending_of(self, source: str, key: Key) -> EndedRecord | None:
        """How a job was ended, where it is among the last."""
        with self._lock:
            return next((e for e in reversed(self._ended) if e.source == source and e.job.key == key), None)

    def late(self, limit: int) -> list[LateRecord]:
        with self._lock:
            return list(self._late)[-limit:][::-1]

    def changes(self, limit: int) -> list[AuditEntry]:
        with self._lock:
            return list(self._changes)[-limit:][::-1]
