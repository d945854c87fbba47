"""WATCHDOG and READY: which states of the daemon count as progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil
import psycopg
import pytest

from reaper.config import load
from reaper.daemon.sd_notify import NotifySocket
from reaper.daemon.systemd import Systemd
from reaper.dev.postgres import PrivatePostgreSQL
from reaper.memory import HaltRecord
from reaper.scheduling.schedule_thread import ScheduleThread
from reaper.scheduling.scheduler import Supervisor
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.halt_switch import HaltSwitch
from tests.conftest import TEMPLATE
from tests.support.daemons import Daemon, free_port
from tests.support.freezing import frozen
from tests.support.protea import Protea
from tests.support.service_manager import Manager
from tests.support.waiting import stays_true, wait_until

START = 2.0
"""Seconds that a start waits for databases here."""

SHORT_LIMIT = 2.0
"""Seconds for which a sweep may stand still where a test is not about how long that is."""


# --- progress ------------------------------------------------------------------------------------------------


class WatchedSource:
    """One source under watch, and a loop that turns as the daemon's does."""

    def __init__(self, protea: Protea, manager: Manager, *, watchdog: float = 0.3, **settings: object) -> None:
        # Patience: 2 × (1 s + 1 s) and the 0.5 s of workers that are not asked.
        limits = {"statement_timeout_seconds": 1, "connect_timeout_seconds": 1, "broker_deadline_seconds": 0.5}
        self.systemd = Systemd(NotifySocket(manager.address), watchdog, start_seconds=START, slack_seconds=0.5)
        self.systemd.set_sources(load({"database_url": protea.url, **limits, **settings}, {}))
        self.halt = HaltSwitch()
        self.schedule = ScheduleThread()
        self.supervisor = Supervisor(self.halt, self.schedule)
        source = protea.source(name="default")
        self.runner = SourceRunner(
            source, DowntimeTracker(0), RetrySchedule(0.2), Breaker(50, 1), 1000, "test-host", [self.systemd], self.halt
        )
        self.supervisor.add(self.runner)
        self.supervisor.start()
        self.manager = manager

    def turn(self) -> bool:
        self.systemd.on_tick(self.supervisor)
        return True

    def tick_until(self, holds: Callable[[], bool], what: str, seconds: float = 15) -> None:
        """Turn until it holds."""
        wait_until(lambda: self.turn() and holds(), what, seconds)

    def pings(self, more: int = 3) -> None:
        goal = len(self.manager.received("WATCHDOG")) + more
        self.tick_until(lambda: len(self.manager.received("WATCHDOG")) >= goal, f"{more} more WATCHDOG")

    def falls_silent(self, why: str) -> None:
        """No ping comes any more, and STATUS says why."""
        self.tick_until(lambda: why in self.manager.received("STATUS")[-1], f"STATUS {why}")
        before = len(self.manager.received("WATCHDOG"))
        stays_true(lambda: self.turn() and len(self.manager.received("WATCHDOG")) == before, "no WATCHDOG", 1)


@pytest.fixture
def watched(protea: Protea, quiet: Manager) -> Iterator[WatchedSource]:
    made = WatchedSource(protea, quiet)
    yield made
    made.supervisor.stop(10)


@contextmanager
def held_up(protea: Protea) -> Iterator[int]:
    """A sweep waits for a locked table; yields the server process that waits."""
    with protea.connect() as lock_holder:
        lock_holder.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        waiting: list[int] = []

        def found() -> bool:
            row = protea.connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            waiting[:] = [int(row[0])] if row else []
            return bool(waiting)

        wait_until(found, "a sweep that waits for the table")
        yield waiting[0]


def test_sweeps_are_progress(watched: WatchedSource) -> None:
    watched.pings(5)
    # Not more often than is of use.
    begun, before = time.monotonic(), len(watched.manager.received("WATCHDOG"))
    watched.pings(5)
    assert len(watched.manager.received("WATCHDOG")) - before <= (time.monotonic() - begun) / 0.1 + 1


@contextmanager
def in_time(watched: WatchedSource, watchdog: float) -> Iterator[None]:
    """The manager is notified within half of its time (sd_watchdog_enabled(3)), as long as the block turns the loop."""
    pings: list[float] = []
    turn = watched.turn

    def turn_and_look() -> bool:
        before = len(watched.manager.received("WATCHDOG"))
        turn()
        if len(watched.manager.received("WATCHDOG")) > before:
            pings.append(time.monotonic())
        return True

    watched.turn = turn_and_look  # type: ignore[method-assign]
    begun = time.monotonic()
    try:
        yield
    finally:
        watched.turn = turn  # type: ignore[method-assign]
    moments = [begun, *pings, time.monotonic()]
    gaps = [later - sooner for sooner, later in pairwise(moments)]
    assert max(gaps) <= watchdog / 2, f"the manager waited for {max(gaps):.1f} s of its {watchdog:g} s"


def test_manager_gets_watchdog_well_before_its_time_is_over(protea: Protea, quiet: Manager) -> None:
    watched = WatchedSource(protea, quiet, watchdog=3)
    try:
        with in_time(watched, 3):
            begun = time.monotonic()
            watched.tick_until(lambda: time.monotonic() - begun > 4, "a time that is longer than the manager's")
    finally:
        watched.supervisor.stop(10)


def test_manager_of_a_daemon_gets_watchdog_well_before_its_time_is_over(
    protea: Protea, tmp_path: Path, quiet: Manager
) -> None:
    """The daemon's loop turns once a second."""
    within = 6.0
    with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address, WATCHDOG_USEC=int(within * 1e6)):
        wait_until(lambda: quiet.received("WATCHDOG"), "the first WATCHDOG")
        before, begun = len(quiet.received("WATCHDOG")), time.monotonic()
        wait_until(lambda: len(quiet.received("WATCHDOG")) >= before + 2, "two more WATCHDOG")
        assert time.monotonic() - begun < within, "two within its time"


def test_manager_gets_watchdog_all_the_time_while_one_sweep_is_slow_within_its_limits(
    protea: Protea, quiet: Manager
) -> None:
    """One and the same sweep stands still for longer than the slack, and for less than a statement may take."""
    watched = WatchedSource(protea, quiet, watchdog=2, statement_timeout_seconds=60)
    try:
        watched.pings(1)
        with held_up(protea):
            still = watched.runner.source.activity.at

            def same_statement() -> bool:
                return watched.turn() and watched.runner.sweeping and watched.runner.source.activity.at == still

            with in_time(watched, 2):  # 3.5 s are less than a transaction of ours waits for a lock
                stays_true(same_statement, "the same statement runs", 3.5, interval_seconds=0.05)
            assert "No progress" not in " ".join(quiet.received("STATUS"))
    finally:
        watched.supervisor.stop(10)


def test_sweep_that_hangs_is_no_progress_whichever_of_several_sources_it_is_of(
    protea: Protea, quiet: Manager, server: PrivatePostgreSQL
) -> None:
    watched = WatchedSource(protea, quiet)
    url = server.create_database("beside", tables=False, template=TEMPLATE)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        beside = Protea(url, connection)
        source = beside.source(name="beside")
        runner = SourceRunner(
            source,
            DowntimeTracker(0),
            RetrySchedule(0.2),
            Breaker(50, 1),
            1000,
            "test-host",
            [watched.systemd],
            watched.halt,
        )
        watched.supervisor.add(runner)
        try:
            watched.pings()
            watched.systemd.stall_limit_seconds = SHORT_LIMIT
            with held_up(beside) as backend, frozen(psutil.Process(backend)):
                watched.falls_silent("No progress: the sweep of beside has stood still for")
            watched.pings()
        finally:
            watched.supervisor.stop(10)
    server.drop_database("beside")


def test_manager_that_asked_for_a_watchdog_gets_only_extensions_before_the_start_is_over(
    tmp_path: Path, quiet: Manager
) -> None:
    """READY comes when each database has been met: until then it is no start that has failed."""
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/nowhere"
    with Daemon(tmp_path, database_url=away, NOTIFY_SOCKET=quiet.address, WATCHDOG_USEC=10**9) as daemon:
        daemon.comes_up().sweeps_on(outcome="failed")
        quiet.hears("EXTEND_TIMEOUT_USEC", 2)
        assert {int(received) for received in quiet.received("EXTEND_TIMEOUT_USEC")} == {30_000_000}
        assert not quiet.received("READY") and not quiet.received("RELOADING")
        daemon.stop()
        assert quiet.received("STOPPING") == ["1"] and not quiet.received("READY")


def test_halted_supervisor_counts_as_progress(watched: WatchedSource) -> None:
    watched.pings()
    watched.supervisor.halt(HaltRecord("alice"))
    watched.tick_until(lambda: "halted, 0 running" in watched.manager.received("STATUS")[-1], "a halted sweep")
    watched.pings(5)


def test_sweep_that_waits_within_its_limits_counts_as_progress(protea: Protea, quiet: Manager) -> None:
    watched = WatchedSource(protea, quiet, statement_timeout_seconds=60)
    try:
        watched.pings()
        with held_up(protea):
            begun = time.monotonic()
            watched.tick_until(lambda: time.monotonic() - begun > 3, "three seconds of waiting")
            watched.pings()
            assert watched.runner.sweeping
    finally:
        watched.supervisor.stop(10)


def test_sweep_that_hangs_in_a_frozen_database_is_no_progress_until_it_thaws(
    protea: Protea, watched: WatchedSource
) -> None:
    watched.pings()
    # Not even its own time limit ends it now.
    with held_up(protea) as backend, frozen(psutil.Process(backend)):
        watched.falls_silent("No progress: the sweep of default has stood still for")
    watched.pings()
    watched.tick_until(lambda: "swept" in watched.manager.received("STATUS")[-1], "a sweep")


def test_repeated_http_reads_do_not_hide_a_sweep_that_hangs(protea: Protea, watched: WatchedSource) -> None:
    watched.systemd.stall_limit_seconds = SHORT_LIMIT
    with held_up(protea) as backend, frozen(psutil.Process(backend)):

        def ask() -> bool:
            assert watched.runner.tick() is None
            return watched.turn()

        wait_until(lambda: ask() and "No progress" in watched.manager.received("STATUS")[-1], "no progress")


def test_dead_schedule_is_no_progress(watched: WatchedSource) -> None:
    watched.pings()
    watched.schedule.shut_down()
    watched.falls_silent("No progress: the schedule of sweeps has died.")
    watched.supervisor.restart()
    watched.pings()


def test_source_that_is_not_swept_in_time_is_no_progress(watched: WatchedSource) -> None:
    watched.pings()
    watched.schedule.pause()
    watched.falls_silent("No progress: default is not swept:")


def test_unavailable_database_delays_ready_only_for_a_while(protea: Protea, tmp_path: Path, quiet: Manager) -> None:
    config = tmp_path / "reaper.toml"
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/nowhere"
    config.write_text(f'[sources.default]\ndatabase_url = "{protea.url}"\n[sources.other]\ndatabase_url = "{away}"\n')
    begun = time.monotonic()
    watched = WatchedSource(protea, quiet)
    watched.systemd.set_sources(load({"config": str(config)}, {}))
    try:
        watched.tick_until(lambda: bool(quiet.received("READY")), "READY")
        assert time.monotonic() - begun >= START
        watched.tick_until(lambda: "default: swept" in quiet.received("STATUS")[-1], "a sweep of the other one")
        assert quiet.received("STATUS")[-1].startswith("other: waiting for the first sweep; default: swept")
    finally:
        watched.supervisor.stop(10)
