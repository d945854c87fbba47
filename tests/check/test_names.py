"""`reaper check`: tables, columns and keys of the profile that do not exist."""

from __future__ import annotations

import tomllib

import pytest
from sqlalchemy import make_url

from reaper.check import Level
from reaper.profile import Delete, resolve
from tests.support.checks import create_guest, execute, only_problem, problems, profile_with_fix, run_check
from tests.support.worlds.adhese import AdheseWorld
from tests.support.worlds.postgresql import PostgreSQLDatabase


def test_missing_table_is_reported_with_the_nearest_name(database: str) -> None:
    finding = only_problem(run_check(database, "ALTER TABLE job_event RENAME TO job_events"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event")
    assert finding.message == "no such table; did you mean 'job_events'?"
    assert problems(run_check(database, profile=profile_with_fix(finding.fix))) == []


def test_table_in_one_other_schema_gets_a_search_path_that_finds_it(database: str) -> None:
    """The profile stays as it is, and the tables of the old path are still found."""
    role = create_guest(database, "CREATE SCHEMA app", "ALTER TABLE job_event SET SCHEMA app")
    finding = next(finding for finding in run_check(role) if finding.subject == "job_event")
    assert finding.message == "no such table in the search path; there is app.job_event"
    named = make_url(database).database
    assert finding.fix == f"ALTER ROLE guest IN DATABASE {named} SET search_path = app, public;"
    execute(database, finding.fix)
    for finding in problems(run_check(role)):
        execute(database, finding.fix)
    assert problems(run_check(role)) == []


def test_table_in_several_other_schemas_is_corrected_to_one_of_them(database: str) -> None:
    moved = [
        "CREATE SCHEMA app",
        "ALTER TABLE job_event SET SCHEMA app",
        "CREATE SCHEMA b",
        "CREATE TABLE b.job_event ()",
    ]
    finding = only_problem(run_check(database, *moved))
    assert finding.message == "no such table in the search path; there is app.job_event, b.job_event"
    assert problems(run_check(database, profile=profile_with_fix(finding.fix))) == []


def test_missing_column_is_reported_with_the_nearest_name(database: str) -> None:
    finding = only_problem(run_check(database, "ALTER TABLE job RENAME COLUMN started_at TO start_at"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job.started_at")
    assert finding.message == "no such column; did you mean 'start_at'?"
    assert problems(run_check(database, profile=profile_with_fix(finding.fix))) == []


def test_misspelled_column_of_an_action_is_corrected_by_the_whole_profile(database: str) -> None:
    finding = only_problem(run_check(database, "ALTER TABLE job RENAME COLUMN error_code TO err_code"))
    profile = profile_with_fix(finding.fix)
    assert set(profile.actions["fail"].assign or ()) == {"status", "finished_at", "err_code", "error_message"}
    assert problems(run_check(database, profile=profile)) == []


def test_view_of_jobs_without_locks_is_an_error_that_names_the_table_behind_it(database: str) -> None:
    finding = only_problem(
        run_check(
            database,
            "ALTER TABLE job RENAME TO job_rows",
            "CREATE VIEW job AS SELECT DISTINCT * FROM job_rows",
        )
    )
    assert (finding.level, finding.subject) == (Level.ERROR, "job")
    assert finding.message == (
        "is a view that cannot be updated: its rows cannot be locked, so a job cannot be judged again before it is "
        "ended; it reads from public.job_rows"
    )
    assert problems(run_check(database, profile=profile_with_fix(finding.fix))) == []


def test_foreign_table_as_events_table_is_an_error(database: str) -> None:
    findings = run_check(
        database,
        "CREATE FOREIGN DATA WRAPPER nowhere",
        "CREATE SERVER far FOREIGN DATA WRAPPER nowhere",
        "ALTER TABLE job_event RENAME TO job_event_rows",
        "CREATE FOREIGN TABLE job_event (id bigint, job_id uuid, ts timestamptz, level text, event text,"
        " message text, fields jsonb) SERVER far",
    )
    assert only_problem(findings).message.startswith("is a foreign table: its rows cannot be locked")


def test_key_that_is_not_unique_is_an_error(database: str) -> None:
    script = ["ALTER TABLE job DROP CONSTRAINT job_pkey CASCADE", "CREATE UNIQUE INDEX ON job (id) WHERE id IS NULL"]
    not_unique, fence = problems(run_check(database, *script))
    assert (not_unique.level, not_unique.subject) == (Level.ERROR, "job")
    assert not_unique.message.startswith("jobs.key (id) is not unique: there is no primary key or unique constraint")
    execute(database, not_unique.fix)
    execute(database, fence.fix)
    assert problems(run_check(database)) == []


def test_key_that_may_be_null_is_a_warning(database: str) -> None:
    script = ["ALTER TABLE job DROP CONSTRAINT job_pkey CASCADE", "ALTER TABLE job ALTER id DROP NOT NULL"]
    nullable, _ = problems(run_check(database, *script, "ALTER TABLE job ADD UNIQUE (id)"))
    assert (nullable.level, nullable.subject) == (Level.WARNING, "job.id")
    assert nullable.message == "is part of jobs.key and may be NULL: a job without it can never be claimed"
    execute(database, nullable.fix)
    assert [f.subject for f in problems(run_check(database))] == ["job_event"]


def test_kept_columns_and_counted_rows_are_corrected_with_the_rest(empty: PostgreSQLDatabase) -> None:
    AdheseWorld.create(empty).session.close()
    profile = resolve("adhese")
    misspelled = [
        'ALTER TABLE "PARTIAL_JOB_RESULTS" RENAME COLUMN job_result_id TO job_results_id',
        'ALTER TABLE "PARTIAL_JOB_RESULTS" RENAME COLUMN result_code TO result_codes',
    ]
    first, *_ = problems(run_check(empty.url, *misspelled, profile=profile))
    corrected = profile_with_fix(first.fix, "adhese")
    [rows] = corrected.choices["delete_remote_else_complete"].rows
    assert rows.match == {"job_results_id": "id"}
    [step] = corrected.actions["delete"].also
    assert isinstance(step, Delete)
    assert "result_codes" in step.keep and "result_code" not in step.keep
    assert [finding for finding in run_check(empty.url, profile=corrected) if finding.level is Level.ERROR] == []


@pytest.mark.parametrize(
    ("script", "suggestion"),
    [
        (
            "ALTER TABLE job RENAME started_at TO start_at; ALTER TABLE job ADD started_a text",
            "did you mean 'start_at'?",
        ),
        (
            "ALTER TABLE job RENAME started_at TO startet_at; ALTER TABLE job ADD started_att bool",
            "did you mean 'startet_at'?",
        ),
        ("ALTER TABLE job RENAME started_at TO go; ALTER TABLE job ADD starting text", "columns with moments are: go"),
    ],
)
def test_column_of_moments_is_looked_for_among_columns_that_may_have_moments(
    database: str, script: str, suggestion: str
) -> None:
    findings = [f for f in problems(run_check(database, script)) if f.subject == "job.started_at"]
    assert [f.message for f in findings] == [f"no such column; {suggestion}"]


def test_column_is_looked_for_among_columns_of_a_type_that_its_role_can_have(database: str) -> None:
    """Beside each is one of another type whose name is nearer."""
    findings = run_check(
        database,
        "CREATE TABLE task (uid uuid PRIMARY KEY, task_idx text, operations jsonb, operation_n text, queues bool,"
        " the_queue text, workers timestamptz, worker_x uuid, attempt text, attempts_n int, most_tried date,"
        " max_attempt smallint, timeouts text, time_out interval, begun timestamptz, state text)",
        "CREATE INDEX ON task (task_idx)",
        "CREATE TABLE worker (worker_ids jsonb, worker_id_x uuid, beat timestamptz)",
        profile=resolve("own", {"own": tomllib.loads(ROLES)}),
    )
    said = {f.subject: f.message.removeprefix("no such column; ") for f in findings if "no such column" in f.message}
    assert said == {
        "task.task_id": "columns of unique keys are: uid",
        "task.operation": "did you mean 'operation_n'?",
        "task.queue": "did you mean 'the_queue'?",
        "task.worker": "did you mean 'worker_x'?",
        "task.attempts": "did you mean 'attempts_n'?",
        "task.most_tries": "columns with numbers are: attempts_n, max_attempt",
        "task.timeout": "did you mean 'time_out'?",
        "worker.worker_id": "did you mean 'worker_id_x'?",
    }


ROLES = """
limits.timeout = { column = "timeout" }
attempts = { column = "attempts", limit_column = "most_tries" }
actions.fail.set.state = "dead"
[jobs]
table = "task"
key = "task_id"
kind = "operation"
queue = "queue"
holder = "worker"
started = "begun"
running = { column = "state", in = ["working"] }
[[alive]]
witness = "worker"
worker = { table = "worker", match = { worker_id = "worker" }, at = "beat" }
"""
