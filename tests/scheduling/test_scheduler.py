"""The schedule, with real sweeps of a real database: no overlap, no pile-up, no end at a defect."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from reaper.model import JobCounts, Outcome, ReapedJob, SweepReport
from reaper.scheduling.schedule_thread import ScheduleThread
from reaper.scheduling.scheduler import IntervalTrigger, Supervisor
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.sweep import sweep
from tests.support.protea import Protea
from tests.support.waiting import stays_true, wait_until


@dataclass
class SweepLog:
    """When each sweep began and ended, and how."""

    sweeps: list[tuple[float, float, SweepReport]] = field(default_factory=list)
    ended: int = 0

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self.ended += len(batch)

    def surveyed(self, source: str, census: JobCounts) -> None:
        pass

    def swept(self, report: SweepReport) -> None:
        now = time.monotonic()
        self.sweeps.append((now - report.duration_seconds, now, report))

    @property
    def outcomes(self) -> list[Outcome]:
        return [report.outcome for _, _, report in self.sweeps]


def runner(protea: Protea, sweep_log: SweepLog, interval: float = 0.2, batch_size: int = 1000) -> SourceRunner:
    return SourceRunner(
        protea.source(),
        DowntimeTracker(0),
        RetrySchedule(interval),
        Breaker(50, 1),
        batch_size,
        "test-host",
        [sweep_log],
    )


@contextmanager
def supervised(*runners: SourceRunner, schedule: ScheduleThread | None = None) -> Iterator[Supervisor]:
    supervisor = Supervisor(schedule=schedule)
    for source_runner in runners:
        supervisor.add(source_runner)
    supervisor.start()
    try:
        yield supervisor
    finally:
        assert supervisor.stop(10)


def slow(protea: Protea, seconds: float) -> None:
    """Every update of the job table takes so long."""
    protea.connection.execute(
        f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({seconds});"
        f" RETURN NULL; END $$; CREATE TRIGGER slow BEFORE UPDATE ON job FOR EACH STATEMENT EXECUTE FUNCTION slow()"
    )


def test_first_sweep_comes_at_once_and_the_others_at_the_interval(protea: Protea) -> None:
    sweep_log = SweepLog()
    begun = time.monotonic()
    with supervised(runner(protea, sweep_log)):
        wait_until(lambda: len(sweep_log.sweeps) >= 6, "six sweeps")
    assert sweep_log.sweeps[0][0] - begun < 5
    assert 0.9 <= sweep_log.sweeps[5][0] - sweep_log.sweeps[0][0] <= 10
    assert set(sweep_log.outcomes) <= {Outcome.DONE, Outcome.STOPPED}


def test_sweeps_never_overlap_and_missed_ones_are_made_up_for_by_one(protea: Protea) -> None:
    slow(protea, 1.1)
    protea.stale()
    sweep_log = SweepLog()
    with supervised(runner(protea, sweep_log)):
        wait_until(lambda: len(sweep_log.sweeps) >= 4, "four sweeps")
    spans = [(begun, ended) for begun, ended, _ in sweep_log.sweeps]
    assert spans[0][1] - spans[0][0] > 1
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(spans))
    # Five runs were missed meanwhile; those after it come at the interval again.
    assert spans[3][0] - spans[0][1] > 0.3


def test_stop_ends_a_sweep_after_its_batch(protea: Protea) -> None:
    slow(protea, 0.05)
    for _ in range(40):
        protea.stale()
    sweep_log = SweepLog()
    supervisor = Supervisor()
    supervisor.add(runner(protea, sweep_log, batch_size=2))
    supervisor.start()
    wait_until(lambda: sweep_log.ended >= 4, "two batches")
    assert supervisor.stop(5)
    assert sweep_log.outcomes == [Outcome.STOPPED]
    failed = sum(status == "failed" for status in protea.statuses().values())
    assert sweep_log.ended == sweep_log.sweeps[0][2].reaped == failed < 40
    assert failed % 2 == 0
    stays_true(lambda: len(sweep_log.sweeps) == 1, "no other sweep", 0.5)


def test_stop_does_not_wait_for_ever(protea: Protea) -> None:
    supervisor, hanging = Supervisor(), runner(protea, SweepLog())
    with protea.connect() as other:
        other.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        supervisor.add(hanging)
        supervisor.start()
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'job'::regclass"
        wait_until(lambda: other.execute(waiting).fetchone(), "a sweep that waits")
        begun = time.monotonic()
        assert not supervisor.stop(0.3)
        assert time.monotonic() - begun < 5
    wait_until(lambda: not hanging.sweeping, "its end")


def test_removed_source_is_swept_no_more_and_releases_its_lease(protea: Protea) -> None:
    first, second = SweepLog(), SweepLog()
    with supervised(runner(protea, first)) as supervisor:
        wait_until(lambda: bool(first.sweeps), "a sweep")
        supervisor.remove(["main"], 5)
        swept = len(first.sweeps)
        supervisor.add(runner(protea, second))
        wait_until(lambda: len(second.sweeps) >= 2, "sweeps of its successor")
        assert Outcome.STANDBY not in second.outcomes
        assert len(first.sweeps) == swept


def test_source_added_again_waits_for_its_old_sweep(protea: Protea) -> None:
    slow(protea, 0.8)
    protea.stale()
    first, second = SweepLog(), SweepLog()
    with supervised(runner(protea, first)) as supervisor:
        updating = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        wait_until(lambda: protea.connection.execute(updating).fetchone(), "a sweep at work")
        supervisor.remove(["main"], 0)
        supervisor.add(runner(protea, second))
        wait_until(lambda: bool(second.sweeps), "a sweep of its successor")
        assert first.sweeps[0][1] <= second.sweeps[0][0]
        assert second.outcomes[0] is Outcome.DONE


def test_defect_is_reported_with_its_traceback_and_the_next_sweep_comes(
    protea: Protea, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sweep_log, real, broken = SweepLog(), sweep, [True, True]

    def sweep_with_a_defect(*arguments: object) -> SweepReport:
        if broken and broken.pop():
            raise ZeroDivisionError("a defect of ours")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("reaper.scheduling.source_runner.sweep", sweep_with_a_defect)
    job = protea.stale()
    with supervised(runner(protea, sweep_log)):
        wait_until(lambda: protea.status(job) == "failed", "a sweep")
        wait_until(lambda: len(sweep_log.sweeps) >= 3, "its report")
    assert sweep_log.outcomes[:3] == [Outcome.FAILED, Outcome.FAILED, Outcome.DONE]
    assert sweep_log.sweeps[0][2].error == "ZeroDivisionError: a defect of ours"
    assert "sweep_with_a_defect" in caplog.text
    assert "Traceback" in caplog.text


def test_late_sweep_that_is_not_running_is_rescheduled(protea: Protea, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reaper.scheduling.scheduler._LATE_SECONDS", 0.3)
    sweep_log, schedule = SweepLog(), ScheduleThread()
    with supervised(runner(protea, sweep_log), schedule=schedule) as supervisor:
        wait_until(lambda: bool(sweep_log.sweeps), "a sweep")
        # As if the host's clock had been set back by some hours.
        job = schedule.job("main")
        job.modify(next_run_time=job.next_run_time.replace(year=job.next_run_time.year + 1))
        wait_until(lambda: not sweep_log.sweeps or time.monotonic() - sweep_log.sweeps[-1][1] > 0.6, "it is late")
        swept = len(sweep_log.sweeps)
        supervisor.recover_from_clock_change()
        wait_until(lambda: len(sweep_log.sweeps) >= swept + 3, "sweeps at the interval again")


@pytest.mark.parametrize("late", [0.0, 0.5, 59.9, 60.0, 61.0, 86400.0, 56 * 365 * 86400.0])
def test_runs_in_the_past_are_skipped_and_the_interval_is_kept(late: float) -> None:
    previous = datetime(1970, 1, 1, tzinfo=UTC)
    now = previous + timedelta(seconds=late)
    following = IntervalTrigger(0, 60).get_next_fire_time(previous, now)
    assert now < following <= now + timedelta(seconds=60)
    assert (following - previous).total_seconds() % 60 == 0


def test_clock_that_was_set_back_leaves_the_next_run_where_it_was() -> None:
    previous = datetime(2030, 1, 1, tzinfo=UTC)
    following = IntervalTrigger(0, 60).get_next_fire_time(previous, datetime(2020, 1, 1, tzinfo=UTC))
    assert following == previous + timedelta(seconds=60)


def test_clock_that_jumps_ahead_is_made_up_for_by_one_sweep(protea: Protea) -> None:
    sweep_log, schedule = SweepLog(), ScheduleThread()
    with supervised(runner(protea, sweep_log, interval=1), schedule=schedule):
        wait_until(lambda: bool(sweep_log.sweeps), "a sweep")
        # As if the host's clock had been set ahead by two years.
        job = schedule.job("main")
        due = job.next_run_time - timedelta(days=730)
        begun = time.monotonic()
        job.modify(next_run_time=due)
        wait_until(lambda: len(sweep_log.sweeps) >= 4, "sweeps at the interval again")
    assert time.monotonic() - begun < 10
    assert sweep_log.sweeps[3][0] - sweep_log.sweeps[1][0] > 1


@pytest.mark.parametrize("interval", [1.0, 60.0, 604800.0])
def test_retries_come_later_and_later_but_never_later_than_the_interval(interval: float) -> None:
    after: Callable[[int], float] = RetrySchedule(interval).delay_after
    delays = [after(failures) for failures in range(1, 2000)]
    assert after(0) == interval
    assert delays[0] == 1
    assert delays == sorted(delays)
    assert max(delays) == min(interval, 65536)
