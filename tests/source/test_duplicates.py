"""Duplicate next values, such as a result that exists already for a schedule's next run: reported, and resolved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from reaper.profile import Update, resolve, shipped
from tests.support.commands import Reaper
from tests.support.worlds.adhese import STEP, AdheseScheduleWorld, AdheseWorld
from tests.support.worlds.database import Database
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import database_on, mostly_on
from tests.support.worlds.world import State

DAY = 86400
CURE = "the next run raises a duplicate key; a source with the profile adhese-schedule moves"


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database."""
    with database_on(request, request.param) as made:
        yield made


@pytest.fixture
def schedules(database: Database) -> Iterator[AdheseScheduleWorld]:
    with AdheseScheduleWorld.create(database) as world:
        yield world


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Database) -> Reaper:
    """Its source has the profile adhese, which ends jobs and leaves schedules as they are."""
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database.url, "REAPER_PROFILE": "adhese"})


def warned(reaper: Reaper, table: str = "SCHEDULED_JOBS") -> list[str]:
    """The findings of `check` about the rows of a table; each is in its text output too."""
    [source] = reaper.json("check")["sources"]
    findings = [f for f in source["findings"] if f["subject"] == table and "exists in" in f["message"]]
    assert {f["level"] for f in findings} <= {"warning"}
    text = flat(reaper("check").stdout)
    assert all(f"warning: {table}: {f['message']}" in text for f in findings)
    return [f["message"] for f in findings]


def reported(reaper: Reaper) -> list[dict[str, Any]]:
    """The member `taken` of the only source in the document of `report`."""
    [source] = reaper.json("report")["sources"]
    found: list[dict[str, Any]] = source["taken"]
    return found


def flat(text: str) -> str:
    """The text without the line breaks of a terminal."""
    return " ".join(text.split())


def test_duplicate_next_values_are_reported_by_check_and_report(schedules: AdheseScheduleWorld, reaper: Reaper) -> None:
    stuck = [schedules.job(age=DAY, sign=None) for _ in range(2)]
    said = f"2 rows whose next scheduled_start exists in JOB_RESULTS already (id {', '.join(stuck)}): {CURE} them on"
    assert warned(reaper) == [said]
    assert reported(reaper) == [
        {
            "table": "SCHEDULED_JOBS",
            "column": "scheduled_start",
            "by": "JOB_RESULTS",
            "rows": 2,
            "columns": ["id"],
            "keys": stuck,
            "resolved_by": "adhese-schedule",
        }
    ]
    assert f"SCHEDULED_JOBS: {said}" in reaper("report").stdout.splitlines()


def test_duplicate_next_values_are_resolved_by_a_sweep_of_the_named_profile(
    schedules: AdheseScheduleWorld, reaper: Reaper
) -> None:
    stuck = schedules.job(age=DAY, sign=None)
    assert warned(reaper) and reported(reaper)
    [swept] = reaper.json("sweep", "--yes", REAPER_PROFILE="adhese-schedule")["sources"]
    assert swept["reaped"] == 1 and schedules.state(stuck) is State.REAPED
    assert warned(reaper) == [] and reported(reaper) == []
    assert "exists in" not in reaper("report").stdout


@mostly_on("mariadb", "database")
def test_duplicate_next_values_are_left_to_the_other_profile(schedules: AdheseScheduleWorld, reaper: Reaper) -> None:
    schedules.job(age=DAY, sign=None)
    assert reaper.json("sweep", "--yes")["sources"][0]["reaped"] == 0
    assert warned(reaper) and reported(reaper)


@mostly_on("mariadb", "database")
def test_result_of_the_current_run_is_no_duplicate(database: Database, reaper: Reaper) -> None:
    with AdheseWorld.create(database) as world:
        job = world.job(age=STEP, sign=0)
        assert warned(reaper) == [] and reported(reaper) == []
        world.session.do("UPDATE \"JOB_RESULTS\" SET state = 'completed' WHERE id = %s", job)
        assert len(warned(reaper)) == len(reported(reaper)) == 1


@mostly_on("mariadb", "database")
def test_results_of_other_schedules_and_moments_are_no_duplicates(
    schedules: AdheseScheduleWorld, reaper: Reaper
) -> None:
    first = schedules.job(age=DAY, sign=None)
    schedules.session.do(
        'DELETE FROM "JOB_RESULTS" WHERE scheduled_start = (SELECT max(scheduled_start) FROM'
        ' (SELECT scheduled_start FROM "SCHEDULED_JOBS") s) AND job_id = %s',
        first,
    )
    schedules.session.do(
        'INSERT INTO "SCHEDULED_JOBS" (scheduled_start, interval_seconds)'
        ' SELECT scheduled_start, interval_seconds FROM "SCHEDULED_JOBS"'
    )
    assert warned(reaper) == [] and reported(reaper) == []


@mostly_on("mariadb", "database")
def test_duplicates_are_all_counted_and_the_first_few_named(schedules: AdheseScheduleWorld, reaper: Reaper) -> None:
    stuck = [schedules.job(age=DAY, sign=None) for _ in range(7)]
    [said] = warned(reaper)
    assert said.startswith("7 rows ") and f"(id {', '.join(stuck[:5])}, …)" in said
    [taken] = reported(reaper)
    assert (taken["rows"], taken["keys"]) == (7, stuck[:5])


def test_report_filters_hide_no_duplicate(schedules: AdheseScheduleWorld, reaper: Reaper) -> None:
    schedules.job(age=DAY, sign=None)
    assert reaper.json("report", "--verdict", "stale", "--kind", "none")["sources"][0]["taken"]


MINE = """
[sources.main]
profile = "mine"
[profiles.mine]
jobs = { table = "task", key = "id", started = "begun", running = { column = "state", in = ["on"] } }
time = "naive"
times = { series = "epoch s", receipt = "epoch ms" }
actions.fail.set = { state = "off" }
[[profiles.mine.actions.fail.also]]
update = "series"
match = { a = "shop", b = "branch" }
where = [{ column = "closed", in = [0] }]
set.due.next = { table = "receipt", column = "due", match = { s = "shop", t = "branch" }, every = "1h" }
"""


@mostly_on("mariadb", "database")
def test_duplicates_are_found_with_each_profiles_keys_conditions_and_moments(
    database: Database, reaper: Reaper
) -> None:
    """Schedules that store seconds, receipts that store milliseconds, and keys of two columns."""
    moment = "timestamp" if isinstance(database, PostgreSQLDatabase) else "datetime(6)"
    with database.session(autocommit=True) as session:
        for statement in (
            f"CREATE TABLE task (id integer PRIMARY KEY, shop integer, branch integer, begun {moment}, state char(3))",
            "CREATE TABLE series (a integer, b integer, due bigint, closed integer)",
            "CREATE TABLE receipt (s integer, t integer, due bigint)",
            "INSERT INTO series VALUES (1, 2, 1750000000, 0), (2, 1, 1750000000, 0), (3, 3, 1750000000, 1)",
            # Of the second only the moment after is there; the third is closed.
            "INSERT INTO receipt VALUES (1, 2, 1750000000000), (2, 1, 1750003600000)",
            "INSERT INTO receipt VALUES (3, 3, 1750000000000)",
        ):
            session.do(statement)
    reaper.configure(MINE)
    del reaper.given["REAPER_PROFILE"]
    said = (
        "1 row whose next due exists in receipt already (a/b 1/2): the next run raises a duplicate key; move it beyond"
        " every one that exists"
    )
    assert warned(reaper, "series") == [said]
    [taken] = reported(reaper)
    assert (taken["columns"], taken["keys"], taken["resolved_by"]) == (["a", "b"], ["1,2"], None)


def test_report_shows_the_jobs_to_a_role_that_may_not_read_the_schedules(
    schedules: AdheseScheduleWorld, reaper: Reaper
) -> None:
    url, session = make_url(schedules.database.url), schedules.session
    schedules.job(age=DAY, sign=None)
    role = f"guest_{url.database}"
    here = url.get_backend_name() == "postgresql"
    session.do(f"CREATE ROLE {role} LOGIN" if here else f"CREATE USER {role}@localhost")
    for table in ("JOB_RESULTS", "PARTIAL_JOB_RESULTS"):
        session.do(f'GRANT SELECT ON "{table}" TO {role}' + ("" if here else "@localhost"))
    guest = url.set(username=role).render_as_string(hide_password=False)
    result = reaper("report", REAPER_DATABASE_URL=guest)
    assert result.exit_code == 0 and result.stdout.startswith("Source default: 0 running")
    assert "reaper: source default: it is not known whether a next run exists already: " in result.stderr
    assert reaper.json("report", REAPER_DATABASE_URL=guest)["sources"][0]["taken"] is None


def test_resolving_profile_is_shipped_and_sets_the_column() -> None:
    named = 0
    for name in shipped():
        for action in resolve(name).actions.values():
            for step in action.also:
                if isinstance(step, Update) and step.resolved_by is not None:
                    cure = resolve(step.resolved_by)
                    assert cure.jobs.table == step.table
                    assert set(step.assign) <= set(cure.actions["fail"].assign or ())
                    named += 1
    assert named
