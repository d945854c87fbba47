"""While it is halted nothing ends or deletes a job on its own: sweeps, purges, closings at the start, revocations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import pytest

from reaper.config import load
from reaper.daemon import main as process
from reaper.daemon import startup_recovery
from reaper.errors import HaltInForce
from reaper.liveness import LivenessReport
from reaper.memory import HaltRecord, Memory
from reaper.model import Outcome, ReapedJob
from reaper.operations.guards import GuardPasses
from reaper.profile import resolve
from reaper.scheduling.scheduled_purge import ScheduledPurge
from reaper.scheduling.source_runner import SourceRunner
from reaper.source import Source, SourceOptions, SpellingDecision
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.halt_switch import HaltSwitch
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from reaper.web.actions import Refused
from reaper.web.guard.tokens import Caller
from tests.scheduling.test_scheduler import slow as slow_updates
from tests.staleness.test_celery_liveness import ONE_QUEUE, FixedProbe, VulsRuns
from tests.support.protea import MINUTE, PATIENCE, Protea, SweepRecorder, thresholds
from tests.support.purges import PurgeRecorder, finished, slow
from tests.support.waiting import wait_until
from tests.support.worlds.noetl import NoetlWorld
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.world import State

ALICE = HaltRecord("alice", "wrong thresholds")


@contextmanager
def started(protea: Protea, folder: Path, **settings: str) -> Iterator[process.Daemon]:
    """A daemon in this process, made of all its parts; it sweeps and purges when the test says so."""
    config = folder / "reaper.toml"
    config.write_text(
        f'interval_seconds = "1h"\nrestart_grace = 0\nhttp_port = 0\nstate_dir = "{folder}/state"\n'
        f'[sources.main]\ndatabase_url = "{protea.url}"\n[sources.main.purge]\ncron = "0 0 29 2 *"\nbatch_size = 2\n'
    )
    made = process.Daemon(load({}, {"REAPER_CONFIG": str(config), **settings}))
    made.start()
    try:
        [runner] = made.supervisor.runners
        # Its report is published a moment before it ends.
        wait_until(lambda: made.service.history.last("main") and not runner.sweeping, "the first sweep")
        yield made
    finally:
        assert made.stop()


def parts(daemon: process.Daemon) -> tuple[SourceRunner, ScheduledPurge]:
    [runner], [(scheduled_purge, _)] = daemon.supervisor.runners, daemon.supervisor.scheduled_purges.values()
    return runner, scheduled_purge


def halt_by_http(daemon: process.Daemon, folder: Path) -> None:
    daemon.service.actions.halt(Caller("alice", "127.0.0.1:1"), "look first", persistent=False)


def halt_by_http_for_good(daemon: process.Daemon, folder: Path) -> None:
    daemon.service.actions.halt(Caller("alice", "127.0.0.1:1"), "look first", persistent=True)


def halt_by_supervisor(daemon: process.Daemon, folder: Path) -> None:
    daemon.supervisor.halt(ALICE)


# --- a daemon with all its parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("halt", [halt_by_http, halt_by_http_for_good, halt_by_supervisor])
def test_halted_daemon_neither_sweeps_nor_purges_until_it_is_restarted(
    protea: Protea, tmp_path: Path, halt: Callable[[process.Daemon, Path], None]
) -> None:
    with started(protea, tmp_path) as daemon:
        halt(daemon, tmp_path)
        job = protea.stale()
        finished(protea, 3)
        before = protea.dump()
        runner, scheduled_purge = parts(daemon)
        assert scheduled_purge.tick() is None
        report = runner.tick()
        assert report is not None and report.outcome is Outcome.HALTED
        with pytest.raises(Refused, match="halted"):
            daemon.service.actions.sweep("main", dry_run=False)
        with pytest.raises(Refused, match="halted"):
            daemon.service.actions.sweep("main", dry_run=False, release=1)
        # A sweep that was let in just before the halt, and a sweep that releases what the breaker holds.
        assert runner.sweep_now().outcome is Outcome.HALTED
        assert runner.sweep_now(release=1).outcome is Outcome.HALTED
        assert daemon.service.actions.sweep("main", dry_run=True).would_reap
        assert protea.dump() == before
        daemon.service.actions.restart()
        wait_until(lambda: protea.status(job) == "failed", "a sweep at once")
        done = scheduled_purge.tick()
        assert done is not None and done.purged == 3


def test_daemon_that_is_started_halted_neither_sweeps_nor_purges_nor_closes(protea: Protea, tmp_path: Path) -> None:
    HaltSwitch(Memory.open(tmp_path / "state").halt).set(HaltRecord("bob", "a migration", persistent=True))
    job, lately = protea.stale(), protea.job(age=MINUTE)
    finished(protea, 3)
    before = protea.dump()
    closing = {"REAPER_CLOSE_INTERRUPTED_AT_START": "true", "REAPER_CLOSE_INTERRUPTED_ONLY_SERVER": "true"}
    with started(protea, tmp_path, **closing) as daemon:
        runner, scheduled_purge = parts(daemon)
        assert scheduled_purge.tick() is None
        report = runner.tick()
        assert report is not None and report.outcome is Outcome.HALTED
        assert daemon.startup.sources == ()
        assert protea.dump() == before
        daemon.service.actions.restart()
        wait_until(lambda: protea.status(job) == "failed", "a sweep at once")
        assert daemon.startup.sources == (), "what was interrupted then is no longer known"
        assert protea.status(lately) == "running"
    assert not HaltSwitch(Memory.open(tmp_path / "state").halt).is_halted


def test_reload_of_a_halted_daemon_leaves_it_halted(protea: Protea, tmp_path: Path) -> None:
    with started(protea, tmp_path) as daemon:
        daemon.supervisor.halt(ALICE)
        text = (tmp_path / "reaper.toml").read_text().replace("batch_size = 2", "batch_size = 3")
        (tmp_path / "reaper.toml").write_text(f"batch_size = 7\n{text}")
        daemon.reload(lambda: load({}, {"REAPER_CONFIG": str(tmp_path / "reaper.toml")}))
        protea.stale()
        finished(protea, 3)
        before = protea.dump()
        runner, scheduled_purge = parts(daemon)
        assert runner.options.batch_size == 7
        wait_until(lambda: daemon.service.history.last("main"), "a sweep of the new configuration")
        report = runner.sweep_now(patience_seconds=10)
        assert report.outcome is Outcome.HALTED and scheduled_purge.tick() is None
        assert protea.dump() == before


def test_halt_ends_a_purge_after_its_batch(protea: Protea) -> None:
    slow(protea, 0.3)
    finished(protea, 12)
    halt, recorder = HaltSwitch(), PurgeRecorder()
    scheduled_purge = ScheduledPurge(protea.source(), 30, 2, [recorder], halt)
    working = threading.Thread(target=scheduled_purge.tick)
    working.start()
    wait_until(lambda: bool(recorder.batches), "a batch")
    halt.set(ALICE)
    working.join(20)
    left = len(protea.statuses())
    assert 0 < left < 12 and left % 2 == 0
    assert recorder.reports[0].outcome is Outcome.STOPPED
    assert scheduled_purge.tick() is None and len(protea.statuses()) == left
    halt.clear()
    done = scheduled_purge.tick()
    assert done is not None and done.outcome is Outcome.DONE and not protea.statuses()


def test_clearing_and_cleanup_that_began_before_a_halt_end_with_it(protea: Protea, tmp_path: Path) -> None:
    """Those that begin after it are refused, unless they say that they are meant."""
    with started(protea, tmp_path) as daemon:
        jobs = [protea.stale() for _ in range(2)]
        admin_actions, who = daemon.service.actions, Caller("alice", "127.0.0.1:1")
        clearing = admin_actions.clear(1, dry_run=False, who=who)
        daemon.supervisor.halt(ALICE)
        assert [report.outcome for report in clearing] == [Outcome.HALTED]
        assert {protea.status(job) for job in jobs} == {"running"}
        for begun in (admin_actions.clear, partial(admin_actions.cleanup, "main")):
            with pytest.raises(HaltInForce, match="halted by"):
                begun(60, dry_run=False, who=who)
        assert admin_actions.cleanup("main", 60, dry_run=True, who=who).found == 2
        meant = GuardPasses(while_halted=True)
        assert [report.reaped for report in admin_actions.clear(1, dry_run=False, who=who, passes=meant)] == [2]
        protea.stale()
        assert admin_actions.cleanup("main", 60, dry_run=False, who=who, passes=meant).count == 1


def test_cleanup_that_works_when_it_is_halted_ends_after_its_batch(protea: Protea, tmp_path: Path) -> None:
    with started(protea, tmp_path, REAPER_BATCH_SIZE="1") as daemon:
        slow_updates(protea, 0.3)
        jobs = [protea.stale() for _ in range(12)]

        def ended() -> int:
            return sum(status == "failed" for status in protea.statuses().values())

        admin_actions, who = daemon.service.actions, Caller("alice", "127.0.0.1:1")
        working = threading.Thread(target=lambda: admin_actions.cleanup("main", 60, dry_run=False, who=who))
        working.start()
        wait_until(ended, "a batch")
        daemon.supervisor.halt(ALICE)
        working.join(30)
        assert 0 < ended() < len(jobs)


# --- the closing at the start -------------------------------------------------------------------------------------


@dataclass
class ReapCounter:
    """A subscriber that counts what was ended."""

    reaped_jobs: list[ReapedJob] = field(default_factory=list)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self.reaped_jobs += batch

    def surveyed(self, source: str, census: object) -> None:
        pass

    def swept(self, report: object) -> None:
        pass


@pytest.fixture
def noetl(empty: PostgreSQLDatabase) -> Iterator[NoetlWorld]:
    with NoetlWorld.create(empty) as made:
        yield made


@pytest.mark.parametrize("halted", [False, True])
def test_closing_that_listens_when_it_is_halted_ends_nothing(
    noetl: NoetlWorld, halted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup_recovery, "LISTEN_SECONDS", 1.0)
    job = noetl.job(age=3600, sign=MINUTE)
    settings = load({}, {"REAPER_DATABASE_URL": noetl.database.url, "REAPER_PROFILE": "noetl",
                         "REAPER_RESTART_GRACE": "0"})  # fmt: skip
    halt, reap_counter = HaltSwitch(), ReapCounter()
    begun = startup_recovery.StartupRecovery([reap_counter], halt)
    begun.begin(settings, settings.sources["default"], SpellingDecision())
    if halted:
        halt.set(ALICE)
    assert begun.join(30)
    assert noetl.state(job) is (State.RUNNING if halted else State.REAPED)
    assert len(reap_counter.reaped_jobs) == (0 if halted else 1)


def test_daemon_that_is_halted_while_its_closing_listens_ends_nothing(
    noetl: NoetlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup_recovery, "LISTEN_SECONDS", 2.0)
    job = noetl.job(age=3600, sign=MINUTE)
    made = process.Daemon(
        load({}, {"REAPER_DATABASE_URL": noetl.database.url, "REAPER_PROFILE": "noetl", "REAPER_RESTART_GRACE": "0",
                  "REAPER_HTTP_PORT": "0", "REAPER_CLOSE_INTERRUPTED_AT_START": "true",
                  "REAPER_CLOSE_INTERRUPTED_ONLY_SERVER": "true", "REAPER_INTERVAL_SECONDS": "1h"})
    )  # fmt: skip
    made.start()
    try:
        halt_by_supervisor(made, Path())
        assert made.startup.sources == ("default",) and made.startup.join(30)
        assert noetl.state(job) is State.RUNNING
    finally:
        assert made.stop()


@pytest.mark.parametrize(("grace", "ended"), [("0", True), ("12h", False)])
def test_closing_gives_workers_the_configured_time_after_a_restart_of_the_database(
    noetl: NoetlWorld, grace: str, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test's own server has just been started: no worker counts as missing before `restart_grace` is over."""
    monkeypatch.setattr(startup_recovery, "LISTEN_SECONDS", 0.3)
    job = noetl.job(age=3600, sign=MINUTE)
    settings = load({}, {"REAPER_DATABASE_URL": noetl.database.url, "REAPER_PROFILE": "noetl",
                         "REAPER_RESTART_GRACE": grace})  # fmt: skip
    begun = startup_recovery.StartupRecovery([ReapCounter()])
    begun.begin(settings, settings.sources["default"], SpellingDecision())
    assert begun.join(20 if ended else 2) is ended
    begun.stop(10)
    assert noetl.state(job) is (State.REAPED if ended else State.RUNNING)


# --- tasks of ended jobs ------------------------------------------------------------------------------------------


@dataclass
class Revokes(FixedProbe):
    """A witness that remembers which tasks it was to revoke."""

    revoked: list[str] = field(default_factory=list)

    def revoke(self, ids: Sequence[str]) -> None:
        self.revoked += ids


@pytest.fixture
def runs(empty: PostgreSQLDatabase) -> Iterator[VulsRuns]:
    empty.create("vuls")
    with psycopg.connect(empty.url.replace("+psycopg", ""), autocommit=True) as connection:
        yield VulsRuns(empty.url, connection)


@pytest.mark.parametrize("halted", [False, True])
def test_task_of_a_job_that_ended_earlier_is_revoked_again_by_no_halted_sweep(
    runs: VulsRuns,
    halted: bool,
) -> None:
    executing = LivenessReport(
        frozenset({"task"}), {"task": "worker@host"}, queues=ONE_QUEUE.queues, known=ONE_QUEUE.known
    )
    witness, memory = Revokes(executing), SourceState(unconfirmed_revocations={"task": "worker@host"})
    source = Source("main", runs.url, resolve("vuls"), thresholds(), PATIENCE, SourceOptions(probe=witness))
    options = SweepOptions("host", 10, Breaker(50, 1.0), is_halted=lambda: halted)
    report = sweep(source, DowntimeTracker(0), memory, options, None, SweepRecorder())
    assert report.outcome is (Outcome.HALTED if halted else Outcome.DONE)
    assert witness.revoked == ([] if halted else ["task"])


def test_dry_run_revokes_no_task(runs: VulsRuns) -> None:
    executing = LivenessReport(
        frozenset({"task"}), {"task": "worker@host"}, queues=ONE_QUEUE.queues, known=ONE_QUEUE.known
    )
    witness, memory = Revokes(executing), SourceState(unconfirmed_revocations={"task": "worker@host"})
    source = Source("main", runs.url, resolve("vuls"), thresholds(), PATIENCE, SourceOptions(probe=witness))
    sweep(
        source,
        DowntimeTracker(0),
        memory,
        SweepOptions("host", 10, Breaker(50, 1.0), dry_run=True),
        None,
        SweepRecorder(),
    )
    assert witness.revoked == []
