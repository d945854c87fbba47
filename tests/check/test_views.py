"""Views as tables of a profile: witnesses always, and jobs where the server locks and changes the rows behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reaper.check import Level
from reaper.model import Outcome
from tests.support.checks import OwnTables, profile_of
from tests.support.commands import Reaper
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import database_on, mostly_on

TABLES = (
    "CREATE TABLE all_jobs (id int PRIMARY KEY, tenant int NOT NULL, state varchar(20) NOT NULL,"
    " started_at MOMENT NOT NULL, error varchar(4000))",
    "CREATE TABLE all_ends (job int, said JSONTYPE)",
    "CREATE TABLE hb (job int, at MOMENT NULL)",
    "CREATE TABLE hb2 (job int, at MOMENT NULL)",
    "INSERT INTO all_jobs (id, tenant, state, started_at)"
    " VALUES (1, 1, 'on', AGO), (2, 1, 'on', AGO), (3, 2, 'on', AGO), (4, 1, 'on', AGO)",
    "INSERT INTO hb VALUES (1, AGO), (2, now())",
    "INSERT INTO hb2 VALUES (4, now())",
)
JOBS = "CREATE VIEW jobs AS SELECT id, state, started_at, error FROM all_jobs WHERE tenant = 1"
BEATS = """CREATE VIEW beats AS SELECT job, max(at) AS at
FROM (SELECT job, at FROM hb UNION ALL SELECT job, at FROM hb2) AS both_of_them GROUP BY job"""
ENDS = "CREATE VIEW ends AS SELECT job, said FROM all_ends"
PROFILE = """
alive = [{ witness = "beat", events = { table = "beats", match = { job = "id" }, at = "at" } }]
actions.fail.set.state = "failed"
actions.fail.set.error = { is = "message" }
actions.fail.also = [{ insert = "ends", values = { job = { column = "id" }, said = { is = "evidence" } } }]
jobs = { table = "jobs", key = "id", started = "started_at", running = { column = "state", in = ["on"] } }
"""
MAPPING = profile_of(PROFILE)


@pytest.fixture(params=["postgresql", "mariadb"])
def own(request: pytest.FixtureRequest) -> Iterator[OwnTables]:
    with database_on(request, request.param) as database:
        own = OwnTables(database)
        own.do(*(statement.replace("JSONTYPE", "longtext" if own.on_mariadb else "jsonb") for statement in TABLES))
        yield own


def errors(own: OwnTables) -> list[tuple[str, str]]:
    return [(f.subject, f.message) for f in own.check(MAPPING) if f.level is Level.ERROR]


def test_jobs_signs_and_audit_events_in_views_are_judged_locked_and_ended(own: OwnTables) -> None:
    own.do(JOBS, BEATS, ENDS)
    assert own.check(MAPPING) == []
    with own.database.session() as worker:
        worker.ask("SELECT 1 FROM all_jobs WHERE id = 1 FOR UPDATE")
        report = own.sweep(MAPPING)
        assert (report.outcome, report.error, report.reaped) == (Outcome.DONE, None, 0), "its row is locked"
        worker.rollback()
    assert own.sweep(MAPPING).reaped == 1
    assert own.rows("SELECT id, state FROM all_jobs ORDER BY id") == [
        (1, "failed"), (2, "on"), (3, "on"), (4, "on"),
    ]  # fmt: skip
    assert own.rows("SELECT job FROM all_ends") == [(1,)]


@mostly_on("postgresql", "own")
def test_commands_work_on_views(own: OwnTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own.do(JOBS, BEATS, ENDS)
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": own.database.url})
    reaper.configure("[sources.main]\nprofile = 'own'\n[profiles.own]\n" + PROFILE.replace("jobs = {", "jobs = {"))
    [reported] = reaper.json("report")["sources"]
    assert {job["key"]: job["verdict"] for job in reported["jobs"]} == {"1": "stale", "2": "spared", "4": "spared"}
    assert reaper.json("explain", "1")["job"]["verdict"] == "stale"
    with own.database.session() as worker:
        worker.ask("SELECT 1 FROM all_jobs WHERE id = 1 FOR UPDATE")
        assert reaper("report").exit_code == 0 and reaper("explain", "1").exit_code == 0
        assert reaper("fail", "--yes", "1", "--reason", "x").exit_code == 1
        worker.rollback()
    assert reaper("fail", "--yes", "1", "--reason", "x").exit_code == 0
    granted = reaper("grants", "--role", "someone")
    assert granted.exit_code == 0 and "xmax" not in granted.stdout


WITH_LOCKS = PROFILE.replace("running = {", 'parts = [{ table = "locks", match = { job = "id" } }], running = {')
ON_VIEW = "CREATE VIEW jobs AS SELECT error, id, state, began AS started_at FROM live WHERE tenant = 1 ORDER BY tenant"


@pytest.mark.parametrize("table", ["all_jobs", "all_locks"])
def test_session_that_has_locked_the_row_behind_a_view_is_named(
    empty: PostgreSQLDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """A view of a view whose names differ from the table's; another tenant has jobs with the same keys."""
    monkeypatch.chdir(tmp_path)
    own = OwnTables(empty)
    own.do(*(statement.replace("JSONTYPE", "jsonb") for statement in TABLES))
    own.do(
        "ALTER TABLE all_jobs DROP CONSTRAINT all_jobs_pkey",
        "ALTER TABLE all_jobs ADD UNIQUE (tenant, id)",
        "INSERT INTO all_jobs SELECT id, 3, state, started_at - interval '1 h' FROM all_jobs WHERE tenant = 1",
        'CREATE TABLE all_locks (no int, "job {x}" int, open bool)',
        "INSERT INTO all_locks SELECT n, n, true FROM generate_series(1, 4) n",
        "INSERT INTO all_locks SELECT n + 4, n, false FROM generate_series(1, 4) n",
        "CREATE VIEW live AS SELECT tenant, id, error, state, started_at AS began, (SELECT max(no) FROM all_locks)"
        " FROM all_jobs",
        ON_VIEW,
        'CREATE VIEW locks AS SELECT open AS "is{open", "job {x}" AS job FROM all_locks WHERE open',
        BEATS,
        ENDS,
    )
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": empty.url})
    reaper.configure("[sources.main]\nprofile = 'own'\n[profiles.own]\n" + WITH_LOCKS)
    elsewhere = {"all_jobs": "tenant <> 1", "all_locks": "NOT open"}[table]
    key, ours = {"all_jobs": ("id", "tenant = 1"), "all_locks": ('"job {x}"', "open")}[table]

    def left() -> list[str]:
        return [each["reason"] for each in reaper.json("explain", "1")["left"]]

    with own.database.session() as other, own.database.session() as worker:
        other.ask(f"SELECT 1 FROM {table} WHERE {key} = 1 AND {elsewhere} FOR UPDATE")
        assert left() == []
        [(pid,)] = worker.ask("SELECT pg_backend_pid()")
        worker.ask(f"SELECT 1 FROM {table} WHERE {key} = 1 AND {ours} FOR UPDATE")
        assert left() == ["locked"]
        named = "a row of locks that belongs to it" if table == "all_locks" else "its row"
        for words in (("explain", "1"), ("report",), ("fail", "--yes", "1", "--reason", "x")):
            assert f"{named} is locked by process {pid}" in reaper(*words, COLUMNS="300").output, words
        worker.rollback()
        other.rollback()
        worker.do("SAVEPOINT before")
        worker.ask(f"SELECT 1 FROM {table} WHERE {key} = 1 AND {ours} FOR UPDATE")
        worker.do("RELEASE before")
        assert left() == ["locked"], "the number is that of the savepoint, which is over"
        worker.rollback()


def test_session_that_has_locked_a_row_behind_a_view_with_a_computed_key_is_unknown(
    empty: PostgreSQLDatabase, tmp_path: Path
) -> None:
    own = OwnTables(empty)
    own.do(*(statement.replace("JSONTYPE", "jsonb") for statement in TABLES))
    own.do(JOBS.replace("SELECT id,", "SELECT id + 0 AS id,"), BEATS, ENDS)
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": empty.url})
    reaper.configure("[sources.main]\nprofile = 'own'\n[profiles.own]\n" + PROFILE)
    with own.database.session() as worker:
        worker.ask("SELECT 1 FROM all_jobs WHERE id = 1 FOR UPDATE")
        assert reaper("report").exit_code == 0 and reaper("explain", "1").exit_code == 0
        refused = reaper("fail", "--yes", "1", "--reason", "x")
        assert refused.exit_code == 1 and "its row is locked by " in refused.stderr
        assert "process" not in refused.stderr
        worker.rollback()


@pytest.mark.parametrize(
    "view",
    [
        "CREATE VIEW jobs AS SELECT DISTINCT id, state, started_at, error FROM all_jobs",
        "CREATE VIEW jobs AS SELECT id, max(state) AS state, max(started_at) AS started_at, max(error) AS error"
        " FROM all_jobs GROUP BY id",
        "CREATE VIEW jobs AS SELECT id, state, started_at, error FROM all_jobs WHERE tenant = 1"
        " UNION ALL SELECT id, state, started_at, error FROM all_jobs WHERE tenant = 2",
    ],
)
def test_view_of_jobs_that_cannot_be_updated_is_an_error(own: OwnTables, view: str) -> None:
    own.do(view, BEATS, ENDS)
    [(subject, message)] = errors(own)
    assert subject == "jobs" and message.startswith("is a view that cannot be updated: its rows cannot be locked")


def test_column_of_a_view_that_cannot_be_written_is_an_error(own: OwnTables) -> None:
    own.do(JOBS.replace("error FROM", "upper(error) AS error FROM"), BEATS, ENDS)
    [(subject, message)] = errors(own)
    assert subject == ("jobs.error" if own.on_mariadb else "jobs")
    assert message.startswith("every sweep would fail: ") and "error" in message
    assert own.sweep(MAPPING).reaped == 0


def test_column_of_a_view_that_has_another_name_there_is_no_error(own: OwnTables) -> None:
    own.do("ALTER TABLE all_jobs RENAME COLUMN error TO failure")
    own.do(JOBS.replace("error FROM", "failure AS error FROM"), BEATS, ENDS)
    assert errors(own) == []


def test_view_with_triggers_instead_of_updates_is_an_error(empty: PostgreSQLDatabase) -> None:
    own = OwnTables(empty)
    own.do(
        *(statement.replace("JSONTYPE", "jsonb") for statement in TABLES),
        "CREATE VIEW jobs AS WITH every AS MATERIALIZED (SELECT * FROM all_jobs)"
        " SELECT id, state, started_at, error FROM every",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE all_jobs SET state = NEW.state"
        " WHERE id = NEW.id; RETURN NEW; END'",
        "CREATE TRIGGER t INSTEAD OF UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION f()",
        BEATS,
        ENDS,
    )
    [(subject, message)] = errors(own)
    assert subject == "jobs" and "cannot be locked" in message


def test_materialized_view_of_signs_is_an_error(empty: PostgreSQLDatabase) -> None:
    own = OwnTables(empty)
    own.do(*(statement.replace("JSONTYPE", "jsonb") for statement in TABLES), JOBS, ENDS)
    own.do(BEATS.replace("CREATE VIEW", "CREATE MATERIALIZED VIEW"))
    [(subject, message)] = errors(own)
    assert subject == "beats" and "living jobs would be ended" in message
