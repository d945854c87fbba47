"""READY, STATUS, RELOADING and WATCHDOG: what a real daemon sends to the service manager."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reaper.config import load
from reaper.daemon.sd_notify import NotifySocket, watchdog_seconds
from reaper.daemon.systemd import Systemd
from reaper.errors import ConfigError
from reaper.model import JobCounts, Outcome, SweepReport
from reaper.sweep.summary import sweep_in_one_line
from tests.support.daemons import Daemon, closed
from tests.support.protea import Protea
from tests.support.service_manager import Manager
from tests.support.waiting import wait_until

# --- the daemon ----------------------------------------------------------------------------------------------


def test_ready_comes_when_port_and_database_are_there(protea: Protea, tmp_path: Path, manager: Manager) -> None:
    with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=manager.address) as daemon:
        wait_until(lambda: manager.received("READY"), "READY")
        assert daemon.get("/live") is not None
        before = manager.messages[: next(n for n, received in enumerate(manager.messages) if "READY" in received)]
        assert any("running" in received.get("STATUS", "") for received in before), before
        assert daemon.stop()[0] == 0
    assert manager.received("READY") == ["1"]
    assert manager.received("STOPPING") == ["1"]


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
        assert not quiet.received("READY")
        daemon.process.kill()


def test_ready_is_sent_once_the_database_is_reached(protea: Protea, tmp_path: Path, quiet: Manager) -> None:
    with closed(protea.libpq.replace(_name(protea), "postgres"), _name(protea)):
        daemon = Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address)
        daemon.comes_up()
        quiet.hears("EXTEND_TIMEOUT_USEC", 2)
        assert not quiet.received("READY")
    with daemon:
        wait_until(lambda: quiet.received("READY"), "READY")


def test_status_describes_the_last_sweep(protea: Protea, tmp_path: Path, quiet: Manager) -> None:
    with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address) as daemon:
        daemon.comes_up().sweeps_on()
        quiet.says("default: swept, 0 running, 0 spared, 0 reaped at 20")
        protea.stale()
        living = protea.job()
        protea.event(living)
        wait_until(lambda: any("1 reaped at" in received for received in quiet.received("STATUS")), "the reap")
        quiet.says("default: swept, 1 running, 1 spared, 0 reaped")
        assert quiet.received("STATUS")[-1].endswith(" UTC")


def test_reload_is_notified_at_its_begin_and_its_end(protea: Protea, tmp_path: Path, quiet: Manager) -> None:
    with Daemon(
        tmp_path, config=f'database_url = "{protea.url}"', NOTIFY_SOCKET=quiet.address, WATCHDOG_USEC=10**9
    ) as daemon:
        wait_until(lambda: quiet.received("READY"), "READY")
        for number, text in enumerate((f'database_url = "{protea.url}"\nbatch_size = 7', "batch_size = 0"), start=2):
            before = time.monotonic_ns() // 1000
            daemon.reload(text)
            wait_until(lambda: len(quiet.received("READY")) == number, "READY after the reload")  # noqa: B023
            received = [message for message in quiet.messages if {"RELOADING", "READY"} & message.keys()]
            assert received[-2]["RELOADING"] == "1"
            assert before < int(received[-2]["MONOTONIC_USEC"]) < time.monotonic_ns() // 1000
            assert received[-1]["READY"] == "1"


def test_status_shows_a_refused_configuration_until_one_is_accepted(
    protea: Protea, tmp_path: Path, quiet: Manager
) -> None:
    right = f'database_url = "{protea.url}"\n'
    with Daemon(tmp_path, config=right, NOTIFY_SOCKET=quiet.address) as daemon:
        wait_until(lambda: quiet.received("READY"), "READY")
        daemon.reload(f"{right}batch_size = 0\nintervall = 3")
        quiet.hears("STATUS", 3)
        refused, swept = quiet.received("STATUS")[-1].split("; default: ")
        assert refused.startswith("new configuration refused, the old one stays: ")
        assert "reaper.toml:" in refused
        assert refused.endswith(" (and 1 more)")
        assert swept.startswith("swept, ")
        daemon.reload(right)
        quiet.hears("STATUS", 2)
        assert quiet.received("STATUS")[-1].startswith("default: swept, ")


def test_watchdog_is_pinged_while_the_database_is_away_and_comes_back(
    protea: Protea, tmp_path: Path, quiet: Manager
) -> None:
    with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address, WATCHDOG_USEC=3_000_000) as daemon:
        wait_until(lambda: quiet.received("READY"), "READY")
        with closed(protea.libpq.replace(_name(protea), "postgres"), _name(protea)):
            quiet.says("database away")
            quiet.hears("WATCHDOG", 4)
        quiet.says("swept")
        quiet.hears("WATCHDOG", 2)
        assert daemon.process.poll() is None


@pytest.mark.parametrize("given", [{}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}], ids=["none", "another's"])
def test_watchdog_is_not_pinged_unless_systemd_asks_for_it(
    protea: Protea, tmp_path: Path, quiet: Manager, given: dict[str, str]
) -> None:
    with Daemon(tmp_path, None, database_url=protea.url, NOTIFY_SOCKET=quiet.address, **dict[str, Any](given)):
        wait_until(lambda: quiet.received("READY"), "READY")
        quiet.hears("STATUS", 3)
        assert not quiet.received("WATCHDOG")


def test_wrong_configuration_ends_with_78_before_ready(tmp_path: Path, quiet: Manager) -> None:
    with Daemon(tmp_path, NOTIFY_SOCKET=quiet.address, intervall_seconds=3) as daemon:
        status, said = daemon.ends()
    assert status == 78
    assert "did you mean" in said
    assert not quiet.messages


def test_wrong_watchdog_time_is_a_wrong_configuration(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url=protea.url, WATCHDOG_USEC="soon") as daemon:
        status, said = daemon.ends()
    assert status == 78
    assert "WATCHDOG_USEC: expected microseconds, got 'soon'" in said
    assert "Traceback" not in said


def test_unreachable_manager_is_logged_once_and_sweeps_go_on(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=tmp_path / "no-socket") as daemon:
        daemon.comes_up().sweeps_on(3)
        daemon.says("Reaper cannot reach the service manager; it goes on without it.")


def test_process_that_the_watchdog_kills_logs_where_its_threads_were(
    protea: Protea, tmp_path: Path, quiet: Manager
) -> None:
    for before in range(3):
        with Daemon(tmp_path, database_url=protea.url, NOTIFY_SOCKET=quiet.address, WATCHDOG_USEC=10**9) as daemon:
            wait_until(lambda before=before: len(quiet.received("READY")) > before, "READY")  # type: ignore[misc]
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


# --- the protocol --------------------------------------------------------------------------------------------


def test_children_inherit_nothing_of_it() -> None:
    environ = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    Systemd.from_environment(environ)
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
def test_watchdog_of_another_process_is_ignored(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environ) == seconds


@pytest.mark.parametrize("given", ["0", "-5", "1.5", "x", "\N{SUPERSCRIPT TWO}"])
def test_invalid_watchdog_values_are_refused(given: str) -> None:
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
def test_sweep_is_described_in_one_line(given: SweepReport | None, words: str) -> None:
    assert sweep_in_one_line(given) == words


def test_status_lists_troubled_sources_first_and_counts_the_rest(tmp_path: Path, quiet: Manager) -> None:
    config = tmp_path / "reaper.toml"
    names = [f"s{number}" for number in range(8)]
    config.write_text("".join(f'[sources.{name}]\ndatabase_url = "postgresql:///{name}"\n' for name in names))
    systemd = Systemd(NotifySocket(quiet.address))
    systemd.set_sources(load({"config": str(config)}, {}))
    for name in names:
        systemd.swept(replace(report(Outcome.DONE), source=name))
    systemd.swept(replace(report(Outcome.FAILED, error="x" * 5000), source="s7"))
    status = quiet.received("STATUS")[-1]
    assert status.startswith("s7: sweep failed, xxx")
    assert status.endswith("and 3 more sources")
    # The manager takes 4096 bytes.
    assert len(status) < 1000
