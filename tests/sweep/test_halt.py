"""A halted supervisor surveys and ends nothing; a persistent halt is in force after every restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from apscheduler.triggers.base import BaseTrigger

from reaper.errors import ReaperError, SourceBusy
from reaper.memory import HaltRecord, Memory
from reaper.memory.memory import FILE
from reaper.model import Outcome, SweepReport
from reaper.observers.metrics import Metrics
from reaper.observers.status import Status
from reaper.scheduling.schedule_thread import ScheduleThread
from reaper.scheduling.scheduler import State, Supervisor
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.halt_switch import HaltSwitch
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.scheduling.test_scheduler import SweepLog, slow
from tests.support.protea import Protea, SweepRecorder
from tests.support.waiting import stays_true, wait_until

ALICE = HaltRecord("alice", "wrong thresholds")
PERSISTENT = HaltRecord("bob", persistent=True)


class RunnerFactory(Protocol):
    def __call__(
        self, sweep_log: SweepLog, halt: HaltSwitch, *, interval: float = 0.2, batch_size: int = 1000
    ) -> SourceRunner: ...


@pytest.fixture
def runner(protea: Protea) -> Iterator[RunnerFactory]:
    """Makes runners for the test's database, which release their leases and connections."""
    runners = []

    def make(sweep_log: SweepLog, halt: HaltSwitch, *, interval: float = 0.2, batch_size: int = 1000) -> SourceRunner:
        breaker, pace = Breaker(50, 0.5), RetrySchedule(interval)
        runners.append(
            SourceRunner(protea.source(), DowntimeTracker(0), pace, breaker, batch_size, "test-host", [sweep_log], halt)
        )
        return runners[-1]

    yield make
    for started in runners:
        started.stop()
        if not started.sweeping:  # a runner that a supervisor has stopped stays locked
            assert started.join(10)


# --- what the next start keeps ------------------------------------------------------------------------------------


def switch(state_dir: Path | None) -> HaltSwitch:
    """The switch of a daemon that starts."""
    return HaltSwitch(Memory.open(state_dir).halt)


def test_halt_ends_with_the_next_start_unless_it_is_persistent(tmp_path: Path) -> None:
    switch(tmp_path).set(ALICE)
    assert not switch(tmp_path).is_halted
    switch(tmp_path).set(PERSISTENT)
    assert switch(tmp_path).current == PERSISTENT


def test_halt_that_is_not_persistent_is_seen_by_commands_until_the_next_start(tmp_path: Path) -> None:
    switch(tmp_path).set(ALICE)
    assert Memory.open(tmp_path).halt.load() == ALICE
    switch(tmp_path)
    assert Memory.open(tmp_path).halt.load() is None


def test_clear_removes_a_persistent_halt(tmp_path: Path) -> None:
    halt = switch(tmp_path)
    halt.set(HaltRecord("bob", "a migration", persistent=True))
    halt.clear()
    assert not halt.is_halted and not switch(tmp_path).is_halted
    assert Memory.open(tmp_path).halt.load() is None


def test_later_halt_does_not_end_a_persistent_one(tmp_path: Path) -> None:
    halt = switch(tmp_path)
    halt.set(PERSISTENT)
    halt.set(ALICE)
    assert halt.current == HaltRecord("alice", "wrong thresholds", persistent=True) and switch(tmp_path).is_halted


def test_halt_without_a_directory_cannot_be_persistent_and_begins_all_the_same() -> None:
    for halt in (HaltSwitch(), switch(None)):
        with pytest.raises(ReaperError, match=r"halted, but only until the daemon ends: .*REAPER_STATE_DIR"):
            halt.set(PERSISTENT)
        assert halt.current == HaltRecord("bob", None)


def test_halt_that_cannot_be_written_begins_all_the_same(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    halt = switch(in_the_way)
    halt.set(ALICE)
    halt.clear()
    with pytest.raises(ReaperError, match=f"halted, but only until the daemon ends: cannot write {in_the_way}"):
        halt.set(PERSISTENT)
    assert halt.current == HaltRecord("bob", None) and not switch(in_the_way).is_halted


def test_persistent_halt_that_cannot_be_removed_does_not_end(tmp_path: Path) -> None:
    halt = switch(tmp_path)
    halt.set(PERSISTENT)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()  # a directory cannot be opened or unlinked, not even by root
    with pytest.raises(ReaperError, match=r"still halted.*cannot write"):
        halt.clear()
    assert halt.is_halted


def test_state_file_that_cannot_be_read_means_halted(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("not a database")
    halt = switch(tmp_path)
    assert halt.current is not None and halt.current.persistent and "was damaged" in halt.current.by
    assert switch(tmp_path).is_halted
    halt.clear()
    assert not switch(tmp_path).is_halted


# --- halted sweeps -----------------------------------------------------------------------------------------------


def test_halted_sweep_counts_everything_and_changes_nothing(protea: Protea) -> None:
    protea.stale()
    before, listener = protea.dump(), SweepRecorder()
    options = SweepOptions("test-host", 1000, Breaker(50, 0.5), is_halted=lambda: True)
    report = sweep(protea.source(), DowntimeTracker(0), SourceState(), options, None, listener)
    assert (report.outcome, report.reaped, report.succeeded) == (Outcome.HALTED, 0, False)
    assert report.census is not None and (report.census.running, report.census.stale) == (1, 1)
    assert protea.dump() == before


def test_halt_does_not_wait_for_the_sweep_in_progress_which_completes_its_batch(
    protea: Protea, runner: RunnerFactory
) -> None:
    slow(protea, 0.2)
    for _ in range(40):
        protea.stale()
    sweep_log, halt = SweepLog(), HaltSwitch()
    supervisor = Supervisor(halt)
    supervisor.add(runner(sweep_log, halt, batch_size=2))
    supervisor.start()
    wait_until(lambda: sweep_log.ended >= 2, "a batch")
    supervisor.halt(ALICE)
    assert str(supervisor.state) == "HALTED"
    wait_until(lambda: sweep_log.sweeps, "the end of the sweep")
    failed = list(protea.statuses().values()).count("failed")
    assert sweep_log.sweeps[0][2].outcome is Outcome.HALTED
    assert sweep_log.ended == failed < 40 and failed % 2 == 0
    wait_until(lambda: len(sweep_log.sweeps) >= 3, "sweeps that look")
    assert set(sweep_log.outcomes) == {Outcome.HALTED} and sweep_log.ended == failed
    supervisor.restart()
    assert str(supervisor.state) == "RUNNING"
    wait_until(lambda: Outcome.DONE in sweep_log.outcomes, "the rest", seconds=30)
    assert supervisor.stop(10)
    assert sweep_log.ended == 40


def test_halted_leader_keeps_the_lease_so_that_no_replica_sweeps(protea: Protea, runner: RunnerFactory) -> None:
    job = protea.stale()
    leader, replica, halt = SweepLog(), SweepLog(), HaltSwitch()
    halt.set(ALICE)
    first = Supervisor(halt)
    first.add(runner(leader, halt))
    first.start()
    wait_until(lambda: leader.sweeps, "a halted sweep")
    second = Supervisor()
    second.add(runner(replica, HaltSwitch()))
    second.start()
    wait_until(lambda: len(replica.sweeps) >= 3, "sweeps of the replica")
    assert set(replica.outcomes) == {Outcome.STANDBY} and protea.status(job) == "running"
    assert first.stop(10)
    wait_until(lambda: protea.status(job) == "failed", "the replica's turn")
    assert second.stop(10)


def test_halted_leader_whose_sweep_fails_keeps_the_lease(protea: Protea, runner: RunnerFactory) -> None:
    halt = HaltSwitch()
    halted, replica = runner(SweepLog(), halt), runner(SweepLog(), HaltSwitch())
    assert halted.tick() is not None
    halt.set(ALICE)
    protea.connection.execute("ALTER TABLE job RENAME COLUMN status TO state")
    failed = halted.tick()
    protea.connection.execute("ALTER TABLE job RENAME COLUMN state TO status")
    assert failed is not None and failed.outcome is Outcome.FAILED
    report = replica.tick()
    assert report is not None and report.outcome is Outcome.STANDBY


def test_restart_after_a_halt_sweeps_at_once(protea: Protea, runner: RunnerFactory) -> None:
    job = protea.stale()
    sweep_log, halt = SweepLog(), HaltSwitch()
    halt.set(ALICE)
    supervisor = Supervisor(halt)
    supervisor.add(runner(sweep_log, halt, interval=3600))
    supervisor.start()
    wait_until(lambda: sweep_log.sweeps, "a halted sweep")
    supervisor.restart()
    wait_until(lambda: protea.status(job) == "failed", "a sweep at once")
    assert supervisor.stop(10)


def test_halted_sweeps_track_downtime(runner: RunnerFactory) -> None:
    sweep_log, halt = SweepLog(), HaltSwitch()
    halt.set(ALICE)
    source_runner = runner(sweep_log, halt)
    assert source_runner.tick() is not None
    before = source_runner.downtime.now
    source_runner.tick()
    assert source_runner.downtime.now > before


def test_metrics_and_readiness_show_the_halt() -> None:
    halt = HaltSwitch()
    metrics, status = Metrics(halt), Status(halt)
    status.set_sources(["main"], 60)
    status.swept(SweepReport("main", "1", Outcome.HALTED, 0.1))
    assert metrics.registry.get_sample_value("reaper_halted") == 0
    halt.set(ALICE)
    assert metrics.registry.get_sample_value("reaper_halted") == 1
    assert status.problems() == {"main": ["halted by alice"]}


# --- the schedule's state -----------------------------------------------------------------------------------------


class Broken(BaseTrigger):  # type: ignore[misc]
    """A trigger with a defect, which ends the schedule's thread."""

    def get_next_fire_time(self, previous: object, now: object) -> object:
        if previous is not None:
            raise ArithmeticError
        return now


def test_schedule_without_sources_has_no_state() -> None:
    supervisor = Supervisor()
    assert supervisor.state is None
    supervisor.start()
    assert supervisor.state is None
    assert supervisor.stop(1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_schedule_that_died_is_finished_and_can_be_restarted(runner: RunnerFactory) -> None:
    sweep_log = SweepLog()
    schedule = ScheduleThread()
    supervisor = Supervisor(schedule=schedule)
    supervisor.add(runner(sweep_log, HaltSwitch()))
    supervisor.start()
    wait_until(lambda: sweep_log.sweeps, "a sweep")
    assert str(supervisor.state) == "RUNNING"
    schedule.add("broken", lambda: None, Broken())
    wait_until(lambda: supervisor.state is State.FINISHED, "its end")
    swept = len(sweep_log.sweeps)
    supervisor.recover_from_clock_change()
    stays_true(lambda: len(sweep_log.sweeps) <= swept + 1, "no sweep", 0.6)
    supervisor.restart()
    assert str(supervisor.state) == "RUNNING"
    wait_until(lambda: len(sweep_log.sweeps) >= swept + 3, "sweeps")
    assert supervisor.stop(10)
    assert str(supervisor.state) == "FINISHED"


# --- sweeps on request --------------------------------------------------------------------------------


def test_sweep_now_is_reported_like_a_scheduled_sweep(protea: Protea, runner: RunnerFactory) -> None:
    job, sweep_log = protea.stale(), SweepLog()
    report = runner(sweep_log, HaltSwitch(), interval=3600).sweep_now()
    assert (report.reaped, sweep_log.outcomes, protea.status(job)) == (1, [Outcome.DONE], "failed")


def test_exclusive_section_keeps_every_sweep_out(runner: RunnerFactory) -> None:
    source_runner = runner(SweepLog(), HaltSwitch())
    with source_runner.exclusive():
        assert source_runner.tick() is None
        with pytest.raises(SourceBusy, match="source main is being swept just now"):
            source_runner.sweep_now()
    assert source_runner.tick() is not None


def test_stopped_runner_refuses_to_sweep(runner: RunnerFactory) -> None:
    source_runner = runner(SweepLog(), HaltSwitch())
    source_runner.stop()
    with pytest.raises(SourceBusy):
        source_runner.sweep_now()
