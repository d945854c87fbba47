"""`reaper resume` closes interrupted jobs at once and touches nothing else, on a real server."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reaper.cli import exit_codes
from reaper.operations.end_in_batches import BulkOptions
from reaper.operations.resume import ResumeOptions, ResumeResult, resume
from reaper.source import Claim
from reaper.staleness.downtime import DowntimeTracker
from tests.support.commands import Reaper
from tests.support.daemons import Daemon
from tests.support.databases import TemporaryDatabases
from tests.support.protea import MINUTE, SweepRecorder
from tests.support.waiting import wait_until
from tests.support.worlds.database import Session
from tests.support.worlds.noetl import NoetlWorld
from tests.support.worlds.protea import ProteaWorld
from tests.support.worlds.servers import postgresql_world
from tests.support.worlds.world import State, World

LISTEN = "0.1s"
"""For tests in which no sign of life comes while the command listens."""


@pytest.fixture(params=[NoetlWorld, ProteaWorld], ids=lambda world: world.profile)
def world(request: pytest.FixtureRequest, databases: TemporaryDatabases) -> Iterator[World]:
    with postgresql_world(databases, request.param) as made:
        yield made


@pytest.fixture
def noetl(databases: TemporaryDatabases) -> Iterator[World]:
    with postgresql_world(databases, NoetlWorld) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reaper_of(world: World, folder: Path) -> Reaper:
    return Reaper(folder, {"REAPER_DATABASE_URL": world.database.url, "REAPER_PROFILE": world.profile})


def resumed(world: World, folder: Path, *arguments: str, code: int = 0, **given: str) -> Any:
    document = reaper_of(world, folder).json("resume", "--listen", LISTEN, *arguments, code=code, **given)
    return {job["key"] for job in document["closed_jobs"]}


# --- which jobs are closed ------------------------------------------------------------------------------


def test_job_with_its_last_sign_within_the_window_is_closed(world: World, folder: Path) -> None:
    lately, begun_lately = world.job(age=3 * 3600, sign=MINUTE), world.job(age=2 * MINUTE, sign=None)
    assert resumed(world, folder) == {lately, begun_lately}
    assert {evidence["reason"] for job in (lately, begun_lately) for evidence in world.audit(job)} == {"Interrupted"}


def test_job_with_its_last_sign_before_the_window_is_left_to_its_timeout(world: World, folder: Path) -> None:
    world.job(age=3 * 3600, sign=6 * MINUTE)
    world.job(age=6 * MINUTE, sign=None)
    before = world.dump()
    assert resumed(world, folder) == set()
    assert world.dump() == before


def test_window_that_is_given_is_used(world: World, folder: Path) -> None:
    nearer, farther = world.job(age=3600, sign=9 * MINUTE + 30), world.job(age=3600, sign=10 * MINUTE + 1)
    assert resumed(world, folder, "--window", "9m") == set()
    assert resumed(world, folder, "--window", "10m") == {nearer}
    assert world.state(farther) is State.RUNNING


def test_window_of_the_configuration_is_used_when_none_is_given(world: World, folder: Path) -> None:
    job = world.job(age=3600, sign=9 * MINUTE)
    assert resumed(world, folder) == set()
    assert resumed(world, folder, REAPER_RESUME_WINDOW_SECONDS="10m") == {job}


def test_ended_job_is_left_alone(world: World, folder: Path) -> None:
    job = world.job(age=3600, sign=MINUTE)
    assert world.finish(job, world.session)
    before = world.dump()
    assert resumed(world, folder) == set()
    assert world.dump() == before


def test_dry_run_of_resume_lists_jobs_and_changes_nothing(world: World, folder: Path) -> None:
    job = world.job(age=3600, sign=MINUTE)
    before = world.dump()
    reaper = reaper_of(world, folder)
    shown = reaper("resume", "--listen", LISTEN, "--dry-run")
    assert shown.exit_code == 0
    assert f"- {job}\nWould close 1 interrupted job(s), last sign of life within 5m before the restart." in shown.stdout
    document = reaper.json("resume", "--listen", LISTEN, "--dry-run")
    assert [found["key"] for found in document["would_close"]] == [job] and document["closed"] == 0
    assert world.dump() == before


def test_audit_event_of_resume_says_what_happened(world: World, folder: Path) -> None:
    job = world.job(age=3600, sign=MINUTE)
    document = reaper_of(world, folder).json("resume", "--listen", LISTEN)
    [evidence] = world.audit(job)
    assert (evidence["reason"], evidence["sweep_id"]) == ("Interrupted", document["run_id"])
    assert evidence["message"].startswith("Interrupted: its server was restarted at 2")
    assert evidence["message"].endswith("last sign of life within 5m before, none since.")


# --- while it waits for signs of life ---------------------------------------------------------------------------


def patiently(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def listened(world: World, meanwhile: Callable[[Session], object]) -> ResumeResult:
    """Resume, while another server does something in a session of its own."""

    def wait(seconds: float) -> bool:
        with world.database.session() as other:
            meanwhile(other)
            other.commit()
        return patiently(seconds)

    bulk_options = BulkOptions("test-host", 1000, SweepRecorder())
    result = resume(world.source(), DowntimeTracker(0), ResumeOptions(5 * MINUTE, 0.3, wait), bulk_options)
    assert result is not None
    return result


def test_job_that_another_server_works_on_is_spared(world: World) -> None:
    dead, alive = world.job(age=3600, sign=MINUTE), world.job(age=3600, sign=MINUTE)
    assert listened(world, lambda other: world.sign_of_life(alive, other)).bulk_result.reaped == 1
    assert len(world.audit(dead)) == 1 and world.state(alive) is State.RUNNING


def test_job_whose_workers_clock_is_behind_is_spared_too(noetl: World) -> None:
    job = noetl.job(age=3600, sign=MINUTE)

    def event(other: Session) -> None:
        other.do(
            "INSERT INTO noetl.event (execution_id, catalog_id, event_id, event_type, created_at)"
            " VALUES (%s, 5, 999000, 'step.exit', timezone('UTC', now()) - interval '30 s')",
            job,
        )

    assert listened(noetl, event).interrupted == 0
    assert noetl.state(job) is State.RUNNING


def test_job_that_ends_meanwhile_keeps_its_own_end(world: World) -> None:
    job = world.job(age=3600, sign=MINUTE)
    assert listened(world, lambda other: world.finish(job, other)).interrupted == 0
    assert world.state(job) is State.FINISHED


def test_job_that_begins_after_the_restart_is_left_alone(world: World) -> None:
    world.job(age=3600, sign=MINUTE)
    begun: list[str] = []
    assert listened(world, lambda _: begun.append(world.job(age=0, sign=None))).bulk_result.reaped == 1
    assert world.state(begun[0]) is State.RUNNING


@pytest.mark.parametrize("what", ["sign of life", "end"])
def test_changes_between_the_second_look_and_the_lock_count(world: World, what: str) -> None:
    """The claim judges again, behind its lock."""
    job, source = world.job(age=3600, sign=MINUTE), world.source()
    claim = source.claim

    def act_and_claim(*arguments: Any, **given: Any) -> Claim:
        """Claims are made after the last look and before the first lock."""
        with world.database.session() as other:
            assert (world.sign_of_life if what == "sign of life" else world.finish)(job, other)
            other.commit()
        return claim(*arguments, **given)

    source.claim = act_and_claim  # type: ignore[method-assign]
    found = resume(
        source,
        DowntimeTracker(0),
        ResumeOptions(5 * MINUTE, 0.3, patiently),
        BulkOptions("test-host", 1000, SweepRecorder()),
    )
    assert found is not None and (found.interrupted, found.bulk_result.reaped, found.bulk_result.lost) == (1, 0, 1)
    assert world.state(job) is (State.RUNNING if what == "sign of life" else State.FINISHED)


@pytest.mark.usefixtures("short_wait_for_log")
def test_sign_of_life_that_waits_for_its_commit_saves_the_job(world: World, folder: Path) -> None:
    """The other server has locked what the claim needs: its row, or the log."""
    job = world.job(age=3600, sign=MINUTE)
    with world.database.session() as other:
        assert world.sign_of_life(job, other)
        document = reaper_of(world, folder).json("resume", "--listen", LISTEN)
        assert document["closed_jobs"] == [] and document["locked"] == [job]
        other.commit()
    assert world.state(job) is State.RUNNING


def test_two_resumes_at_once_close_each_job_once(world: World, folder: Path) -> None:
    jobs, reaper = {world.job(age=3600, sign=MINUTE) for _ in range(10)}, reaper_of(world, folder)
    words = ("resume", "--json", "--listen", "1s")
    with reaper.process(*words, REAPER_BATCH_SIZE="3") as one, reaper.process(*words, REAPER_BATCH_SIZE="3") as two:
        outputs = [process.communicate(timeout=60)[0] for process in (one, two)]
    closed = [job["key"] for output in outputs for job in json.loads(output)["closed_jobs"]]
    assert set(closed) == jobs and len(closed) == len(jobs)
    assert {len(world.audit(job)) for job in jobs} == {1}


def test_resume_waits_after_a_database_restart_until_workers_can_be_back(world: World) -> None:
    """The test's server has just been started, and workers get an hour to come back."""
    job, asked = world.job(age=3600, sign=MINUTE), list[float]()

    def wait(seconds: float) -> bool:
        asked.append(seconds)
        return True

    bulk_options = BulkOptions("test-host", 1000, SweepRecorder())
    assert resume(world.source(), DowntimeTracker(3600), ResumeOptions(5 * MINUTE, 10, wait), bulk_options) is None
    [seconds] = asked
    assert 1800 < seconds <= 3610 and world.state(job) is State.RUNNING


def test_ctrl_c_while_resume_waits_changes_nothing(noetl: World, folder: Path) -> None:
    job = noetl.job(age=3600, sign=MINUTE)
    with reaper_of(noetl, folder).process("resume", "--listen", "1h") as process:
        with noetl.database.session() as other:
            other.do("LOCK TABLE noetl.event")
            wait_until(lambda: noetl.database.reaper_sessions(noetl.session) > 0, "the command has a session")
        wait_until(lambda: noetl.database.reaper_sessions(noetl.session) == 0, "the command has closed its session")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (exit_codes.INTERRUPTED, "", "")
    assert noetl.state(job) is State.RUNNING


# --- how it is called -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["0s", "2d", "soon", "-5m"])
@pytest.mark.parametrize("option", ["--window", "--listen"])
def test_wrong_duration_is_wrong_usage(noetl: World, folder: Path, option: str, wrong: str) -> None:
    result = reaper_of(noetl, folder)("resume", option, wrong)
    assert result.exit_code == exit_codes.USAGE and option in result.stderr


def test_profile_without_signs_of_life_is_warned_about(noetl: World, folder: Path) -> None:
    reaper = reaper_of(noetl, folder)
    reaper.configure("[profiles.ours]\nextends = 'noetl'\nalive = []\n")
    reaper.given["REAPER_PROFILE"] = "ours"
    result = reaper("resume", "--listen", LISTEN)
    assert result.exit_code == 0
    assert "profile 'ours' has no sign of life" in result.stderr


def test_daemon_resumes_at_its_start_when_configured(noetl: World, folder: Path, thorough: bool) -> None:
    if not thorough:
        # A start like any other, but that it does not listen for 10 s.
        (folder / "sitecustomize.py").write_text(
            "from reaper.daemon import startup_recovery\nstartup_recovery.LISTEN_SECONDS = 0.5\n"
        )
    job, older = noetl.job(age=3600, sign=MINUTE), noetl.job(age=3600, sign=10 * MINUTE)
    url = noetl.database.url
    with Daemon(
        folder, database_url=url, profile="noetl", resume_at_start="true", extra_path=None if thorough else folder
    ) as daemon:
        daemon.says("Reaper closed 1 interrupted job(s).", seconds=40)
        [line] = daemon.said("Reaped interrupted job.")
        assert daemon.stop()[0] == 0
    assert (line["job"], line["reason"]) == (job, "Interrupted")
    [evidence] = noetl.audit(job)
    assert evidence["reason"] == "Interrupted"
    assert noetl.state(older) is State.RUNNING


def test_daemon_resumes_nothing_unless_configured(noetl: World, folder: Path) -> None:
    noetl.job(age=3600, sign=MINUTE)
    with Daemon(folder, database_url=noetl.database.url, profile="noetl") as daemon:
        daemon.comes_up().sweeps_on()
        assert daemon.stop()[0] == 0
    assert not [line for line in daemon.log if "interrupted" in line["event"]]
