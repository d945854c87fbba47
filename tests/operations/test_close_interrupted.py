"""`reaper close-interrupted` closes interrupted jobs at once and touches nothing else, on a real server."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reaper.cli import exit_codes
from reaper.config import load
from reaper.daemon import startup_recovery
from reaper.memory import HaltRecord, Memory
from reaper.operations.close_interrupted import CloseInterruptedOptions, CloseInterruptedResult, close_interrupted
from reaper.operations.end_in_batches import BulkOptions
from reaper.operations.sources import create_one_off_source
from reaper.source import Claim, SpellingDecision
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from tests.support.commands import Reaper, without_notice
from tests.support.daemons import Daemon
from tests.support.databases import TemporaryDatabases
from tests.support.protea import HOUR, MINUTE, Protea, SweepRecorder
from tests.support.terminals import typed
from tests.support.waiting import wait_until
from tests.support.worlds.database import Session
from tests.support.worlds.noetl import NoetlWorld
from tests.support.worlds.protea import ProteaWorld
from tests.support.worlds.servers import postgresql_world
from tests.support.worlds.world import State, World

CLOSE = ("close-interrupted", "--source", "default", "--only-server", "--started-ago", "0s", "--yes")
LISTEN = "0.1s"
"""For tests in which no sign of life comes while the command listens."""


@pytest.fixture(params=[NoetlWorld, ProteaWorld], ids=lambda world: world.profile)
def world(request: pytest.FixtureRequest, databases: TemporaryDatabases) -> Iterator[World]:
    with postgresql_world(databases, request.param) as made:
        yield made


on_protea = pytest.mark.parametrize(
    "world",
    [pytest.param(NoetlWorld, marks=pytest.mark.thorough), ProteaWorld],
    ids=lambda world: world.profile,
    indirect=True,
)
"""With --thorough also in a log, where other tests of this file try the same code."""


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


def closed_by(world: World, folder: Path, *arguments: str, code: int = 0, **given: str) -> Any:
    document = reaper_of(world, folder).json(*CLOSE, "--listen", LISTEN, *arguments, code=code, **given)
    return {job["key"] for job in document["closed_jobs"]}


# --- which jobs are closed ------------------------------------------------------------------------------


def test_job_with_its_last_sign_within_the_window_is_closed(world: World, folder: Path) -> None:
    lately, begun_lately = world.job(age=3 * 3600, sign=MINUTE), world.job(age=2 * MINUTE, sign=None)
    assert closed_by(world, folder) == {lately, begun_lately}
    assert {evidence["reason"] for job in (lately, begun_lately) for evidence in world.audit(job)} == {"Interrupted"}


@on_protea
def test_job_with_its_last_sign_before_the_window_is_left_to_its_timeout(world: World, folder: Path) -> None:
    world.job(age=3 * 3600, sign=6 * MINUTE)
    world.job(age=6 * MINUTE, sign=None)
    before = world.dump()
    assert closed_by(world, folder) == set()
    assert world.dump() == before


@on_protea
def test_window_that_is_given_is_used(world: World, folder: Path) -> None:
    nearer, farther = world.job(age=3600, sign=9 * MINUTE + 30), world.job(age=3600, sign=10 * MINUTE + 1)
    assert closed_by(world, folder, "--window", "9m") == set()
    assert closed_by(world, folder, "--window", "10m") == {nearer}
    assert world.state(farther) is State.RUNNING


@on_protea
def test_window_of_the_configuration_is_used_when_none_is_given(world: World, folder: Path) -> None:
    job = world.job(age=3600, sign=9 * MINUTE)
    assert closed_by(world, folder) == set()
    assert closed_by(world, folder, REAPER_CLOSE_INTERRUPTED_WINDOW_SECONDS="10m") == {job}


@on_protea
def test_ended_job_is_left_alone(world: World, folder: Path) -> None:
    job = world.job(age=3600, sign=MINUTE)
    assert world.finish(job, world.session)
    before = world.dump()
    assert closed_by(world, folder) == set()
    assert world.dump() == before


@on_protea
def test_dry_run_lists_jobs_and_changes_nothing(world: World, folder: Path) -> None:
    job = world.job(age=3600, sign=MINUTE)
    before = world.dump()
    reaper = reaper_of(world, folder)
    shown = reaper(*CLOSE, "--listen", LISTEN, "--dry-run")
    assert shown.exit_code == 0
    assert f"- {job}\nWould close 1 interrupted job(s), last sign of life within 5m before the restart." in shown.stdout
    document = reaper.json(*CLOSE, "--listen", LISTEN, "--dry-run")
    assert [found["key"] for found in document["would_close"]] == [job] and document["closed"] == 0
    assert world.dump() == before


@on_protea
def test_audit_event_says_what_happened(world: World, folder: Path) -> None:
    job = world.job(age=3600, sign=MINUTE)
    document = reaper_of(world, folder).json(*CLOSE, "--listen", LISTEN)
    [evidence] = world.audit(job)
    assert (evidence["reason"], evidence["sweep_id"]) == ("Interrupted", document["run_id"])
    assert evidence["message"].startswith("Interrupted: its server was restarted at 2")
    assert evidence["message"].endswith("last sign of life within 5m before, none since.")


# --- while it waits for signs of life ---------------------------------------------------------------------------


def patiently(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def listened(world: World, meanwhile: Callable[[Session], object]) -> CloseInterruptedResult:
    """Close them, while another server does something in a session of its own."""

    def wait(seconds: float) -> bool:
        with world.database.session() as other:
            meanwhile(other)
            other.commit()
        return patiently(seconds)

    bulk_options = BulkOptions("test-host", 1000, SweepRecorder())
    result = close_interrupted(
        world.source(),
        DowntimeTracker(0),
        CloseInterruptedOptions(5 * MINUTE, 0.3, wait, Breaker(50, 0.5)),
        bulk_options,
    )
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


@on_protea
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
    found = close_interrupted(
        source,
        DowntimeTracker(0),
        CloseInterruptedOptions(5 * MINUTE, 0.3, patiently, Breaker(50, 0.5)),
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
        document = reaper_of(world, folder).json(*CLOSE, "--listen", LISTEN)
        assert document["closed_jobs"] == [] and document["locked"] == [job]
        other.commit()
    assert world.state(job) is State.RUNNING


@on_protea
def test_two_at_once_close_each_job_once(world: World, folder: Path) -> None:
    jobs, reaper = {world.job(age=3600, sign=MINUTE) for _ in range(10)}, reaper_of(world, folder)
    words = (*CLOSE, "--json", "--listen", "1s")
    with reaper.process(*words, REAPER_BATCH_SIZE="3") as one, reaper.process(*words, REAPER_BATCH_SIZE="3") as two:
        outputs = [process.communicate(timeout=60)[0] for process in (one, two)]
    closed = [job["key"] for output in outputs for job in json.loads(output)["closed_jobs"]]
    assert set(closed) == jobs and len(closed) == len(jobs)
    assert {len(world.audit(job)) for job in jobs} == {1}


@on_protea
def test_it_waits_after_a_database_restart_until_workers_can_be_back(world: World) -> None:
    """The test's server has just been started, and workers get an hour to come back."""
    job, asked = world.job(age=3600, sign=MINUTE), list[float]()

    def wait(seconds: float) -> bool:
        asked.append(seconds)
        return True

    bulk_options = BulkOptions("test-host", 1000, SweepRecorder())
    assert (
        close_interrupted(
            world.source(),
            DowntimeTracker(3600),
            CloseInterruptedOptions(5 * MINUTE, 10, wait, Breaker(50, 0.5)),
            bulk_options,
        )
        is None
    )
    [seconds] = asked
    assert 1800 < seconds <= 3610 and world.state(job) is State.RUNNING


def test_ctrl_c_while_it_waits_changes_nothing(noetl: World, folder: Path) -> None:
    job = noetl.job(age=3600, sign=MINUTE)
    with reaper_of(noetl, folder).process(*CLOSE, "--listen", "1h") as process:
        with noetl.database.session() as other:
            other.do("LOCK TABLE noetl.event")
            wait_until(lambda: noetl.database.reaper_sessions(noetl.session) > 0, "the command has a session")
        wait_until(lambda: noetl.database.reaper_sessions(noetl.session) == 0, "the command has closed its session")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, without_notice(errors)) == (exit_codes.INTERRUPTED, "", "")
    assert noetl.state(job) is State.RUNNING


# --- how it is called -------------------------------------------------------------------------------------------


def test_wrong_duration_is_wrong_usage(noetl: World, folder: Path) -> None:
    for option in ("--window", "--listen"):
        for wrong in ("0s", "2d", "soon", "-5m"):
            result = reaper_of(noetl, folder)(*CLOSE, option, wrong)
            assert result.exit_code == exit_codes.USAGE and option in result.stderr, (option, wrong)


def test_profile_without_signs_of_life_is_warned_about(noetl: World, folder: Path) -> None:
    reaper = reaper_of(noetl, folder)
    reaper.configure("[profiles.ours]\nextends = 'noetl'\nalive = []\n")
    reaper.given["REAPER_PROFILE"] = "ours"
    result = reaper(*CLOSE, "--listen", LISTEN)
    assert result.exit_code == 0
    assert "profile 'ours' has no sign of life" in result.stderr


def test_daemon_closes_them_at_its_start_when_configured(noetl: World, folder: Path, thorough: bool) -> None:
    if not thorough:
        # A start like any other, but that it does not listen for 10 s.
        (folder / "sitecustomize.py").write_text(
            "from reaper.daemon import startup_recovery\nstartup_recovery.LISTEN_SECONDS = 0.5\n"
        )
    job, older = noetl.job(age=3600, sign=MINUTE), noetl.job(age=3600, sign=10 * MINUTE)
    url = noetl.database.url
    with Daemon(
        folder,
        database_url=url,
        profile="noetl",
        close_interrupted_at_start="true",
        close_interrupted_only_server="true",
        extra_path=None if thorough else folder,
    ) as daemon:
        daemon.says("Reaper closed 1 interrupted job(s).", seconds=40)
        [line] = daemon.said("Reaped interrupted job.")
        assert daemon.stop()[0] == 0
    assert (line["job"], line["reason"]) == (job, "Interrupted")
    [evidence] = noetl.audit(job)
    assert evidence["reason"] == "Interrupted"
    assert noetl.state(older) is State.RUNNING


def test_daemon_closes_none_at_its_start_unless_configured(noetl: World, folder: Path) -> None:
    noetl.job(age=3600, sign=MINUTE)
    with Daemon(folder, database_url=noetl.database.url, profile="noetl") as daemon:
        daemon.comes_up().sweeps_on()
        assert daemon.stop()[0] == 0
    assert not [line for line in daemon.log if "interrupted" in line["event"]]


# --- the proof -----------------------------------------------------------------------------------------------------

HOLDER = """\
[profiles.ours]
extends = "protea"
jobs.holder = "worker"
"""


@pytest.fixture
def held(protea: Protea, folder: Path) -> Reaper:
    """A table whose jobs name the worker that holds them."""
    protea.connection.execute("ALTER TABLE job ADD COLUMN worker text")
    reaper = Reaper(folder, {"REAPER_DATABASE_URL": protea.url, "REAPER_PROFILE": "ours"})
    reaper.configure(HOLDER)
    return reaper


def held_by(protea: Protea, worker: str | None, *, age: float = HOUR) -> str:
    job = protea.job(age=age)
    protea.event(job, age=MINUTE)
    protea.connection.execute("UPDATE job SET worker = %s WHERE id = %s", (worker, job))
    return job


def of_holder(reaper: Reaper, holder: str, *arguments: str, code: int = 0) -> Any:
    words = ("close-interrupted", "--source", "default", "--holder", holder, "--yes", "--listen", LISTEN)
    return reaper.json(*words, *arguments, code=code)


def test_only_jobs_of_the_restarted_server_that_began_before_its_start_are_closed(held: Reaper, protea: Protea) -> None:
    ours, theirs, free = held_by(protea, "app-1"), held_by(protea, "app-2"), held_by(protea, None)
    after = protea.job(age=5)
    protea.connection.execute("UPDATE job SET worker = 'app-1' WHERE id = %s", (after,))
    document = of_holder(held, "app-1", "--started-ago", "20s")
    assert [job["key"] for job in document["closed_jobs"]] == [ours]
    assert {protea.status(job) for job in (theirs, free, after)} == {"running"}


def test_sign_of_life_since_the_servers_start_spares_a_job(held: Reaper, protea: Protea) -> None:
    job = held_by(protea, "app-1")
    assert of_holder(held, "app-1", "--started-ago", "2m")["closed"] == 0
    assert protea.status(job) == "running"


def test_change_of_the_holder_before_the_lock_saves_the_job(held: Reaper, protea: Protea, folder: Path) -> None:
    """Another server has taken the job over after the last look: the claim judges its holder again."""
    job = held_by(protea, "app-1")
    settings = load({"config": str(folder / "reaper.toml")}, held.given)
    source = create_one_off_source(settings, settings.sources["default"])
    claim = source.claim

    def take_over_and_claim(*arguments: Any, **given: Any) -> Claim:
        protea.connection.execute("UPDATE job SET worker = 'app-2' WHERE id = %s", (job,))
        return claim(*arguments, **given)

    source.claim = take_over_and_claim  # type: ignore[method-assign]
    options = CloseInterruptedOptions(5 * MINUTE, 0.1, patiently, Breaker(50, 0.5), holder="app-1")
    found = close_interrupted(source, DowntimeTracker(0), options, BulkOptions("test-host", 10, SweepRecorder()))
    assert found is not None and (found.interrupted, found.bulk_result.reaped, found.bulk_result.lost) == (1, 0, 1)
    assert protea.status(job) == "running"


def test_breaker_holds_what_is_only_asserted_and_not_what_the_holder_proves(held: Reaper, protea: Protea) -> None:
    jobs = [held_by(protea, "app-1") for _ in range(60)]
    document = held.json(*CLOSE, "--listen", LISTEN, code=1)
    assert document["closed"] == 0 and "60 of 60 running jobs fell silent" in document["held"]
    assert held(*CLOSE, "--listen", LISTEN, "--release", "59").exit_code == 1
    assert "--release 60 closes them" in held(*CLOSE, "--listen", LISTEN, "--dry-run").stdout
    assert {protea.status(job) for job in jobs} == {"running"}
    assert of_holder(held, "app-1", "--started-ago", "0s")["closed"] == 60


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--started-ago", "0s", "--yes"), "nothing says whose jobs were interrupted"),
        (("--started-ago", "0s", "--only-server", "--holder", "a", "--yes"), "give one of them"),
        (("--started-ago", "0s", "--holder", "a", "--yes"), "does not say which column names the holder"),
        (("--started-ago", "0s", "--only-server"), "standard input is not a terminal"),
        (("--only-server", "--yes"), "--started-ago"),
        (("--started-ago", "-5s", "--only-server", "--yes"), "--started-ago"),
    ],
)
def test_nothing_is_closed_without_a_proof_or_a_yes(
    protea: Protea, folder: Path, words: tuple[str, ...], said: str
) -> None:
    job = silent_job(protea)
    result = Reaper(folder, {"REAPER_DATABASE_URL": protea.url})("close-interrupted", "--source", "default", *words)
    assert result.exit_code == exit_codes.USAGE and said in result.stderr
    assert protea.status(job) == "running"


def silent_job(protea: Protea) -> str:
    job = protea.job(age=HOUR)
    protea.event(job, age=MINUTE)
    return job


@pytest.mark.parametrize("words", [(), ("--source", "default"), ("--help",), ("--json",)])
def test_resume_does_nothing_and_names_both_commands(protea: Protea, folder: Path, words: tuple[str, ...]) -> None:
    job = silent_job(protea)
    result = Reaper(folder, {"REAPER_DATABASE_URL": protea.url})("resume", *words)
    assert result.exit_code == exit_codes.USAGE and result.stdout == ""
    assert "reaper restart" in result.stderr and "reaper close-interrupted" in result.stderr
    assert protea.status(job) == "running"


def test_halt_holds_it_and_is_left_in_force(protea: Protea, folder: Path) -> None:
    job = silent_job(protea)
    reaper = Reaper(folder, {"REAPER_DATABASE_URL": protea.url, "REAPER_STATE_DIR": str(folder)})
    memory = Memory.open(folder, lambda _: None)
    memory.halt.save(HaltRecord("alice", "an upgrade"))
    refused = reaper(*CLOSE, "--listen", LISTEN)
    assert refused.exit_code == exit_codes.FAILED and "halted by alice (an upgrade)" in refused.stderr
    assert protea.status(job) == "running"
    assert reaper(*CLOSE, "--listen", LISTEN, "--while-halted").exit_code == 0
    assert protea.status(job) == "failed" and memory.halt.load() is not None


def test_daemon_closes_only_the_jobs_of_the_configured_holder(
    held: Reaper, protea: Protea, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup_recovery, "LISTEN_SECONDS", 0.1)
    ours, theirs = held_by(protea, "app-1"), held_by(protea, "app-2")
    given = {**held.given, "REAPER_RESTART_GRACE": "0", "REAPER_CLOSE_INTERRUPTED_HOLDER": "app-1"}
    settings = load({"config": str(folder / "reaper.toml")}, given)
    recovery = startup_recovery.StartupRecovery([])
    recovery.begin(settings, settings.sources["default"], SpellingDecision())
    assert recovery.join(30)
    assert (protea.status(ours), protea.status(theirs)) == ("failed", "running")


def test_at_a_terminal_it_shows_the_jobs_and_asks_and_a_yes_releases_as_many(protea: Protea, folder: Path) -> None:
    reaper = Reaper(folder, {"REAPER_DATABASE_URL": protea.url})
    jobs = [silent_job(protea) for _ in range(51)]
    words = (*CLOSE[:-1], "--listen", LISTEN)
    status, _, errors = typed(reaper, "n\n", *words)
    assert status == 0 and f"- {min(jobs)}" in errors and "The breaker would hold this" in errors
    assert "Close 51 interrupted job(s) of source default? [y/N]" in errors
    assert {protea.status(job) for job in jobs} == {"running"}
    status, shown, _ = typed(reaper, "y\n", *words)
    assert status == 0 and "Closed 51 interrupted job(s)" in shown
    assert {protea.status(job) for job in jobs} == {"failed"}
