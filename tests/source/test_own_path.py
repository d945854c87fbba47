"""The user's own triggers, defaults and constraints find their names along the role's own path, as without a reaper.

Statements of ours look names up in `pg_catalog` alone, so a statement that writes sets the role's own path.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import event

from reaper.profile import resolve
from reaper.source import Source
from reaper.source.purge import JobPurge, purge_cutoff
from tests.support.overloads import TYPE_OF_AN_EXTENSION
from tests.support.protea import HOUR, PATIENCE, Protea, thresholds

# `app` is on the path of the role; no name of `app` has its schema before it.
_SCHEMA = """
CREATE SCHEMA app;
SET search_path = app, public;
CREATE TABLE seen (at integer GENERATED ALWAYS AS IDENTITY, by text, path text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seen (by, path) VALUES (TG_NAME, current_setting('search_path'));
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE FUNCTION known(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    RETURN $1 IS NULL OR EXISTS (SELECT FROM seen) OR true;
END $$;
CREATE FUNCTION next_level() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO seen (by) VALUES ('default');
    RETURN 'error';
END $$;
ALTER TABLE public.job ADD CHECK (app.known(error_message));
ALTER TABLE public.job_event ADD COLUMN grade text DEFAULT app.next_level();
CREATE TRIGGER b1_before_row BEFORE UPDATE ON public.job FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER b2_after_row AFTER UPDATE ON public.job FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER b3_after_statement AFTER UPDATE ON public.job FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE CONSTRAINT TRIGGER b4_deferred AFTER UPDATE ON public.job DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER e1_event AFTER INSERT ON public.job_event FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER d1_delete BEFORE DELETE ON public.job FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER d2_delete_event AFTER DELETE ON public.job_event FOR EACH ROW EXECUTE FUNCTION note();
"""
_OWN = "app, public"
_FIRED = ("b1_before_row", "b2_after_row", "b3_after_statement", "b4_deferred", "default", "e1_event")


@pytest.fixture
def app(protea: Protea) -> Iterator[Protea]:
    """A protea database whose role has a path of its own, and which has triggers that depend on it."""
    stale = protea.stale()
    protea.connection.execute(_SCHEMA)
    protea.connection.execute(f"ALTER DATABASE {protea.connection.info.dbname} SET search_path = {_OWN}")
    assert protea.status(stale) == "running"
    yield protea


def fired(app: Protea) -> list[tuple[str, str | None]]:
    return app.connection.execute("SELECT DISTINCT by, path FROM app.seen ORDER BY 1").fetchall()


def test_triggers_defaults_and_checks_of_a_sweep_have_the_role_s_path(app: Protea) -> None:
    report = app.sweep()
    assert report.reaped == 1 and not report.failures
    assert fired(app) == [(name, None if name == "default" else _OWN) for name in _FIRED]


def test_statements_after_the_transition_are_pinned_again_and_the_commit_is_not(app: Protea) -> None:
    """The state of each ended job is read in the same transaction, along no path of the user's."""
    source, paths = app.source(), list[str]()

    @event.listens_for(source.engine, "before_cursor_execute")
    def _read(connection: object, cursor: psycopg.Cursor[tuple[str]], statement: str, *_: object) -> None:
        if "AS same_0" in statement:
            with cursor.connection.cursor() as other:
                [path] = other.execute("SELECT pg_catalog.current_setting('search_path')").fetchone() or ("",)
                paths.append(path)

    assert app.sweep(source).reaped == 1
    assert paths[0] == "pg_catalog, pg_temp"
    assert ("b4_deferred", _OWN) in fired(app)


def test_triggers_of_a_purge_have_the_role_s_path(app: Protea) -> None:
    old = app.job(status="succeeded", age=2400 * HOUR, finished=2390 * HOUR)
    app.event(old)
    app.connection.execute("TRUNCATE app.seen")
    source = Source("main", app.url, resolve("protea"), thresholds(), PATIENCE)
    with source.connect() as connection, source.transaction(connection):
        assert JobPurge(source.statements, purge_cutoff(connection, 30)).run(connection, [(old,)]) == 1
    assert {("d1_delete", _OWN), ("d2_delete_event", _OWN)} <= set(fired(app))


def test_each_statement_of_a_purge_looks_its_names_up_along_the_pinned_path(app: Protea) -> None:
    """The statement before has set the role's own, for the triggers."""
    old = app.job(status="succeeded", age=2400 * HOUR, finished=2390 * HOUR)
    app.event(old)
    also = {"purge": {"also": [{"delete": "job_event", "match": {"job_id": "id"}}]}}
    profile, paths = resolve("mine", {"mine": {"extends": "protea", **also}}), list[tuple[str] | None]()
    source = Source("main", app.url, profile, thresholds(), PATIENCE)

    @event.listens_for(source.engine, "before_cursor_execute")
    def _read(connection: object, cursor: psycopg.Cursor[tuple[str]], statement: str, *_: object) -> None:
        if statement.startswith("DELETE"):
            paths.append(cursor.connection.execute("SELECT pg_catalog.current_setting('search_path')").fetchone())

    with source.connect() as connection, source.transaction(connection):
        assert JobPurge(source.statements, purge_cutoff(connection, 30)).run(connection, [(old,)]) == 1
    assert paths == [("pg_catalog, pg_temp",)] * 2


def test_trigger_before_a_statement_sees_the_pinned_path(app: Protea) -> None:
    """It runs before the statement has read anything: `check` names such triggers."""
    app.connection.execute(
        "CREATE TRIGGER a0 BEFORE UPDATE ON public.job FOR EACH STATEMENT EXECUTE FUNCTION app.note()"
    )
    report = app.sweep()
    assert report.reaped == 0
    assert [failure.error for failure in report.failures] == ['relation "seen" does not exist']


def test_values_of_an_extension_s_type_are_compared_by_its_own_operators(protea: Protea) -> None:
    for statement in TYPE_OF_AN_EXTENSION:
        protea.connection.execute(statement.encode())
    protea.connection.execute("ALTER TABLE job ALTER COLUMN queue_name TYPE tag USING queue_name::tag")
    running = {"column": "queue_name", "in": ["q"]}
    tagged = resolve("tagged", {"tagged": {"extends": "protea", "jobs": {"running": {"where": [running]}}}})
    source, stale = Source("main", protea.url, tagged, thresholds(), PATIENCE), protea.stale()
    assert protea.sweep(source).reaped == 1
    assert source.lookup_schemas == ("public",) and protea.status(stale) == "failed"


def test_user_sql_finds_names_in_the_schemas_of_the_profile_alone(app: Protea) -> None:
    app.connection.execute("CREATE FUNCTION app.is_short(text) RETURNS boolean LANGUAGE sql RETURN length($1) < 9")
    job = {"running": {"where": [{"sql": "is_short({operation})"}]}}
    without, with_path = (
        Source("main", app.url, resolve("mine", {"mine": own}), thresholds(), PATIENCE)
        for own in ({"extends": "protea", "jobs": job}, {"extends": "protea", "jobs": job, "search_path": ["app"]})
    )
    assert "function is_short(text) does not exist" in (app.sweep(without).error or "")
    assert app.sweep(with_path).reaped == 1


def test_names_of_the_server_are_never_found_in_a_schema_of_the_profile(app: Protea) -> None:
    app.connection.execute(
        "CREATE FUNCTION app.length(text) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$"
    )
    own = {"extends": "protea", "jobs": {"running": {"where": [{"sql": "length({operation}) < 9"}]}}}
    profile = resolve("mine", {"mine": {**own, "search_path": ["app"]}})
    report = app.sweep(Source("main", app.url, profile, thresholds(), PATIENCE))
    assert (report.reaped, report.error) == (1, None)


def test_role_s_path_is_back_in_the_next_transaction(app: Protea) -> None:
    source = app.source()
    with source.connect() as connection:
        with source.transaction(connection):
            pass
        assert connection.exec_driver_sql("SHOW search_path").scalar_one() == _OWN
