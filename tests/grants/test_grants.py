"""Least privilege: what `reaper grants` prints is enough, nothing of it is too much, and `check` misses what is gone.

The whole suite of `test_behaviour` works as such a role, in every world. Here the privileges are taken away again, one
at a time.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from reaper.check import Finding, Level, Workload, examine
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.fence.operations import FenceAction, apply, plan
from reaper.grants.facts import from_database
from reaper.grants.statements import granting
from reaper.operations.fail import ManualEnd, fail
from reaper.operations.purge import PurgeOptions, purge
from reaper.operations.report import ReportQuery, report
from reaper.profile import Profile, resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions as SweepOrders
from reaper.sweep.state import SourceState
from reaper.sweep.sweep import sweep
from tests.check.test_check import AWKWARD, AWKWARD_TABLES, PROTEA, connected, found, guest, guest_url, mine, run
from tests.check.test_vocabulary import SHOP
from tests.check.test_vocabulary import TABLES as SHOP_TABLES
from tests.operations.test_purge import Told
from tests.support.protea import HOUR, PATIENCE, Heard, Protea, thresholds
from tests.support.worlds import State, World
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import PLACES, called

STALL = 1800.0


@dataclass(frozen=True, order=True)
class Privilege:
    """One privilege on one thing, or on one of its columns."""

    name: str
    column: str
    on: str

    def taken_from(self, role: str) -> str:
        return f"REVOKE {self} ON {self.on} FROM {role}"

    def given_to(self, role: str) -> str:
        return f"GRANT {self} ON {self.on} TO {role}"

    def __str__(self) -> str:
        return f"{self.name} ({self.column})" if self.column else self.name


def privileges(statement: str | None) -> Iterator[Privilege]:
    """Each of those that a GRANT gives."""
    if statement and (found := re.fullmatch(r"GRANT (.*) ON (.*) TO \S+;", statement)):
        for name, columns in re.findall(r"([A-Z]+(?: [A-Z]+)*)(?: \(([^)]*)\))?(?:, |$)", found[1]):
            for column in columns.split(", "):
                yield Privilege(name, column, found[2].removeprefix("TABLE "))


def granted(world: World, *extras: str, duties: Workload | None = None) -> list[Privilege]:
    """What the world's role has."""
    return sorted({each for sql in world.grants("nobody", duties).statements(extras) for each in privileges(sql)})


def checked(world: World, duties: Workload | None = None) -> list[Finding]:
    """What `check` says, asked as the role."""
    source = world.source()
    with source.connect() as connection:
        return examine(connection, source.profile, STALL, duties=duties or Workload(world.action))


def grave(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.NOTE]


def named_in(findings: list[Finding]) -> set[Privilege]:
    return {each for finding in findings for each in privileges(finding.fix)}


@contextmanager
def without(world: World, role: str, one: Privilege) -> Iterator[None]:
    """The role lacks it meanwhile."""
    account = f"{role}{world.database.host}"
    world.hand.do(one.taken_from(account))
    try:
        yield
    finally:
        world.hand.do(one.given_to(account))


# --- everything that a daemon does ---------------------------------------------------------------------------------


def troubles(world: World) -> Iterator[str]:
    """What of it the database refuses, or what is left out; nothing is done that was not asked for."""
    source = world.source()
    world.alive_job()
    job = world.stale_job()
    for what in (_reported, _told_of, _held, _swept, _looked_back):
        try:
            yield from what(world, source, job)
        except (DBAPIError, ReaperError) as error:
            yield f"{what.__name__}: {error}"


def _reported(world: World, source: Source, job: str) -> list[str]:
    result = report(source, DowntimeTracker(0), ReportQuery(None, None, 50))
    with source.connect() as connection, source.transaction(connection, read_only=True):
        if source.profile.task:
            source.lookup.existing_tasks(connection, ["nobody's"])
    return list(result.notes)


def _told_of(world: World, source: Source, job: str) -> list[str]:
    """`explain`."""
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            key = source.lookup.find(connection, [job])
            assert key is not None and source.lookup.evidence(connection, source.ask_probe(context), [key])
            source.lookup.audits(connection, key)
    return []


def _held(world: World, source: Source, job: str) -> list[str]:
    """A worker finishes it, and takes that back."""
    if world.database.host or source.profile.jobs.log:
        return []  # on MariaDB that takes a privilege which is not for one database alone; a log has no rows to hold
    with world.database.session() as worker, source.connect() as connection:
        assert world.finish(job, worker)
        with source.transaction(connection, read_only=True):
            holder = source.lock_holder(connection, (job,))
        worker.rollback()
    return [] if holder and holder.pid == worker.number else ["who holds a row is not told"]


def _swept(world: World, source: Source, job: str) -> list[str]:
    report = world.sweep(source)
    left = [] if report.error or world.state(job) is State.REAPED else [f"{job} was not ended"]
    return [*([report.error] if report.error else []), *(failure.error for failure in report.failures), *left]


def _looked_back(world: World, source: Source, job: str) -> list[str]:
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            source.follow_up.snapshots(connection, context, [(job,)])
    return []


# --- enough, and nothing too much ----------------------------------------------------------------------------------


def only_where(*ids: str) -> pytest.MarkDecorator:
    places = [place for place in PLACES if called(place) in ids]
    assert len(places) == len(ids)
    return pytest.mark.parametrize("world", places, ids=called, indirect=True)


def test_with_what_is_printed_nothing_is_refused_and_check_finds_nothing_wrong(world: World) -> None:
    with world.restricted():
        assert list(troubles(world)) == []
        findings = checked(world)
        assert not named_in(findings) & set(granted(world))
    assert grave(findings) == grave(checked(world)), "what the owner is told of is the profile's own"


def test_one_privilege_less_is_named_by_check_and_missed_by_the_daemon(world: World, thorough: bool) -> None:
    """Each of them, column by column: what nobody misses has no place among them.

    Without time one in three, and not everywhere the same ones.
    """
    with world.restricted() as role:
        mine = granted(world)
        assert len(mine) > 8
        for one in mine if thorough else mine[len(world.profile + world.action) % 3 :: 3]:
            with without(world, role, one):
                if one.name == "CONNECT":
                    with pytest.raises(DatabaseUnavailable, match="permission denied for database"):
                        checked(world)
                    continue
                findings = checked(world)
                assert one in named_in(findings), (one, findings)
                if one.name != "REFERENCES":  # which only `check` is for
                    assert next(troubles(world), None) is not None, one
        assert list(troubles(world)) == []


def test_check_prints_for_a_role_without_rights_what_grants_prints(world: World) -> None:
    with world.restricted() as role:
        printed = {one for one in granted(world) if one.name != "CONNECT"}
        for one in printed:
            world.hand.do(one.taken_from(f"{role}{world.database.host}"))
        if world.database.host:  # where who may see nothing of a database may not even come in
            world.hand.do(f"GRANT CREATE TEMPORARY TABLES ON *.* TO {role}{world.database.host}")
        findings = checked(world)
        told = [f for f in findings if f.level is Level.ERROR or "xmax" in f.message]
        assert named_in(told) == printed


# --- what not everybody wants --------------------------------------------------------------------------------------

PURGING = ("protea-fail-postgresql", "protea-fail-mariadb", "vuls-fail-postgresql", "vuls-fail-mariadb")


@only_where(*PURGING)
def test_a_purge_needs_each_of_its_privileges(world: World) -> None:
    """They are noted where nobody purges on schedule, and wrong where somebody does."""
    extra = sorted(set(granted(world, "purge")) - set(granted(world)))
    assert extra and set(granted(world, duties=Workload(world.action, purge=True))) == set(granted(world, "purge"))
    with world.restricted("purge") as role:
        assert _purged(world) is None
        for one in extra:
            with without(world, role, one):
                assert one in named_in(grave(checked(world, Workload(world.action, purge=True)))), one
                noted = checked(world)
                assert one in named_in(noted) and one not in named_in(grave(noted)), one
                if one.name != "REFERENCES":
                    assert _purged(world) is not None, one
        assert not named_in(checked(world, Workload(world.action, purge=True))) & set(granted(world, "purge"))


def _purged(world: World) -> str | None:
    """What is in the way of a purge; None when nothing is."""
    job = world.job(age=9 * HOUR, sign=None)
    assert world.finish(job, world.hand)
    report = purge(world.source(), PurgeOptions(1e-9, 10), Told())
    return report.error if report.error or report.purged else f"{report.found} found, {report.purged} deleted"


@only_where("adhese-fail-postgresql", "adhese-fail-mariadb")
def test_other_actions_are_noted_by_check_and_work_once_they_are_let(world: World) -> None:
    decision = ManualEnd("somebody", "test-host", "because", "delete")
    with world.restricted() as role:
        deletes = set(granted(world, "actions")) - set(granted(world))
        assert {one.name for one in deletes} == {"DELETE"}
        findings = checked(world)
        assert deletes <= named_in(findings) and not deletes & named_in(grave(findings))
        assert any("`reaper fail --action` cannot delete" in finding.message for finding in findings)
        job = world.stale_job()
        with pytest.raises(DBAPIError):
            fail(world.source(), DowntimeTracker(0), (job,), decision, Heard())
        for one in deletes:
            world.hand.do(one.given_to(f"{role}{world.database.host}"))
        assert fail(world.source(), DowntimeTracker(0), (job,), decision, Heard()).key == (job,)
        assert not deletes & named_in(checked(world))


@only_where("protea-fail-mariadb", "protea-fail-postgresql")
def test_a_fence_that_the_role_was_let_install_is_in_nobody_s_way(world: World) -> None:
    """On MariaDB it works with the rights of who installed it, whoever writes."""
    with world.restricted("fence"):
        apply(world.source(), plan(world.source(), FenceAction.INSTALL))
        assert list(troubles(world)) == []
        job = world.stale_job()
        world.sweep()
        world.hand.do("UPDATE job SET status = 'succeeded' WHERE id = %s", job)
        assert world.state(job) is State.REAPED
        young = world.young_job()
        assert world.finish(young, world.hand) and world.state(young) is State.FINISHED
        apply(world.source(), plan(world.source(), FenceAction.REMOVE))


# --- what else there may be in a database --------------------------------------------------------------------------


def printed(url: str, profile: Profile, role: str = "guest", duties: Workload | None = None) -> list[str]:
    with connected(url) as connection:
        ground = from_database(connection, profile, role)
    return list(granting(profile, duties or Workload(), ground).statements())


def fits(url: str, profile: Profile, role: str = "guest", duties: Workload | None = None) -> set[str]:
    """Executes what is printed, for a role that may nothing else, and returns that; `check` has no more to say."""
    run(url, f"REVOKE ALL ON DATABASE {make_url(url).database} FROM PUBLIC")
    run(url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
    with connected(url) as owner:
        if owner.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = %(role)s", {"role": role}).first():
            run(url, f"DROP OWNED BY {psycopg.sql.Identifier(role).as_string(None)}")
    as_guest = guest(url, role=role)
    mine = printed(url, profile, role, duties)
    assert not any(statement.startswith("CREATE ROLE") for statement in mine)
    for statement in mine:
        run(url, statement)
    findings = found(as_guest, profile=profile, duties=duties or Workload())
    told = [finding for finding in findings if finding.fix and " TO " in finding.fix]
    assert {finding.level for finding in told} <= {Level.NOTE} and not {finding.fix for finding in told} & set(mine)
    return set(mine)


def test_a_serial_column_needs_its_sequence_and_an_identity_does_not(database: str) -> None:
    sequence = "GRANT USAGE ON SEQUENCE public.event_ids TO guest;"
    assert sequence not in fits(database, PROTEA)
    with connected(
        database,
        "ALTER TABLE job_event ALTER id DROP IDENTITY",
        "CREATE SEQUENCE event_ids",
        "ALTER TABLE job_event ALTER id SET DEFAULT nextval('event_ids')",
    ):
        pass
    assert sequence in fits(database, PROTEA)
    run(database, "REVOKE USAGE ON SEQUENCE event_ids FROM guest")
    assert [finding.fix for finding in grave(found(guest_url(database)))] == [sequence]


def test_a_function_that_not_everybody_may_execute_is_granted_where_a_written_row_calls_it(protea: Protea) -> None:
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
        "CREATE DOMAIN told AS said",
        "ALTER TABLE job_event ALTER message TYPE told",
    ):
        pass
    calls = {statement for statement in fits(protea.url, PROTEA) if "EXECUTE" in statement}
    assert calls == {
        'GRANT EXECUTE ON FUNCTION public."It\'s"(a integer, text) TO guest;',
        "GRANT EXECUTE ON FUNCTION public.fine(integer) TO guest;",
        "GRANT EXECUTE ON FUNCTION public.okmsg(text) TO guest;",
    }
    least = Source("main", str(guest_url(protea.url)), PROTEA, thresholds(), PATIENCE)
    for call in calls:
        run(protea.url, call.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
        assert [finding.fix for finding in grave(found(guest_url(protea.url)))] == [call]
        protea.stale()
        report = protea.sweep(least)
        assert report.error or report.failures
        run(protea.url, call)
    assert protea.sweep(least).reaped == 3


def _function(name: str, takes: str = "", gives: str = "boolean", says: str = "true") -> str:
    """Not in SQL, which could be put in the place of the call before anybody asks who calls."""
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
    "CREATE DOMAIN told AS said",
    "CREATE DOMAIN part AS text CHECK (in_array(VALUE))",
    "CREATE DOMAIN kept AS text CHECK (in_nothing_given(VALUE))",
    "CREATE DOMAIN laxer AS lax DEFAULT 'x'",
    "CREATE TYPE pair AS (one kept, other int)",
    "ALTER TABLE job_event ADD a numbered, ADD b made, ADD c made_else DEFAULT 1, ADD d told",
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


def test_whatever_calls_a_function_for_a_written_row_it_is_granted_and_no_other_is(protea: Protea) -> None:
    """Types, operators, the keys of partitions and what is theirs alone, the WHEN of triggers."""
    with connected(protea.url, *PARTITIONED):
        mine = {
            statement for statement in fits(protea.url, PROTEA) if "EXECUTE" in statement or "SEQUENCE" in statement
        }
    called = {
        *("in_domain(text)", "in_array(text)", "in_partition(text)", "in_when(text)", "in_index(text)"),
        *("on_update(text)", "in_check(text, text)", "by_domain()", "in_key(timestamp with time zone)"),
    }
    assert mine == {
        "GRANT USAGE ON SEQUENCE public.numbers TO guest;",
        *(f"GRANT EXECUTE ON FUNCTION public.{one} TO guest;" for one in called),
    }
    least = Source("main", str(guest_url(protea.url)), PROTEA, thresholds(), PATIENCE)
    protea.stale()
    for one in mine:
        run(protea.url, one.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
        assert [finding.fix for finding in grave(found(guest_url(protea.url)))] == [one]
        report = protea.sweep(least)
        assert report.error or report.failures, one
        run(protea.url, one)
    assert protea.sweep(least).reaped == 1


def test_a_table_that_inherits_is_reached_by_an_update_and_not_by_an_insert(protea: Protea) -> None:
    with connected(
        protea.url,
        *(_function(name, "text") for name in ("of_job", "of_event")),
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC",
        "CREATE TABLE old_job (CHECK (of_job(error_code))) INHERITS (job)",
        "CREATE TABLE old_event (CHECK (of_event(event))) INHERITS (job_event)",
        "CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER t BEFORE INSERT ON old_event FOR EACH ROW WHEN (of_event(NEW.event)) EXECUTE FUNCTION fires()",
    ):
        mine = fits(protea.url, PROTEA)
    assert [one for one in mine if "EXECUTE" in one] == ["GRANT EXECUTE ON FUNCTION public.of_job(text) TO guest;"]


def test_what_the_trigger_of_a_partition_does_is_told_with_its_place(database: str) -> None:
    """It fires for a row that comes there by way of the whole; not so one that fires for a statement."""
    with connected(
        database,
        *PARTITIONED,
        "CREATE FUNCTION copy_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER every AFTER INSERT ON job_event FOR EACH ROW EXECUTE FUNCTION copy_it()",
        "CREATE TRIGGER own AFTER INSERT ON job_event_1_rest FOR EACH ROW EXECUTE FUNCTION copy_it()",
        "CREATE TRIGGER by_itself AFTER INSERT ON job_event_1_rest EXECUTE FUNCTION copy_it()",
    ) as connection:
        ground = from_database(connection, PROTEA, "guest")
    [note] = granting(PROTEA, Workload(), ground).notes
    calls = "the trigger every calls public.copy_it, the trigger own on job_event_1_rest calls public.copy_it"
    assert note.startswith(f"job_event: {calls} with the role's own rights")
    assert note in {f"{finding.subject}: {finding.message}" for finding in found(database)}


def test_what_works_with_the_role_s_own_rights_is_told_where_the_role_causes_it(protea: Protea) -> None:
    """Of what such a trigger or default touches nobody can know; of those with rights of their own nobody needs to."""
    with connected(
        protea.url,
        "CREATE TABLE heap (at timestamptz)",
        "CREATE SEQUENCE numbers",
        *(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql {rights}"
            " AS 'BEGIN INSERT INTO heap VALUES (now()); RETURN NULL; END'"
            for name, rights in (("copy_it", ""), ("own_rights", "SECURITY DEFINER"))
        ),
        "CREATE FUNCTION number() RETURNS bigint LANGUAGE sql AS $$SELECT nextval('numbers')$$",
        "CREATE TRIGGER audit AFTER UPDATE ON job FOR EACH ROW EXECUTE FUNCTION copy_it()",
        "CREATE TRIGGER later AFTER DELETE ON job FOR EACH ROW EXECUTE FUNCTION copy_it()",
        "CREATE TRIGGER audit AFTER INSERT ON job_event FOR EACH ROW EXECUTE FUNCTION copy_it()",
        "CREATE TRIGGER safe AFTER INSERT ON job_event FOR EACH ROW EXECUTE FUNCTION own_rights()",
        "ALTER TABLE job_event ADD extra bigint DEFAULT number()",
        "ALTER TABLE job ADD extra bigint DEFAULT number()",
    ):
        fits(protea.url, PROTEA)
    with connected(protea.url) as connection:
        notes = granting(PROTEA, Workload(), from_database(connection, PROTEA, "guest")).notes
    assert [note.partition(" with the role's own rights")[0] for note in notes] == [
        "job: the trigger audit calls public.copy_it",
        "job_event: the trigger audit calls public.copy_it, the default of extra calls public.number()",
    ]
    said = [finding for finding in found(guest_url(protea.url)) if "own rights" in finding.message]
    assert [f"{finding.subject}: {finding.message}" for finding in said] == notes
    least = Source("main", str(guest_url(protea.url)), PROTEA, thresholds(), PATIENCE)
    for more in ("INSERT ON heap", "USAGE ON SEQUENCE numbers"):
        protea.stale()
        report = protea.sweep(least)
        assert report.reaped == 0 and (report.error or report.failures), more
        run(protea.url, f"GRANT {more} TO guest")
    assert protea.sweep(least).reaped == 2


def test_what_it_takes_to_read_through_a_view_is_told_and_check_finds_that_it_is_missing(protea: Protea) -> None:
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
    through = "a view, read with the role's own rights; what that takes is yours to grant: "
    for view, needed in (
        ("plain", ()),
        ("invoked", ("SELECT on public.raw",)),
        ("above", ("EXECUTE on public.parse(uuid)", "SELECT on public.raw")),
    ):
        related = {"table": view, "match": {"job_id": "id"}}
        profile = mine(jobs={"running": {"column": "status", "in": ["running"], "missing": [related]}})
        fits(protea.url, profile)
        with connected(protea.url) as connection:
            notes = granting(profile, Workload(), from_database(connection, profile, "guest")).notes
        assert notes == ([f"{view}: {through}{', '.join(needed)}"] if needed else [])
        for one in needed:
            [finding] = grave(found(guest_url(protea.url), profile=profile))
            assert (finding.level, finding.subject) == (Level.ERROR, view) and one in finding.message
            run(protea.url, f"GRANT {one.replace('EXECUTE on', 'EXECUTE ON FUNCTION')} TO guest")
        assert grave(found(guest_url(protea.url), profile=profile)) == []
        least = Source("main", str(guest_url(protea.url)), profile, thresholds(), PATIENCE)
        protea.stale()
        assert protea.sweep(least).reaped == 1


def test_rows_that_a_policy_hides_are_noted(database: str) -> None:
    run(database, "ALTER TABLE job ENABLE ROW LEVEL SECURITY")
    with connected(database) as connection:
        ground = from_database(connection, PROTEA, "guest")
    [note] = granting(PROTEA, Workload(), ground).notes
    policy = "CREATE POLICY guest ON public.job TO guest USING (true);"
    assert note.startswith("job: row-level security may hide rows from the role") and note.endswith(policy)
    as_guest = guest(database, *printed(database, PROTEA)[1:])
    run(database, policy)
    with connected(as_guest) as connection:
        connection.exec_driver_sql("SELECT id FROM job")


def test_a_log_whose_jobs_are_locked_one_by_one_needs_no_lock_on_the_whole(database: str) -> None:
    with PostgreSQLDatabase(database).session(autocommit=True) as owner:
        owner.do(resources.files("reaper.profiles").joinpath("noetl.sql").read_text())
    closing = [s for s in printed(database, resolve("noetl")) if "MAINTAIN" in s or "UPDATE" in s]
    alone = resolve("mine", {"mine": {"extends": "noetl", "jobs": {"log": {"lock": "job"}}}})
    assert len(closing) == 1 and not [s for s in printed(database, alone) if "MAINTAIN" in s or "UPDATE" in s]


def test_attempts_parts_and_rows_of_other_tables_are_all_allowed(database: str) -> None:
    """A profile with whatever the vocabulary has: requeued, failed, and at last purged."""
    with connected(database, SHOP_TABLES):
        pass
    profile, duties = resolve("shop", {"shop": tomllib.loads(SHOP)}), Workload("requeue_else_fail", purge=True)
    jobs = ", ".join(f"({n}, 1, now() - interval '8 h', now() - interval '8 h', {n}, 2, '[]')" for n in (1, 2))
    run(database, "INSERT INTO team (id, \"when\") VALUES (1, now() - interval '1 h')")
    run(database, f"INSERT INTO task (id, team_id, locked_at, begun, tries, max_tries, errors) VALUES {jobs}")
    run(database, "INSERT INTO claim SELECT id FROM task")
    run(database, "INSERT INTO piece SELECT id, id, 'Open', now() - interval '7 h' FROM task")
    fits(database, profile, duties=duties)
    least = Source(
        "main", str(guest_url(database)), profile, thresholds(), PATIENCE, SourceOptions(action="requeue_else_fail")
    )
    options = SweepOrders("test-host", 10, Breaker(50, 1.0))
    report = sweep(least, DowntimeTracker(0), SourceState(), options, None, Heard())
    assert (report.error, report.failures, report.reaped) == (None, (), 2)
    purged = purge(least, PurgeOptions(1e-9, 10), Told())
    assert (purged.error, purged.purged) == (None, 1)


def test_whatever_the_names_are_the_statements_can_be_executed(database: str) -> None:
    role, profile = 'Gu"est %s', resolve("awk ward", {"awk ward": AWKWARD})
    with connected(database, *AWKWARD_TABLES):
        pass
    assert any("Seq:%" in statement for statement in fits(database, profile, role))


def test_a_name_that_cannot_be_shown_is_spelled_so_that_it_can(database: str) -> None:
    name = 'bell\x07 "\\" \n--'
    quoted = '"' + name.replace('"', '""') + '"'
    with connected(database, f"ALTER TABLE job_event RENAME COLUMN level TO {quoted}"):
        pass
    values = {name if column == "level" else column: value for column, value in _audit().items()}
    profile = resolve("mine", {"mine": {"extends": "protea", "actions": {"fail": {"also": [values_of(values)]}}}})
    statements = fits(database, profile)
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
