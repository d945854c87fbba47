"""A fence keeps a reaped job reaped, whatever its old worker writes, and lets every restart of the job through."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from reaper.profile import resolve
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.checks import protea_with
from tests.support.commands import environment
from tests.support.fences import install, source_of
from tests.support.programs import PROJECT, start
from tests.support.protea import Protea, SweepRecorder
from tests.support.waiting import wait_until
from tests.support.worlds import Session, State
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.protea import ProteaWorld
from tests.support.worlds.servers import database_on, mostly_on, world_on

KEPT_COLUMNS = "status, finished_at, error_code, error_message"


@pytest.fixture(params=ProteaWorld.servers)
def open_world(request: pytest.FixtureRequest) -> Iterator[ProteaWorld]:
    """A world without a fence."""
    with world_on(request, ProteaWorld, request.param) as world:
        yield world


@pytest.fixture
def world(open_world: ProteaWorld) -> ProteaWorld:
    install(open_world.source())
    return open_world


def kept_columns(world: ProteaWorld, job: str) -> tuple[object, ...]:
    """The columns that the reaper wrote."""
    [row] = world.session.ask(f"SELECT {KEPT_COLUMNS} FROM job WHERE id = %s", job)
    return row


def status(world: ProteaWorld, job: str) -> str:
    return str(world.session.one("SELECT status FROM job WHERE id = %s", job))


def reap_job(world: ProteaWorld) -> str:
    job = world.stale_job()
    assert world.sweep().reaped == 1 and world.state(job) is State.REAPED
    return job


# --- a real worker that was only slow ---------------------------------------------------------------------------


class Worker:
    """A process that has taken a job."""

    def __init__(self, world: ProteaWorld, job: str, end: str) -> None:
        self._process = start(
            "tests.support.late_worker",
            *(world.database.url, job, end),
            environment=environment({}),
            folder=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            warnings_are_errors=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "begun\n"

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        wait_until(
            lambda: psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED, "the process is stopped"
        )

    def go_on(self) -> tuple[int, str, str]:
        """Lets the process finish; returns its exit status, stdout and stderr."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self._process.send_signal(signal.SIGCONT)
        output, errors = self._process.communicate(timeout=60)
        return self._process.returncode, output, errors

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def stop_and_reap(world: ProteaWorld, worker: Worker, job: str) -> None:
    """Stops the worker, makes its job old, and lets a sweep end it."""
    worker.stop()
    ago = world.database.ago
    world.session.do(f"UPDATE job SET started_at = {ago}, created_at = {ago} WHERE id = %s", 8 * 3600, 8 * 3600, job)
    assert world.sweep().reaped == 1 and world.state(job) is State.REAPED


def queue_job(world: ProteaWorld) -> str:
    job = world.young_job()
    world.session.do("UPDATE job SET status = 'queued', started_at = NULL WHERE id = %s", job)
    return job


def test_slow_worker_overwrites_the_reap_without_a_fence(open_world: ProteaWorld) -> None:
    job = queue_job(open_world)
    with Worker(open_world, job, "succeeded") as worker:
        stop_and_reap(open_world, worker, job)
        assert worker.go_on() == (0, "ended\n", "")
    assert status(open_world, job) == "succeeded"


@pytest.mark.parametrize(
    "end", ["succeeded", *(pytest.param(end, marks=pytest.mark.thorough) for end in ("failed", "cancelled"))]
)
def test_slow_worker_behind_a_fence_keeps_the_reap_and_gets_no_error(world: ProteaWorld, end: str) -> None:
    job = queue_job(world)
    with Worker(world, job, end) as worker:
        stop_and_reap(world, worker, job)
        before = kept_columns(world, job)
        assert worker.go_on() == (0, "ended\n", "")
    assert kept_columns(world, job) == before and world.state(job) is State.REAPED
    assert world.session.one("SELECT progress_current FROM job WHERE id = %s", job) == 100, "other columns are written"


@mostly_on("postgresql", "open_world")
def test_worker_in_time_ends_its_job_behind_a_fence(world: ProteaWorld) -> None:
    job = queue_job(world)
    with Worker(world, job, "succeeded") as worker:
        assert worker.go_on() == (0, "ended\n", "")
    assert status(world, job) == "succeeded"


def test_worker_that_waits_for_the_reapers_commit_is_late(world: ProteaWorld) -> None:
    job = world.stale_job()
    with world.database.session() as reaper, world.database.session(autocommit=True) as worker:
        reaper.do("UPDATE job SET status = 'failed', error_code = 'JobTimeout' WHERE id = %s", job)
        with ThreadPoolExecutor() as pool:
            late = pool.submit(worker.do, "UPDATE job SET status = 'succeeded' WHERE id = %s", job)
            wait_until(
                lambda: world.database.is_blocked(worker, world.session), "the worker waits for the reaper's lock"
            )
            reaper.commit()
            late.result(30)
    assert status(world, job) == "failed"


def test_fence_warns_the_late_session_with_the_job_and_how_to_undo_a_reap(protea: Protea) -> None:
    install(protea.source())
    job, notices = protea.stale(), list[str]()
    protea.sweep()
    protea.connection.add_notice_handler(
        lambda notice: notices.append(f"{notice.severity}: {notice.message_primary}: {notice.message_hint}")
    )
    protea.connection.execute("UPDATE job SET status = 'succeeded' WHERE id = %s", [job])
    assert notices == [
        f"WARNING: job {job} of public.job stays as the reaper ended it: this write comes late: To change it all the "
        "same, say before, in the same transaction: SET LOCAL reaper.fence = 'off'"
    ]
    protea.connection.execute("UPDATE job SET progress_current = 7 WHERE id = %s", [job])
    assert len(notices) == 1 and protea.row(job)["progress_current"] == 7


# --- restarts ---------------------------------------------------------------------------------------------------


def test_application_may_queue_a_reaped_job_again_and_the_new_worker_ends_it(world: ProteaWorld) -> None:
    job = reap_job(world)
    world.session.do("UPDATE job SET status = 'queued' WHERE id = %s", job)
    assert status(world, job) == "queued"
    with Worker(world, job, "succeeded") as worker:
        assert worker.go_on() == (0, "ended\n", "")
    assert status(world, job) == "succeeded"


@mostly_on("postgresql", "open_world")
def test_job_that_was_queued_again_can_be_reaped_again(world: ProteaWorld) -> None:
    job = reap_job(world)
    world.session.do("UPDATE job SET status = 'queued' WHERE id = %s", job)
    with Worker(world, job, "succeeded") as worker:
        worker.stop()
        world.session.do(f"UPDATE job SET started_at = {world.database.ago} WHERE id = %s", 7 * 3600, job)
        world.session.do("DELETE FROM job_event")
        assert world.sweep().reaped == 1
        worker.go_on()
    assert status(world, job) == "failed"


@pytest.mark.parametrize(("state", "start"), [("running", "now()"), ("cancelled", "NULL")])
def test_job_with_a_later_start_or_without_one_is_no_longer_fenced(world: ProteaWorld, state: str, start: str) -> None:
    job = reap_job(world)
    world.session.do(f"UPDATE job SET status = %s, started_at = {start} WHERE id = %s", state, job)
    assert status(world, job) == state


def test_write_with_the_old_start_or_an_earlier_one_is_late(world: ProteaWorld) -> None:
    job = reap_job(world)
    world.session.do("UPDATE job SET status = 'running', started_at = started_at WHERE id = %s", job)
    # Like a worker whose clock has only milliseconds.
    world.session.do(
        "UPDATE job SET status = 'succeeded', started_at = started_at - INTERVAL '1' SECOND WHERE id = %s", job
    )
    assert status(world, job) == "failed"


def test_person_may_undo_a_reap_and_the_fence_works_again_afterwards(world: ProteaWorld) -> None:
    job, other = reap_job(world), reap_job(world)
    postgresql = isinstance(world.database, PostgreSQLDatabase)
    with world.database.session() as person:
        person.do("SET LOCAL reaper.fence = 'off'" if postgresql else "SET @reaper_fence = 'off'")
        person.do("UPDATE job SET status = 'succeeded', error_code = NULL WHERE id = %s", job)
        person.commit()
        if not postgresql:  # MariaDB has no settings of a single transaction
            person.do("SET @reaper_fence = NULL")
        person.do("UPDATE job SET status = 'succeeded' WHERE id = %s", other)
        person.commit()
    assert (status(world, job), status(world, other)) == ("succeeded", "failed")


@pytest.mark.parametrize("code", [pytest.param(None, marks=pytest.mark.thorough), "WorkerError"])
def test_fence_ignores_jobs_that_others_have_failed(world: ProteaWorld, code: str | None) -> None:
    job = world.young_job()
    world.session.do("UPDATE job SET status = 'failed', error_code = %s WHERE id = %s", code, job)
    world.session.do("UPDATE job SET status = 'succeeded' WHERE id = %s", job)
    assert status(world, job) == "succeeded"


@mostly_on("postgresql", "open_world")
def test_fence_lets_late_deletes_and_late_events_through(world: ProteaWorld) -> None:
    job = reap_job(world)
    assert world.sign_of_life(job, world.session)
    assert world.session.do("DELETE FROM job WHERE id = %s", job) == 1


@mostly_on("postgresql", "open_world")
def test_sweeps_work_behind_a_fence(world: ProteaWorld) -> None:
    stale, alive = [world.stale_job() for _ in range(5)], world.alive_job()
    report = world.sweep()
    assert (report.error, report.failures, report.reaped) == (None, (), 5)
    assert {world.state(job) for job in stale} == {State.REAPED} and world.state(alive) is State.RUNNING


# --- other ways to say that a job runs -----------------------------------------------------------------------------

CLAIMED = {
    "jobs": {
        "table": "task",
        "key": ["id", "shard"],
        "started": "begun",
        "claim": ["token"],
        "running": {"where": [{"column": "locked", "is": "not null"}, {"column": "done", "is": "null"}]},
    },
    "actions": {
        "fail": {
            "set": {
                "locked": {"is": "null"},
                "done": {"is": "now"},
                "why": {"is": "reason"},
                "notes": {"json": {"why": {"is": "message"}}},
            }
        }
    },
}


@pytest.fixture(params=ProteaWorld.servers)
def tasks(request: pytest.FixtureRequest) -> Iterator[Session]:
    """A table with claims instead of states, a column whose type has no comparison, and a task that was reaped."""
    with database_on(request, request.param) as database, database.session(autocommit=True) as session:
        context = "timestamptz" if isinstance(database, PostgreSQLDatabase) else "DATETIME(6)"
        session.do(
            f"CREATE TABLE task (id int, shard int, begun {context}, locked {context}, done {context},"
            " token varchar(50), why varchar(50), notes json, result text, PRIMARY KEY (id, shard))"
        )
        ago = database.ago
        session.do(
            f"INSERT INTO task (id, shard, begun, locked, token) VALUES (1, 2, {ago}, {ago}, 'old')", 9 * 3600, 9
        )
        source = source_of(database.url, resolve("tasks", {"tasks": CLAIMED}))
        assert install(source) == "installed"
        options = SweepOptions("test-host", 1000, Breaker(50, 0.5), False, lambda: False)
        assert sweep(source, DowntimeTracker(0), SourceState(), options, None, SweepRecorder()).reaped == 1
        yield session


def test_worker_that_clears_its_claim_is_late_and_another_claim_starts_the_job_again(tasks: Session) -> None:
    [before] = tasks.ask("SELECT locked, done, why, notes FROM task")
    assert before[0] is None and before[1] is not None and before[2] == "JobTimeout"
    tasks.do("UPDATE task SET done = NULL, token = NULL, notes = '{\"mine\": 1}', result = 'r'")
    assert tasks.ask("SELECT locked, done, why, notes, token, result FROM task") == [(*before, None, "r")]
    tasks.do("UPDATE task SET token = 'new', locked = now(), done = NULL")
    assert tasks.one("SELECT count(*) FROM task WHERE locked IS NOT NULL AND done IS NULL") == 1


def test_old_claim_does_not_start_the_job_again(tasks: Session) -> None:
    tasks.do("UPDATE task SET token = 'old', locked = now(), done = NULL")
    assert tasks.one("SELECT count(*) FROM task WHERE locked IS NULL AND done IS NOT NULL") == 1


def test_fence_without_restart_states_lets_only_a_new_start_through(open_world: ProteaWorld) -> None:
    install(source_of(open_world.database.url, protea_with(fence={"again": []})))
    job = reap_job(open_world)
    open_world.session.do("UPDATE job SET status = 'queued' WHERE id = %s", job)
    assert status(open_world, job) == "failed"
    open_world.session.do("UPDATE job SET status = 'queued', started_at = NULL WHERE id = %s", job)
    assert status(open_world, job) == "queued"
