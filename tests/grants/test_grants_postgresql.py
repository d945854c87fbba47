"""`reaper grants` on PostgreSQL: sequences, functions, views, policies, and names that must be quoted."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

import psycopg
from sqlalchemy import make_url

from reaper.check import Level, Workload
from reaper.grants.catalog_facts import facts_from_database
from reaper.grants.statements import grants_for
from reaper.operations.purge import PurgeOptions, purge
from reaper.profile import Profile, resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.checks import (
    AWKWARD,
    AWKWARD_TABLES,
    PROTEA,
    SHOP,
    SHOP_TABLES,
    connected,
    create_guest,
    execute,
    guest_url,
    problems,
    protea_with,
    run_check,
)
from tests.support.protea import PATIENCE, Protea, SweepRecorder, thresholds
from tests.support.purges import PurgeRecorder
from tests.support.worlds.postgresql import PostgreSQLDatabase


def printed(url: str, profile: Profile, role: str = "guest", workload: Workload | None = None) -> list[str]:
    with connected(url) as connection:
        facts = facts_from_database(connection, profile, role)
    return list(grants_for(profile, workload or Workload(), facts).statements())


def execute_grants(url: str, profile: Profile, role: str = "guest", workload: Workload | None = None) -> set[str]:
    """Executes the printed grants for a role that has no others, and returns them. `check` finds none missing."""
    execute(url, f"REVOKE ALL ON DATABASE {make_url(url).database} FROM PUBLIC")
    execute(url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    with connected(url) as owner:
        if owner.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = %(role)s", {"role": role}).first():
            execute(url, f"DROP OWNED BY {psycopg.sql.Identifier(role).as_string(None)}")
    as_guest = create_guest(url, role=role)
    statements = printed(url, profile, role, workload)
    assert not any(statement.startswith("CREATE ROLE") for statement in statements)
    for statement in statements:
        execute(url, statement)
    findings = run_check(as_guest, profile=profile, workload=workload or Workload())
    grants = [finding for finding in findings if finding.fix and " TO " in finding.fix]
    assert {finding.level for finding in grants} <= {Level.NOTE}
    assert not {finding.fix for finding in grants} & set(statements)
    return set(statements)


def test_serial_column_needs_its_sequence_and_identity_column_does_not(database: str) -> None:
    sequence = "GRANT USAGE ON SEQUENCE public.event_ids TO guest;"
    assert sequence not in execute_grants(database, PROTEA)
    with connected(
        database,
        "ALTER TABLE job_event ALTER id DROP IDENTITY",
        "CREATE SEQUENCE event_ids",
        "ALTER TABLE job_event ALTER id SET DEFAULT nextval('event_ids')",
    ):
        pass
    assert sequence in execute_grants(database, PROTEA)
    execute(database, "REVOKE USAGE ON SEQUENCE event_ids FROM guest")
    assert [finding.fix for finding in problems(run_check(guest_url(database)))] == [sequence]


def test_restricted_function_is_granted_where_a_written_row_calls_it(protea: Protea) -> None:
    with connected(
        protea.url,
        "CREATE FUNCTION \"It's\"(a int, text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a'",
        "CREATE FUNCTION fine(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'",
        "CREATE FUNCTION never() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC",
        "ALTER TABLE job_event ADD extra int NOT NULL DEFAULT \"It's\"(1, 'x') CHECK (fine(extra))",
        "ALTER TABLE job ADD extra int DEFAULT never()",
        "CREATE FUNCTION okmsg(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'",
        "REVOKE EXECUTE ON FUNCTION okmsg(text) FROM PUBLIC",
        "CREATE DOMAIN said AS text CHECK (okmsg(VALUE))",
        "CREATE DOMAIN outer_text AS said",
        "ALTER TABLE job_event ALTER message TYPE outer_text",
    ):
        pass
    calls = {statement for statement in execute_grants(protea.url, PROTEA) if "EXECUTE" in statement}
    assert calls == {
        'GRANT EXECUTE ON FUNCTION public."It\'s"(a integer, text) TO guest;',
        "GRANT EXECUTE ON FUNCTION public.fine(integer) TO guest;",
        "GRANT EXECUTE ON FUNCTION public.okmsg(text) TO guest;",
    }
    least = Source("main", str(guest_url(protea.url)), PROTEA, thresholds(), PATIENCE)
    for call in calls:
        execute(protea.url, call.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
        assert [finding.fix for finding in problems(run_check(guest_url(protea.url)))] == [call]
        protea.stale()
        report = protea.sweep(least)
        assert report.error or report.failures
        execute(protea.url, call)
    assert protea.sweep(least).reaped == 3


def _function(name: str, takes: str = "", gives: str = "boolean", says: str = "true") -> str:
    """Not in SQL: the planner could inline it, and then the server does not check whether the role may execute it."""
    body = f"'BEGIN RETURN {says}; END'"
    return f"CREATE FUNCTION {name}({takes}) RETURNS {gives} LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER AS {body}"


PARTITIONED = (
    *(
        _function(name, "text")
        for name in ("in_domain", "in_array", "in_partition", "in_when", "in_index", "on_update")
    ),
    *(_function(name, "text") for name in ("in_nothing_given", "not_for_this_column", "in_delete")),
    _function("in_check", "text, text"),
    _function("by_domain", gives="bigint", says="1"),
    _function("not_by_domain", gives="bigint", says="1"),
    _function("in_key", "timestamptz", gives="int", says="1"),
    _function("fires", gives="trigger", says="coalesce(NEW, OLD)"),
    "CREATE TYPE lax",
    "CREATE FUNCTION lax_in(cstring) RETURNS lax LANGUAGE internal IMMUTABLE STRICT AS 'textin'",
    "CREATE FUNCTION lax_out(lax) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout'",
    "CREATE TYPE lax (INPUT = lax_in, OUTPUT = lax_out, LIKE = text)",
    "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC",
    "DROP TABLE job_event",
    """CREATE TABLE job_event (
        id bigint GENERATED BY DEFAULT AS IDENTITY, job_id uuid NOT NULL REFERENCES job ON DELETE CASCADE,
        ts timestamptz NOT NULL DEFAULT now(), level text, event text, message text, fields jsonb
    ) PARTITION BY RANGE (in_key(ts))""",
    "CREATE TABLE job_event_1 PARTITION OF job_event FOR VALUES FROM (0) TO (10) PARTITION BY LIST (level)",
    "CREATE TABLE job_event_1_rest PARTITION OF job_event_1 DEFAULT",
    # Domains: of the column itself, of what is in it, and of the default alone.
    "CREATE SEQUENCE numbers",
    "CREATE DOMAIN numbered AS bigint DEFAULT nextval('numbers')",
    "CREATE DOMAIN made AS bigint DEFAULT by_domain()",
    "CREATE DOMAIN made_else AS bigint DEFAULT not_by_domain()",
    "CREATE DOMAIN said AS text CHECK (in_domain(VALUE))",
    "CREATE DOMAIN outer_text AS said",
    "CREATE DOMAIN part AS text CHECK (in_array(VALUE))",
    "CREATE DOMAIN kept AS text CHECK (in_nothing_given(VALUE))",
    "CREATE DOMAIN laxer AS lax DEFAULT 'x'",
    "CREATE TYPE pair AS (one kept, other int)",
    "ALTER TABLE job_event ADD a numbered, ADD b made, ADD c made_else DEFAULT 1, ADD d outer_text",
    "ALTER TABLE job_event ADD parts part[] DEFAULT ARRAY['x']::part[]",
    "ALTER TABLE job_event ADD pairs pair[], ADD none kept[] DEFAULT '{}', ADD e laxer",
    "ALTER TABLE job ADD a numbered, ADD b made_else, ADD d kept",
    # What the table and its partitions call.
    "CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = in_check)",
    "ALTER TABLE job_event ADD CHECK (event === 'x')",
    "ALTER TABLE job_event_1_rest ADD CHECK (in_partition(event))",
    "CREATE INDEX ON job_event (job_id, ts)",
    "CREATE INDEX ON job_event_1_rest (id) WHERE in_index(event)",
    "CREATE TRIGGER whole AFTER INSERT ON job_event FOR EACH ROW WHEN (in_when(NEW.event)) EXECUTE FUNCTION fires()",
    *(
        f"CREATE TRIGGER {name} BEFORE {event} ON job FOR EACH ROW WHEN ({name}(OLD.error_code))"
        " EXECUTE FUNCTION fires()"
        for name, event in (
            ("on_update", "UPDATE OF status"),
            ("not_for_this_column", "UPDATE OF operation"),
            ("in_delete", "DELETE"),
        )
    ),
)


def test_only_functions_called_for_a_written_row_are_granted(protea: Protea, thorough: bool) -> None:
    """In types, operators, partition keys, objects that only a partition has, and the WHEN of triggers."""
    with connected(protea.url, *PARTITIONED):
        grants = {
            statement
            for statement in execute_grants(protea.url, PROTEA)
            if "EXECUTE" in statement or "SEQUENCE" in statement
        }
    called = {
        *("in_domain(text)", "in_array(text)", "in_partition(text)", "in_when(text)", "in_index(text)"),
        *("on_update(text)", "in_check(text, text)", "by_domain()", "in_key(timestamp with time zone)"),
    }
    assert grants == {
        "GRANT USAGE ON SEQUENCE public.numbers TO guest;",
        *(f"GRANT EXECUTE ON FUNCTION public.{one} TO guest;" for one in called),
    }
    least = Source("main", str(guest_url(protea.url)), PROTEA, thresholds(), PATIENCE)
    protea.stale()
    for grant in sorted(grants)[:: 1 if thorough else 4]:
        execute(protea.url, grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
        assert [finding.fix for finding in problems(run_check(guest_url(protea.url)))] == [grant]
        report = protea.sweep(least)
        assert report.error or report.failures, grant
        execute(protea.url, grant)
    assert protea.sweep(least).reaped == 1


def test_inheriting_table_is_reached_by_updates_and_not_by_inserts(protea: Protea) -> None:
    with connected(
        protea.url,
        *(_function(name, "text") for name in ("of_job", "of_event")),
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC",
        "CREATE TABLE old_job (CHECK (of_job(error_code))) INHERITS (job)",
        "CREATE TABLE old_event (CHECK (of_event(event))) INHERITS (job_event)",
        "CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER t BEFORE INSERT ON old_event FOR EACH ROW WHEN (of_event(NEW.event)) EXECUTE FUNCTION fires()",
    ):
        grants = execute_grants(protea.url, PROTEA)
    executes = [grant for grant in grants if "EXECUTE" in grant]
    assert executes == ["GRANT EXECUTE ON FUNCTION public.of_job(text) TO guest;"]


def test_trigger_of_a_partition_is_named_with_its_partition(database: str) -> None:
    """A row trigger fires for a row inserted through the partitioned table; a statement trigger does not."""
    with connected(
        database,
        *PARTITIONED,
        "CREATE FUNCTION copy_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER every AFTER INSERT ON job_event FOR EACH ROW EXECUTE FUNCTION copy_it()",
        "CREATE TRIGGER own AFTER INSERT ON job_event_1_rest FOR EACH ROW EXECUTE FUNCTION copy_it()",
        "CREATE TRIGGER by_itself AFTER INSERT ON job_event_1_rest EXECUTE FUNCTION copy_it()",
    ) as connection:
        facts = facts_from_database(connection, PROTEA, "guest")
    [note] = grants_for(PROTEA, Workload(), facts).notes
    calls = "the trigger every calls public.copy_it, the trigger own on public.job_event_1_rest calls public.copy_it"
    assert note.startswith(f"job_event: {calls} with the role's own privileges")
    assert note in {f"{finding.subject}: {finding.message}" for finding in run_check(database)}


def test_functions_that_run_with_the_roles_privileges_are_noted_where_the_role_calls_them(protea: Protea) -> None:
    """What such a trigger or default touches is unknown. A function with SECURITY DEFINER needs no note."""
    with connected(
        protea.url,
        "CREATE TABLE heap (at timestamptz)",
        "CREATE SEQUENCE numbers",
        *(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql {security}"
            " AS 'BEGIN INSERT INTO heap VALUES (now()); RETURN NULL; END'"
            for name, security in (("copy_it", ""), ("own_privileges", "SECURITY DEFINER"))
        ),
        "CREATE FUNCTION number() RETURNS bigint LANGUAGE sql AS $$SELECT nextval('public.numbers')$$",
        "CREATE TRIGGER audit AFTER UPDATE ON job FOR EACH ROW EXECUTE FUNCTION copy_it()",
        "CREATE TRIGGER later AFTER DELETE ON job FOR EACH ROW EXECUTE FUNCTION copy_it()",
        "CREATE TRIGGER audit AFTER INSERT ON job_event FOR EACH ROW EXECUTE FUNCTION copy_it()",
        "CREATE TRIGGER safe AFTER INSERT ON job_event FOR EACH ROW EXECUTE FUNCTION own_privileges()",
        "ALTER TABLE job_event ADD extra bigint DEFAULT number()",
        "ALTER TABLE job ADD extra bigint DEFAULT number()",
    ):
        execute_grants(protea.url, PROTEA)
    with connected(protea.url) as connection:
        notes = grants_for(PROTEA, Workload(), facts_from_database(connection, PROTEA, "guest")).notes
    assert [note.partition(" with the role's own privileges")[0] for note in notes] == [
        "job: the trigger audit calls public.copy_it",
        "job_event: the trigger audit calls public.copy_it, the default of extra calls public.number()",
    ]
    about_functions = [finding for finding in run_check(guest_url(protea.url)) if "own privileges" in finding.message]
    assert [f"{finding.subject}: {finding.message}" for finding in about_functions] == notes
    least = Source("main", str(guest_url(protea.url)), PROTEA, thresholds(), PATIENCE)
    for more in ("INSERT ON heap", "USAGE ON SEQUENCE numbers"):
        protea.stale()
        report = protea.sweep(least)
        assert report.reaped == 0 and (report.error or report.failures), more
        execute(protea.url, f"GRANT {more} TO guest")
    assert protea.sweep(least).reaped == 2


def test_view_requirements_are_noted_by_grants_and_reported_by_check_when_missing(protea: Protea) -> None:
    with connected(
        protea.url,
        _function("parse", "uuid", gives="uuid", says="$1"),
        "CREATE TABLE raw (job_id uuid)",
        "CREATE VIEW plain AS SELECT job_id FROM raw",
        "CREATE VIEW invoked WITH (security_invoker = on) AS SELECT job_id FROM raw",
        "CREATE VIEW above AS SELECT parse(job_id) AS job_id FROM invoked",
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC",
    ):
        pass
    through = "a view, read with the role's own privileges; grant the role what that takes: "
    for view, needed in (
        ("plain", ()),
        ("invoked", ("SELECT on public.raw",)),
        ("above", ("EXECUTE on public.parse(uuid)", "SELECT on public.raw")),
    ):
        related = {"table": view, "match": {"job_id": "id"}}
        profile = protea_with(jobs={"running": {"column": "status", "in": ["running"], "missing": [related]}})
        execute_grants(protea.url, profile)
        with connected(protea.url) as connection:
            notes = grants_for(profile, Workload(), facts_from_database(connection, profile, "guest")).notes
        assert notes == ([f"{view}: {through}{', '.join(needed)}"] if needed else [])
        for one in needed:
            findings = run_check(guest_url(protea.url), profile=profile)
            [finding] = [found for found in findings if found.subject == view and one in found.message]
            # Reading from the last one would call parse(), so the check does not try it.
            assert finding.level is (Level.NOTE if view == "above" else Level.ERROR)
            execute(protea.url, f"GRANT {one.replace('EXECUTE on', 'EXECUTE ON FUNCTION')} TO guest")
        assert problems(run_check(guest_url(protea.url), profile=profile)) == []
        least = Source("main", str(guest_url(protea.url)), profile, thresholds(), PATIENCE)
        protea.stale()
        assert protea.sweep(least).reaped == 1


def test_rows_that_a_policy_hides_are_noted(database: str) -> None:
    execute(database, "ALTER TABLE job ENABLE ROW LEVEL SECURITY")
    with connected(database) as connection:
        facts = facts_from_database(connection, PROTEA, "guest")
    [note] = grants_for(PROTEA, Workload(), facts).notes
    policy = "CREATE POLICY guest ON public.job TO guest USING (true);"
    assert note.startswith("job: row-level security may hide rows from the role") and note.endswith(policy)
    as_guest = create_guest(database, *printed(database, PROTEA)[1:])
    execute(database, policy)
    with connected(as_guest) as connection:
        connection.exec_driver_sql("SELECT id FROM job")


def test_log_whose_jobs_are_locked_one_by_one_gets_no_table_lock_grant(database: str) -> None:
    with PostgreSQLDatabase(database).session(autocommit=True) as owner:
        owner.do(resources.files("reaper.profiles").joinpath("noetl.sql").read_text())
    closing = [s for s in printed(database, resolve("noetl")) if "MAINTAIN" in s or "UPDATE" in s]
    alone = resolve("mine", {"mine": {"extends": "noetl", "jobs": {"log": {"lock": "job"}}}})
    assert len(closing) == 1 and not [s for s in printed(database, alone) if "MAINTAIN" in s or "UPDATE" in s]


def test_grants_cover_attempts_parts_and_rows_of_other_tables(database: str) -> None:
    """A profile with all of the vocabulary: its jobs are requeued, fail, and are purged."""
    with connected(database, SHOP_TABLES):
        pass
    profile, workload = resolve("shop", {"shop": tomllib.loads(SHOP)}), Workload("requeue_else_fail", purge=True)
    jobs = ", ".join(f"({n}, 1, now() - interval '8 h', now() - interval '8 h', {n}, 2, '[]')" for n in (1, 2))
    execute(database, "INSERT INTO team (id, \"when\") VALUES (1, now() - interval '1 h')")
    execute(database, f"INSERT INTO task (id, team_id, locked_at, begun, tries, max_tries, errors) VALUES {jobs}")
    execute(database, "INSERT INTO claim SELECT id FROM task")
    execute(database, "INSERT INTO piece SELECT id, id, 'Open', now() - interval '7 h' FROM task")
    execute_grants(database, profile, workload=workload)
    least = Source(
        "main", str(guest_url(database)), profile, thresholds(), PATIENCE, SourceOptions(action="requeue_else_fail")
    )
    options = SweepOptions("test-host", 10, Breaker(50, 1.0))
    report = sweep(least, DowntimeTracker(0), SourceState(), options, None, SweepRecorder())
    assert (report.error, report.failures, report.reaped) == (None, (), 2)
    purged = purge(least, PurgeOptions(1e-9, 10), PurgeRecorder())
    assert (purged.error, purged.purged) == (None, 1)


def test_grants_can_be_executed_whatever_the_names_are(database: str) -> None:
    role, profile = 'Gu"est %s', resolve("awk ward", {"awk ward": AWKWARD})
    with connected(database, *AWKWARD_TABLES):
        pass
    assert any("Seq:%" in statement for statement in execute_grants(database, profile, role))


def test_unprintable_name_is_spelled_in_printable_characters(database: str) -> None:
    name = 'bell\x07 "\\" \n--'
    quoted = '"' + name.replace('"', '""') + '"'
    with connected(database, f"ALTER TABLE job_event RENAME COLUMN level TO {quoted}"):
        pass
    values = {name if column == "level" else column: value for column, value in _audit().items()}
    profile = resolve("mine", {"mine": {"extends": "protea", "actions": {"fail": {"also": [values_of(values)]}}}})
    statements = execute_grants(database, profile)
    assert all(statement.isprintable() for statement in statements)
    assert any('U&"bell\\+000007 ""\\\\"" \\+00000A--"' in statement for statement in statements)


def _audit() -> dict[str, Any]:
    return {
        "job_id": {"column": "id"},
        "ts": {"is": "now"},
        "level": "error",
        "event": "job.timeout",
        "message": {"is": "message"},
        "fields": {"is": "evidence"},
    }


def values_of(values: dict[str, Any]) -> dict[str, Any]:
    return {"insert": "job_event", "values": values}
