"""Halt, mend, restart: a transition in progress is let finish, and none follows it while the supervisor is halted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import ApiDaemon
from tests.support.commands import Reaper
from tests.support.waiting import wait_until
from tests.support.worlds.adhese import AdheseWorld
from tests.support.worlds.database import Database, Session
from tests.support.worlds.servers import database_on
from tests.support.worlds.world import OLD, SILENT, State

PROMPT_SECONDS = 2.0


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database."""
    with database_on(request, request.param) as made:
        yield made


@pytest.fixture
def jobs(database: Database) -> Iterator[AdheseWorld]:
    with AdheseWorld.create(database) as world:
        yield world


@contextmanager
def daemon_of(folder: Path, database: Database) -> Iterator[ApiDaemon]:
    """A halted daemon that ends one job in each transaction."""
    settings: dict[str, Any] = {
        "database_url": database.url,
        "profile": "adhese",
        "batch_size": 1,
        "interval_seconds": 1,
    }
    with ApiDaemon(folder, **settings) as daemon:
        assert daemon.api.post("/api/supervisor/halt").json["state"] == "HALTED"
        yield daemon


def completed(jobs: AdheseWorld, job: str) -> bool:
    """Whether the job has been completed as a whole. One statement asks first: `state` reads with several."""
    if jobs.session.one('SELECT state FROM "JOB_RESULTS" WHERE id = %s', job) != "completed":
        return False
    assert jobs.state(job) is State.REAPED
    return True


def cut_connections(database: Database, session: Session) -> None:
    """The server ends the session whose transition waits."""
    if database.url.startswith("postgresql"):
        waiting = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        assert session.ask(waiting) == [(True,)]
    else:
        [[number]] = session.ask("SELECT id FROM information_schema.processlist WHERE state = 'User lock'")
        session.do(f"KILL CONNECTION {number}")


def test_transition_that_works_is_let_finish_and_halt_does_not_wait_for_it(
    jobs: AdheseWorld, database: Database, tmp_path: Path
) -> None:
    with daemon_of(tmp_path, database) as daemon:
        job = jobs.stale_job()
        with database.blocking_writes('"JOB_RESULTS"', "UPDATE"):
            assert daemon.api.post("/api/supervisor/restart").status == 200
            wait_until(lambda: database.gate_has_waiter(jobs.session), "a transition that waits")
            later = jobs.stale_job()
            asked = time.monotonic()
            answer = daemon.api.post("/api/supervisor/halt")
            assert time.monotonic() - asked < PROMPT_SECONDS
            assert (answer.status, answer.json["state"]) == (200, "HALTED")
            assert answer.json["sources"][0]["sweeping"] is True
            assert jobs.state(job) is State.RUNNING
        wait_until(lambda: completed(jobs, job), "the end of the transition")
        daemon.sweeps_on(2, "halted")
        assert jobs.state(later) is State.RUNNING
        assert daemon.api.post("/api/supervisor/restart").json["state"] == "RUNNING"
        wait_until(lambda: completed(jobs, later), "the sweep after the restart")


def test_operator_completes_and_deletes_named_jobs_while_halted(
    jobs: AdheseWorld, database: Database, tmp_path: Path
) -> None:
    """Halt, mend, restart: the document's recipe. The named job is ended, and nothing else."""
    with daemon_of(tmp_path, database) as daemon:
        # Three signs of life beside one offset of a zone would be taken for local times at first.
        closed, deleted, left = jobs.stale_job(), jobs.stale_job(), jobs.job(age=OLD, sign=SILENT + 420)
        given = {"REAPER_DATABASE_URL": database.url, "REAPER_PROFILE": "adhese"}
        reaper = Reaper(tmp_path, {**given, "REAPER_HTTP_PORT": str(daemon.port)})
        for job, action in ((closed, "complete"), (deleted, "delete")):
            ended = reaper("fail", "--yes", job, "--action", action, "--reason", "its connection was lost")
            assert ended.exit_code == 0, ended.output
        assert jobs.state(closed) is State.REAPED
        assert jobs.session.one('SELECT count(*) FROM "JOB_RESULTS" WHERE id = %s', deleted) == 0
        daemon.sweeps_on(2, "halted")
        assert jobs.state(left) is State.RUNNING
        assert reaper("state").exit_code == 3
        assert daemon.api.post("/api/supervisor/restart").json["state"] == "RUNNING"
        wait_until(lambda: completed(jobs, left), "the sweep after the restart")


def test_job_ends_as_a_whole_although_the_connection_is_lost_during_its_transition(
    jobs: AdheseWorld, database: Database, tmp_path: Path
) -> None:
    with daemon_of(tmp_path, database) as daemon:
        job, before = jobs.stale_job(), jobs.dump()
        with database.blocking_writes('"JOB_RESULTS"', "UPDATE"):
            assert daemon.api.post("/api/supervisor/restart").status == 200
            wait_until(lambda: database.gate_has_waiter(jobs.session), "a transition that waits")
            cut_connections(database, jobs.session)
            wait_until(lambda: daemon.sweeps("failed"), "the sweep that lost its connection")
            assert jobs.dump() == before
        wait_until(lambda: completed(jobs, job), "the next sweep")
        wait_until(lambda: daemon.api.get("/api/supervisor/state").json["available"], "a sweep that reaches it")
        assert daemon.said("Reaper cycle failed")
