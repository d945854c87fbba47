"""`reaper check` on a real MariaDB: values, types and collations."""

from __future__ import annotations

import pytest

from reaper.check import Level
from reaper.profile import resolve
from tests.support.checks import only_problem, problems, profile_with_fix, protea_with
from tests.support.mariadb_checks import OWN_PROFILE, CheckedMariaDB, finding_about

# --- what columns hold ------------------------------------------------------------------------------------------------


def test_timestamp_without_fractions_is_a_note(checked: CheckedMariaDB) -> None:
    findings = checked.check(
        "ALTER TABLE job_event MODIFY COLUMN ts datetime NOT NULL DEFAULT current_timestamp() COMMENT 'it''s \\\\ so'",
        "ALTER TABLE job MODIFY COLUMN started_at timestamp NULL",
    )
    assert problems(findings) == []
    cut = [finding for finding in findings if "fractions" in finding.message]
    assert [(f.subject, f.level) for f in cut] == [("job.started_at", Level.NOTE), ("job_event.ts", Level.NOTE)]
    for finding in cut:
        checked.apply_fix(finding)
    assert [finding for finding in checked.check() if "fractions" in finding.message] == []
    [(kind, value, comment)] = checked.query(
        "SELECT column_type, column_default, column_comment FROM information_schema.columns"
        f" WHERE table_schema = '{checked.name}' AND table_name = 'job_event' AND column_name = 'ts'"
    )
    assert (kind, value, comment) == ("datetime(6)", "current_timestamp(6)", "it's \\ so")


def test_timestamp_column_is_accepted_like_datetime(checked: CheckedMariaDB) -> None:
    checked.do("ALTER TABLE job MODIFY COLUMN started_at timestamp(6) NULL")
    assert problems(checked.check()) == []
    assert problems(checked.check(profile=protea_with(time="naive"))) == []


@pytest.mark.parametrize("kind", ["date", "varchar(40)", "time"])
def test_column_that_stores_no_timestamps_is_an_error(checked: CheckedMariaDB, kind: str) -> None:
    finding = only_problem(checked.check(f"ALTER TABLE job MODIFY COLUMN started_at {kind} NULL"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job.started_at")
    assert (
        finding.message.startswith(f"is {kind}, and")
        and "'timestamptz', a DATETIME or TIMESTAMP in UTC" in finding.message
    )


def test_seconds_since_1970_are_recognised(checked: CheckedMariaDB) -> None:
    finding = only_problem(
        checked.check(
            "ALTER TABLE job_event DROP COLUMN ts, ADD COLUMN ts bigint NOT NULL DEFAULT 0, ADD INDEX (job_id, ts)",
            "INSERT INTO job (id, operation, queue_name) VALUES ('j', 'embed', 'q')",
            "INSERT INTO job_event (job_id, ts, event) VALUES ('j', 1700000000, 'x')",
        )
    )
    assert finding.message.endswith("did you mean 'epoch s'?")
    assert problems(checked.check(profile=profile_with_fix(finding.fix))) == []


def test_unknown_label_is_reported_with_the_nearest(checked: CheckedMariaDB) -> None:
    findings = problems(checked.check(profile=protea_with(jobs={"running": {"column": "status", "in": ["runing"]}})))
    assert [f.subject for f in findings] == ["job.status"]
    assert "'runing' is no label of the enum" in findings[0].message and "'running'?" in findings[0].message


def test_label_in_another_case_is_taken_whether_the_collation_ignores_case_or_not(checked: CheckedMariaDB) -> None:
    shouted = protea_with(jobs={"running": {"column": "status", "in": ["RUNNING"]}})
    assert problems(checked.check(profile=shouted)) == []
    labels = "enum('queued', 'running', 'succeeded', 'failed', 'cancelled')"
    exact = f"ALTER TABLE job MODIFY COLUMN status {labels} COLLATE utf8mb4_bin NOT NULL DEFAULT 'queued'"
    findings = checked.check(exact, profile=shouted)
    assert problems(findings) == []
    assert finding_about(findings, "RUNNING is running").level is Level.NOTE


def test_value_that_a_mariadb_constraint_refuses_is_an_error(checked: CheckedMariaDB) -> None:
    checked.do("ALTER TABLE job ADD CONSTRAINT codes CHECK (error_code IN ('Broken', '50%: x'))")
    finding = only_problem(checked.check())
    assert "'JobTimeout' is refused by the constraint codes" in finding.message


def test_short_column_is_widened_by_the_printed_statement(checked: CheckedMariaDB) -> None:
    checked.do(
        "ALTER TABLE job MODIFY COLUMN error_message varchar(60) NOT NULL DEFAULT 'it''s' COMMENT 'why'",
        "ALTER TABLE job MODIFY COLUMN error_code varchar(3), ADD INDEX (error_code)",
    )
    findings = problems(checked.check())
    assert {f.subject for f in findings} == {"job.error_message", "job.error_code"}
    for fix in {finding.fix: finding for finding in findings}.values():
        checked.apply_fix(fix)
    assert problems(checked.check()) == []
    [(value, nullable, comment)] = checked.query(
        "SELECT column_default, is_nullable, column_comment FROM information_schema.columns"
        f" WHERE table_schema = '{checked.name}' AND column_name = 'error_message'"
    )
    assert (value, nullable, comment) == ("'it''s'", "NO", "why") or (value, nullable) == ("'it\\'s'", "NO")


def test_required_column_without_a_value_is_an_error(checked: CheckedMariaDB) -> None:
    finding = only_problem(checked.check("ALTER TABLE job_event ADD COLUMN tenant int NOT NULL"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event.tenant")
    assert "NOT NULL without a default" in finding.message


def test_value_for_a_generated_mariadb_column_is_an_error(checked: CheckedMariaDB) -> None:
    finding = only_problem(
        checked.check("ALTER TABLE job DROP COLUMN error_code", "ALTER TABLE job ADD COLUMN error_code int AS (1 + 1)")
    )
    assert "generated column" in finding.message


def test_key_of_a_blob_is_an_error(checked: CheckedMariaDB) -> None:
    checked.do("CREATE TABLE tasks (id blob, state varchar(9), at datetime(6), PRIMARY KEY (id(16)), KEY (state, at))")
    profile = resolve("own", {"own": OWN_PROFILE})
    finding = next(f for f in problems(checked.check(profile=profile)) if f.level is Level.ERROR)
    assert (finding.subject, finding.message) == (
        "tasks.id",
        "is blob, and part of jobs.key: the reaper reads keys of bytes only as BINARY or VARBINARY",
    )


def test_evidence_may_be_written_into_plain_text(checked: CheckedMariaDB) -> None:
    assert problems(checked.check("ALTER TABLE job_event DROP COLUMN fields, ADD COLUMN fields longtext")) == []


# --- comparing --------------------------------------------------------------------------------------------------------


def test_columns_with_incomparable_collations_are_an_error_that_the_fix_solves(checked: CheckedMariaDB) -> None:
    checked.do(
        "ALTER TABLE job_event DROP FOREIGN KEY job_event_job",
        "ALTER TABLE job DROP FOREIGN KEY job_parent",
        *(f"ALTER TABLE job MODIFY COLUMN {name}" for name in KEYS),
        "ALTER TABLE job_event MODIFY COLUMN job_id char(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci NOT NULL",
    )
    checked.stale()
    assert checked.sweep().error is not None
    finding = finding_about(problems(checked.check()), "cannot be compared with job.id")
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event.job_id")
    assert finding_about(checked.check(), "no foreign key").fix is None
    checked.apply_fix(finding)
    assert checked.sweep().reaped == 1
    checked.apply_fix(finding_about(checked.check(), "no foreign key"))
    assert problems(checked.check()) == []


KEYS = (
    "id char(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL DEFAULT (uuid())",
    "parent_job_id char(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
)


def test_collations_that_ignore_case_are_a_note(checked: CheckedMariaDB) -> None:
    finding = finding_about(checked.check(), "collations")
    assert finding.level is Level.NOTE and finding.message.endswith("differ only in case are equal: job.status")
