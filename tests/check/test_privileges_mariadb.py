"""`reaper check` on a real MariaDB: privileges that the user lacks."""

from __future__ import annotations

from reaper.check import Level, Workload
from reaper.grants.catalog_facts import facts_from_database
from reaper.grants.statements import grants_for
from reaper.staleness.downtime import DowntimeTracker
from tests.support.checks import PROTEA, only_problem, problems, protea_with
from tests.support.mariadb_checks import CheckedMariaDB, finding_about, numbers


def test_user_with_only_the_printed_grants_can_sweep_and_explain(checked: CheckedMariaDB) -> None:
    user = checked.create_user(f"CREATE TEMPORARY TABLES ON {checked.name}.*")
    findings = problems(checked.check(user=user))
    assert [(f.level, f.subject) for f in findings] == [(Level.ERROR, "job"), (Level.ERROR, "job_event")]
    assert f"'{user}@localhost' may not see it" in findings[0].message
    for finding in findings:
        checked.apply_fix(finding)
    assert problems(checked.check(user=user)) == []
    checked.stale()
    report = checked.sweep(user)
    assert (report.error, report.failures, report.reaped) == (None, (), 1)
    with checked.source(user).connect() as connection:
        source = checked.source(user)
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            [(job,)] = checked.query("SELECT id FROM job")
            assert source.lookup.evidence(connection, context, [(job,)])
            assert source.lookup.audits(connection, (job,))


def test_view_that_is_read_with_the_users_privileges_is_reported(checked: CheckedMariaDB) -> None:
    related = {"table": "finished", "match": {"job_id": "id"}}
    profile = protea_with(jobs={"running": {"column": "status", "in": ["running"], "missing": [related]}})
    checked.do(
        "CREATE TABLE raw (job_id uuid)",
        "CREATE VIEW finished AS SELECT job_id FROM raw",
    )
    user = checked.create_user(f"CREATE TEMPORARY TABLES ON {checked.name}.*")
    for security in ("DEFINER", "INVOKER"):
        checked.do(f"CREATE OR REPLACE SQL SECURITY {security} VIEW finished AS SELECT job_id FROM raw")
        with checked.source(profile=profile).connect() as connection:
            grants = grants_for(profile, Workload(), facts_from_database(connection, profile, f"{user}@localhost"))
        checked.do(*list(grants.statements())[1:])
        notes = [
            note for note in grants.notes if note.startswith("finished: a view, read with the role's own privileges")
        ]
        errors = problems(checked.check(user=user, profile=profile))
        assert bool(notes) == bool(errors) == (security == "INVOKER")
    assert "SELECT on what it reads from" in only_problem(errors).message
    checked.do(f"GRANT SELECT ON {checked.name}.raw TO {user}@localhost")
    assert problems(checked.check(user=user, profile=profile)) == []


def test_sequence_of_a_default_is_granted_for_every_insert(checked: CheckedMariaDB) -> None:
    """Also where a value is given. A text that looks like a call of nextval is no sequence."""
    checked.do(
        "CREATE SEQUENCE numbers",
        "CREATE SEQUENCE `it``s`",
        "CREATE SEQUENCE of_job",
        "ALTER TABLE job_event ADD num bigint NOT NULL DEFAULT (NEXT VALUE FOR numbers)",
        "ALTER TABLE job_event MODIFY level varchar(16) DEFAULT (concat('\\'nextval(`a`.`b`)', nextval(`it``s`)))",
        "ALTER TABLE job ADD num bigint NOT NULL DEFAULT (NEXT VALUE FOR of_job)",
    )
    user = checked.create_user(f"CREATE TEMPORARY TABLES ON {checked.name}.*")
    with checked.source().connect() as connection:
        facts = facts_from_database(connection, PROTEA, f"{user}@localhost")
    statements = list(grants_for(PROTEA, Workload(), facts).statements())[1:]
    drawn = {
        f"GRANT SELECT, INSERT ON `{checked.name}`.`{name}` TO `{user}`@`localhost`;" for name in ("numbers", "it``s")
    }
    assert {statement for statement in statements if "GRANT SELECT, INSERT ON" in statement} == drawn
    checked.do(*statements)
    checked.stale()
    for statement in drawn:
        for privilege in ("SELECT", "INSERT"):
            less = statement.replace("SELECT, INSERT", privilege)
            checked.do(less.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
            assert only_problem(checked.check(user=user)).fix == statement
            report = checked.sweep(user)
            assert report.error or report.failures
            checked.do(less)
    assert problems(checked.check(user=user)) == [] and checked.sweep(user).reaped == 1


def test_missing_privileges_are_named_with_their_columns_and_granted_as_printed(checked: CheckedMariaDB) -> None:
    user = checked.create_user(f"SELECT ON {checked.name}.*", f"UPDATE (status) ON {checked.name}.job")
    findings = problems(checked.check(user=user))
    assert [f.message.partition(" may not ")[2] for f in findings] == [
        "UPDATE error_code, error_message, finished_at",
        "INSERT event, fields, job_id, level, message, ts",
    ]
    for finding in findings:
        checked.apply_fix(finding)
    assert problems(checked.check(user=user)) == []


def test_privileges_of_a_default_role_count(checked: CheckedMariaDB) -> None:
    user, role = checked.create_user(), f"role{next(numbers)}"
    checked.do(
        f"CREATE ROLE {role}",
        f"GRANT SELECT, INSERT, UPDATE ON {checked.name}.* TO {role}",
        f"GRANT {role} TO {user}@localhost",
        f"SET DEFAULT ROLE {role} FOR {user}@localhost",
    )
    assert problems(checked.check(user=user)) == []


def test_table_with_only_column_privileges_is_not_checked_further(checked: CheckedMariaDB) -> None:
    user = checked.create_user(
        f"SELECT, INSERT ON {checked.name}.job_event", f"SELECT (id, status) ON {checked.name}.job"
    )
    finding = only_problem(checked.check(user=user))
    assert (finding.level, finding.subject) == (Level.WARNING, "job")
    assert "no more than single columns" in finding.message
    checked.apply_fix(finding)
    assert problems(checked.check(user=user)) == []


def test_action_that_deletes_needs_the_privilege_delete(adhese: CheckedMariaDB) -> None:
    user = adhese.create_user(f"SELECT, UPDATE, INSERT ON {adhese.name}.*")
    findings = [finding for finding in problems(adhese.check(user=user)) if finding.level is Level.ERROR]
    assert {f.message.partition(" may not ")[2] for f in findings} == {"DELETE"}
    assert {f.subject for f in findings} == {"JOB_RESULTS", "PARTIAL_JOB_RESULTS"}
    for finding in findings:
        adhese.apply_fix(finding)
    assert not any(finding.level is Level.ERROR for finding in adhese.check(user=user))


def test_missing_process_privilege_is_a_note(checked: CheckedMariaDB) -> None:
    user = checked.create_user(f"ALL ON {checked.name}.*")
    checked.apply_fix(finding_about(checked.check(user=user), "PROCESS"))
    assert not any("PROCESS" in finding.message for finding in checked.check(user=user))
