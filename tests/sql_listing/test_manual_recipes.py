"""`reaper sql --job` prints transactions that end one job by hand, as psql and the MariaDB client take them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from reaper.model import Reason
from reaper.source import AuditInfo
from reaper.sql_listing import list_recipes
from reaper.sql_listing.literals import literal_of
from reaper.staleness.downtime import DowntimeTracker
from tests.support.commands import Reaper
from tests.support.databases import TemporaryDatabases
from tests.support.sql_clients import paste
from tests.support.tasks import mapped, tasks_in
from tests.support.worlds.adhese import STEP, AdheseScheduleWorld, AdheseWorld
from tests.support.worlds.database import Database
from tests.support.worlds.noetl import NoetlWorld
from tests.support.worlds.protea import ProteaWorld
from tests.support.worlds.servers import database_on, mostly_on, postgresql_world, world_on
from tests.support.worlds.vuls import VulsScheduleWorld
from tests.support.worlds.world import State


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database that starts empty; each job system of this file has its own tables in it."""
    with database_on(request, request.param) as made:
        yield made


@pytest.fixture(scope="module")
def jobs(database: Database) -> Iterator[AdheseWorld]:
    """One for all tests: each of them looks at its own jobs, and at what it changes."""
    with AdheseWorld.create(database) as world:
        yield world


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Database) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database.url, "REAPER_PROFILE": "adhese"})


def printed(reaper: Reaper, job: str) -> dict[str, str]:
    """The text of each recipe, by its action."""
    header, *texts = reaper("sql", "--job", job).stdout.split("\n\n")
    assert header.startswith(f"-- Job {job} of source default")
    return {re.findall(r"^-- \d+\. (\w+)", text, re.MULTILINE)[0]: text for text in texts}


def test_two_recipes_are_those_of_the_document_and_printing_changes_nothing(jobs: AdheseWorld, reaper: Reaper) -> None:
    job = jobs.stale_job()
    before = jobs.dump()
    recipes = reaper.json("sql", "--job", job)["recipes"]
    assert [(recipe["action"], recipe["same"]) for recipe in recipes] == [("complete", ["fail"]), ("delete", [])]
    [[start, moved]] = jobs.session.ask(
        f"SELECT s.scheduled_start, s.scheduled_start + INTERVAL '{STEP}' SECOND"
        ' FROM "SCHEDULED_JOBS" s JOIN "JOB_RESULTS" r ON r.job_id = s.id WHERE r.id = %s',
        job,
    )
    complete = " ".join(printed(reaper, job)["complete"].split())
    assert jobs.dump() == before, "printing changes nothing"
    # The moments stand there as they are, as in the document: nothing has to be filled in.
    assert str(moved).rstrip("0") in complete
    assert str(start).rstrip("0") in complete
    assert "reaper_there" not in complete


def test_complete_pasted_into_the_client_completes_the_job(
    jobs: AdheseWorld, reaper: Reaper, database: Database
) -> None:
    job, other = jobs.stale_job(), jobs.stale_job()
    recipe = printed(reaper, job)["complete"]
    assert "ERROR" not in paste(database, recipe)
    assert jobs.state(job) is State.REAPED
    assert jobs.state(other) is State.RUNNING
    after = jobs.dump()
    assert "ERROR" not in paste(database, recipe)
    assert jobs.dump() == after


def test_delete_pasted_into_the_client_deletes_the_job(jobs: AdheseWorld, reaper: Reaper, database: Database) -> None:
    job, other = jobs.stale_job(), jobs.stale_job()
    assert "ERROR" not in paste(database, printed(reaper, job)["delete"])
    assert jobs.session.one('SELECT count(*) FROM "JOB_RESULTS" WHERE id = %s', job) == 0
    assert jobs.session.one('SELECT count(*) FROM "PARTIAL_JOB_RESULTS" WHERE job_result_id = %s', job) == 0
    assert jobs.state(other) is State.RUNNING


def test_recipes_change_nothing_once_the_worker_has_finished_or_the_job_was_started_again(
    jobs: AdheseWorld, reaper: Reaper, database: Database
) -> None:
    finished, again = jobs.stale_job(), jobs.stale_job()
    recipes = [*printed(reaper, finished).values(), *printed(reaper, again).values()]
    assert len(recipes) == 4
    assert jobs.finish(finished, jobs.session)
    jobs.session.do(f'UPDATE "JOB_RESULTS" SET start_time = {database.naive_ago} WHERE id = %s', 1, again)
    before = jobs.dump()
    for recipe in recipes:
        assert "ERROR" not in paste(database, recipe)
    assert jobs.dump() == before


@mostly_on("postgresql", "database")
def test_schedule_whose_next_run_has_begun_meanwhile_is_left_alone(database: Database, reaper: Reaper) -> None:
    with VulsScheduleWorld.create(database) as schedules:
        job, other = schedules.stale_job(), schedules.stale_job()
        reaper.given["REAPER_PROFILE"] = "vuls-schedule"
        recipe = printed(reaper, job)["fail"]
        schedules.session.do("INSERT INTO task_runs (scheduled_task_id, status) VALUES (%s, 'running')", job)
        assert "ERROR" not in paste(database, recipe)
        assert schedules.state(job) is State.RUNNING
        assert "ERROR" not in paste(database, printed(reaper, other)["fail"])
        assert schedules.state(other) is State.REAPED


def test_schedule_that_has_moved_meanwhile_is_left_where_it_is(
    jobs: AdheseWorld, reaper: Reaper, database: Database
) -> None:
    job = jobs.stale_job()
    recipe = printed(reaper, job)["complete"]
    jobs.session.do(f'UPDATE "SCHEDULED_JOBS" SET scheduled_start = {database.naive_ago}', -10 * STEP)
    moved = jobs.session.ask('SELECT id, scheduled_start FROM "SCHEDULED_JOBS"')
    assert "ERROR" not in paste(database, recipe)
    assert jobs.session.ask('SELECT id, scheduled_start FROM "SCHEDULED_JOBS"') == moved
    assert jobs.session.one('SELECT state FROM "JOB_RESULTS" WHERE id = %s', job) == "completed"


def test_recipe_that_meets_an_error_leaves_nothing_half_done(
    jobs: AdheseWorld, reaper: Reaper, database: Database
) -> None:
    """The client goes on after an error when a text is pasted; the transaction is taken back as a whole."""
    job = jobs.stale_job()
    recipe, before = printed(reaper, job)["complete"], jobs.dump()
    broken = recipe.replace("'ok'", "'" + "x" * 99 + "'")
    assert broken != recipe
    assert "ERROR" in paste(database, broken)
    assert jobs.dump() == before


@mostly_on("postgresql", "database")
def test_job_that_does_not_run_has_no_recipe(jobs: AdheseWorld, reaper: Reaper) -> None:
    job = jobs.ended_job()
    result = reaper("sql", "--job", job)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"job {job} is not running: there is nothing to end" in result.stderr


@pytest.mark.parametrize("where", ["postgresql", pytest.param("mariadb", marks=pytest.mark.thorough)])
def test_schedule_in_the_duplicate_key_state_has_a_recipe(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    with world_on(request, AdheseScheduleWorld, where) as schedules:
        database = schedules.database
        reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": database.url, "REAPER_PROFILE": "adhese-schedule"})
        job = schedules.stale_job()
        assert "ERROR" not in paste(database, printed(reaper, job)["fail"])
        assert schedules.state(job) is State.REAPED


def test_recipe_of_protea_writes_the_audit_event(databases: TemporaryDatabases, tmp_path: Path) -> None:
    """Texts of other programs reach the terminal as texts that neither end a literal nor control it."""
    with postgresql_world(databases, ProteaWorld) as world:
        job = world.stale_job()
        reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": world.database.url})
        recipe = printed(reaper, job)["fail"]
        assert "ERROR" not in paste(world.database, recipe)
        assert world.session.one("SELECT status FROM job WHERE id = %s", job) == "failed"
        [evidence] = world.audit(job)
        assert evidence["reason"] == "ManualTimeout"
        assert world.message(job).startswith("Manually marked FAILED by operator: by the statements")


def test_recipe_of_a_log_writes_the_end_once(databases: TemporaryDatabases, tmp_path: Path) -> None:
    with postgresql_world(databases, NoetlWorld) as world:
        job = world.stale_job()
        reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": world.database.url, "REAPER_PROFILE": "noetl"})
        recipe = printed(reaper, job)["fail"]
        for _ in range(2):
            assert "ERROR" not in paste(world.database, recipe)
            assert world.state(job) is State.REAPED
            assert len(world.audit(job)) == 1


def test_recipe_ends_a_job_that_runs_as_long_as_a_row_which_it_deletes_exists(database: Database) -> None:
    part: dict[str, Any] = {"table": "task_part", "match": {"task_id": "id"}}
    release = {
        "set": {"tries": {"column": "tries", "plus": 1}},
        "also": [{"delete": part["table"], "match": part["match"]}],
    }
    running = {"column": "state", "in": ["working"], "exists": [part]}
    with tasks_in(database) as tasks:
        tasks.add(1, tries=4)
        tasks.part(1, 1)
        source = tasks.source(mapped(jobs={"running": running}, actions={"release": release}))
        audit_info = AuditInfo("main", "by hand", "host", Reason.MANUAL_TIMEOUT)
        recipes = list_recipes(source, DowntimeTracker(0), ("1",), lambda _: audit_info)
        [lines] = [recipe.lines for recipe in recipes if recipe.action == "release"]
        assert "ERROR" not in paste(database, "\n".join(lines))
        assert (tasks.session.ask("SELECT tries FROM task"), tasks.parts()) == ([(5,)], [])


def test_foreign_text_is_one_printable_literal(database: Database) -> None:
    dialect: Any = make_url(database.url).get_dialect()()
    with database.session(autocommit=True) as hand:
        for text in ("it's", "back\\slash", "new\nline", "\x1b[2J", "' OR 1=1 --", ":name", "é…😀"):
            literal = literal_of(text, dialect)
            assert literal.isprintable()
            assert hand.one(f"SELECT {literal.replace('%', '%%')}") == text
