"""`reaper check` as a whole: fitting tables, all findings at once, slow and lost connections, awkward names."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from sqlalchemy import text

from reaper.check import Finding, Level, examine
from reaper.errors import DatabaseUnavailable
from reaper.profile import resolve
from tests.support.checks import (
    AWKWARD,
    AWKWARD_TABLES,
    PROTEA,
    STALL,
    connected,
    create_guest,
    execute,
    only_problem,
    problems,
    run_check,
)


def test_shipped_tables_give_no_errors_and_no_warnings(database: str) -> None:
    assert problems(run_check(database)) == []


def test_check_changes_nothing_and_an_open_transaction_goes_on(database: str) -> None:
    with connected(database) as connection:
        connection.execute(text("CREATE TABLE mark ()"))
        examine(connection, PROTEA, STALL)
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"
        connection.execute(text("CREATE TABLE mark_2 ()"))
        connection.commit()


def test_all_errors_are_reported_at_once(database: str) -> None:
    findings = run_check(
        database,
        "ALTER TABLE job RENAME COLUMN operation TO operations",
        "ALTER TABLE job RENAME COLUMN parent_job_id TO parent_id",
        "ALTER TABLE job_event RENAME COLUMN ts TO at_time",
        "DROP INDEX ix_job_status_created_at",
    )
    assert [f.subject for f in problems(findings)] == [
        "job.operation",
        "job.parent_job_id",
        "job_event.ts",
        "job.status",
    ]


def test_query_that_takes_too_long_is_cut_off_and_noted(database: str) -> None:
    with connected(database) as other:
        other.execute(text("LOCK TABLE job_event"))
        findings = run_check(database, query_seconds=0.2)
    assert problems(findings) == []
    assert [(f.level, f.message) for f in findings if "cut off" in f.message] == [
        (Level.NOTE, "could not check whether 'job_event' has a sign of life in the future: cut off after 0.2 s"),
        (Level.NOTE, "could not check whether it holds moments that mean none: cut off after 0.2 s"),
    ]


def test_table_that_another_session_locks_does_not_delay_the_check(database: str) -> None:
    with connected(database, "ALTER TABLE job_event ADD CHECK (event <> '')") as other:
        other.execute(text("LOCK TABLE job_event"))
        findings = run_check(database, query_seconds=0.2)
    assert only_problem(findings) == Finding(
        Level.WARNING,
        "job_event",
        "could not be checked (cut off after 0.2 s): another session seems to lock it exclusively",
    )


def test_lost_connection_raises_database_unavailable(database: str) -> None:
    with connected(database) as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        connection.rollback()
        with connected(database) as other:
            assert other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}).scalar()
        with pytest.raises(DatabaseUnavailable, match="terminating connection"):
            examine(connection, PROTEA, STALL)
        connection.invalidate()


def test_fixes_can_be_executed_whatever_the_names_are(database: str) -> None:
    profile = resolve("awk ward", {"awk ward": AWKWARD})
    role = create_guest(database, *AWKWARD_TABLES, role='Gu"est %s')
    findings = run_check(role, profile=profile)
    statements = [f.fix for f in findings if f.fix and not f.fix.startswith("[")]
    kinds = {"GRANT USAGE ON SCHEMA", "GRANT USAGE ON SEQUENCE", "GRANT SELECT", "GRANT pg_read", "CREATE INDEX"}
    assert {kind for kind in kinds for fix in statements if fix.startswith(kind)} == kinds
    for statement in statements:
        execute(database, statement)
    left = problems(run_check(role, profile=profile))
    assert [f.subject for f in left] == ["My \"App.Job Table.State's"]
    assert "; did you mean 'DE%AD!'?" in left[0].message
    corrected = resolve("awk ward", {"awk ward": {**AWKWARD, "actions": overridden(left[0].fix)}})
    assert problems(run_check(role, profile=corrected)) == []


def overridden(lines: str | None) -> Any:
    assert lines is not None
    assert lines.startswith('[profiles."awk ward"]  # replace these lines of it')
    actions = tomllib.loads(lines)["profiles"]["awk ward"]["actions"]
    actions["fail"]["also"] = AWKWARD["actions"]["fail"]["also"]  # type: ignore[index]
    return actions
