"""`reaper check`: privileges that the role lacks, triggers and rules."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from reaper.check import Finding, Level, Workload
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from tests.support.checks import PROTEA, connected, create_guest, execute, guest_url, only_problem, problems, run_check
from tests.support.protea import PATIENCE, Protea, thresholds


def test_role_with_only_the_printed_grants_has_no_findings(database: str) -> None:
    role = create_guest(database, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    findings = problems(run_check(role))
    assert [f.subject for f in findings] == ["job", "job", "job_event"]
    for finding in findings:
        execute(database, finding.fix)
    assert problems(run_check(role)) == []


def test_role_with_only_the_printed_grants_can_sweep_and_explain(protea: Protea) -> None:
    role = create_guest(protea.url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for finding in problems(run_check(role)):
        execute(protea.url, finding.fix)
    job = protea.stale()
    source = Source("main", role.render_as_string(hide_password=False), PROTEA, thresholds(), PATIENCE)
    assert protea.sweep(source).reaped == 1
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection):
            keys = [key for key in [source.lookup.find(connection, [job])] if key]
            assert source.lookup.evidence(connection, context, keys)
            assert source.lookup.audits(connection, keys[0])


def test_role_without_privileges_gets_every_missing_grant(database: str) -> None:
    findings = run_check(create_guest(database))
    job, event = problems(findings)
    assert job == Finding(
        Level.ERROR,
        "job",
        "the role 'guest' may not SELECT created_at, finished_at, id, operation, parent_job_id, "
        "started_at, status; UPDATE error_code, error_message, finished_at, status",
        "GRANT SELECT (created_at, finished_at, id, operation, parent_job_id, started_at, status), "
        "UPDATE (error_code, error_message, finished_at, status) ON TABLE public.job TO guest;",
    )
    assert event.fix == (
        "GRANT SELECT (event, fields, job_id, level, ts), INSERT (event, fields, job_id, level, message, ts) "
        "ON TABLE public.job_event TO guest;"
    )
    notes = [f for f in findings if f.fix and f.level is Level.NOTE]
    assert [f.fix for f in notes] == [
        "GRANT SELECT (xmax) ON TABLE public.job TO guest;",
        "GRANT DELETE ON TABLE public.job TO guest;",
        "GRANT pg_read_all_stats TO guest;",
    ]
    for finding in (job, event, *notes):
        execute(database, finding.fix)
    assert not [f for f in run_check(guest_url(database)) if f.fix]


@pytest.mark.thorough
def test_serial_column_needs_usage_of_its_sequence(database: str) -> None:
    serial = [
        "ALTER TABLE job_event ALTER id DROP IDENTITY",
        "CREATE SEQUENCE event_ids",
        "ALTER TABLE job_event ALTER id SET DEFAULT nextval('event_ids')",
        "GRANT SELECT, INSERT, UPDATE ON job, job_event TO guest",
    ]
    finding = only_problem(run_check(create_guest(database, *serial)))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event.id")
    assert finding.fix == "GRANT USAGE ON SEQUENCE public.event_ids TO guest;"
    execute(database, finding.fix)
    assert problems(run_check(guest_url(database))) == []


def test_tables_are_found_in_a_schema_that_the_role_may_not_use(database: str) -> None:
    moved = [
        "CREATE SCHEMA app",
        "ALTER TABLE job SET SCHEMA app",
        "ALTER TABLE job_event SET SCHEMA app",
        "ALTER TYPE job_status SET SCHEMA app",
        f"ALTER DATABASE {make_url(database).database} SET search_path = app, public",
    ]
    role = create_guest(database, *moved)
    findings = problems(run_check(role))
    assert findings[0].message == "the role 'guest' may not use the schema 'app'"
    assert [f.subject for f in findings] == ["job", "job", "job_event"]
    for finding in findings:
        execute(database, finding.fix)
    assert problems(run_check(role)) == []


def test_triggers_that_fire_when_a_job_is_ended_are_named(database: str) -> None:
    findings = run_check(
        database,
        "CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER on_end BEFORE UPDATE OF status ON job FOR EACH ROW EXECUTE FUNCTION noop()",
        "CREATE TRIGGER on_meta BEFORE UPDATE OF meta ON job FOR EACH ROW EXECUTE FUNCTION noop()",
        "CREATE TRIGGER on_insert BEFORE INSERT ON job FOR EACH ROW EXECUTE FUNCTION noop()",
        "CREATE TRIGGER on_event AFTER INSERT OR UPDATE ON job_event FOR EACH ROW EXECUTE FUNCTION noop()",
        "CREATE TRIGGER on_change AFTER UPDATE ON job_event FOR EACH ROW EXECUTE FUNCTION noop()",
    )
    assert problems(findings) == []
    assert [(f.subject, f.message.rpartition(": ")[2]) for f in findings if "triggers fire" in f.message] == [
        ("job", "on_end"),
        ("job_event", "on_event"),
    ]


def test_rules_are_errors_exactly_if_they_break_a_sweep(protea: Protea) -> None:
    source = Source("main", protea.url, PROTEA, thresholds(), PATIENCE)
    with connected(
        protea.url,
        "CREATE TABLE copy AS SELECT * FROM job LIMIT 0",
        "CREATE TABLE event_copy (LIKE job_event INCLUDING ALL)",
        "CREATE RULE on_delete AS ON DELETE TO job DO ALSO INSERT INTO copy SELECT OLD.*",
        "CREATE RULE off AS ON UPDATE TO job DO ALSO INSERT INTO copy SELECT NEW.*",
        "ALTER TABLE job DISABLE RULE off",
        """CREATE RULE elsewhere AS ON INSERT TO job_event DO INSTEAD
           INSERT INTO event_copy (job_id, ts, level, event, message, fields)
           VALUES (NEW.job_id, NEW.ts, NEW.level, NEW.event, NEW.message, NEW.fields) RETURNING event_copy.*""",
    ):
        protea.stale()
        assert (
            problems(run_check(protea.url, workload=Workload("fail", purge=True))) == []
            and protea.sweep(source).reaped == 1
        )
    execute(protea.url, "DROP RULE elsewhere ON job_event")
    for rule, on in (
        ('CREATE RULE "a rule" AS ON UPDATE TO job DO ALSO INSERT INTO copy SELECT NEW.*', "job"),
        ("CREATE RULE partly AS ON INSERT TO job_event WHERE NEW.level = 'x' DO INSTEAD NOTHING", "job_event"),
        ("CREATE RULE not_at_all AS ON INSERT TO job_event DO INSTEAD NOTHING", "job_event"),
        (
            "CREATE RULE two AS ON INSERT TO job_event DO INSTEAD (NOTIFY a; INSERT INTO copy DEFAULT VALUES)",
            "job_event",
        ),
    ):
        execute(protea.url, rule)
        finding = only_problem(run_check(protea.url))
        name = rule.removeprefix("CREATE RULE ").partition(" AS ")[0]
        assert (finding.level, finding.subject) == (Level.ERROR, on) and name.strip('"') in finding.message
        assert finding.fix == f"DROP RULE {name} ON public.{on};"
        protea.stale()
        report = protea.sweep(source)
        assert report.reaped == 0 and (report.error or report.failures), rule
        execute(protea.url, finding.fix)
    assert problems(run_check(protea.url)) == [] and protea.sweep(source).reaped == 4
