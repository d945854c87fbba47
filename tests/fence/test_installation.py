"""Installing, renewing and removing a fence on PostgreSQL: states, concurrent writers, privileges, hostile names."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from reaper.errors import ReaperError
from reaper.fence.installation import FenceAction, FenceState, NotFenceable, apply_plan, fence_status, plan_change
from reaper.fence.postgresql_trigger import function_name
from reaper.profile import resolve, shipped
from reaper.source import Source
from tests.profile.test_profile import HOSTILE
from tests.support.checks import protea_with
from tests.support.fences import catalog_rows, install, odd_profile, remove, source_of, state
from tests.support.protea import Protea


def write_late(protea: Protea, job: str) -> str:
    """Writes a late success, and returns the job's status."""
    protea.connection.execute("UPDATE job SET status = 'succeeded' WHERE id = %s", [job])
    return protea.status(job)


# --- install, renew, remove -----------------------------------------------------------------------------------


def test_fence_is_installed_once_and_removed_without_a_trace(protea: Protea) -> None:
    source, before = protea.source(), catalog_rows(protea)
    job = protea.stale()
    protea.sweep()
    assert state(source) is FenceState.ABSENT and plan_change(source, FenceAction.REMOVE).change.statements == ()
    assert install(source) is FenceState.INSTALLED
    assert (state(source), plan_change(source, FenceAction.INSTALL).change.statements) == (FenceState.INSTALLED, ())
    assert write_late(protea, job) == "failed"
    assert remove(source) is FenceState.ABSENT
    assert catalog_rows(protea) == before
    assert write_late(protea, job) == "succeeded"


def test_plan_changes_nothing(protea: Protea) -> None:
    before = catalog_rows(protea)
    assert len(plan_change(protea.source(), FenceAction.INSTALL).change.statements) == 5
    assert catalog_rows(protea) == before


def test_printed_script_can_be_run_by_hand(protea: Protea) -> None:
    source = protea.source()
    protea.connection.execute(plan_change(source, FenceAction.INSTALL).script.encode())
    assert state(source) is FenceState.INSTALLED
    protea.connection.execute(plan_change(source, FenceAction.REMOVE).script.encode())
    assert state(source) is FenceState.ABSENT


def test_fence_of_another_definition_is_outdated_until_it_is_renewed(protea: Protea) -> None:
    first, second = protea.source(), source_of(protea.url, protea_with(fence={"again": ["queued", "cancelled"]}))
    install(first)
    assert (state(first), state(second)) == (FenceState.INSTALLED, FenceState.OUTDATED)
    assert install(second) is FenceState.INSTALLED
    assert state(first) is FenceState.OUTDATED
    job = protea.stale()
    protea.sweep()
    protea.connection.execute("UPDATE job SET status = 'cancelled' WHERE id = %s", [job])
    assert protea.status(job) == "cancelled"
    remove(first)
    assert state(second) is FenceState.ABSENT


CHANGES_BY_HAND = {
    "CREATE OR REPLACE FUNCTION reaper_fence_job() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN RETURN NEW; END'": FenceState.OUTDATED,
    "DROP TRIGGER reaper_fence ON job": FenceState.OUTDATED,
    "DROP TRIGGER reaper_fence ON job; CREATE TRIGGER reaper_fence BEFORE UPDATE ON job FOR EACH ROW"
    " EXECUTE FUNCTION reaper_fence_job()": FenceState.OUTDATED,
    "DROP TRIGGER reaper_fence ON job; CREATE TRIGGER reaper_fence AFTER UPDATE ON job FOR EACH ROW"
    " WHEN (OLD.status = 'failed') EXECUTE FUNCTION reaper_fence_job()": FenceState.OUTDATED,
    "ALTER TABLE job DISABLE TRIGGER reaper_fence": FenceState.DISABLED,
    "ALTER TABLE job DISABLE TRIGGER USER": FenceState.DISABLED,
    "ALTER TABLE job ENABLE REPLICA TRIGGER reaper_fence": FenceState.DISABLED,
    "ALTER TABLE job ENABLE ALWAYS TRIGGER reaper_fence": FenceState.INSTALLED,
    "ALTER TABLE job RENAME TO task; ALTER TABLE task RENAME TO job": FenceState.INSTALLED,
}


@pytest.mark.parametrize("what", CHANGES_BY_HAND)
def test_fence_changed_by_hand_is_recognised_and_repaired(protea: Protea, what: str) -> None:
    source, before = protea.source(), catalog_rows(protea)
    job = protea.stale()
    protea.sweep()
    install(source)
    protea.connection.execute(what.encode())
    assert state(source) is CHANGES_BY_HAND[what]
    assert install(source) is FenceState.INSTALLED and write_late(protea, job) == "failed"
    protea.connection.execute(what.encode())
    assert remove(source) is FenceState.ABSENT
    after = catalog_rows(protea)
    assert (after["pg_proc"], after["pg_trigger"]) == (before["pg_proc"], before["pg_trigger"])


def test_renamed_table_keeps_its_fence_until_all_of_it_is_removed(protea: Protea) -> None:
    install(protea.source())
    protea.connection.execute("ALTER TABLE job RENAME TO task")
    renamed = source_of(protea.url, protea_with(jobs={"table": "task"}))
    assert state(renamed) is FenceState.INSTALLED
    assert remove(renamed) is FenceState.ABSENT
    assert protea.connection.execute("SELECT 1 FROM pg_proc WHERE proname LIKE 'reaper%'").fetchall() == []


FOREIGN = (
    "CREATE FUNCTION reaper_fence_job() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    " CREATE TRIGGER reaper_fence BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION mine()",
)


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("action", FenceAction)
def test_foreign_trigger_or_function_of_the_fences_name_is_left_alone(
    protea: Protea, what: str, action: FenceAction
) -> None:
    protea.connection.execute(what.encode())
    source, before = protea.source(), catalog_rows(protea)
    assert state(source) is FenceState.FOREIGN
    with pytest.raises(ReaperError, match="that the reaper did not create"):
        plan_change(source, action)
    assert catalog_rows(protea) == before


def test_tables_and_schemas_each_have_their_own_fence(protea: Protea) -> None:
    protea.connection.execute("CREATE SCHEMA other")
    for table in ("public.task", "other.job"):
        protea.connection.execute(f"CREATE TABLE {table} (LIKE job INCLUDING ALL)".encode())
        protea.connection.execute(
            f"INSERT INTO {table} (operation, queue_name, status, started_at, error_code)"
            " VALUES ('x', 'q', 'failed', now(), 'JobTimeout')".encode()
        )
    main, task, other = (
        source_of(protea.url, protea_with(jobs={"table": table})) for table in ("job", "task", "other.job")
    )
    install(main)
    assert [state(source) for source in (main, task, other)] == ["installed", "absent", "absent"]
    install(task)
    install(other)
    remove(task)
    assert [state(source) for source in (main, task, other)] == ["installed", "absent", "installed"]
    for table, ends in (("task", "succeeded"), ("other.job", "failed")):
        protea.connection.execute(f"UPDATE {table} SET status = 'succeeded'".encode())
        assert protea.connection.execute(f"SELECT status::text FROM {table}".encode()).fetchall() == [(ends,)]


def test_long_names_that_begin_alike_have_different_functions() -> None:
    names = {function_name("x" * 62 + end) for end in ("", "y", "☃")}
    assert len(names) == 3 and max(len(name.encode()) for name in names) <= 63


# --- while others work ---------------------------------------------------------------------------------------------


def test_installation_gives_up_soon_when_a_transaction_holds_the_table(protea: Protea) -> None:
    job, source, before = protea.job(), protea.source(), catalog_rows(protea)
    planned = plan_change(source, FenceAction.INSTALL)
    with protea.connect() as worker:
        worker.execute("UPDATE job SET progress_current = 1 WHERE id = %s", [job])
        begun = time.monotonic()
        with pytest.raises(ReaperError, match="in use by a long transaction; nothing was changed"):
            apply_plan(source, planned)
        assert time.monotonic() - begun < 4
        worker.commit()
    assert catalog_rows(protea) == before
    assert apply_plan(source, planned).state is FenceState.INSTALLED


def test_fence_is_installed_and_removed_while_workers_write(protea: Protea, thorough: bool) -> None:
    jobs, source, done, errors = [protea.job() for _ in range(8)], protea.source(), threading.Event(), list[Exception]()

    def work(job: str) -> None:
        try:
            with psycopg.connect(protea.libpq, autocommit=True) as connection:
                while not done.is_set():
                    connection.execute(
                        "UPDATE job SET progress_current = coalesce(progress_current, 0) + 1 WHERE id = %s", [job]
                    )
        except Exception as error:  # noqa: BLE001  (passed to the test, which runs in another thread)
            errors.append(error)

    threads = [threading.Thread(target=work, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for _ in range(10 if thorough else 4):
        assert (install(source), remove(source)) == (FenceState.INSTALLED, FenceState.ABSENT)
    done.set()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert all(protea.row(job)["progress_current"] > 0 for job in jobs)


def test_transaction_that_began_before_the_fence_is_fenced_as_well(protea: Protea) -> None:
    job = protea.stale()
    protea.sweep()
    with protea.connect() as worker:
        # An open transaction, with the statement prepared, and no lock on the table yet.
        worker.execute("SELECT 1")
        install(protea.source())
        worker.execute("UPDATE job SET status = 'succeeded' WHERE id = %s", [job], prepare=True)
        worker.commit()
    assert protea.status(job) == "failed"


# --- privileges -------------------------------------------------------------------------------------------------------


@contextmanager
def sweeping_role(protea: Protea) -> Iterator[tuple[str, Source]]:
    """A role that may sweep and nothing else, and a source that connects as it."""
    name = f'odd "role{make_url(protea.url).database}'
    identifier = sql.Identifier(name)
    run = protea.connection.execute
    run(sql.SQL("CREATE ROLE {} LOGIN").format(identifier))
    run(sql.SQL("GRANT SELECT, UPDATE ON job TO {}").format(identifier))
    try:
        yield name, source_of(make_url(protea.url).set(username=name).render_as_string(hide_password=False))
    finally:
        run(sql.SQL("DROP OWNED BY {} CASCADE").format(identifier))
        run(sql.SQL("DROP ROLE {}").format(identifier))


def test_missing_privileges_are_named_in_one_line_and_are_enough(protea: Protea) -> None:
    with sweeping_role(protea) as (name, source):
        planned = plan_change(source, FenceAction.INSTALL)
        with pytest.raises(ReaperError) as refused:
            apply_plan(source, planned)
        quoted = sql.Identifier(name).as_string()
        assert str(refused.value) == (
            f'the role {name!r} may not do that; it needs: GRANT CREATE ON SCHEMA "public" TO {quoted}; '
            f'GRANT TRIGGER ON TABLE "public"."job" TO {quoted}'
        )
        for grant in planned.change.missing_grants:
            protea.connection.execute(grant.encode())
        assert (install(source), remove(source)) == (FenceState.INSTALLED, FenceState.ABSENT)


def test_role_that_did_not_install_the_fence_cannot_remove_it(protea: Protea) -> None:
    install(protea.source())
    with sweeping_role(protea) as (_, source):
        assert state(source) is FenceState.INSTALLED
        planned = plan_change(source, FenceAction.REMOVE)
        with pytest.raises(ReaperError, match=r'it needs: ALTER FUNCTION "public"."reaper_fence_job"\(\) OWNER TO'):
            apply_plan(source, planned)
    assert state(protea.source()) is FenceState.INSTALLED


def test_late_worker_needs_no_privilege_for_the_fence(protea: Protea) -> None:
    install(protea.source())
    protea.connection.execute("REVOKE ALL ON FUNCTION reaper_fence_job() FROM PUBLIC")
    job = protea.stale()
    protea.sweep()
    with sweeping_role(protea) as (name, _), psycopg.connect(protea.libpq, user=name, autocommit=True) as worker:
        worker.execute("UPDATE job SET status = 'succeeded' WHERE id = %s", [job])
    assert protea.status(job) == "failed"


def test_fence_calls_no_functions_of_other_schemas(protea: Protea) -> None:
    make = (
        "CREATE SCHEMA evil",
        "CREATE FUNCTION evil.current_setting(text, bool) RETURNS text LANGUAGE sql AS $$SELECT 'off'$$",
        "CREATE FUNCTION evil.concat_ws(text, uuid) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''called''; END'",
        f'ALTER DATABASE "{make_url(protea.url).database}" SET search_path = evil, pg_catalog, public',
    )
    for statement in make:
        protea.connection.execute(statement.encode())
    install(protea.source())
    job = protea.stale()
    protea.sweep()
    with psycopg.connect(protea.libpq, autocommit=True) as worker:
        worker.execute("UPDATE job SET status = 'succeeded' WHERE id = %s", [job])
    assert protea.status(job) == "failed"


def test_server_that_cannot_replace_triggers_gets_them_dropped_and_created(
    protea: Protea, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reaper.fence.postgresql._CREATE_OR_REPLACE_TRIGGER_SINCE", 999)
    first, second = protea.source(), source_of(protea.url, protea_with(fence={"again": []}))
    assert not any(
        "OR REPLACE TRIGGER" in statement for statement in plan_change(first, FenceAction.INSTALL).change.statements
    )
    assert (install(first), install(second), state(first)) == (
        FenceState.INSTALLED,
        FenceState.INSTALLED,
        FenceState.OUTDATED,
    )
    assert remove(second) is FenceState.ABSENT


# --- tables of other kinds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "first"),
    [("RANGE (created_at)", "FROM (MINVALUE) TO ('2020-01-01')"), ("LIST (status)", "IN ('failed', 'queued')")],
)
def test_partitions_are_behind_the_fence_of_their_table(protea: Protea, by: str, first: str) -> None:
    make = (
        f"CREATE TABLE task (LIKE job INCLUDING DEFAULTS) PARTITION BY {by}",
        f"CREATE TABLE task_1 PARTITION OF task FOR VALUES {first}",
        "CREATE TABLE task_2 PARTITION OF task DEFAULT",
        "INSERT INTO task (id, operation, queue_name, status, created_at, started_at, error_code)"
        " SELECT gen_random_uuid(), 'x', 'q', 'failed', day, day, 'JobTimeout' FROM unnest(ARRAY["
        "timestamptz '2019-05-05', '2021-05-05']) day",
    )
    for statement in make:
        protea.connection.execute(statement.encode())
    source = source_of(protea.url, protea_with(jobs={"table": "task"}))
    assert install(source) is FenceState.INSTALLED
    protea.connection.execute("UPDATE task SET status = 'succeeded', progress_current = 3")
    rows = protea.connection.execute("SELECT status::text, progress_current FROM task").fetchall()
    assert rows == [("failed", 3)] * 2
    protea.connection.execute("UPDATE task SET status = 'queued'")
    assert protea.connection.execute("SELECT DISTINCT status::text FROM task").fetchall() == [("queued",)]
    assert remove(source) is FenceState.ABSENT
    assert protea.connection.execute("SELECT 1 FROM pg_trigger WHERE tgname = 'reaper_fence'").fetchall() == []


def test_view_and_missing_table_are_refused_in_one_line(protea: Protea) -> None:
    protea.connection.execute("CREATE VIEW jobs AS SELECT * FROM job")
    with pytest.raises(ReaperError, match="it is not a base table; name the table behind it in the profile"):
        fence_status(source_of(protea.url, protea_with(jobs={"table": "jobs"})))
    with pytest.raises(ReaperError, match='there is no table "nothing"'):
        fence_status(source_of(protea.url, protea_with(jobs={"table": "nothing"})))


def test_column_in_the_fences_condition_cannot_be_dropped(protea: Protea) -> None:
    install(protea.source())
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="reaper_fence"):
        protea.connection.execute("ALTER TABLE job DROP COLUMN finished_at")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        protea.connection.execute("ALTER TABLE job ALTER started_at TYPE timestamp")
    remove(protea.source())
    protea.connection.execute("ALTER TABLE job DROP COLUMN finished_at")


def test_restored_dump_has_its_fence(protea: Protea) -> None:
    """What pg_dump writes is complete: the fence is recreated from the server's own definitions."""
    source, before = protea.source(), catalog_rows(protea)
    install(source)
    run = protea.connection.execute
    [row] = run("SELECT pg_get_functiondef(p.oid), obj_description(p.oid), pg_get_triggerdef(t.oid) FROM pg_trigger t"
                " JOIN pg_proc p ON p.oid = t.tgfoid WHERE tgname = 'reaper_fence'").fetchall()  # fmt: skip
    remove(source)
    assert catalog_rows(protea) == before
    run(row[0].encode())
    run(sql.SQL("COMMENT ON FUNCTION reaper_fence_job() IS {}").format(row[1]))
    run(row[2].encode())
    assert state(source) is FenceState.INSTALLED


# --- profiles ------------------------------------------------------------------------------------------------------


def test_shipped_profiles_other_than_protea_are_refused_with_the_reason(protea: Protea) -> None:
    said = {}
    for name in shipped():
        try:
            plan_change(source_of(protea.url, name), FenceAction.INSTALL)
        except NotFenceable as error:
            said[name] = str(error)
    reason = (
        'actions.fail.set writes the reason into no column (COLUMN = { is = "reason" }), so a row does not show that'
    )
    assert said == {
        name: f"profile {name!r} cannot be fenced: {why}"
        for name, why in {
            **dict.fromkeys(set(shipped()) - {"protea", "noetl"}, f"{reason} the reaper ended it"),
            "noetl": "its jobs exist only as a log, so there is no row to keep",
        }.items()
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"actions": {"fail": {"set": {"error_code": "x"}}}}, "writes the reason into no column"),
        ({"fence": {"again": ["queued", "failed"]}}, "fence.again names 'failed', which is what actions.fail writes"),
        (
            {"actions": {"fail": {"set": {"status": {"sql": "upper({status})"}}}}},
            "nothing that actions.fail.set writes shows that the job of a row does not run",
        ),
    ],
)
def test_profile_whose_reaped_jobs_cannot_be_recognised_is_refused(
    protea: Protea, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(NotFenceable) as refused:
        fence_status(source_of(protea.url, protea_with(**changes)))
    assert why in str(refused.value) and "\n" not in str(refused.value)


def test_profile_whose_fail_deletes_the_row_is_refused(protea: Protea) -> None:
    whole = {
        "jobs": {
            "table": "job",
            "key": "id",
            "started": "started_at",
            "running": {"column": "status", "in": ["running"]},
        },
        "actions": {"fail": {"delete": True}},
    }
    with pytest.raises(NotFenceable, match=r"actions\.fail leaves no row behind"):
        fence_status(source_of(protea.url, resolve("mine", {"mine": whole})))


def test_unknown_restart_state_is_an_error_and_nothing_is_installed(protea: Protea) -> None:
    source, before = source_of(protea.url, protea_with(fence={"again": ["waiting"]})), catalog_rows(protea)
    with pytest.raises(Exception, match=r'invalid input value for enum public\.job_status: "waiting"'):
        install(source)
    assert catalog_rows(protea) == before


# --- names and values ----------------------------------------------------------------------------------------------


ODD = (*HOSTILE, "$fence$ $fence1$", "--")


@pytest.mark.parametrize(
    ("name", "strings"),
    [
        *(pytest.param(name, "on", marks=() if set(name) & set("\"'\\%$") else pytest.mark.thorough) for name in ODD),
        # `off` changes what a backslash in a string means, and no more.
        *(pytest.param(name, "off", marks=() if "\\" in name else pytest.mark.thorough) for name in ODD),
    ],
)
def test_hostile_names_and_values_are_quoted(protea: Protea, name: str, strings: str) -> None:
    profile, n = odd_profile(name)
    value, identifier = n["value"], {role: sql.Identifier(called) for role, called in n.items()}
    protea.connection.execute(sql.SQL("CREATE SCHEMA odd"))
    protea.connection.execute(
        sql.SQL(
            "CREATE TABLE odd.{T} ({id} text PRIMARY KEY, {state} text, {begun} timestamptz, {token} text, {why} text,"
            " {note} text, {flag} bool, {count} int, {far} float)"
        ).format(**identifier)
    )
    row = sql.SQL(
        "INSERT INTO odd.{T} ({id}, {state}, {begun}, {flag}, {count}, {why})"
        " VALUES ('x', {}, now(), false, 7, 'JobTimeout')"
    )
    protea.connection.execute(row.format(sql.Literal(f"off {value}"), **identifier))
    database = make_url(protea.url).database
    protea.connection.execute(f'ALTER DATABASE "{database}" SET standard_conforming_strings = {strings}'.encode())
    source, before = source_of(protea.url, profile), catalog_rows(protea)

    assert install(source) is FenceState.INSTALLED and state(source) is FenceState.INSTALLED
    with psycopg.connect(protea.libpq, autocommit=True) as worker:

        def write(state: str) -> str:
            update = sql.SQL("UPDATE odd.{T} SET {state} = {}, {note} = 'late'")
            worker.execute(update.format(sql.Literal(state), **identifier))
            found = worker.execute(sql.SQL("SELECT {state} FROM odd.{T}").format(**identifier)).fetchone()
            assert found is not None
            return str(found[0])

        assert write(f"on {value}") == f"off {value}"
        assert write(f"again {value}") == f"again {value}"
        assert write(f"on {value}") == f"on {value}"
    assert remove(source) is FenceState.ABSENT and catalog_rows(protea) == before
