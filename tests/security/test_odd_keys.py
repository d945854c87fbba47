"""Keys with which jobs cannot be told apart, or that are not supported, are refused in words, and no job is ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from reaper import celery_tasks
from reaper.errors import KeyNotUnique, ReaperError, SpellingUnclear
from reaper.model import Outcome
from reaper.operations.report import ReportQuery, report
from reaper.profile import resolve
from reaper.source import Source
from reaper.source.unique_key import key_is_unique
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.api import ApiDaemon, token_file
from tests.support.commands import Reaper
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds import Database
from tests.support.worlds.servers import database_on

PROFILE = {
    "jobs": {"table": "j", "key": "id", "started": ["started"], "running": {"column": "state", "in": ["running"]}},
    "actions": {"fail": {"set": {"state": "failed"}}},
}
OPTIONS = SweepOptions("test-host", 1000, Breaker(50, 1.0))
EVERYTHING = ReportQuery(None, None, 50)


def source_of(database: Database, key_type: str, *keys: object) -> Source:
    """Two stale jobs with these keys, on a table without a unique key."""
    moment = "timestamptz" if "postgresql" in database.url else "datetime(6)"
    with database.session(autocommit=True) as session:
        session.do(f"CREATE TABLE j (id {key_type}, state varchar(20), started {moment})")
        for key in keys:
            session.do(f"INSERT INTO j VALUES (%s, 'running', {database.ago})", key, 9 * HOUR)
    return Source("main", database.url, resolve("own", {"own": PROFILE}), thresholds(), PATIENCE)


def states(database: Database) -> list[str]:
    with database.session(autocommit=True) as session:
        return [state for (state,) in session.ask("SELECT state FROM j")]


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
def test_jobs_with_one_key_are_refused_with_the_words_of_check(request: pytest.FixtureRequest, where: str) -> None:
    with database_on(request, where) as database:
        source = source_of(database, "integer", 1, 1, 2)
        swept = sweep(source, DowntimeTracker(0), SourceState(), OPTIONS, None, SweepRecorder())
        assert swept.outcome is Outcome.FAILED and swept.error is not None
        assert swept.error.startswith("j: jobs.key ('id') is not unique: there is no primary key or unique constraint")
        with pytest.raises(KeyNotUnique, match="not unique"):
            report(source, DowntimeTracker(0), EVERYTHING)
        with source.connect() as connection, pytest.raises(KeyNotUnique):
            source.lookup.find(connection, ["1"])
        assert set(states(database)) == {"running"}
        with database.session(autocommit=True) as session:
            session.do("UPDATE j SET state = 'over' WHERE id = 1")
        assert sweep(source, DowntimeTracker(0), SourceState(), OPTIONS, None, SweepRecorder()).reaped == 1
        source.close()


def test_key_of_an_array_is_refused_by_every_command(request: pytest.FixtureRequest) -> None:
    with database_on(request, "postgresql") as database:
        source = source_of(database, "text[]", ["a", "b"], ["c"])
        swept = sweep(source, DowntimeTracker(0), SourceState(), OPTIONS, None, SweepRecorder())
        assert swept.error == "j.id is an array, and part of jobs.key: keys of arrays are not supported"
        with pytest.raises(SpellingUnclear, match="keys of arrays are not supported"):
            report(source, DowntimeTracker(0), EVERYTHING)
        assert set(states(database)) == {"running"}
        source.close()


REFUSED = "j: jobs.key ('id') is not unique: there is no primary key or unique constraint"
CONFIG = """
[sources.default]
database_url = "{url}"
profile = "own"
[profiles.own]
jobs = {{ table = "j", key = "id", started = ["started"], running = {{ column = "state", in = ["running"] }} }}
alive = [{{ witness = "events", events = {{ table = "e", match = {{ j = "id" }}, at = "at" }} }}]
actions.fail.set = {{ state = "failed", error = {{ is = "message" }}, code = {{ is = "reason" }} }}
actions.requeue.set = {{ state = "queued" }}
[profiles.own.purge]
where = [{{ column = "state", in = ["over"] }}]
at = "started"
also = [{{ delete = "e", match = {{ j = "id" }} }}]
"""
COMMANDS = (
    ("report",),
    ("report", "--json"),
    ("explain", "1"),
    ("sweep", "--yes"),
    ("sweep", "--dry-run"),
    ("cleanup", "--older-than-minutes", "5", "--dry-run"),
    ("cleanup", "--older-than-minutes", "5", "--yes", "--release", "9"),
    ("clear", "--dry-run"),
    ("clear", "--yes", "--release", "9"),
    ("close-interrupted", "--source", "default", "--only-server", "--started-ago", "0s", "--yes", "--dry-run"),
    ("reset", "--all-sources", "--dry-run"),
    ("reset", "--all-sources", "--yes"),
    ("fail", "--yes", "1", "--reason", "test"),
    ("fail", "--yes", "2", "--reason", "test"),
    ("sql", "--job", "2"),
    ("fence", "install", "--force"),
)
PURGES = (("purge", "--days-to-keep", "1", "--dry-run"), ("purge", "--days-to-keep", "1", "--force"))
DAY = 24 * HOUR


class Jobs:
    """Jobs in a table without a unique key, and a reaper for them."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.url = database, database.url
        moment = "timestamptz" if "postgresql" in self.url else "datetime(6)"
        self.do(f"CREATE TABLE j (id integer, state varchar(20), started {moment}, error text, code text)")
        self.do(f"CREATE TABLE e (j integer, at {moment})")
        self.reaper = Reaper(folder, {})
        self.reaper.configure(CONFIG.format(url=self.url))

    def do(self, statement: str, *values: object) -> None:
        with self.database.session(autocommit=True) as session:
            session.do(statement, *values)

    def add(self, key: int | None, state: str, age: float) -> None:
        self.do(f"INSERT INTO j (id, state, started) VALUES (%s, %s, {self.database.ago})", key, state, age)

    @property
    def rows(self) -> list[tuple[object, ...]]:
        with self.database.session(autocommit=True) as session:
            return sorted(session.ask("SELECT coalesce(id, 0), state FROM j"))


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
def test_every_command_refuses_running_jobs_with_one_key(
    request: pytest.FixtureRequest, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database_on(request, where) as database:
        jobs = Jobs(database, tmp_path)
        # One of the two is young and not looked at by what looks at stale jobs alone.
        for key, age in ((1, 9 * HOUR), (1, 1), (2, 9 * HOUR), (3, 9 * HOUR)):
            jobs.add(key, "running", age)
        before = jobs.rows
        for command in COMMANDS:
            result = jobs.reaper(*command)
            assert result.exit_code == 1 and REFUSED in result.output, (command, result.output)
        monkeypatch.setenv("REAPER_CONFIG", jobs.reaper.given["REAPER_CONFIG"])
        monkeypatch.setenv("REAPER_RESTART_GRACE", "0")
        for task, arguments in (
            (celery_tasks.clear_stuck_scheduler_jobs, {"release": 9}),
            (celery_tasks.clear_stuck_scheduler_jobs, {"dry_run": True}),
            (celery_tasks.get_stuck_jobs_report, {}),
            (celery_tasks.reset_scheduler_state, {"all_sources": True}),
            (celery_tasks.reset_scheduler_state, {"all_sources": True, "force": True}),
        ):
            with pytest.raises(ReaperError, match=r"jobs\.key \('id'\) is not unique"):
                task(**arguments)
        assert jobs.rows == before
        # A key with NULL in it is no job's, so two of them share none; an ended job is not looked at.
        jobs.do("UPDATE j SET state = 'over' WHERE id = 1")
        jobs.add(None, "running", 9 * HOUR)
        jobs.add(None, "running", 9 * HOUR)
        looking = [command for command in COMMANDS if "--dry-run" in command or "report" in command]
        assert {(command, jobs.reaper(*command).exit_code) for command in looking} == {(it, 0) for it in looking}
        assert jobs.reaper("sweep", "--yes").exit_code == 0
        assert [state for key, state in jobs.rows if key in (2, 3)] == ["failed", "failed"]


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
def test_purge_refuses_an_ended_job_with_the_key_of_another_job(
    request: pytest.FixtureRequest, where: str, tmp_path: Path
) -> None:
    """Events are deleted by the key: those of a running job would be deleted with an ended one's."""
    with database_on(request, where) as database:
        jobs = Jobs(database, tmp_path)
        jobs.add(1, "over", 9 * DAY)
        jobs.add(1, "running", 1)
        jobs.do(f"INSERT INTO e VALUES (1, {database.ago})", 1)
        result = jobs.reaper(*PURGES[1])
        assert result.exit_code == 1 and REFUSED in result.output, result.output
        assert len(jobs.rows) == 2
        with database.session() as session:
            assert session.one("SELECT count(*) FROM e") == 1
        jobs.do("UPDATE j SET state = 'over', started = (SELECT m FROM (SELECT min(started) AS m FROM j) AS t)")
        for command in PURGES:
            result = jobs.reaper(*command)
            assert result.exit_code == 1 and REFUSED in result.output, (command, result.output)
        jobs.do("UPDATE j SET id = NULL")
        jobs.add(2, "over", 9 * DAY)
        assert jobs.reaper(*PURGES[1]).exit_code == 0
        assert [key for key, _ in jobs.rows] == [0, 0]


@pytest.mark.parametrize("where", ["postgresql", "mariadb"])
@pytest.mark.parametrize("index", ["PRIMARY KEY (id)", "UNIQUE (id)", "UNIQUE (state, id)"])
def test_unique_index_says_that_a_key_is_unique(request: pytest.FixtureRequest, where: str, index: str) -> None:
    """The rows are not asked: two that a sweep may not end cannot exist."""
    with database_on(request, where) as database:
        source = source_of(database, "integer", 1)
        with database.session(autocommit=True) as session:
            session.do(f"ALTER TABLE j ADD {index}")
        with source.connect() as connection, source.transaction(connection):
            assert key_is_unique(connection, source.tables) is ("state" not in index)
        source.close()


def test_http_refuses_running_jobs_with_one_key(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with database_on(request, "postgresql") as database:
        jobs = Jobs(database, tmp_path)
        jobs.add(1, "running", 9 * HOUR)
        jobs.add(1, "running", 1)
        jobs.add(2, "running", 9 * HOUR)
        with ApiDaemon(tmp_path, CONFIG.format(url=jobs.url), http_token_file=token_file(tmp_path)) as daemon:
            daemon.has_swept("failed")
            api, started = daemon.api, "2026-01-01T00:00:00Z"
            answers = [
                api.get("/api/jobs"),
                api.job("1"),
                api.job("2"),
                api.end("fail", "2", started),
                api.end("requeue", "2", started),
                api.post("/api/executions/cleanup", {"older_than_minutes": 5, "dry_run": True}),
                api.post("/api/executions/cleanup", {"older_than_minutes": 5, "release": 9}),
            ]
            for answer in answers:
                assert answer.status == 502 and REFUSED in answer.detail, answer
            for body in ({"dry_run": True}, {}):
                [swept] = api.post("/api/sweeps", body).json["sweeps"]
                assert swept["outcome"] == "failed" and REFUSED in swept["error"]
            for path in ("/", "/jobs/default/2"):
                assert "is not unique: there is no primary key" in api.get(path).text
        assert {state for _, state in jobs.rows} == {"running"}
