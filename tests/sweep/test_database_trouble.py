"""What a sweep in trouble does to what is heard, to its lease and to its report, on both servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from threading import Timer
from time import monotonic

import pytest

from reaper.database.lease import Lease
from reaper.database.timeouts import Timeouts
from reaper.model import Outcome, SweepReport
from reaper.profile import Profile
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from tests.support.protea import MINUTE
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.waiting import wait_until
from tests.support.worlds.servers import database_on

ORDERS = SweepOptions("test-host", 1000, Breaker(50, 1.0))


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        yield made


def slow_while_there_are_parts(tasks: Tasks) -> Source:
    """A query for the running tasks waits for long then, and a statement may take half a second only."""
    busy = "BENCHMARK(1000000000, MD5('x')) = 0" if tasks.mariadb else "pg_sleep(20) IS NOT NULL"
    table = "task_part" if tasks.mariadb else "public.task_part"
    asked = f"{{id}} > 0 AND (SELECT CASE WHEN count(*) > 0 THEN {busy} ELSE 1 = 1 END FROM {table})"
    running = {"column": "state", "in": ["working"], "where": [{"sql": asked}]}
    return tasks.source(mapped(jobs={"running": running}), timeouts=Timeouts(statement=0.5, connect=5))


@contextmanager
def slow(tasks: Tasks) -> Iterator[None]:
    tasks.add(100, state="over")
    tasks.part(1, 100)
    yield
    tasks.session.do("DELETE FROM task_part")


def disk_full(tasks: Tasks) -> AbstractContextManager[None]:
    """Meanwhile no session can write to the log."""
    said = "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1021" if tasks.mariadb else "RAISE disk_full"
    return tasks.interfering("task_log", "INSERT", "1 = 1", said)


def refusing(tasks: Tasks) -> AbstractContextManager[None]:
    """Meanwhile no task of the kind 'bad' can be changed."""
    return tasks.interfering("task", "UPDATE", "OLD.kind = 'bad'", tasks.database.raise_statement)


# --- what is heard ---------------------------------------------------------------------------------------------


def test_statement_timeout_is_deaf_time_and_the_database_is_not_away(tasks: Tasks) -> None:
    source, downtime = slow_while_there_are_parts(tasks), DowntimeTracker(0)
    tasks.add(1, beat=MINUTE)
    first = tasks.sweep(source, downtime=downtime)
    assert (first.outcome, first.deaf_seconds) == (Outcome.DONE, 0)
    with slow(tasks):
        failed = tasks.sweep(source, downtime=downtime)
    assert (failed.outcome, failed.database_away, failed.leads) == (Outcome.FAILED, False, False)
    assert failed.error and failed.census is None
    again = tasks.sweep(source, downtime=downtime)
    assert (again.outcome, again.error) == (Outcome.DONE, None)
    assert again.deaf_seconds > 0.4
    assert tasks.sweep(source, downtime=downtime).deaf_seconds == pytest.approx(again.deaf_seconds)


@contextmanager
def others_writing(tasks: Tasks, number: int) -> Iterator[None]:
    """Another session writes a sign of life a little later, while the block runs."""

    def write() -> None:
        session = tasks.database.session(autocommit=True)
        session.do(f"UPDATE task SET beat = {tasks.database.ago} WHERE id = %s", 0, number)
        if not tasks.mariadb:
            # Else the server counts it a little later.
            session.do("SELECT pg_stat_force_next_flush()")
        session.close()

    timer = Timer(0.2, write)
    timer.start()
    yield
    timer.join()


def test_survey_that_is_slow_while_others_write_is_deaf_time_only_once(tasks: Tasks) -> None:
    source, downtime, memory = slow_while_there_are_parts(tasks), DowntimeTracker(0), SourceState()
    tasks.add(1, beat=MINUTE)
    tasks.sweep(source, downtime=downtime, memory=memory)
    ends = [monotonic()]
    with slow(tasks):
        for _ in range(3):
            with others_writing(tasks, 1):
                failed = tasks.sweep(source, downtime=downtime, memory=memory)
            assert failed.outcome is Outcome.FAILED
            assert failed.error and failed.error.startswith("the survey took longer than 0.5 s ")
            ends.append(monotonic())
    again = tasks.sweep(source, downtime=downtime, memory=memory)
    assert (again.outcome, memory.survey_timed_out) == (Outcome.DONE, False)
    assert 0.4 < again.deaf_seconds < ends[1] - ends[0] + 0.4


def test_survey_that_is_slow_while_nobody_writes_is_deaf_time_each_time(tasks: Tasks) -> None:
    source, downtime, memory = slow_while_there_are_parts(tasks), DowntimeTracker(0), SourceState()
    tasks.add(1, beat=MINUTE)
    tasks.sweep(source, downtime=downtime, memory=memory)
    with slow(tasks):
        for _ in range(3):
            tasks.sweep(source, downtime=downtime, memory=memory)
    assert tasks.sweep(source, downtime=downtime, memory=memory).deaf_seconds > 3 * 0.5


def test_full_disk_is_deaf_time_and_the_database_is_away(tasks: Tasks) -> None:
    downtime = DowntimeTracker(0)
    assert tasks.sweep(downtime=downtime).deaf_seconds == 0
    tasks.add(1)
    with disk_full(tasks):
        report = tasks.sweep(downtime=downtime)
    assert (report.outcome, report.database_away, report.reaped) == (Outcome.FAILED, True, 0)
    report = tasks.sweep(downtime=downtime)
    assert report.deaf_seconds > 0 and report.reaped == 1


def test_refused_job_is_not_deaf_time(tasks: Tasks) -> None:
    downtime = DowntimeTracker(0)
    tasks.sweep(downtime=downtime)
    tasks.add(1, kind="bad")
    with refusing(tasks):
        report = tasks.sweep(downtime=downtime)
    assert (report.outcome, report.database_away, len(report.failures)) == (Outcome.DONE, False, 1)
    assert tasks.sweep(downtime=downtime).deaf_seconds == 0


def test_statement_that_cannot_be_run_is_not_deaf_time_and_the_database_is_not_away(tasks: Tasks) -> None:
    downtime, broken = DowntimeTracker(0), mapped(alive=[{"witness": "none", "column": "no_such_column"}])
    tasks.sweep(downtime=downtime)
    report = tasks.sweep(tasks.source(broken), downtime=downtime)
    assert (report.outcome, report.database_away, report.leads) == (Outcome.FAILED, False, False)
    assert report.error and "no_such_column" in report.error
    assert tasks.sweep(downtime=downtime).deaf_seconds == 0


# --- the lease -------------------------------------------------------------------------------------------------


@pytest.fixture
def leases(tasks: Tasks) -> Iterator[tuple[Lease, Lease]]:
    """Those of two replicas."""
    pair = tasks.source().lease(60), tasks.source().lease(60)
    yield pair
    for lease in pair:
        lease.release()


def replica_sweeps(tasks: Tasks, theirs: Lease) -> bool:
    """Whether the other replica gets the lease."""
    return tasks.sweep(lease=theirs).outcome is not Outcome.STANDBY


def test_replica_whose_every_job_is_refused_gives_its_lease_to_another(
    tasks: Tasks, leases: tuple[Lease, Lease]
) -> None:
    mine, theirs = leases
    tasks.add(1, kind="bad")
    with refusing(tasks):
        report = tasks.sweep(lease=mine)
    assert (report.outcome, report.reaped, len(report.failures)) == (Outcome.DONE, 0, 1)
    wait_until(lambda: replica_sweeps(tasks, theirs), "the other replica sweeps")
    assert tasks.states() == {"1": "dead"}


def test_replica_of_whose_many_jobs_each_is_refused_gives_its_lease_to_another(
    tasks: Tasks, leases: tuple[Lease, Lease]
) -> None:
    mine, theirs = leases
    for number in range(1, 61):
        tasks.add(number, kind="bad")
    with refusing(tasks):
        report = tasks.sweep(lease=mine, options=replace(ORDERS, batch_size=10, breaker=Breaker(10**6, 1.0)))
    assert (report.outcome, report.reaped, report.refused_now, report.database_away) == (Outcome.DONE, 0, 60, False)
    wait_until(lambda: replica_sweeps(tasks, theirs), "the other replica sweeps")


def test_replica_that_ends_some_of_its_jobs_keeps_its_lease(tasks: Tasks, leases: tuple[Lease, Lease]) -> None:
    mine, theirs = leases
    tasks.add(1, kind="bad")
    tasks.add(2)
    with refusing(tasks):
        report = tasks.sweep(lease=mine)
    assert (report.reaped, len(report.failures), report.leads) == (1, 1, True)
    assert not replica_sweeps(tasks, theirs)


def test_replica_whose_sweep_takes_too_long_gives_its_lease_to_another(
    tasks: Tasks, leases: tuple[Lease, Lease]
) -> None:
    mine, theirs = leases
    with slow(tasks):
        assert tasks.sweep(slow_while_there_are_parts(tasks), lease=mine).outcome is Outcome.FAILED
    wait_until(lambda: replica_sweeps(tasks, theirs), "the other replica sweeps")


def test_replica_that_is_halted_while_its_jobs_are_refused_keeps_its_lease(
    tasks: Tasks, leases: tuple[Lease, Lease]
) -> None:
    mine, theirs = leases
    for number in range(1, 9):
        tasks.add(number, kind="bad")
    asked = 0

    def halted() -> bool:
        nonlocal asked
        asked += 1
        return asked > 4

    with refusing(tasks):
        report = tasks.sweep(lease=mine, options=replace(ORDERS, batch_size=1, is_halted=halted))
    assert (report.outcome, report.reaped) == (Outcome.HALTED, 0) and report.failures
    assert not replica_sweeps(tasks, theirs)


def test_replica_that_is_held_by_the_breaker_keeps_its_lease_and_leads(
    tasks: Tasks, leases: tuple[Lease, Lease]
) -> None:
    mine, theirs = leases
    for number in range(1, 52):
        tasks.add(number)
    report = tasks.sweep(lease=mine, options=replace(ORDERS, breaker=Breaker(50, 0.5)))
    assert (report.outcome, report.leads) == (Outcome.HELD, True)
    assert not replica_sweeps(tasks, theirs)


# --- the report ------------------------------------------------------------------------------------------------


def swept_twice(tasks: Tasks, profile: Profile | None = None) -> tuple[SweepReport, SweepReport]:
    """With what the first one learned."""
    memory, source = SourceState(), tasks.source(profile)
    return tasks.sweep(source, memory=memory), tasks.sweep(source, memory=memory)


def test_refused_jobs_are_counted_again_while_they_are_left_alone(tasks: Tasks) -> None:
    tasks.add(1, kind="bad")
    tasks.add(2, kind="bad")
    tasks.add(3)
    with refusing(tasks):
        first, second = swept_twice(tasks)
    assert (first.reaped, len(first.failures), first.refused_total, first.stale_remaining) == (1, 2, 2, 2)
    assert (second.reaped, second.failures, second.refused_total, second.stale_remaining) == (0, (), 2, 2)


def test_job_that_moved_after_the_survey_is_counted_as_lost_in_each_batch(tasks: Tasks) -> None:
    for number in range(1, 7):
        tasks.add(number)
    moved = False

    def stopping() -> bool:
        nonlocal moved
        if not moved:
            moved = True
            tasks.session.do("UPDATE task SET state = 'over' WHERE id IN (1, 4, 6)")
        return False

    report = tasks.sweep(options=replace(ORDERS, batch_size=2, should_stop=stopping))
    assert (report.reaped, report.lost, report.locked_total, report.failures, report.stale_remaining) == (
        3,
        3,
        0,
        (),
        0,
    )
