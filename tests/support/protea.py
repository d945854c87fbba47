"""What tests need to make jobs, age them, and look at what became of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Connection

from reaper.database.lease import Lease
from reaper.database.timeouts import Timeouts
from reaper.model import Evidence, JobCounts, KindThresholds, ReapedJob, ServerClock, SweepReport, Threshold, Thresholds
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep

HOUR, MINUTE = 3600.0, 60.0
PATIENCE = Timeouts(statement=30, connect=5)


def thresholds(
    timeout: float = 6 * HOUR, stall: float = 30 * MINUTE, kinds: dict[str, KindThresholds] | None = None
) -> Thresholds:
    return Thresholds(Threshold(timeout, "default"), Threshold(stall, "default"), kinds or {})


@dataclass
class SweepRecorder:
    """A listener that records what sweeps report."""

    reaped_jobs: list[ReapedJob] = field(default_factory=list)
    censuses: list[JobCounts] = field(default_factory=list)
    memory: SourceState | None = None
    """Whose sweeps are to look at what was reaped."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self.reaped_jobs += batch
        if self.memory is not None:
            self.memory.reaped_jobs.track(batch)

    def surveyed(self, source: str, census: JobCounts) -> None:
        self.censuses.append(census)


class AsOf(Source):
    """A source that is judged as of `now`, whatever the database's clock says; all else is as it is."""

    now: datetime

    def begin_evaluation(self, connection: Connection, downtime: DowntimeTracker) -> EvaluationContext:
        downtime.record_contact(ServerClock(now=self.now, server_started=self.now))
        return EvaluationContext.of(downtime, self.thresholds)


class Protea:
    """A protea database. Ages are seconds before the database's now; nothing here sleeps."""

    def __init__(self, url: str, connection: psycopg.Connection[Any]) -> None:
        self.url, self.connection = url, connection

    @property
    def libpq(self) -> str:
        return self.url.replace("+psycopg", "")

    def connect(self) -> psycopg.Connection[Any]:
        """Another session, with an open transaction from its first statement on."""
        return psycopg.connect(self.libpq)

    def job(
        self,
        *,
        age: float | None = 8 * HOUR,
        created: float | None = None,
        status: str = "running",
        operation: str = "embed",
        parent: str | None = None,
        finished: float | None = None,
    ) -> str:
        """Make a job that started `age` seconds ago (None: no start), created then or `created` seconds ago."""
        row = self.connection.execute(
            "INSERT INTO job (operation, queue_name, status, created_at, started_at, finished_at, parent_job_id)"
            " VALUES (%s, 'q', %s, now() - make_interval(secs => %s), now() - make_interval(secs => %s),"
            " now() - make_interval(secs => %s), %s) RETURNING id::text",
            (operation, status, created if created is not None else age or 0, age, finished, parent),
        ).fetchone()
        assert row is not None
        return str(row[0])

    def event(self, job: str, *, age: float = 0, event: str = "progress", fields: dict[str, Any] | None = None) -> None:
        """A sign of life `age` seconds ago."""
        self.connection.execute(
            "INSERT INTO job_event (job_id, ts, event, fields) VALUES (%s, now() - make_interval(secs => %s), %s, %s)",
            (job, age, event, Jsonb(fields or {})),
        )

    def stale(self, **kwargs: Any) -> str:
        """A job that is to be ended: 8 h old, last heard of 2 h ago."""
        job = self.job(**{"age": 8 * HOUR, **kwargs})
        self.event(job, age=2 * HOUR)
        return job

    def status(self, job: str) -> str:
        row = self.connection.execute("SELECT status::text FROM job WHERE id = %s", (job,)).fetchone()
        assert row is not None
        return str(row[0])

    def row(self, job: str) -> dict[str, Any]:
        with self.connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            found = cursor.execute("SELECT *, status::text AS status FROM job WHERE id = %s", (job,)).fetchone()
        assert found is not None
        return found

    def audits(self, job: str) -> list[dict[str, Any]]:
        """The audit events of a job, oldest first."""
        with self.connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute(
                "SELECT * FROM job_event WHERE job_id = %s AND event = 'job.timeout' ORDER BY id", (job,)
            ).fetchall()

    def dump(self) -> list[str]:
        """Every column of every row of both tables."""
        rows = self.connection.execute(
            "SELECT 'job ' || j::text FROM job j UNION ALL SELECT 'event ' || e::text FROM job_event e ORDER BY 1"
        )
        return [str(row[0]) for row in rows]

    def statuses(self) -> dict[str, str]:
        """The status of every job."""
        return dict(self.connection.execute("SELECT id::text, status::text FROM job").fetchall())

    def source(self, limits: Thresholds | None = None, *, name: str = "main", profile: str = "protea") -> Source:
        return Source(name, self.url, resolve(profile), limits or thresholds(), PATIENCE)

    def as_of(self, now: datetime, limits: Thresholds | None = None) -> AsOf:
        source = AsOf("main", self.url, resolve("protea"), limits or thresholds(), PATIENCE)
        source.now = now
        return source

    def now(self) -> datetime:
        row = self.connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None and isinstance(row[0], datetime)
        return row[0]

    def judge(self, job: str, source: Source | None = None, downtime: DowntimeTracker | None = None) -> Evidence:
        """What `explain` would say of a job."""
        source = source or self.source()
        with source.connect() as connection:
            context = source.begin_evaluation(connection, downtime or DowntimeTracker(0))
            with source.transaction(connection, read_only=True):
                [evidence] = source.lookup.evidence(connection, context, [(job,)])
        return evidence

    def sweep(
        self,
        source: Source | None = None,
        *,
        downtime: DowntimeTracker | None = None,
        memory: SourceState | None = None,
        lease: Lease | None = None,
        recorder: SweepRecorder | None = None,
        batch_size: int = 1000,
        dry_run: bool = False,
        stopping: Callable[[], bool] = lambda: False,
        breaker: Breaker | None = None,
    ) -> SweepReport:
        """One sweep, which trusts silence across the restart of the test's own server."""
        options = SweepOptions("test-host", batch_size, breaker or Breaker(50, 0.5), dry_run, stopping)
        return sweep(
            source or self.source(),
            downtime or DowntimeTracker(0),
            memory or SourceState(),
            options,
            lease,
            recorder or SweepRecorder(),
        )
