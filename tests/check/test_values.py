"""`reaper check`: values, labels and constraints that do not fit the profile."""

from __future__ import annotations

import pytest

from reaper.check import Level
from reaper.profile import Insert
from reaper.source.name_spelling_decision import SAMPLE_ROWS
from tests.support.checks import execute, only_problem, problems, profile_with_fix, protea_with, run_check
from tests.support.commands import PROJECT


def renamed_labels(*, prefix: str) -> list[str]:
    labels = ("queued", "running", "succeeded", "failed", "cancelled")
    return [f"ALTER TYPE job_status RENAME VALUE '{label}' TO '{prefix}{label.upper()}'" for label in labels]


def test_labels_that_differ_only_by_case_are_a_note(database: str) -> None:
    findings = run_check(database, *renamed_labels(prefix=""))
    assert problems(findings) == []
    [note] = [finding for finding in findings if finding.subject == "job.status"]
    assert (note.level, note.fix) == (Level.NOTE, None)
    assert note.message == (
        "the database spells these values in another case: running is RUNNING, queued is QUEUED, succeeded is "
        "SUCCEEDED, failed is FAILED, cancelled is CANCELLED"
    )


def test_labels_that_differ_by_more_than_case_are_corrected(database: str) -> None:
    running, *purged, failed = problems(run_check(database, *renamed_labels(prefix="IS_")))
    assert (running.level, running.subject) == (Level.ERROR, "job.status")
    assert running.message == (
        "jobs.running.in: 'running' is no label of the enum public.job_status (IS_QUEUED, IS_RUNNING, IS_SUCCEEDED, "
        "IS_FAILED, IS_CANCELLED); did you mean 'IS_RUNNING'?"
    )
    assert failed.message.startswith("actions.fail.set: 'failed' is no label")
    ended = ("succeeded", "failed", "cancelled")
    assert [f.message.split(" of ")[0] for f in purged] == [f"purge.where.0.in: '{end}' is no label" for end in ended]
    assert {f.fix for f in (running, failed, *purged)} == {
        '[profiles.protea]\nextends = "protea"\njobs.running.in = ["IS_RUNNING"]\n'
        'actions.fail.set.status = "IS_FAILED"\n'
        'purge.where = [\n    { column = "status", in = ["IS_SUCCEEDED", "IS_FAILED", "IS_CANCELLED"] },\n]\n'
        'fence.again = ["IS_QUEUED"]'
    }
    assert problems(run_check(database, profile=profile_with_fix(running.fix))) == []


def test_example_for_capitals_in_the_configuration_file_is_complete(database: str) -> None:
    text = (PROJECT / "config" / "reaper.toml").read_text()
    example = text[text.index("#   [profiles.protea-capitals]") :].replace("#   ", "")
    labels = ("queued", "running", "succeeded", "failed", "cancelled")
    rename = [f"ALTER TYPE job_status RENAME VALUE '{label}' TO '{label.upper()}'" for label in labels]
    assert problems(run_check(database, *rename, profile=profile_with_fix(example, "protea-capitals"))) == []


def test_wrong_label_in_an_inserted_row_is_corrected(database: str) -> None:
    finding = only_problem(
        run_check(
            database,
            "CREATE TYPE level AS ENUM ('INFO', 'ERRORS')",
            "ALTER TABLE job_event ALTER level DROP DEFAULT, ALTER level TYPE level USING upper(level)::level",
        )
    )
    assert (finding.subject, finding.message.split(";")[0]) == (
        "job_event.level",
        "actions.fail.also.0: 'error' is no label of the enum public.level (INFO, ERRORS)",
    )
    profile = profile_with_fix(finding.fix)
    [audit] = profile.actions["fail"].also
    assert isinstance(audit, Insert) and audit.values["level"] == "ERRORS"
    assert problems(run_check(database, profile=profile)) == []


def test_value_that_a_check_constraint_refuses_is_an_error(database: str) -> None:
    running, *_, failed = problems(
        run_check(
            database,
            "ALTER TABLE job ALTER status DROP DEFAULT, ALTER status TYPE text",
            "ALTER TABLE job ADD CONSTRAINT known_status CHECK"
            " (status IN ('Is queued', 'Is running', 'Is failed', 'Is succeeded', 'Is cancelled'))",
        )
    )
    assert (running.level, running.subject) == (Level.ERROR, "job.status")
    assert running.message.startswith(
        "jobs.running.in: status = 'running' is refused by the constraint known_status: CHECK ("
    )
    assert running.message.endswith("did you mean 'Is running'?")
    assert problems(run_check(database, profile=profile_with_fix(failed.fix))) == []


def test_values_that_a_check_constraint_lists_in_another_case_are_a_note(database: str) -> None:
    findings = run_check(
        database,
        "ALTER TABLE job ALTER status DROP DEFAULT, ALTER status TYPE text",
        "ALTER TABLE job ADD CHECK (status IN ('Queued', 'Running', 'Failed', 'Succeeded', 'Cancelled'))",
    )
    assert problems(findings) == []
    assert "running is Running" in next(finding.message for finding in findings if finding.subject == "job.status")


def test_check_constraint_over_several_columns_is_evaluated_when_the_action_sets_them_all(database: str) -> None:
    rule = "ALTER TABLE job ADD CONSTRAINT ended CHECK ((status = 'failed') = (error_code IS NULL)) NOT VALID"
    finding = only_problem(run_check(database, rule))
    assert (finding.level, finding.subject) == (Level.ERROR, "job")
    assert finding.message.startswith(
        "actions.fail.set: error_code = 'JobTimeout', status = 'failed' is refused by the constraint ended"
    )


def test_value_that_is_too_long_is_an_error_and_the_fix_widens_the_column(database: str) -> None:
    too_long, *others = problems(run_check(database, "ALTER TABLE job ALTER error_code TYPE varchar(8)"))
    assert too_long.message == (
        "actions.fail.set: 'JobTimeout' is 10 characters long, too long for character varying(8)"
    )
    assert {other.fix for other in others} == {too_long.fix}
    execute(database, too_long.fix)
    assert problems(run_check(database)) == []


def test_short_column_for_the_message_is_an_error(database: str) -> None:
    finding = only_problem(run_check(database, "ALTER TABLE job ALTER error_message TYPE varchar(80)"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job.error_message")
    execute(database, finding.fix)
    assert problems(run_check(database)) == []


def test_value_in_another_case_than_the_rows_is_a_warning_where_the_sample_has_missed_it(database: str) -> None:
    first, rest = "00000000-0000-0000-0000-000000000000", "INSERT INTO job (operation, queue_name, status) SELECT"
    finding = only_problem(
        run_check(
            database,
            "ALTER TABLE job ALTER status DROP DEFAULT, ALTER status TYPE text",
            "DROP INDEX ix_job_status_created_at",
            "CREATE INDEX ON job (lower(status), status) WHERE status = 'running'",
            f"INSERT INTO job (id, operation, queue_name, status) VALUES ('{first}', 'x', 'q', 'RUNNING')",
            f"{rest} 'x', 'q', 'odd One' FROM generate_series(1, {SAMPLE_ROWS})",
        )
    )
    assert (finding.level, finding.subject) == (Level.WARNING, "job.status")
    assert finding.message == "no row has 'running', and some have 'RUNNING'; the case of a value matters"
    assert finding.fix is not None
    assert 'jobs.running.in = ["RUNNING"]' in finding.fix


def test_case_that_cannot_be_determined_is_an_error_that_names_the_key(database: str) -> None:
    findings = run_check(
        database,
        "ALTER TABLE job ALTER status DROP DEFAULT, ALTER status TYPE text",
        "INSERT INTO job (operation, queue_name, status) VALUES ('x', 'q', 'rUNNING')",
    )
    said = [finding.message for finding in findings if finding.level is Level.ERROR]
    unknown = "cannot be determined from the values that the column has ('rUNNING'): set it in the profile"
    assert f"job.status: actions.fail.set.status: the case of 'failed' {unknown}" in said


def test_domain_counts_as_the_type_that_it_restricts(database: str) -> None:
    domains = [
        "CREATE DOMAIN moment AS timestamptz",
        "CREATE DOMAIN code AS varchar(12) CHECK (VALUE LIKE 'Job%')",
        "ALTER TABLE job ALTER finished_at TYPE moment, ALTER error_code TYPE code",
    ]
    finding = only_problem(run_check(database, *domains))
    assert finding.message == "actions.fail.set: 'ManualTimeout' is 13 characters long, too long for public.code"


def test_insert_that_omits_a_required_column_is_an_error(database: str) -> None:
    finding = only_problem(run_check(database, "ALTER TABLE job_event ADD tenant integer NOT NULL"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event.tenant")
    assert finding.message == (
        "actions.fail.also.0 inserts no value, and the column is NOT NULL without a default; give it one in the profile"
    )


@pytest.mark.parametrize(
    ("words", "level", "message"),
    [
        ("integer USING 0", Level.ERROR, "writes the evidence, a JSON object, into integer; expected jsonb"),
        ("text", Level.WARNING, "writes the evidence into text; as jsonb it could be searched"),
    ],
)
def test_evidence_needs_a_json_column(database: str, words: str, level: Level, message: str) -> None:
    script = f"ALTER TABLE job_event ALTER fields DROP DEFAULT, ALTER fields TYPE {words}"
    finding = only_problem(run_check(database, script))
    assert (finding.level, finding.subject) == (level, "job_event.fields")
    assert finding.message == f"actions.fail.also.0 {message}"


def test_json_column_is_accepted_like_jsonb(database: str) -> None:
    script = "ALTER TABLE job_event ALTER fields DROP DEFAULT, ALTER fields TYPE json"
    assert problems(run_check(database, script)) == []


def test_values_that_do_not_fit_their_columns_are_errors(database: str) -> None:
    assign = {
        "progress_current": "many",
        "progress_total": True,
        "meta": {"column": "id"},
        "operation": {"is": "null"},
        "queue_name": 7,
    }
    script = "ALTER TABLE job ADD twice bigint GENERATED ALWAYS AS (progress_total * 2) STORED"
    profile = protea_with(actions={"fail": {"set": {**assign, "twice": 1}}})
    messages = {f.subject: f.message for f in problems(run_check(database, script, profile=profile))}
    assert messages == {
        "job.progress_current": "actions.fail.set: 'many' cannot be read as bigint",
        "job.progress_total": "actions.fail.set: True does not fit bigint",
        "job.meta": "actions.fail.set copies job.id (uuid) into jsonb, which does not fit",
        "job.operation": "actions.fail.set sets NULL, and the column is NOT NULL",
        "job.queue_name": "actions.fail.set: 7 does not fit text",
        "job.twice": "actions.fail.set gives a value to a generated column, which takes none: it is generated from "
        "progress_total; set that instead",
    }
