"""What the service manager is told: by a real daemon, over a real socket."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reaper.config import load
from reaper.daemon.systemd import Notify, Systemd, watchdog_seconds
from reaper.dev.postgres import Embedded
from reaper.errors import ConfigError
from reaper.memory import HaltRecord
from reaper.model import JobCounts, Outcome, SweepReport
from reaper.scheduling.schedule_thread import ScheduleThread
from reaper.scheduling.scheduler import Supervisor
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.halt import HaltSwitch
from reaper.sweep.summary import sweep_in_one_line
from tests.conftest import TEMPLATE
from tests.support.daemons import Daemon, closed, free_port, lasts, until
from tests.support.protea import Protea

START = 2.0
"""Seconds that a start waits for databases here."""


class Manager:
    """Stands where systemd stands: a datagram socket that keeps what it is told."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)
        self._messages: list[dict[str, str]] = []

    def close(self) -> None:
        self._socket.close()

    @property
    def messages(self) -> list[dict[str, str]]:
        """All so far, in order: each as its lines."""
        while True:
            try:
                text = self._socket.recv(4096).decode()
            except BlockingIOError:
                return self._messages
            self._messages.append(dict(line.split("=", 1) for line in text.split("\n")))

    def told(self, name: str) -> list[str]:
        return [message[name] for message in self.messages if name in message]

    def hears(self, name: str, more: int = 1, seconds: float = 15) -> str:
        """Wait for so many more of these; the newest."""
        goal = len(self.told(name)) + more
        until(lambda: len(self.told(name)) >= goal, f"{name} from the daemon", seconds)
        return self.told(name)[-1]

    def says(self, status: str, seconds: float = 15) -> None:
        """Wait until the newest STATUS holds these words."""
        until(lambda: any(status in told for told in self.told("STATUS")[-1:]), f"STATUS with {status!r}", seconds)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify") if request.param == "path" else f"@reaper-test-{os.getpid()}")
    yield made
    made.close()


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Manager]:
    """A manager at a path, where it does not matter."""
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


# --- the daemon ----------------------------------------------------------------------------------------------


def test_ready_comes_when_port_and_database_are_there(protea: Protea, tmp_path: Path, manager: Manager) -> None:
    with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=manager.address) as daemon:
        until(lambda: manager.told("READY"), "READY")
        assert daemon.get("/live") is not None
        before = manager.messages[: next(n for n, told in enumerate(manager.messages) if "READY" in told)]
        assert any("running" in told.get("STATUS", "") for told in before), before
        assert daemon.stop()[0] == 0
    assert manager.told("READY") == ["1"]
    assert manager.told("STOPPING") == ["1"]


def test_ready_waits_for_a_database_that_is_away_and_asks_for_time(
    protea: Protea, tmp_path: Path, quiet: Manager
) -> None:
    with (
        closed(protea.libpq.replace(_name(protea), "postgres"), _name(protea)),
        Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address) as daemon,
    ):
        daemon.comes_up()
        quiet.says("default: database away")
        quiet.hears("EXTEND_TIMEOUT_USEC", 3)
        assert not quiet.told("READY")
        daemon.process.kill()


def test_the_database_comes_and_then_it_is_ready(protea: Protea, tmp_path: Path, quiet: Manager) -> None:
    with closed(protea.libpq.replace(_name(protea), "postgres"), _name(protea)):
        daemon = Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address)
        daemon.comes_up()
        quiet.hears("EXTEND_TIMEOUT_USEC", 2)
        assert not quiet.told("READY")
    with daemon:
        until(lambda: quiet.told("READY"), "READY")


def test_the_status_is_the_last_sweep_in_words(protea: Protea, tmp_path: Path, quiet: Manager) -> None:
    with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address) as daemon:
        daemon.comes_up().sweeps_on()
        quiet.says("default: swept, 0 running, 0 spared, 0 reaped at 20")
        protea.stale()
        living = protea.job()
        protea.event(living)
        until(lambda: any("1 reaped at" in told for told in quiet.told("STATUS")), "the reap")
        quiet.says("default: swept, 1 running, 1 spared, 0 reaped")
        assert quiet.told("STATUS")[-1].endswith(" UTC")


def test_a_reload_is_told_from_its_begin_to_its_end(protea: Protea, tmp_path: Path, quiet: Manager) -> None:
    with Daemon(
        tmp_path, config=f'database_url = "{protea.url}"', NOTIFY_SOCKET=quiet.address, WATCHDOG_USEC=10**9
    ) as daemon:
        until(lambda: quiet.told("READY"), "READY")
        for number, text in enumerate((f'database_url = "{protea.url}"\nbatch_size = 7', "batch_size = 0"), start=2):
            before = time.monotonic_ns() // 1000
            daemon.reload(text)
            until(lambda: len(quiet.told("READY")) == number, "READY after the reload")  # noqa: B023
            told = [message for message in quiet.messages if {"RELOADING", "READY"} & message.keys()]
            assert told[-2]["RELOADING"] == "1"
            assert before < int(told[-2]["MONOTONIC_USEC"]) < time.monotonic_ns() // 1000
            assert told[-1]["READY"] == "1"


def test_the_status_says_that_a_configuration_was_refused_until_one_is_taken(
    protea: Protea, tmp_path: Path, quiet: Manager
) -> None:
    right = f'database_url = "{protea.url}"\n'
    with Daemon(tmp_path, config=right, NOTIFY_SOCKET=quiet.address) as daemon:
        until(lambda: quiet.told("READY"), "READY")
        daemon.reload(f"{right}batch_size = 0\nintervall = 3")
        quiet.hears("STATUS", 3)
        refused, swept = quiet.told("STATUS")[-1].split("; default: ")
        assert refused.startswith("new configuration refused, the old one stays: ")
        assert "reaper.toml:" in refused
        assert refused.endswith(" (and 1 more)")
        assert swept.startswith("swept, ")
        daemon.reload(right)
        quiet.hears("STATUS", 2)
        assert quiet.told("STATUS")[-1].startswith("default: swept, ")


def test_the_watchdog_is_told_while_the_database_is_away_and_comes_back(
    protea: Protea, tmp_path: Path, quiet: Manager
) -> None:
    with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address, WATCHDOG_USEC=3_000_000) as daemon:
        until(lambda: quiet.told("READY"), "READY")
        with closed(protea.libpq.replace(_name(protea), "postgres"), _name(protea)):
            quiet.says("database away")
            quiet.hears("WATCHDOG", 4)
        quiet.says("swept")
        quiet.hears("WATCHDOG", 2)
        assert daemon.process.poll() is None


@pytest.mark.parametrize("given", [{}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}], ids=["none", "another's"])
def test_a_watchdog_that_nobody_asked_for_is_not_told(
    protea: Protea, tmp_path: Path, quiet: Manager, given: dict[str, str]
) -> None:
    with Daemon(tmp_path, None, database_url=protea.url, NOTIFY_SOCKET=quiet.address, **dict[str, Any](given)):
        until(lambda: quiet.told("READY"), "READY")
        quiet.hears("STATUS", 3)
        assert not quiet.told("WATCHDOG")


def test_a_wrong_configuration_ends_with_78_before_it_is_ready(tmp_path: Path, quiet: Manager) -> None:
    with Daemon(tmp_path, NOTIFY_SOCKET=quiet.address, intervall_seconds=3) as daemon:
        status, said = daemon.ends()
    assert status == 78
    assert "did you mean" in said
    assert not quiet.messages


def test_a_wrong_watchdog_time_is_a_wrong_configuration(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url=protea.url, WATCHDOG_USEC="soon") as daemon:
        status, said = daemon.ends()
    assert status == 78
    assert "WATCHDOG_USEC: expected microseconds, got 'soon'" in said
    assert "Traceback" not in said


def test_who_cannot_be_told_is_named_once_and_the_sweeps_go_on(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=tmp_path / "nobody") as daemon:
        daemon.comes_up().sweeps_on(3)
        daemon.says("Reaper cannot reach the service manager.")


def test_what_the_watchdog_ends_says_where_its_threads_were(protea: Protea, tmp_path: Path, quiet: Manager) -> None:
    for _ in range(3):
        with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address, WATCHDOG_USEC=10**9) as daemon:
            until(lambda: quiet.told("READY"), "READY")
            daemon.comes_up().process.send_signal(signal.SIGABRT)
            status, said = daemon.ends()
        # Python reads the frames of threads that go on meanwhile, which now and then ends it sooner.
        if status != -signal.SIGSEGV:
            break
    assert status == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in said
    assert 'reaper/daemon/main.py", line' in said


def _name(protea: Protea) -> str:
    row = protea.connection.execute("SELECT current_database()").fetchone()
    assert row is not None
    return str(row[0])


# --- progress ------------------------------------------------------------------------------------------------


class Bench:
    """One source under watch, and a loop that turns as the daemon's does."""

    def __init__(self, protea: Protea, manager: Manager, *, watchdog: float = 0.3, **settings: object) -> None:
        # Patience: 2 × (1 s + 1 s) and the 0.5 s of workers that nobody asks.
        limits = {"statement_timeout_seconds": 1, "connect_timeout_seconds": 1, "broker_deadline_seconds": 0.5}
        self.systemd = Systemd(Notify(manager.address), watchdog, start_seconds=START, slack_seconds=0.5)
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

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 15) -> None:
        """Turn until it holds."""
        until(lambda: self.turn() and holds(), what, seconds)

    def pings(self, more: int = 3) -> None:
        goal = len(self.manager.told("WATCHDOG")) + more
        self.until(lambda: len(self.manager.told("WATCHDOG")) >= goal, f"{more} more WATCHDOG")

    def falls_silent(self, why: str) -> None:
        """No ping comes any more, and STATUS says why."""
        self.until(lambda: why in self.manager.told("STATUS")[-1], f"STATUS {why}")
        before = len(self.manager.told("WATCHDOG"))
        lasts(lambda: self.turn() and len(self.manager.told("WATCHDOG")) == before, "no WATCHDOG", 1)


@pytest.fixture
def bench(protea: Protea, quiet: Manager) -> Iterator[Bench]:
    made = Bench(protea, quiet)
    yield made
    made.supervisor.stop(10)


@contextmanager
def held_up(protea: Protea) -> Iterator[int]:
    """A sweep waits for a table that somebody has locked; the server's process that waits for it."""
    with protea.connect() as somebody:
        somebody.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        waiting: list[int] = []

        def found() -> bool:
            row = protea.connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
            waiting[:] = [int(row[0])] if row else []
            return bool(waiting)

        until(found, "a sweep that waits for the table")
        yield waiting[0]


def test_sweeps_are_progress(bench: Bench) -> None:
    bench.pings(5)
    # Not more often than is of use.
    begun, before = time.monotonic(), len(bench.manager.told("WATCHDOG"))
    bench.pings(5)
    assert len(bench.manager.told("WATCHDOG")) - before <= (time.monotonic() - begun) / 0.1 + 1


@contextmanager
def in_time(bench: Bench, watchdog: float) -> Iterator[None]:
    """The manager is told within half of its time (sd_watchdog_enabled(3)), as long as the block turns the loop."""
    pings: list[float] = []
    turn = bench.turn

    def turn_and_look() -> bool:
        before = len(bench.manager.told("WATCHDOG"))
        turn()
        if len(bench.manager.told("WATCHDOG")) > before:
            pings.append(time.monotonic())
        return True

    bench.turn = turn_and_look  # type: ignore[method-assign]
    begun = time.monotonic()
    try:
        yield
    finally:
        bench.turn = turn  # type: ignore[method-assign]
    moments = [begun, *pings, time.monotonic()]
    gaps = [later - sooner for sooner, later in pairwise(moments)]
    assert max(gaps) <= watchdog / 2, f"the manager waited for {max(gaps):.1f} s of its {watchdog:g} s"


def test_manager_is_told_well_before_its_time_is_over(protea: Protea, quiet: Manager) -> None:
    bench = Bench(protea, quiet, watchdog=3)
    try:
        with in_time(bench, 3):
            begun = time.monotonic()
            bench.until(lambda: time.monotonic() - begun > 4, "a time that is longer than the manager's")
    finally:
        bench.supervisor.stop(10)


def test_manager_of_a_daemon_is_told_well_before_its_time_is_over(
    protea: Protea, tmp_path: Path, quiet: Manager
) -> None:
    """The daemon's loop turns once a second."""
    within = 6.0
    with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address, WATCHDOG_USEC=int(within * 1e6)):
        until(lambda: quiet.told("WATCHDOG"), "the first WATCHDOG")
        before, begun = len(quiet.told("WATCHDOG")), time.monotonic()
        until(lambda: len(quiet.told("WATCHDOG")) >= before + 2, "two more WATCHDOG")
        assert time.monotonic() - begun < within, "two within its time"


def test_manager_is_told_all_the_time_while_one_sweep_is_slow_within_its_limits(protea: Protea, quiet: Manager) -> None:
    """One and the same sweep stands still for longer than the slack, and for less than a statement may take."""
    bench = Bench(protea, quiet, watchdog=2, statement_timeout_seconds=60)
    try:
        bench.pings(1)
        with held_up(protea):
            begun, still = time.monotonic(), bench.runner.source.activity.at
            with in_time(bench, 2):
                while time.monotonic() - begun < 3.5:  # less than a transaction of ours waits for a lock
                    bench.turn()
                    assert bench.runner.sweeping and bench.runner.source.activity.at == still, "the same statement"
                    time.sleep(0.05)
            assert "No progress" not in " ".join(quiet.told("STATUS"))
    finally:
        bench.supervisor.stop(10)


def test_sweep_that_hangs_is_no_progress_whichever_of_several_sources_it_is_of(
    protea: Protea, quiet: Manager, server: Embedded
) -> None:
    bench = Bench(protea, quiet)
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
            [bench.systemd],
            bench.halt,
        )
        bench.supervisor.add(runner)
        try:
            bench.pings()
            with held_up(beside) as backend:
                os.kill(backend, signal.SIGSTOP)
                try:
                    bench.falls_silent("No progress: the sweep of beside has stood still for")
                finally:
                    os.kill(backend, signal.SIGCONT)
            bench.pings()
        finally:
            bench.supervisor.stop(10)
    server.drop_database("beside")


def test_manager_that_asked_for_a_watchdog_is_told_nothing_before_the_start_is_over_but_that_it_goes_on(
    tmp_path: Path, quiet: Manager
) -> None:
    """READY comes when each database has been met: until then it is no start that has failed."""
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/nowhere"
    with Daemon(tmp_path, database_url=away, NOTIFY_SOCKET=quiet.address, WATCHDOG_USEC=10**9) as daemon:
        daemon.comes_up().sweeps_on(outcome="failed")
        quiet.hears("EXTEND_TIMEOUT_USEC", 2)
        assert {int(told) for told in quiet.told("EXTEND_TIMEOUT_USEC")} == {30_000_000}
        assert not quiet.told("READY") and not quiet.told("RELOADING")
        daemon.stop()
        assert quiet.told("STOPPING") == ["1"] and not quiet.told("READY")


def test_a_halted_supervisor_is_progress(bench: Bench) -> None:
    bench.pings()
    bench.supervisor.halt(HaltRecord("alice"))
    bench.until(lambda: "halted, 0 running" in bench.manager.told("STATUS")[-1], "a halted sweep")
    bench.pings(5)


def test_a_sweep_that_waits_within_its_limits_is_progress(protea: Protea, quiet: Manager) -> None:
    bench = Bench(protea, quiet, statement_timeout_seconds=60)
    try:
        bench.pings()
        with held_up(protea):
            begun = time.monotonic()
            bench.until(lambda: time.monotonic() - begun > 3, "three seconds of waiting")
            bench.pings()
            assert bench.runner.sweeping
    finally:
        bench.supervisor.stop(10)


def test_a_sweep_that_hangs_in_a_frozen_database_is_no_progress_until_it_thaws(protea: Protea, bench: Bench) -> None:
    bench.pings()
    with held_up(protea) as backend:
        # Not even its own time limit ends it now.
        os.kill(backend, signal.SIGSTOP)
        try:
            bench.falls_silent("No progress: the sweep of default has stood still for")
        finally:
            os.kill(backend, signal.SIGCONT)
    bench.pings()
    bench.until(lambda: "swept" in bench.manager.told("STATUS")[-1], "a sweep")


def test_a_question_that_is_asked_again_and_again_does_not_hide_a_sweep_that_hangs(
    protea: Protea, bench: Bench
) -> None:
    with held_up(protea) as backend:
        os.kill(backend, signal.SIGSTOP)
        try:

            def ask() -> bool:
                assert bench.runner.tick() is None
                return bench.turn()

            until(lambda: ask() and "No progress" in bench.manager.told("STATUS")[-1], "no progress")
        finally:
            os.kill(backend, signal.SIGCONT)


def test_a_schedule_that_has_died_is_no_progress(bench: Bench) -> None:
    bench.pings()
    bench.schedule.shut_down()
    bench.falls_silent("No progress: the schedule of sweeps has ended.")
    bench.supervisor.restart()
    bench.pings()


def test_a_source_that_is_not_swept_in_time_is_no_progress(bench: Bench) -> None:
    bench.pings()
    bench.schedule.pause()
    bench.falls_silent("No progress: default is not swept:")


def test_a_database_that_stays_away_does_not_hold_the_start_up_for_ever(
    protea: Protea, tmp_path: Path, quiet: Manager
) -> None:
    config = tmp_path / "reaper.toml"
    away = f"postgresql://nobody@127.0.0.1:{free_port()}/nowhere"
    config.write_text(f'[sources.default]\ndatabase_url = "{protea.url}"\n[sources.other]\ndatabase_url = "{away}"\n')
    begun = time.monotonic()
    bench = Bench(protea, quiet)
    bench.systemd.set_sources(load({"config": str(config)}, {}))
    try:
        bench.until(lambda: bool(quiet.told("READY")), "READY")
        assert time.monotonic() - begun >= START
        bench.until(lambda: "default: swept" in quiet.told("STATUS")[-1], "a sweep of the other one")
        assert quiet.told("STATUS")[-1].startswith("other: waiting for the first sweep; default: swept")
    finally:
        bench.supervisor.stop(10)


# --- the protocol --------------------------------------------------------------------------------------------


def test_children_inherit_nothing_of_it() -> None:
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    Systemd.of(environ)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_this_processs_or_none(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environ) == seconds


@pytest.mark.parametrize("given", ["0", "-5", "1.5", "x", "\N{SUPERSCRIPT TWO}"])
def test_what_no_manager_says_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="WATCHDOG_USEC: expected microseconds"):
        watchdog_seconds({"WATCHDOG_USEC": given})


# --- the status ----------------------------------------------------------------------------------------------


def report(outcome: Outcome, **given: Any) -> SweepReport:
    census = JobCounts(running=120, past_timeout=5, stale=2, oldest_started_epoch=None)
    return SweepReport("main", "id", outcome, 0.1, **{"census": census, **given})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "waiting for the first sweep"),
        (report(Outcome.DONE, reaped=2), "swept, 120 running, 3 spared, 2 reaped"),
        (
            report(Outcome.DONE, judged_at="2026-11-22T12:34:56.789012+00:00"),
            "swept, 120 running, 3 spared, 0 reaped at 2026-11-22 12:34:56 UTC",
        ),
        (report(Outcome.STANDBY, census=None), "stands by, another replica sweeps"),
        (report(Outcome.HELD), "breaker open, 2 of 120 running jobs fell silent"),
        (report(Outcome.HALTED), "halted, 120 running, 2 stale"),
        (report(Outcome.STOPPED), "stopped between two batches"),
        (report(Outcome.FAILED, error="no\nright to\n  it"), "sweep failed, no right to it"),
        (report(Outcome.FAILED, error="gone", database_away=True), "database away, gone"),
    ],
)
def test_a_sweep_is_told_in_one_line(given: SweepReport | None, words: str) -> None:
    assert sweep_in_one_line(given) == words


def test_of_many_sources_those_in_trouble_come_first_and_the_rest_are_counted(tmp_path: Path, quiet: Manager) -> None:
    config = tmp_path / "reaper.toml"
    names = [f"s{number}" for number in range(8)]
    config.write_text("".join(f'[sources.{name}]\ndatabase_url = "postgresql:///{name}"\n' for name in names))
    systemd = Systemd(Notify(quiet.address))
    systemd.set_sources(load({"config": str(config)}, {}))
    for name in names:
        systemd.swept(replace(report(Outcome.DONE), source=name))
    systemd.swept(replace(report(Outcome.FAILED, error="x" * 5000), source="s7"))
    status = quiet.told("STATUS")[-1]
    assert status.startswith("s7: sweep failed, xxx")
    assert status.endswith("and 3 more sources")
    # The manager takes 4096 bytes.
    assert len(status) < 1000
