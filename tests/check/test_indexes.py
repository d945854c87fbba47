"""`reaper check`: missing and invalid indexes, and foreign keys."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError

from reaper.check import Finding, Level
from tests.support.checks import connected, execute, only_problem, problems, run_check


@pytest.mark.parametrize(
    ("index", "subject", "message", "fix"),
    [
        (
            "ix_job_status_created_at",
            "job.status",
            "no index finds the running jobs: every sweep reads all of job (about 0 rows)",
            "CREATE INDEX CONCURRENTLY ON public.job (status, created_at);",
        ),
        (
            "ix_job_event_job_id_ts",
            "job_event",
            "no index on (job_id, ts): the events of each old job are searched in about 0 rows",
            "CREATE INDEX CONCURRENTLY ON public.job_event (job_id, ts);",
        ),
        (
            "ix_job_parent_job_id",
            "job",
            "no index on (parent_job_id): the children of each old job are searched in about 0 rows",
            "CREATE INDEX CONCURRENTLY ON public.job (parent_job_id);",
        ),
    ],
)
def test_missing_index_is_a_warning_with_the_statement_that_creates_it(
    database: str, index: str, subject: str, message: str, fix: str
) -> None:
    finding = only_problem(run_check(database, f"DROP INDEX {index}"))
    assert finding == Finding(Level.WARNING, subject, message, fix)
    execute(database, finding.fix)
    assert problems(run_check(database)) == []


@pytest.mark.parametrize(
    "index",
    [
        "ON job (created_at) WHERE status = 'running'",
        "ON job (status) WHERE status IN ('queued', 'running')",
        "ON job (id) INCLUDE (started_at) WHERE status <> 'succeeded'",
    ],
)
def test_partial_index_of_the_running_jobs_counts(database: str, index: str) -> None:
    assert problems(run_check(database, "DROP INDEX ix_job_status_created_at", f"CREATE INDEX {index}")) == []


@pytest.mark.parametrize(
    "index",
    [
        "ON job (status) WHERE status = 'queued'",
        "ON job (status) WHERE operation = 'x'",
        "ON job (created_at, status)",
        "ON job (lower(operation))",
        "ON job USING hash (operation) WHERE status = 'running'",
    ],
)
def test_index_that_does_not_find_every_running_job_does_not_count(database: str, index: str) -> None:
    finding = only_problem(run_check(database, "DROP INDEX ix_job_status_created_at", f"CREATE INDEX {index}"))
    assert finding.subject == "job.status"


def test_partial_index_on_a_parent_that_is_not_null_counts(database: str) -> None:
    script = ["DROP INDEX ix_job_parent_job_id", "CREATE INDEX ON job (parent_job_id) WHERE parent_job_id IS NOT NULL"]
    assert problems(run_check(database, *script)) == []


def test_index_on_the_job_of_events_without_the_time_gets_a_note(database: str) -> None:
    findings = run_check(database, "DROP INDEX ix_job_event_job_id_ts", "CREATE INDEX ON job_event (job_id)")
    assert problems(findings) == []
    assert "CREATE INDEX CONCURRENTLY ON public.job_event (job_id, ts);" in [f.fix for f in findings]


def test_invalid_index_is_a_warning_and_does_not_count(database: str) -> None:
    script = ["INSERT INTO job_event (job_id, event) SELECT id, 'x' FROM new, generate_series(1, 2)"]
    job = "WITH new AS (INSERT INTO job (operation, queue_name) VALUES ('x', 'q') RETURNING id) "
    with connected(database, "ALTER TABLE job_event DROP CONSTRAINT job_event_job_id_fkey", job + script[0]):
        pass
    with pytest.raises(DBAPIError):
        execute(database, "CREATE UNIQUE INDEX CONCURRENTLY broken ON job_event (job_id)")
    invalid, fence = problems(run_check(database))
    assert invalid == Finding(
        Level.WARNING,
        "job_event",
        "the index broken is invalid: every write updates it, and no query uses it",
        "REINDEX INDEX CONCURRENTLY public.broken;",
    )
    execute(database, fence.fix)
    execute(database, "DELETE FROM job_event")
    execute(database, invalid.fix)
    assert problems(run_check(database)) == []


def test_events_without_a_foreign_key_are_a_warning(database: str) -> None:
    finding = only_problem(run_check(database, "ALTER TABLE job_event DROP CONSTRAINT job_event_job_id_fkey"))
    assert (finding.level, finding.subject) == (Level.WARNING, "job_event")
    assert finding.message == (
        "no foreign key from (job_id) to job: a sign of life can be written between the second judgement of a job and "
        "the commit that ends it, as it does not wait for the job's lock"
    )
    execute(database, finding.fix)
    assert problems(run_check(database)) == []


def test_index_of_a_partitioned_table_is_not_created_concurrently(database: str) -> None:
    findings = problems(
        run_check(
            database,
            "DROP TABLE job_event",
            "CREATE TABLE job_event (id bigint GENERATED ALWAYS AS IDENTITY, job_id uuid NOT NULL REFERENCES job,"
            " ts timestamptz NOT NULL, level text, event text, message text, fields jsonb) PARTITION BY RANGE (ts)",
            "CREATE TABLE job_event_all PARTITION OF job_event DEFAULT",
        )
    )
    assert [f.fix for f in findings] == ["CREATE INDEX ON public.job_event (job_id, ts);"]
    execute(database, findings[0].fix)
    assert problems(run_check(database)) == []
