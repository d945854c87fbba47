"""`reaper.check` on a real PostgreSQL: one broken thing per test, and what is said of it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import URL, Connection, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from reaper.catalog.session import Unsuitable, check_postgresql_version
from reaper.check import Finding, Level, Workload, examine
from reaper.dev.postgres import temporary
from reaper.errors import DatabaseUnavailable
from reaper.profile import Insert, Profile, resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from tests.support.protea import PATIENCE, Protea, thresholds

PROTEA = resolve("protea")
STALL = 1800.0


@contextmanager
def connected(url: str | URL, *script: str) -> Iterator[Connection]:
    """A connection; the script is committed before."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        for statement in script:
            connection.exec_driver_sql(statement.replace("%", "%%"))
        connection.commit()
        yield connection
    engine.dispose()


def found(url: str | URL, *script: str, profile: Profile = PROTEA, **options: Any) -> list[Finding]:
    with connected(url, *script) as connection:
        return examine(connection, profile, STALL, **options)


def grave(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.NOTE]


def only(findings: list[Finding]) -> Finding:
    """The one error or warning."""
    (finding,) = grave(findings)
    return finding


def run(url: str, statement: str | None) -> None:
    """Execute a printed statement just as it stands, by itself: CONCURRENTLY takes no transaction."""
    assert statement is not None
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement.replace("%", "%%"))
    engine.dispose()


def pasted(lines: str | None, name: str = "protea") -> Profile:
    """The profile, once these lines stand in the configuration file."""
    assert lines is not None
    return resolve(name, tomllib.loads(lines)["profiles"])


def mine(**changes: Any) -> Profile:
    """protea, with a few tables of it changed."""
    return resolve("mine", {"mine": {"extends": "protea", **changes}})


def guest(url: str, *grants: str, role: str = "guest") -> URL:
    """The database as a role that may nothing but what is granted."""
    quoted = '"' + role.replace('"', '""') + '"'
    with connected(url, f"DROP ROLE IF EXISTS {quoted}", f"CREATE ROLE {quoted} LOGIN", *grants):
        return make_url(url).set(username=role)


# --- nothing to say ----------------------------------------------------------------------------------------------


def test_the_tables_the_profile_is_written_for_give_no_errors_and_no_warnings(database: str) -> None:
    assert grave(found(database)) == []


def test_nothing_is_left_changed_and_a_transaction_under_way_goes_on(database: str) -> None:
    with connected(database) as connection:
        connection.execute(text("CREATE TABLE mark ()"))
        examine(connection, PROTEA, STALL)
        assert connection.execute(text("SHOW statement_timeout")).scalar() == "0"
        connection.execute(text("CREATE TABLE mark_2 ()"))
        connection.commit()


def test_a_role_with_the_printed_grants_and_no_others_finds_nothing_wrong(database: str) -> None:
    role = guest(database, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    findings = grave(found(role))
    assert [f.subject for f in findings] == ["job", "job", "job_event"]
    for finding in findings:
        run(database, finding.fix)
    assert grave(found(role)) == []


def test_a_role_with_the_printed_grants_and_no_others_can_sweep_and_explain(protea: Protea) -> None:
    role = guest(protea.url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    for finding in grave(found(role)):
        run(protea.url, finding.fix)
    job = protea.stale()
    source = Source("main", role.render_as_string(hide_password=False), PROTEA, thresholds(), PATIENCE)
    assert protea.sweep(source).reaped == 1
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection):
            keys = [key for key in [source.lookup.find(connection, [job])] if key]
            assert source.lookup.evidence(connection, context, keys)
            assert source.lookup.audits(connection, keys[0])


# --- names -------------------------------------------------------------------------------------------------------


def test_a_missing_table_is_told_with_the_nearest_name(database: str) -> None:
    finding = only(found(database, "ALTER TABLE job_event RENAME TO job_events"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event")
    assert finding.message == "no such table; did you mean 'job_events'?"
    assert grave(found(database, profile=pasted(finding.fix))) == []


def test_a_table_that_stands_in_one_other_schema_is_looked_for_there(database: str) -> None:
    """Which keeps the profile as it is, and finds what else stands along the path."""
    role = guest(database, "CREATE SCHEMA app", "ALTER TABLE job_event SET SCHEMA app")
    finding = next(finding for finding in found(role) if finding.subject == "job_event")
    assert finding.message == "no such table in the search path; there is app.job_event"
    named = make_url(database).database
    assert finding.fix == f"ALTER ROLE guest IN DATABASE {named} SET search_path = app, public;"
    run(database, finding.fix)
    for finding in grave(found(role)):
        run(database, finding.fix)
    assert grave(found(role)) == []


def test_a_table_that_stands_in_several_other_schemas_is_named_with_one(database: str) -> None:
    moved = [
        "CREATE SCHEMA app",
        "ALTER TABLE job_event SET SCHEMA app",
        "CREATE SCHEMA b",
        "CREATE TABLE b.job_event ()",
    ]
    finding = only(found(database, *moved))
    assert finding.message == "no such table in the search path; there is app.job_event, b.job_event"
    assert grave(found(database, profile=pasted(finding.fix))) == []


def test_a_missing_column_is_told_with_the_nearest_name(database: str) -> None:
    finding = only(found(database, "ALTER TABLE job RENAME COLUMN started_at TO start_at"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job.started_at")
    assert finding.message == "no such column; did you mean 'start_at'?"
    assert grave(found(database, profile=pasted(finding.fix))) == []


def test_a_column_that_an_action_sets_under_another_name_is_corrected_by_the_whole_profile(database: str) -> None:
    finding = only(found(database, "ALTER TABLE job RENAME COLUMN error_code TO err_code"))
    profile = pasted(finding.fix)
    assert set(profile.actions["fail"].assign or ()) == {"status", "finished_at", "err_code", "error_message"}
    assert grave(found(database, profile=profile)) == []


def test_everything_wrong_is_said_at_once(database: str) -> None:
    findings = found(
        database,
        "ALTER TABLE job RENAME COLUMN operation TO operations",
        "ALTER TABLE job RENAME COLUMN parent_job_id TO parent_id",
        "ALTER TABLE job_event RENAME COLUMN ts TO at_time",
        "DROP INDEX ix_job_status_created_at",
    )
    assert [f.subject for f in grave(findings)] == ["job.operation", "job.parent_job_id", "job_event.ts", "job.status"]


def test_a_view_is_no_table_and_the_one_behind_it_is_named(database: str) -> None:
    finding = only(
        found(
            database,
            "ALTER TABLE job RENAME TO job_rows",
            "CREATE VIEW job AS SELECT * FROM job_rows",
        )
    )
    assert (finding.level, finding.subject) == (Level.ERROR, "job")
    assert finding.message == (
        "is a view: its rows cannot be locked, so nothing can be judged again before it is ended; "
        "it reads from public.job_rows"
    )
    assert grave(found(database, profile=pasted(finding.fix))) == []


def test_a_foreign_table_is_no_table(database: str) -> None:
    findings = found(
        database,
        "CREATE FOREIGN DATA WRAPPER nowhere",
        "CREATE SERVER far FOREIGN DATA WRAPPER nowhere",
        "ALTER TABLE job_event RENAME TO job_event_rows",
        "CREATE FOREIGN TABLE job_event (id bigint, job_id uuid, ts timestamptz, level text, event text,"
        " message text, fields jsonb) SERVER far",
    )
    assert only(findings).message.startswith("is a foreign table: its rows cannot be locked")


def test_a_key_that_is_not_unique_is_an_error(database: str) -> None:
    script = ["ALTER TABLE job DROP CONSTRAINT job_pkey CASCADE", "CREATE UNIQUE INDEX ON job (id) WHERE id IS NULL"]
    not_unique, fence = grave(found(database, *script))
    assert (not_unique.level, not_unique.subject) == (Level.ERROR, "job")
    assert not_unique.message.startswith("jobs.key (id) is not unique: no primary key or unique constraint")
    run(database, not_unique.fix)
    run(database, fence.fix)
    assert grave(found(database)) == []


def test_a_key_that_may_be_null_is_a_warning(database: str) -> None:
    script = ["ALTER TABLE job DROP CONSTRAINT job_pkey CASCADE", "ALTER TABLE job ALTER id DROP NOT NULL"]
    nullable, _ = grave(found(database, *script, "ALTER TABLE job ADD UNIQUE (id)"))
    assert (nullable.level, nullable.subject) == (Level.WARNING, "job.id")
    assert nullable.message == "is part of jobs.key and may be NULL: such a job can never be claimed"
    run(database, nullable.fix)
    assert [f.subject for f in grave(found(database))] == ["job_event"]


# --- values ------------------------------------------------------------------------------------------------------


def test_an_enum_made_by_sqlalchemy_is_recognised_and_corrected(database: str) -> None:
    labels = ("queued", "running", "succeeded", "failed", "cancelled")
    rename = [f"ALTER TYPE job_status RENAME VALUE '{label}' TO '{label.upper()}'" for label in labels]
    running, *purged, failed = grave(found(database, *rename))
    assert (running.level, running.subject) == (Level.ERROR, "job.status")
    assert running.message == (
        "jobs.running.in: 'running' is no label of the enum job_status (QUEUED, RUNNING, SUCCEEDED, FAILED, "
        "CANCELLED); did you mean 'RUNNING'? An enum made by SQLAlchemy stores the names of its members"
    )
    assert failed.message.startswith("actions.fail.set: 'failed' is no label")
    ended = ("succeeded", "failed", "cancelled")
    assert [f.message.split(" of ")[0] for f in purged] == [f"purge.where.0.in: '{end}' is no label" for end in ended]
    assert {f.fix for f in (running, failed, *purged)} == {
        '[profiles.protea]\nextends = "protea"\njobs.running.in = ["RUNNING"]\nactions.fail.set.status = "FAILED"\n'
        'purge.where = [\n    { column = "status", in = ["SUCCEEDED", "FAILED", "CANCELLED"] },\n]\n'
        'fence.again = ["QUEUED"]'
    }
    assert grave(found(database, profile=pasted(running.fix))) == []


def test_a_wrong_label_in_an_inserted_row_is_corrected(database: str) -> None:
    finding = only(
        found(
            database,
            "CREATE TYPE level AS ENUM ('INFO', 'ERROR')",
            "ALTER TABLE job_event ALTER level DROP DEFAULT, ALTER level TYPE level USING upper(level)::level",
        )
    )
    assert (finding.subject, finding.message.split(";")[0]) == (
        "job_event.level",
        "actions.fail.also.0: 'error' is no label of the enum level (INFO, ERROR)",
    )
    profile = pasted(finding.fix)
    [audit] = profile.actions["fail"].also
    assert isinstance(audit, Insert) and audit.values["level"] == "ERROR"
    assert grave(found(database, profile=profile)) == []


def test_a_value_that_a_check_constraint_refuses_is_an_error(database: str) -> None:
    running, *_, failed = grave(
        found(
            database,
            "ALTER TABLE job ALTER status DROP DEFAULT, ALTER status TYPE text",
            "ALTER TABLE job ADD CONSTRAINT known_status CHECK"
            " (status IN ('Queued', 'Running', 'Failed', 'Succeeded', 'Cancelled'))",
        )
    )
    assert (running.level, running.subject) == (Level.ERROR, "job.status")
    assert running.message.startswith(
        "jobs.running.in: status = 'running' is refused by the constraint known_status: CHECK ("
    )
    assert running.message.endswith("did you mean 'Running'?")
    assert grave(found(database, profile=pasted(failed.fix))) == []


def test_a_check_over_several_columns_is_asked_when_the_action_sets_them_all(database: str) -> None:
    rule = "ALTER TABLE job ADD CONSTRAINT ended CHECK ((status = 'failed') = (error_code IS NULL)) NOT VALID"
    finding = only(found(database, rule))
    assert (finding.level, finding.subject) == (Level.ERROR, "job")
    assert finding.message.startswith(
        "actions.fail.set: error_code = 'JobTimeout', status = 'failed' is refused by the constraint ended"
    )


def test_a_value_that_is_too_long_is_an_error_and_the_column_can_be_widened(database: str) -> None:
    too_long, *others = grave(found(database, "ALTER TABLE job ALTER error_code TYPE varchar(8)"))
    assert too_long.message == (
        "actions.fail.set: 'JobTimeout' is 10 characters long, too long for character varying(8)"
    )
    assert {other.fix for other in others} == {too_long.fix}
    run(database, too_long.fix)
    assert grave(found(database)) == []


def test_a_short_column_for_the_message_is_a_warning(database: str) -> None:
    finding = only(found(database, "ALTER TABLE job ALTER error_message TYPE varchar(80)"))
    assert (finding.level, finding.subject) == (Level.WARNING, "job.error_message")
    run(database, finding.fix)
    assert grave(found(database)) == []


def test_a_value_in_another_case_than_the_rows_is_a_warning(database: str) -> None:
    finding = only(
        found(
            database,
            "ALTER TABLE job ALTER status DROP DEFAULT, ALTER status TYPE text",
            "CREATE INDEX ON job (status)",
            "INSERT INTO job (operation, queue_name, status) VALUES ('x', 'q', 'RUNNING')",
        )
    )
    assert (finding.level, finding.subject) == (Level.WARNING, "job.status")
    assert finding.message == "no row holds 'running', and some hold 'RUNNING'; the case of a value matters"
    assert finding.fix is not None
    assert 'jobs.running.in = ["RUNNING"]' in finding.fix


@pytest.mark.parametrize(
    ("words", "using", "meant"),
    [
        ("timestamp", "ts", "naive"),
        ("bigint", "extract(epoch FROM ts)", "epoch s"),
        ("double precision", "extract(epoch FROM ts)", "epoch s"),
        ("bigint", "extract(epoch FROM ts) * 1000", "epoch ms"),
    ],
)
def test_a_time_in_another_format_is_told_with_the_line_that_says_so(
    database: str, words: str, using: str, meant: str
) -> None:
    script = [
        f"{JOB} ('{A}', 'x', 'q', 'succeeded', now(), NULL)",
        f"INSERT INTO job_event (job_id, event) VALUES ('{A}', 'x')",
        f"ALTER TABLE job_event ALTER ts DROP DEFAULT, ALTER ts TYPE {words} USING {using}",
    ]
    finding = only(found(database, *script))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event.ts")
    assert finding.message.startswith(f"is {words}")
    assert finding.message.endswith(
        f", and the profile's time format of job_event is 'timestamptz', a timestamp with time zone; "
        f"did you mean {meant!r}?"
    )
    assert finding.fix == f'[profiles.protea]\nextends = "protea"\ntimes.job_event = "{meant}"'
    corrected = pasted(finding.fix)
    assert grave(found(database, profile=corrected)) == []
    back = only(found(database, "ALTER TABLE job_event ALTER ts TYPE timestamptz USING now()", profile=corrected))
    assert back.message.endswith("did you mean 'timestamptz'?")
    assert grave(found(database, profile=resolve("protea", {"protea": merged(finding.fix, back.fix)}))) == []


def merged(*fixes: str | None) -> dict[str, Any]:
    """What the configuration file says of protea when these lines stand there one after the other."""
    times: dict[str, Any] = {}
    for fix in fixes:
        times |= tomllib.loads(fix or "")["profiles"]["protea"]["times"]
    return {"extends": "protea", "times": times}


def test_numbers_of_which_no_row_tells_the_unit_may_be_either(database: str) -> None:
    script = "ALTER TABLE job_event ALTER ts DROP DEFAULT, ALTER ts TYPE bigint USING extract(epoch FROM ts)"
    finding = only(found(database, script))
    assert finding.message.endswith("; a number is 'epoch s' or 'epoch ms', and no row tells which")
    assert finding.fix is None


def test_one_column_without_a_zone_among_others_that_have_one_is_to_be_converted(database: str) -> None:
    finding = only(found(database, "ALTER TABLE job ALTER created_at TYPE timestamp"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job.created_at")
    run(database, finding.fix)
    assert grave(found(database)) == []


def test_a_moment_that_is_only_written_may_have_a_zone_or_none(database: str) -> None:
    profile = mine(actions={"fail": {"set": {"done": {"is": "now"}}}})
    assert grave(found(database, "ALTER TABLE job ADD done timestamp", profile=profile)) == []
    finding = only(found(database, "ALTER TABLE job ALTER done TYPE bigint USING 0", profile=profile))
    assert (finding.level, finding.subject) == (Level.ERROR, "job.done")


def test_a_time_that_is_a_number_among_others_is_an_error(database: str) -> None:
    finding = only(
        found(database, "ALTER TABLE job ALTER finished_at TYPE bigint USING extract(epoch FROM finished_at)")
    )
    assert finding.message == (
        "is bigint, and the profile's time format of job is 'timestamptz', a timestamp with time zone, which others of "
        "its columns have"
    )


def test_a_domain_is_taken_for_the_type_that_it_restricts(database: str) -> None:
    domains = [
        "CREATE DOMAIN moment AS timestamptz",
        "CREATE DOMAIN code AS varchar(12) CHECK (VALUE LIKE 'Job%')",
        "ALTER TABLE job ALTER finished_at TYPE moment, ALTER error_code TYPE code",
    ]
    finding = only(found(database, *domains))
    assert finding.message == "actions.fail.set: 'ManualTimeout' is 13 characters long, too long for code"


def test_an_insert_that_leaves_out_a_column_that_must_be_given_is_an_error(database: str) -> None:
    finding = only(found(database, "ALTER TABLE job_event ADD tenant integer NOT NULL"))
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
def test_evidence_belongs_into_json(database: str, words: str, level: Level, message: str) -> None:
    script = f"ALTER TABLE job_event ALTER fields DROP DEFAULT, ALTER fields TYPE {words}"
    finding = only(found(database, script))
    assert (finding.level, finding.subject) == (level, "job_event.fields")
    assert finding.message == f"actions.fail.also.0 {message}"


def test_json_is_as_good_as_jsonb(database: str) -> None:
    script = "ALTER TABLE job_event ALTER fields DROP DEFAULT, ALTER fields TYPE json"
    assert grave(found(database, script)) == []


def test_values_that_do_not_fit_their_columns_are_errors(database: str) -> None:
    assign = {
        "progress_current": "many",
        "progress_total": True,
        "meta": {"column": "id"},
        "operation": {"is": "null"},
        "queue_name": 7,
    }
    script = "ALTER TABLE job ADD twice bigint GENERATED ALWAYS AS (progress_total * 2) STORED"
    profile = mine(actions={"fail": {"set": {**assign, "twice": 1}}})
    told = {f.subject: f.message for f in grave(found(database, script, profile=profile))}
    assert told == {
        "job.progress_current": "actions.fail.set: 'many' cannot be read as bigint",
        "job.progress_total": "actions.fail.set: True does not fit bigint",
        "job.meta": "actions.fail.set copies job.id (uuid) into jsonb, which does not fit",
        "job.operation": "actions.fail.set sets NULL, and the column is NOT NULL",
        "job.queue_name": "actions.fail.set: 7 does not fit text",
        "job.twice": "actions.fail.set gives a value to a generated column, which takes none",
    }


# --- indexes -----------------------------------------------------------------------------------------------------


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
def test_a_missing_index_is_a_warning_with_the_statement_that_makes_it(
    database: str, index: str, subject: str, message: str, fix: str
) -> None:
    finding = only(found(database, f"DROP INDEX {index}"))
    assert finding == Finding(Level.WARNING, subject, message, fix)
    run(database, finding.fix)
    assert grave(found(database)) == []


@pytest.mark.parametrize(
    "index",
    [
        "ON job (created_at) WHERE status = 'running'",
        "ON job (status) WHERE status IN ('queued', 'running')",
        "ON job (id) INCLUDE (started_at) WHERE status <> 'succeeded'",
    ],
)
def test_a_partial_index_that_holds_the_running_jobs_counts(database: str, index: str) -> None:
    assert grave(found(database, "DROP INDEX ix_job_status_created_at", f"CREATE INDEX {index}")) == []


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
def test_an_index_that_does_not_find_every_running_job_does_not_count(database: str, index: str) -> None:
    finding = only(found(database, "DROP INDEX ix_job_status_created_at", f"CREATE INDEX {index}"))
    assert finding.subject == "job.status"


def test_an_index_on_a_parent_that_is_not_null_counts(database: str) -> None:
    script = ["DROP INDEX ix_job_parent_job_id", "CREATE INDEX ON job (parent_job_id) WHERE parent_job_id IS NOT NULL"]
    assert grave(found(database, *script)) == []


def test_an_index_on_the_events_job_alone_is_good_to_improve(database: str) -> None:
    findings = found(database, "DROP INDEX ix_job_event_job_id_ts", "CREATE INDEX ON job_event (job_id)")
    assert grave(findings) == []
    assert "CREATE INDEX CONCURRENTLY ON public.job_event (job_id, ts);" in [f.fix for f in findings]


def test_an_invalid_index_is_a_warning_and_does_not_count(database: str) -> None:
    script = ["INSERT INTO job_event (job_id, event) SELECT id, 'x' FROM new, generate_series(1, 2)"]
    job = "WITH new AS (INSERT INTO job (operation, queue_name) VALUES ('x', 'q') RETURNING id) "
    with connected(database, "ALTER TABLE job_event DROP CONSTRAINT job_event_job_id_fkey", job + script[0]):
        pass
    with pytest.raises(DBAPIError):
        run(database, "CREATE UNIQUE INDEX CONCURRENTLY broken ON job_event (job_id)")
    invalid, fence = grave(found(database))
    assert invalid == Finding(
        Level.WARNING,
        "job_event",
        "the index broken is invalid: it is kept up to date and never used",
        "REINDEX INDEX CONCURRENTLY public.broken;",
    )
    run(database, fence.fix)
    run(database, "DELETE FROM job_event")
    run(database, invalid.fix)
    assert grave(found(database)) == []


def test_events_without_a_foreign_key_are_a_warning(database: str) -> None:
    finding = only(found(database, "ALTER TABLE job_event DROP CONSTRAINT job_event_job_id_fkey"))
    assert (finding.level, finding.subject) == (Level.WARNING, "job_event")
    assert finding.message == (
        "no foreign key from (job_id) to job: a sign of life can slip in between the second judgement and the "
        "commit, as nothing makes it wait for the job's lock"
    )
    run(database, finding.fix)
    assert grave(found(database)) == []


def test_the_index_of_a_partitioned_table_is_made_as_it_can_be(database: str) -> None:
    findings = grave(
        found(
            database,
            "DROP TABLE job_event",
            "CREATE TABLE job_event (id bigint GENERATED ALWAYS AS IDENTITY, job_id uuid NOT NULL REFERENCES job,"
            " ts timestamptz NOT NULL, level text, event text, message text, fields jsonb) PARTITION BY RANGE (ts)",
            "CREATE TABLE job_event_all PARTITION OF job_event DEFAULT",
        )
    )
    assert [f.fix for f in findings] == ["CREATE INDEX ON public.job_event (job_id, ts);"]
    run(database, findings[0].fix)
    assert grave(found(database)) == []


# --- privileges --------------------------------------------------------------------------------------------------


def test_a_role_without_any_rights_gets_every_grant_that_is_missing(database: str) -> None:
    findings = found(guest(database))
    job, event = grave(findings)
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
        run(database, finding.fix)
    assert not [f for f in found(guest_url(database)) if f.fix]


def guest_url(database: str, role: str = "guest") -> URL:
    return make_url(database).set(username=role)


def test_the_default_of_a_serial_column_asks_for_its_sequence(database: str) -> None:
    serial = [
        "ALTER TABLE job_event ALTER id DROP IDENTITY",
        "CREATE SEQUENCE event_ids",
        "ALTER TABLE job_event ALTER id SET DEFAULT nextval('event_ids')",
        "GRANT SELECT, INSERT, UPDATE ON job, job_event TO guest",
    ]
    finding = only(found(guest(database, *serial)))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event.id")
    assert finding.fix == "GRANT USAGE ON SEQUENCE public.event_ids TO guest;"
    run(database, finding.fix)
    assert grave(found(guest_url(database))) == []


def test_tables_in_a_schema_that_the_role_may_not_use_are_found_all_the_same(database: str) -> None:
    moved = [
        "CREATE SCHEMA app",
        "ALTER TABLE job SET SCHEMA app",
        "ALTER TABLE job_event SET SCHEMA app",
        "ALTER TYPE job_status SET SCHEMA app",
        f"ALTER DATABASE {make_url(database).database} SET search_path = app, public",
    ]
    role = guest(database, *moved)
    findings = grave(found(role))
    assert findings[0].message == "the role 'guest' may not use the schema 'app'"
    assert [f.subject for f in findings] == ["job", "job", "job_event"]
    for finding in findings:
        run(database, finding.fix)
    assert grave(found(role)) == []


# --- rows --------------------------------------------------------------------------------------------------------

JOB = "INSERT INTO job (id, operation, queue_name, status, started_at, parent_job_id) VALUES "
A, B, C = (f"00000000-0000-0000-0000-00000000000{n}" for n in "abc")


def test_a_running_job_that_starts_in_the_future_is_a_warning(database: str) -> None:
    finding = only(found(database, f"{JOB} ('{A}', 'x', 'q', 'running', now() + interval '1 hour', NULL)"))
    assert (finding.level, finding.subject) == (Level.WARNING, "job")
    assert finding.message.startswith(f"the job {A} cannot become stale for long: by the database's clock, it started")


@pytest.mark.parametrize("context", ["now() + interval '1 hour'", "'infinity'"])
def test_an_event_from_the_future_is_a_warning(database: str, context: str) -> None:
    job = f"{JOB} ('{A}', 'x', 'q', 'running', now(), NULL)"
    finding = only(found(database, job, f"INSERT INTO job_event (job_id, ts, event) VALUES ('{A}', {context}, 'x')"))
    assert "its newest sign of life (job_event) is in the future, at " in finding.message


def test_what_ended_or_lies_within_a_minute_may_have_any_time(database: str) -> None:
    script = [
        f"{JOB} ('{A}', 'x', 'q', 'succeeded', now() + interval '1 hour', NULL)",
        f"{JOB} ('{B}', 'x', 'q', 'running', now() + interval '30 s', NULL)",
    ]
    assert grave(found(database, *script)) == []


def test_running_jobs_that_are_each_others_ancestors_are_a_warning(database: str) -> None:
    jobs = [f"{JOB} ('{job}', 'x', 'q', 'running', now(), NULL)" for job in (A, B, C)]
    circle = [f"UPDATE job SET parent_job_id = '{p}' WHERE id = '{c}'" for p, c in ((A, B), (B, C), (C, A))]
    finding = only(found(database, *jobs, *circle))
    assert finding.level is Level.WARNING
    assert finding.message.startswith("running jobs are each other's parents and keep each other alive for ever")
    assert grave(found(database, f"UPDATE job SET status = 'failed' WHERE id = '{B}'")) == []


def test_a_job_that_is_its_own_parent_keeps_nobody_alive(database: str) -> None:
    assert grave(found(database, f"{JOB} ('{A}', 'x', 'q', 'running', now(), '{A}')")) == []


def test_a_question_that_takes_too_long_is_cut_off_and_said(database: str) -> None:
    with connected(database) as other:
        other.execute(text("LOCK TABLE job_event"))
        findings = found(database, patience_seconds=0.2)
    assert grave(findings) == []
    assert [(f.level, f.message) for f in findings if "cut off" in f.message] == [
        (Level.NOTE, "whether 'job_event' speaks from the future could not be told: cut off after 0.2 s")
    ]


def test_a_table_that_somebody_keeps_locked_holds_up_nothing(database: str) -> None:
    with connected(database, "ALTER TABLE job_event ADD CHECK (event <> '')") as other:
        other.execute(text("LOCK TABLE job_event"))
        findings = found(database, patience_seconds=0.2)
    assert only(findings) == Finding(
        Level.WARNING,
        "job_event",
        "could not be examined (cut off after 0.2 s): somebody seems to keep it locked exclusively",
    )


# --- the server --------------------------------------------------------------------------------------------------


def test_a_role_that_is_read_only_is_an_error(database: str) -> None:
    script = [
        "ALTER ROLE guest SET default_transaction_read_only = on",
        "GRANT SELECT, INSERT, UPDATE ON job, job_event TO guest",
    ]
    role = guest(database, *script)
    finding = only(found(role))
    assert (finding.level, finding.subject) == (Level.ERROR, "server")
    assert finding.message.startswith("default_transaction_read_only is on for the role 'guest'")
    run(database, finding.fix)
    assert grave(found(role)) == []


def test_a_standby_is_an_error() -> None:
    with temporary() as primary:
        url = primary.create_database("protea")
        primary.stop()
        signal = primary.data / "standby.signal"
        signal.touch()
        os.chown(signal, primary.data.stat().st_uid, primary.data.stat().st_gid)
        primary.start()
        finding = only(found(url))
    assert (finding.level, finding.subject) == (Level.ERROR, "server")
    assert finding.message == "is a standby in recovery: nothing can be written there; connect to the primary"


def test_short_timeouts_of_the_role_are_told(database: str) -> None:
    script = [
        "ALTER ROLE guest SET statement_timeout = '5s'",
        "ALTER ROLE guest SET transaction_timeout = '7s'",
        "GRANT SELECT, INSERT, UPDATE ON job, job_event TO guest",
    ]
    findings = found(guest(database, *script))
    told = {(f.level, f.message) for f in findings if "timeout of the role" in f.message}
    assert told == {
        (
            Level.NOTE,
            "statement_timeout of the role 'guest' is 5 s; the reaper sets its own for each of its transactions",
        ),
        (Level.WARNING, "transaction_timeout of the role 'guest' is 7 s: a longer survey is cut off"),
    }
    for finding in findings:
        if "timeout of the role" in finding.message:
            run(database, finding.fix)
    assert grave(found(guest_url(database))) == []


def test_a_clock_that_differs_is_only_a_note(database: str) -> None:
    findings = found(database, host_clock=lambda: 0.0)
    assert grave(findings) == []
    assert any("ahead of this host's; verdicts use the database's alone" in f.message for f in findings)


def test_triggers_that_fire_when_a_job_is_ended_are_named(database: str) -> None:
    findings = found(
        database,
        "CREATE FUNCTION noop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER on_end BEFORE UPDATE OF status ON job FOR EACH ROW EXECUTE FUNCTION noop()",
        "CREATE TRIGGER on_meta BEFORE UPDATE OF meta ON job FOR EACH ROW EXECUTE FUNCTION noop()",
        "CREATE TRIGGER on_insert BEFORE INSERT ON job FOR EACH ROW EXECUTE FUNCTION noop()",
        "CREATE TRIGGER on_event AFTER INSERT OR UPDATE ON job_event FOR EACH ROW EXECUTE FUNCTION noop()",
        "CREATE TRIGGER on_change AFTER UPDATE ON job_event FOR EACH ROW EXECUTE FUNCTION noop()",
    )
    assert grave(findings) == []
    assert [(f.subject, f.message.rpartition(": ")[2]) for f in findings if "triggers fire" in f.message] == [
        ("job", "on_end"),
        ("job_event", "on_event"),
    ]


def test_rules_that_no_sweep_gets_past_are_errors_and_others_are_not(protea: Protea) -> None:
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
        assert grave(found(protea.url, duties=Workload("fail", purge=True))) == [] and protea.sweep(source).reaped == 1
    run(protea.url, "DROP RULE elsewhere ON job_event")
    for rule, on in (
        ('CREATE RULE "a rule" AS ON UPDATE TO job DO ALSO INSERT INTO copy SELECT NEW.*', "job"),
        ("CREATE RULE partly AS ON INSERT TO job_event WHERE NEW.level = 'x' DO INSTEAD NOTHING", "job_event"),
        ("CREATE RULE not_at_all AS ON INSERT TO job_event DO INSTEAD NOTHING", "job_event"),
        (
            "CREATE RULE two AS ON INSERT TO job_event DO INSTEAD (NOTIFY a; INSERT INTO copy DEFAULT VALUES)",
            "job_event",
        ),
    ):
        run(protea.url, rule)
        finding = only(found(protea.url))
        name = rule.removeprefix("CREATE RULE ").partition(" AS ")[0]
        assert (finding.level, finding.subject) == (Level.ERROR, on) and name.strip('"') in finding.message
        assert finding.fix == f"DROP RULE {name} ON public.{on};"
        protea.stale()
        report = protea.sweep(source)
        assert report.reaped == 0 and (report.error or report.failures), rule
        run(protea.url, finding.fix)
    assert grave(found(protea.url)) == [] and protea.sweep(source).reaped == 4


def test_a_server_that_is_too_old_is_an_error() -> None:
    with pytest.raises(Unsuitable) as unsuitable:
        check_postgresql_version((11, 22))
    assert unsuitable.value.subject == "server"
    assert str(unsuitable.value) == "PostgreSQL 11.22 is too old: 12 or newer is supported; nothing else was examined"
    check_postgresql_version((12, 0))


def test_a_database_that_goes_away_is_told_as_such(database: str) -> None:
    with connected(database) as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        connection.rollback()
        with connected(database) as other:
            assert other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}).scalar()
        with pytest.raises(DatabaseUnavailable, match="terminating connection"):
            examine(connection, PROTEA, STALL)
        connection.invalidate()


# --- names that must be quoted -----------------------------------------------------------------------------------

AWKWARD = {
    "jobs": {
        "table": 'My "App.Job Table',
        "key": ["Group", "select"],
        "kind": "a kind%s",
        "started": ['be"gun', "made:at"],
        "running": {"column": "State's", "in": ["it's ru\ning%"]},
    },
    "alive": [
        {"witness": "log", "events": {"table": 'My "App.Log', "job": ["Group", "user"], "at": "When"}},
        {"witness": "kids", "children": {"parent": ["Up Group", "up"], "at": ["made:at"]}},
    ],
    "actions": {
        "fail": {
            "set": {"State's": "de%ad"},
            "also": [
                {
                    "insert": 'My "App.Log',
                    "values": {
                        "Group": {"column": "Group"},
                        "user": {"column": "select"},
                        "Pro;of": {"is": "evidence"},
                    },
                }
            ],
        }
    },
}
AWKWARD_TABLES = (
    'CREATE SCHEMA "My ""App"',
    """CREATE TYPE "My ""App"."State?" AS ENUM (E'it''s ru\\ning%', 'DE%AD')""",
    """CREATE TABLE "My ""App"."Job Table" ("Group" int, "select" text, "a kind%s" text, "be""gun" timestamptz,
       "made:at" timestamptz, "State's" "My ""App"."State?", "Up Group" int, "up" text, UNIQUE ("Group", "select"),
       CHECK ("State's" IS NOT NULL AND ("State's" = E'it''s ru\\ning%' OR "State's" <> E'it''s ru\\ning%')))""",
    """CREATE TABLE "My ""App"."Log" ("Group" int, "user" text, "When" timestamptz, "No" int NOT NULL,
       "Pro;of" jsonb)""",
    '''CREATE SEQUENCE "My ""App"."Seq:%"''',
    """ALTER TABLE "My ""App"."Log" ALTER "No" SET DEFAULT nextval('"My ""App"."Seq:%"')""",
)


def test_every_fix_can_be_executed_whatever_the_names_are(database: str) -> None:
    profile = resolve("awk ward", {"awk ward": AWKWARD})
    role = guest(database, *AWKWARD_TABLES, role='Gu"est %s')
    findings = found(role, profile=profile)
    statements = [f.fix for f in findings if f.fix and not f.fix.startswith("[")]
    kinds = {"GRANT USAGE ON SCHEMA", "GRANT USAGE ON SEQUENCE", "GRANT SELECT", "GRANT pg_read", "CREATE INDEX"}
    assert {kind for kind in kinds for fix in statements if fix.startswith(kind)} == kinds
    for statement in statements:
        run(database, statement)
    left = grave(found(role, profile=profile))
    assert [f.subject for f in left] == ["My \"App.Job Table.State's"]
    assert "; did you mean 'DE%AD'?" in left[0].message
    corrected = resolve("awk ward", {"awk ward": {**AWKWARD, "actions": overridden(left[0].fix)}})
    assert grave(found(role, profile=corrected)) == []


def overridden(lines: str | None) -> Any:
    assert lines is not None
    assert lines.startswith('[profiles."awk ward"]  # replace these lines of it')
    actions = tomllib.loads(lines)["profiles"]["awk ward"]["actions"]
    actions["fail"]["also"] = AWKWARD["actions"]["fail"]["also"]  # type: ignore[index]
    return actions
