"""The daemon from outside: its schedule, its signals, its log, its end, and a second one beside it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from structlog.testing import capture_logs

from reaper.config import load
from reaper.daemon import main as process
from reaper.dev.postgres import PrivatePostgreSQL
from tests.support.daemons import PROJECT, Daemon
from tests.support.programs import Process, start
from tests.support.protea import HOUR, Protea
from tests.support.waiting import stays_true, wait_until

HANGING = "Reaper stops although a sweep hangs; the database server rolls back its transaction."
UNFINISHED = "Reaper stops before a sweep or a purge has ended; the database server rolls back its transaction."
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def many(protea: Protea, count: int, operation: str = "embed") -> None:
    """So many silent jobs, 8 h old."""
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, created_at, started_at)"
        " SELECT %s, 'q', 'running', now() - interval '8 h', now() - interval '8 h' FROM generate_series(1, %s)",
        (operation, count),
    )


def count(protea: Protea, status: str) -> int:
    row = protea.connection.execute("SELECT count(*) FROM job WHERE status = %s", (status,)).fetchone()
    assert row is not None
    return int(row[0])


def timeouts(protea: Protea) -> int:
    row = protea.connection.execute("SELECT count(*) FROM job_event WHERE event = 'job.timeout'").fetchone()
    assert row is not None
    return int(row[0])


def slow(protea: Protea, seconds: float, each: str = "STATEMENT") -> None:
    """Every update of the job table (or of each row of it) takes so long."""
    protea.connection.execute(
        f"CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$;"
        f" CREATE OR REPLACE TRIGGER slow BEFORE UPDATE ON job FOR EACH {each} EXECUTE FUNCTION slow()"
    )


# --- schedule ------------------------------------------------------------------------------------------------


def test_daemon_sweeps_at_start_and_then_every_interval(protea: Protea, tmp_path: Path) -> None:
    first = protea.stale()
    with Daemon(tmp_path, database_url=protea.url) as daemon:
        wait_until(lambda: protea.status(first) == "failed", "the first sweep")
        daemon.comes_up()
        second = protea.stale()
        wait_until(lambda: protea.status(second) == "failed", "another sweep", 3)
        # That sweep has committed, and may not be counted yet.
        daemon.sweeps_on()
        begun, before = time.monotonic(), daemon.sweeps()
        daemon.sweeps_on(3)
        assert 1 <= daemon.sweeps() - before <= time.monotonic() - begun + 1
        assert (
            daemon.metrics.value(
                "reaper_jobs_reaped_total", source="default", kind="embed", reason="JobTimeout", action="fail"
            )
            == 2
        )
        reaps = daemon.said("Reaped 1 stale job(s).")
        assert [line["reaped"] for line in reaps] == [1, 1]
        assert {line["job"] for line in daemon.said("Reaped stale job.")} == {first, second}


@pytest.mark.thorough
def test_sweeps_continue_when_the_host_clock_is_set_back(protea: Protea, tmp_path: Path) -> None:
    if not FAKETIME.exists():
        if os.environ.get("CI"):
            pytest.fail("libfaketime is missing")
        pytest.skip("libfaketime is not installed")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    faked: dict[str, Any] = {
        "LD_PRELOAD": FAKETIME,
        "FAKETIME_TIMESTAMP_FILE": clock,
        "FAKETIME_CACHE_DURATION": 1,
        "DONT_FAKE_MONOTONIC": 1,
    }
    with Daemon(tmp_path, database_url=protea.url, **faked) as daemon:
        daemon.comes_up().sweeps_on()
        for shift in (-2, 3):
            clock.write_text(f"{shift:+d}h")
            wait_until(lambda: _ahead(daemon) == shift, f"a sweep after the jump to {shift:+d} h")  # noqa: B023
            daemon.sweeps_on()
        live = protea.job(age=5 * HOUR)
        dead = protea.stale()
        wait_until(lambda: protea.status(dead) == "failed", "a sweep")
        assert protea.status(live) == "running"
        assert daemon.stop()[0] == 0


def _ahead(daemon: Daemon) -> int:
    """By how many hours the daemon believed itself ahead of the rest of the world when it last swept."""
    return round(((daemon.value("reaper_last_success_timestamp_seconds") or 0) - time.time()) / HOUR)


# --- the end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_during_a_sweep_ends_it_after_the_running_batch(
    protea: Protea, tmp_path: Path, number: signal.Signals
) -> None:
    many(protea, 10_000)
    slow(protea, 0.02)
    with Daemon(tmp_path, database_url=protea.url, batch_size=50, breaker_share=1) as daemon:
        wait_until(lambda: count(protea, "failed") > 100, "some batches")
        status, seconds = daemon.stop(number)
        assert status == 0
        assert seconds < 5
        assert daemon.log[-1]["event"] == "Reaper has stopped."
        failed = count(protea, "failed")
        assert 0 < failed < 10_000
        assert failed % 50 == 0
        assert timeouts(protea) == failed
        # What it says it did is what it did.
        assert daemon.said(f"Reaped {failed} stale job(s).")


def test_daemon_stops_in_time_while_the_database_hangs(protea: Protea, tmp_path: Path) -> None:
    job = protea.stale()
    with protea.connect() as other:
        other.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        with Daemon(tmp_path, database_url=protea.url) as daemon:
            daemon.comes_up()
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'job'::regclass"
            wait_until(lambda: other.execute(waiting).fetchone(), "a sweep that waits")
            status, seconds = daemon.stop()
            assert status == 0
            assert seconds < 5
            [line] = daemon.said(UNFINISHED)
            assert (line["sweeps"], line["purges"]) == (["default"], [])
            assert not daemon.said(HANGING), "it has waited for less than a statement may take"
    assert protea.status(job) == "running"


def test_only_a_sweep_that_has_ended_no_statement_for_longer_than_it_may_hangs(protea: Protea) -> None:
    protea.stale()
    environment = {"REAPER_DATABASE_URL": protea.url, "REAPER_HTTP_PORT": "0", "REAPER_RESTART_GRACE": "0"}
    daemon = process.Daemon(load({}, environment))
    with protea.connect() as other:
        other.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        daemon.start()
        waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'job'::regclass"
        wait_until(lambda: other.execute(waiting).fetchone(), "a sweep that waits")
        assert not daemon.supervisor.stop(0.01)
        for limit, said in ((3600.0, UNFINISHED), (0.0, HANGING)):
            daemon.systemd.stall_limit_seconds = limit
            with capture_logs() as log:
                daemon.report_unfinished()
            assert [line["event"] for line in log] == [said]
    [runner] = daemon.supervisor.unfinished
    assert runner.join(10)


def test_signals_at_any_moment_do_not_stop_the_loop() -> None:
    loop = (
        "from reaper.daemon.signals import Signals; signals = Signals(); print('ready', flush=True)\n"
        "while not signals.stop: signals.wait(0.0005); signals.take_reload()"
    )
    with subprocess.Popen([sys.executable, "-c", loop], cwd=PROJECT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(10_000):
            process.send_signal(signal.SIGHUP)
        process.terminate()
        try:
            assert process.wait(10) == 0
        finally:
            process.kill()


# --- HTTP ----------------------------------------------------------------------------------------------------


def test_taken_port_is_a_clear_error(protea: Protea, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Daemon(tmp_path, database_url=protea.url, http_port=port) as daemon:
            status, said = daemon.ends()
    assert status == 1
    assert said.splitlines() == [
        f"reaper: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "REAPER_HTTP_PORT takes another port, 0 switches HTTP off"
    ]


def test_port_0_switches_http_off(protea: Protea, tmp_path: Path) -> None:
    job = protea.stale()
    with Daemon(tmp_path, database_url=protea.url, http_port=0) as daemon:
        wait_until(lambda: protea.status(job) == "failed", "a sweep")
        assert daemon.says("Reaper starts.")["http"] is None
        assert not any(c.status == psutil.CONN_LISTEN for c in psutil.Process(daemon.process.pid).net_connections())
        assert daemon.stop()[0] == 0


def test_health_and_metrics_are_served_while_the_first_sweep_hangs(protea: Protea, tmp_path: Path) -> None:
    with protea.connect() as other:
        other.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        with Daemon(tmp_path, database_url=protea.url) as daemon:
            daemon.comes_up()
            assert daemon.get("/live") == (200, "alive\n")
            assert daemon.ready == (False, {"default": ["no sweep has ended yet"]})
            assert daemon.value("reaper_jobs_running") == 0
            other.rollback()
            wait_until(lambda: daemon.ready == (True, {"default": []}), "ready")


# --- log -----------------------------------------------------------------------------------------------------


class DaemonOnFullDisk(Daemon):
    """Its log and its standard error are on a disk that is full."""

    def _begin(self) -> Process:
        with Path("/dev/full").open("wb") as full:
            return start("reaper", "run", environment=self._environment, folder=self.folder, stderr=full)


def test_full_log_disk_stops_neither_the_sweeps_nor_the_daemon(protea: Protea, tmp_path: Path) -> None:
    with DaemonOnFullDisk(tmp_path, database_url=protea.url, log_file="/dev/full") as daemon:
        daemon.comes_up()
        first = protea.stale()
        wait_until(lambda: protea.status(first) == "failed", "a reap")
        daemon.process.send_signal(signal.SIGHUP)
        second = protea.stale()
        wait_until(lambda: protea.status(second) == "failed", "a reap after the reload")
        wait_until(lambda: daemon.metrics.total("reaper_jobs_reaped_total") == 2, "both counted")
        status, seconds = daemon.stop()
        assert status == 0 and seconds < 5


def test_log_file_survives_logrotate(protea: Protea, tmp_path: Path) -> None:
    log, moved = tmp_path / "reaper.log", tmp_path / "reaper.log.1"
    protea.stale()
    with Daemon(tmp_path, database_url=protea.url, log_file=log) as daemon:
        wait_until(lambda: log.exists() and "Reaped 1 stale job(s)." in log.read_text(), "the first reap")
        log.rename(moved)
        protea.stale()
        wait_until(lambda: log.exists() and "Reaped 1 stale job(s)." in log.read_text(), "a new file")
        assert "Reaper starts." in moved.read_text()
        assert "Reaper starts." not in log.read_text()
        assert daemon.stop()[0] == 0
        assert daemon.stderr.read_text() == ""


def test_log_that_cannot_be_written_any_more_does_not_stop_the_sweeps(protea: Protea, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with Daemon(tmp_path, database_url=protea.url, log_file=folder / "reaper.log") as daemon:
        daemon.comes_up().sweeps_on()
        folder.rename(tmp_path / "moved")
        protea.stale()
        # What cannot be written there goes to stderr.
        daemon.says("Reaped 1 stale job(s).")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.says("Reaper has a new configuration.")
        folder.mkdir()
        protea.stale()
        log = folder / "reaper.log"
        wait_until(lambda: log.exists() and "Reaped 1 stale job(s)." in log.read_text(), "a line in the file")
        assert len(daemon.said("Reaped 1 stale job(s).")) == 1
        assert daemon.stop()[0] == 0


def test_unwritable_log_at_start_is_a_clear_error(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url=protea.url, log_file=tmp_path / "none" / "reaper.log") as daemon:
        status, said = daemon.ends()
    assert status == 1
    assert said == f"reaper: cannot write the log {tmp_path}/none/reaper.log: No such file or directory\n"


@pytest.mark.parametrize("form", ["json", "console"])
def test_log_line_stays_one_line_whatever_a_kind_is_called(form: str) -> None:
    kind = 'a "kind"\nover\r\ntwo lines \x1b[31m{"event": "forged"}\u2028\udcff\u00e9'
    logs = (
        f"from reaper.observers import logging_setup; import structlog; logging_setup.configure('info', {form!r}, None)"
    )
    line = f"structlog.get_logger('reaper').warning('Reaped stale job.', kind={kind!a})"
    said = subprocess.run([sys.executable, "-c", f"{logs}; {line}"], cwd=PROJECT, stderr=subprocess.PIPE).stderr
    assert said.count(b"\n") == 1
    assert said.endswith(b"\n")
    assert b"\x1b" not in said
    assert b"\r" not in said
    if form == "json":
        assert json.loads(said)["kind"] == kind


EVIL = ("evil\x1b[2J", "evil\x07\x9b31m", "evil\u202egnp.exe", "evil\x1b[2J with words", "evil\r")


@pytest.mark.parametrize("form", ["json", "console"])
def test_hostile_text_in_the_log_cannot_control_a_terminal(form: str) -> None:
    script = (
        "from reaper.observers import logging_setup; import logging, structlog, sys\n"
        f"logging_setup.configure('info', {form!r}, None)\n"
        "log = structlog.get_logger('reaper')\n"
        f"for evil in {EVIL!a}:\n"
        "    log.warning('Reaped stale job.', kind=evil, jobs=[evil], error=evil)\n"
        "    logging.getLogger('uvicorn.error').warning('a request of %s', evil)\n"
        "    logging.getLogger('uvicorn.error').warning('a request\\nforged')\n"
        "    try: raise ValueError(evil)\n"
        "    except ValueError: log.exception('Reaper met a defect.')\n"
        "    print('=== next', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, stderr=subprocess.PIPE).stderr.decode()
    *parts, rest = done.split("=== next\n")
    assert len(parts) == len(EVIL) and rest == ""
    for evil, said in zip(EVIL, parts, strict=True):
        assert "Traceback" in said and "Warning" not in said
        assert "a request\\nforged" in said, "one line"
        assert not [character for character in said if not character.isprintable() and character != "\n"], said
        if form == "json":
            assert json.loads(said.splitlines()[0])["kind"] == evil
        else:
            assert said.count("evil") >= 5


@pytest.mark.parametrize("form", ["json", "console"])
def test_traceback_of_a_library_is_logged_in_full(form: str) -> None:
    script = (
        f"from reaper.observers import logging_setup; import logging; logging_setup.configure('info', {form!r}, None)\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: logging.getLogger('apscheduler').exception('a job %s failed', 7)"
    )
    said = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, stderr=subprocess.PIPE, text=True).stderr
    assert "Warning" not in said
    text = json.loads(said)["exception"] if form == "json" else said
    assert "Traceback (most recent call last):" in text
    assert "ZeroDivisionError: division by zero" in text
    assert "a job 7 failed" in said


def in_the_journal(tmp_path: Path, form: str, file: Path | None = None, *, elsewhere: bool = False) -> list[str]:
    """The lines on a stderr that systemd has connected, or on another one beside it."""
    script = (
        "from pathlib import *; from reaper.observers import logging_setup; import structlog\n"
        f"logging_setup.configure('debug', {form!r}, {file!r})\n"
        "log = structlog.get_logger('reaper')\n"
        "for say in (log.debug, log.info, log.warning, log.error): say('x')\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: log.exception('a defect')"
    )
    with (tmp_path / "journal").open("w+") as journal:
        named = os.fstat(journal.fileno())
        environ = {**os.environ, "JOURNAL_STREAM": f"{named.st_dev}:{named.st_ino + elsewhere}"}
        subprocess.run([sys.executable, "-c", script], cwd=PROJECT, env=environ, stderr=journal, check=True)
    return (tmp_path / "journal").read_text().splitlines()


def test_journal_gets_the_priority_of_each_line(tmp_path: Path) -> None:
    lines = in_the_journal(tmp_path, "json")
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>", "<3>"]
    assert [json.loads(line[3:])["event"] for line in lines] == ["x", "x", "x", "x", "a defect"]
    # There each line is an entry of its own.
    # How many lines stand between the two differs between versions of Python.
    _, _, _, _, _, begin, *_, end = in_the_journal(tmp_path, "console")
    assert begin == "<3>Traceback (most recent call last):"
    assert end == "<3>ZeroDivisionError: division by zero"
    # What a log file cannot take goes the same way.
    assert {line[:3] for line in in_the_journal(tmp_path, "json", Path("/dev/full"))} == {"<7>", "<6>", "<4>", "<3>"}


def test_priorities_are_written_for_the_journal_only(tmp_path: Path) -> None:
    assert all(json.loads(line) for line in in_the_journal(tmp_path, "json", elsewhere=True))
    assert in_the_journal(tmp_path, "json", tmp_path / "log") == []
    assert all(json.loads(line) for line in (tmp_path / "log").read_text().splitlines())


# --- secrets -------------------------------------------------------------------------------------------------


def test_passwords_are_never_logged(server: PrivatePostgreSQL, protea: Protea, tmp_path: Path) -> None:
    _demand_password(server, "guarded", "right-Geheimnis")
    protea.connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO guarded")
    job = protea.stale()
    host = protea.url.partition("?")[2]
    name = protea.url.partition("?")[0].rpartition("/")[2]
    for password in ("right-Geheimnis", "wrong-Geheimnis"):
        url = f"postgresql://guarded:{password}@/{name}?{host}"
        with Daemon(tmp_path, database_url=url, log_level="debug") as daemon:
            daemon.comes_up()
            wait_until(lambda: daemon.sweeps() + daemon.sweeps("failed"), "a sweep")
            if password.startswith("wrong"):
                assert "password authentication failed" in daemon.says("Reaper cycle failed")["error"]
                assert "password authentication failed" in daemon.ready[1]["default"][0]
            served = "".join(str(daemon.get(path)) for path in ("/live", "/ready", "/metrics"))
            assert daemon.stop()[0] == 0
            assert "Geheimnis" not in daemon.stderr.read_text() + served
    assert protea.status(job) == "failed"


def _demand_password(server: PrivatePostgreSQL, role: str, password: str) -> None:
    with psycopg.connect(server.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        rules = server.data / "pg_hba.conf"
        rules.write_text(f"local all {role} scram-sha-256\n{rules.read_text()}")
        connection.execute("SELECT pg_reload_conf()")


# --- a second one --------------------------------------------------------------------------------------------


def test_standby_takes_over_when_the_leader_is_killed(protea: Protea, tmp_path: Path) -> None:
    url = protea.url
    with Daemon(tmp_path, database_url=url) as one, Daemon(tmp_path, database_url=url) as two:
        both = [one.comes_up(), two.comes_up()]
        for daemon in both:
            wait_until(lambda d=daemon: d.sweeps() + d.sweeps("standby") >= 2, "two sweeps")  # type: ignore[misc]
        assert sorted(daemon.value("reaper_leader") or 0 for daemon in both) == [0, 1]
        leader, standby = sorted(both, key=lambda d: -(d.value("reaper_leader") or 0))
        assert standby.ready == (True, {"default": []})
        many(protea, 40)
        wait_until(lambda: count(protea, "running") == 0, "the leader's sweep")
        assert standby.metrics.total("reaper_jobs_reaped_total") == 0
        assert standby.value("reaper_jobs_running") == 0

        leader.process.kill()
        standby.shows("reaper_leader", 1)
        many(protea, 40)
        wait_until(lambda: count(protea, "running") == 0, "the other's sweep")
        assert timeouts(protea) == 80
        assert [line["event"] for line in standby.log if "replica" in line["event"] or "taken" in line["event"]] == [
            "Reaper stands by: another replica sweeps.",
            "Reaper has taken over the sweeps from another replica.",
        ]


# --- economy -------------------------------------------------------------------------------------------------


def test_idle_daemon_stays_within_its_bounds_of_memory_and_processor_time(protea: Protea, tmp_path: Path) -> None:
    # As the systemd units and the image start it.
    settings: dict[str, Any] = {"interval_seconds": 60, "MALLOC_ARENA_MAX": 1}
    with Daemon(tmp_path, database_url=protea.url, executed=True, **settings) as daemon:
        daemon.comes_up().shows("reaper_leader", 1)
        process = psutil.Process(daemon.process.pid)
        # Ask nothing of it meanwhile.
        before = process.cpu_times()
        stays_true(process.is_running, "the daemon", 3)
        after = process.cpu_times()
        core = (after.user + after.system - before.user - before.system) / 3
        resident = process.memory_info().rss / 2**20
        print(f"idle daemon: {resident:.1f} MiB resident, {core:.2%} of a core")
        assert resident <= 110
        assert core <= 0.02
