"""`reaper check --try` runs the statements of a sweep and of a purge on no row, as the daemon's role alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import URL, make_url

from tests.support.checks import OwnTables
from tests.support.commands import Reaper
from tests.support.worlds.servers import database_on, mostly_on
from tests.support.worlds.world import new_role

TABLES = (
    "CREATE TABLE t (id int PRIMARY KEY, state varchar(9) NOT NULL, started_at MOMENT NOT NULL)",
    "CREATE INDEX t_state ON t (state, started_at)",
    "CREATE TABLE part (job int, done int)",
    "CREATE INDEX part_job ON part (job)",
    "CREATE TABLE ends (job int, said varchar(4000))",
    "CREATE TABLE fired (what varchar(99))",
    "INSERT INTO t VALUES (0, 'on', AGO), (1, 'on', AGO), (2, 'off', AGO)",
    "INSERT INTO part VALUES (0, 0), (1, 0), (NULL, 0)",
)
PROFILE = """
[sources.main]
profile = "own"
purge.cron = "0 3 * * *"
[profiles.own]
jobs.table = "t"
jobs.key = "id"
jobs.started = "started_at"
jobs.running = { column = "state", in = ["on"] }
jobs.parts = [{ table = "part", match = { job = "id" } }]
actions.fail.set.state = "off"
actions.fail.also = [
  { insert = "ends", values = { job = { column = "id" }, said = { is = "message" } } },
  { update = "part", match = { job = "id" }, set = { done = 1 } },
]
purge.where = [{ column = "state", in = ["off"] }]
purge.at = "started_at"
purge.also = [{ delete = "part", match = { job = "id" } }]
"""
NOTED = """CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
$$ BEGIN RAISE WARNING 'noted'; INSERT INTO fired VALUES (TG_NAME); RETURN NULL; END $$"""
FAILS = """CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'not by %', current_user; END $$"""


class Place(NamedTuple):
    """Tables, the daemon's role, and `reaper` that connects as it."""

    own: OwnTables
    role: str
    reaper: Reaper

    def tried(self, code: int = 0, **given: str) -> list[dict[str, Any]]:
        """The findings about the trial, and all errors."""
        [source] = self.reaper.json("check", "--try", code=code, **given)["sources"]
        assert source["error"] is None
        return [f for f in source["findings"] if f["subject"] == "--try" or f["level"] == "error"]

    def contents(self) -> list[object]:
        return [sorted(self.own.rows(f"SELECT * FROM {table}"), key=repr) for table in ("t", "part", "ends", "fired")]


def _grants(own: OwnTables, role: str) -> Iterator[str]:
    yield f"CREATE USER {role}"
    if not own.on_mariadb:
        yield f"GRANT CONNECT ON DATABASE {make_url(own.database.url).database} TO {role}"
        yield f"GRANT USAGE ON SCHEMA public TO {role}"
    yield from (f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}" for table in ("t", "part", "ends"))


@pytest.fixture(params=["postgresql", "mariadb"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.chdir(tmp_path)
    with database_on(request, request.param) as database:
        own, role = OwnTables(database), new_role()
        own.do(*TABLES)
        database.restrict_to_role(role, _grants(own, f"{role}{database.host}"))
        reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": database.reaper})
        reaper.configure(PROFILE)
        yield Place(own, role, reaper)
        database.drop_role(role)


def test_statements_run_on_no_row_and_leave_nothing(place: Place) -> None:
    before = place.contents()
    [said] = place.tried()
    assert said["level"] == "note" and said["message"].endswith("which runs: no trigger")
    assert place.contents() == before


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)  # MariaDB makes NULL of a division by 0
def test_condition_that_fails_for_a_row_is_asked_about_none(place: Place) -> None:
    running = 'jobs.running = { column = "state", in = ["on"]'
    place.reaper.configure(PROFILE.replace(running, f'{running}, where = [{{ sql = "1 / {{id}} IS NOT NULL" }}]'))
    assert [said["level"] for said in place.tried()] == ["note"]
    assert place.reaper("report").exit_code == 1


@mostly_on("postgresql", "place")
def test_superuser_is_refused_and_nothing_runs(place: Place) -> None:
    place.own.do("DROP TABLE fired")
    [refused] = place.tried(code=1, REAPER_DATABASE_URL=place.own.database.url)
    assert refused["level"] == "error" and refused["message"].startswith("is refused: ")
    assert ("SUPER" if place.own.on_mariadb else "superuser") in refused["message"]
    shown = place.reaper("check", "--try", REAPER_DATABASE_URL=place.own.database.url)
    assert "are run on no row" not in shown.output
    assert place.reaper("check", REAPER_DATABASE_URL=place.own.database.url).exit_code == 0


def test_nothing_runs_where_check_finds_an_error(place: Place) -> None:
    place.own.do("DROP TABLE ends")
    [said] = [f for f in place.tried(code=1) if f["subject"] == "--try"]
    assert said["level"] == "note" and said["message"].startswith("nothing was run")


# --- PostgreSQL ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_triggers_for_each_statement_are_named_before_they_fire_with_the_path_of_the_role(place: Place) -> None:
    place.own.do(NOTED, "GRANT INSERT ON fired TO PUBLIC")
    for event, table in ("UPDATE", "t"), ("INSERT", "ends"), ("DELETE", "part"):
        place.own.do(
            f"CREATE TRIGGER after_{event} AFTER {event} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION noted()"
        )
    place.own.do("CREATE TRIGGER row_too AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION noted()")
    before = place.contents()
    [said] = place.tried()
    named = "which runs: trigger after_insert on ends, trigger after_delete on part, trigger after_update on t"
    assert said["message"].endswith(named)
    assert place.contents() == before
    shown = place.reaper("check", "--try")
    assert shown.stderr.strip().startswith("reaper: source main: ") and shown.stderr.strip().endswith(named)


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("event", "table", "refused"),
    [
        ("UPDATE", "t", "every sweep would fail: the database refuses the transition 'fail' on no row: not by "),
        ("DELETE", "t", "every purge would fail: the database refuses the delete of finished jobs on no row: not by "),
    ],
)
def test_what_a_trigger_raises_for_each_statement_is_an_error(
    place: Place, event: str, table: str, refused: str
) -> None:
    place.own.do(FAILS, f"CREATE TRIGGER no AFTER {event} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION fails()")
    assert place.reaper("check").exit_code == 0
    [found] = [f for f in place.tried(code=1) if f["level"] == "error"]
    assert found["message"].startswith(refused + place.role)


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_triggers_of_the_table_behind_a_view_are_named(place: Place) -> None:
    place.own.do(
        NOTED, "ALTER TABLE t RENAME TO behind", "CREATE VIEW t AS SELECT id, state AS state, started_at FROM behind",
        f"GRANT SELECT, UPDATE, DELETE ON t TO {place.role}",
        "CREATE TRIGGER after_all AFTER UPDATE OF state ON behind FOR EACH STATEMENT EXECUTE FUNCTION noted()",
    )  # fmt: skip
    [said] = place.tried()
    assert said["message"].endswith("which runs: trigger after_all on behind")


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_functions_that_a_view_calls_are_named_and_what_they_raise_is_an_error(place: Place) -> None:
    place.own.do(
        "CREATE FUNCTION fails(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'not by %', current_user; END $$",
        "ALTER TABLE t RENAME TO behind", "CREATE VIEW t AS SELECT * FROM behind WHERE fails('x')",
        f"GRANT SELECT, UPDATE, DELETE ON t TO {place.role}",
    )  # fmt: skip
    assert place.reaper("check").exit_code == 0
    found = place.tried(code=1)
    assert any(f["message"].endswith("which runs: functions that reads of t call") for f in found)
    assert [f["message"] for f in found if f["level"] == "error"] == [f"every sweep would fail: not by {place.role}"]


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_role_that_database_url_does_not_name_is_refused(place: Place) -> None:
    url = make_url(place.own.database.reaper)
    nameless = URL.create(url.drivername, host=url.host, database=url.database, query=url.query).render_as_string()
    [refused] = place.tried(code=1, REAPER_DATABASE_URL=nameless, PGUSER=place.role)
    assert "database_url names no role" in refused["message"] and place.role in refused["message"]


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_role_that_acts_as_another_one_is_refused(place: Place) -> None:
    other = f"{place.role}_other"
    place.own.do(
        f"CREATE ROLE {other}", f"GRANT {other} TO {place.role}", f"ALTER ROLE {place.role} SET role = {other}",
        f"GRANT USAGE ON SCHEMA public TO {other}", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {other}",
    )  # fmt: skip
    [refused] = place.tried(code=1)
    assert refused["message"].startswith(f"is refused: the daemon's role is {place.role!r}")
    assert f"would run as {other!r}" in refused["message"]
    place.own.do(f"DROP OWNED BY {other}", f"DROP ROLE {other}")
