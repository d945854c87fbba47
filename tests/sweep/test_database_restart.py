"""A restart of the database costs what it lasted; a failover, a restore or a copied directory a whole stall window."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reaper.config import load
from reaper.database.connections import make_engine
from reaper.database.server_identity import database_address
from reaper.dev.postgres import PrivatePostgreSQL, libpq, temporary
from reaper.memory import Memory
from reaper.memory.memory import FILE
from reaper.model import SweepReport
from reaper.operations.report import ReportQuery, report
from reaper.operations.sources import new_downtime_tracker
from reaper.profile import resolve
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from tests.support import mariadb
from tests.support.daemons import Daemon
from tests.support.protea import HOUR, MINUTE, PATIENCE, Protea, thresholds
from tests.support.waiting import wait_until
from tests.sweep.test_unable_reaper import role


@pytest.fixture
def server() -> Iterator[PrivatePostgreSQL]:
    """A server that keeps what it has written when it is stopped."""
    with temporary() as running:
        yield running


def sweep_once(url: str, state: Path, name: str = "main") -> SweepReport:
    """The first sweep of a process with this state directory, which then ends."""
    memory = Memory.open(state)
    source = Source(name, url, resolve("protea"), thresholds(), PATIENCE)
    downtime, breaker = DowntimeTracker(MINUTE), Breaker(50, 1)
    runner = SourceRunner(source, downtime, RetrySchedule(60), breaker, 1000, "h", [], contacts=memory.contacts)
    report = runner.tick()
    runner.stop()
    assert runner.join(10)
    memory.close()
    assert report is not None and report.error is None
    return report


def let_server_be_old(url: str, state: Path, name: str = "main") -> None:
    """Note the last contact as that with a server that had been up for long."""
    memory = Memory.open(state)
    address = database_address(make_engine(url, name, PATIENCE))
    contact = memory.contacts.last(name, address)
    assert contact is not None and contact.downtime[0][0].startswith("0001-01-01")
    memory.contacts.record(replace(contact, downtime=()))
    memory.close()


def make_jobs(url: str) -> tuple[str, str]:
    """A job that fell silent 2 h ago, and one that showed life 20 minutes ago."""
    with closing(psycopg.connect(libpq(url), autocommit=True)) as connection:
        protea = Protea(url, connection)
        live = protea.job(age=9 * HOUR)
        protea.event(live, age=20 * MINUTE)
        return protea.stale(), live


def why(report: SweepReport) -> str:
    """Why the whole stall window must pass."""
    assert report.downtime is not None and report.downtime.nothing_before is not None
    assert (report.reaped, report.downtime.away_from) == (0, None)
    return report.downtime.why


@pytest.mark.parametrize("immediate", [False, True], ids=["stopped", "crashed"])
def test_restart_costs_what_it_lasted(server: PrivatePostgreSQL, tmp_path: Path, immediate: bool) -> None:
    url = server.create_database("main")
    first = sweep_once(url, tmp_path)
    assert why(first).endswith("no earlier contact with it is remembered")
    let_server_be_old(url, tmp_path)
    silent, live = make_jobs(url)
    server.restart(immediate=immediate)
    report = sweep_once(url, tmp_path)
    assert report.reaped == 1 and report.downtime is not None
    assert (report.downtime.away_from, report.downtime.nothing_before) == (first.judged_at, None)
    with psycopg.connect(libpq(url)) as connection:
        rows: dict[str, str] = dict(connection.execute("SELECT id::text, status::text FROM job").fetchall())
    assert rows == {silent: "failed", live: "running"}


def test_process_that_begins_while_the_server_runs_on_goes_on_from_the_one_before(
    server: PrivatePostgreSQL, tmp_path: Path
) -> None:
    url = server.create_database("main")
    sweep_once(url, tmp_path)
    make_jobs(url)
    assert "as the reaper that ran before has noted" in why(sweep_once(url, tmp_path))
    let_server_be_old(url, tmp_path)
    report = sweep_once(url, tmp_path)
    assert (report.reaped, report.downtime) == (1, None)


def copy_of(server: PrivatePostgreSQL, change: Callable[[], object]) -> None:
    """Puts the server's files back to what they are now, after `change` and a sweep have been made."""
    kept = server.directory / "kept"
    server.stop()
    shutil.copytree(server.data, kept, symlinks=True)
    shutil.chown(kept, *_owner(server))
    server.start()
    change()
    server.stop()
    shutil.rmtree(server.data)
    kept.rename(server.data)
    for path in (server.data, *server.data.rglob("*")):
        shutil.chown(path, *_owner(server))
    server.start()


def _owner(server: PrivatePostgreSQL) -> tuple[int, int]:
    status = server.directory.stat()
    return status.st_uid, status.st_gid


def test_copied_directory_of_an_earlier_state_costs_the_whole_window(server: PrivatePostgreSQL, tmp_path: Path) -> None:
    url = server.create_database("main")

    def live() -> None:
        make_jobs(url)
        sweep_once(url, tmp_path)
        let_server_be_old(url, tmp_path)

    copy_of(server, live)
    make_jobs(url)
    # Whatever the copy has written by then.
    with psycopg.connect(libpq(url), autocommit=True) as connection:
        connection.execute("CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    assert why(sweep_once(url, tmp_path)).endswith("it was set back to an earlier state since it was last reached")


def test_failover_costs_the_whole_window(server: PrivatePostgreSQL, tmp_path: Path) -> None:
    url = server.create_database("main")
    sweep_once(url, tmp_path)
    let_server_be_old(url, tmp_path)
    make_jobs(url)
    server.stop()
    (server.data / "standby.signal").touch()
    shutil.chown(server.data / "standby.signal", *_owner(server))
    server.start()
    with psycopg.connect(libpq(server.url), autocommit=True) as connection:
        assert connection.execute("SELECT pg_promote(true, 30)").fetchone() == (True,)
    # At once: the control file has the new timeline only after a checkpoint.
    said = why(sweep_once(url, tmp_path))
    assert said.endswith("it was restored, or another server took over, since it was last reached")


def test_database_of_the_same_name_that_was_made_again_costs_the_whole_window(
    server: PrivatePostgreSQL, tmp_path: Path
) -> None:
    url = server.create_database("main")
    sweep_once(url, tmp_path)
    let_server_be_old(url, tmp_path)
    server.drop_database("main")
    server.create_database("main")
    make_jobs(url)
    assert why(sweep_once(url, tmp_path)).endswith("another database was reached last")


def test_role_that_may_not_read_the_identity_waits_the_whole_window(server: PrivatePostgreSQL, tmp_path: Path) -> None:
    url = server.create_database("main")
    make_jobs(url)
    with closing(psycopg.connect(libpq(url), autocommit=True)) as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        with role(Protea(url, connection), "SELECT, UPDATE ON job, job_event") as guest:
            sweep_once(guest, tmp_path)
            assert why(sweep_once(guest, tmp_path)).endswith("that distinguishes it from a copy")


def test_state_file_that_cannot_be_read_costs_the_whole_window(server: PrivatePostgreSQL, tmp_path: Path) -> None:
    url = server.create_database("main")
    make_jobs(url)
    (tmp_path / FILE).mkdir()
    assert why(sweep_once(url, tmp_path)).endswith("the state file cannot be read")


def test_process_beside_the_daemon_knows_what_the_daemon_has_noted(server: PrivatePostgreSQL, tmp_path: Path) -> None:
    url = server.create_database("main")
    sweep_once(url, tmp_path)
    let_server_be_old(url, tmp_path)
    silent, live = make_jobs(url)
    server.restart()

    def verdicts(state: Path | None) -> dict[str, str]:
        environment = {} if state is None else {"REAPER_STATE_DIR": str(state)}
        settings = load({"database_url": url, "restart_grace": 60}, environment)
        source = Source("main", url, resolve("protea"), thresholds(), PATIENCE)
        found = report(source, new_downtime_tracker(settings), ReportQuery(None, None, 10)).jobs
        return {job.key[0]: job.verdict.value for job in found}

    assert verdicts(None) == {silent: "spared", live: "spared"}
    assert verdicts(tmp_path) == {silent: "stale", live: "spared"}
    # What is not there is not made.
    assert verdicts(tmp_path / "none") == verdicts(None)
    assert not (tmp_path / "none").exists()


def test_restart_of_mariadb_costs_the_whole_window(tmp_path: Path) -> None:
    with mariadb.temporary() as running:
        url = running.create_database("main", Path("reaper/profiles/protea.mariadb.sql"))
        sweep_once(url, tmp_path)
        running.stop()
        running.start()
        with running.connect("main") as connection, connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO job (id, operation, queue_name, status, created_at, started_at) VALUES (uuid(), 'embed',"
                " 'q', 'running', utc_timestamp() - INTERVAL 9 HOUR, utc_timestamp() - INTERVAL 9 HOUR)"
            )
        report = sweep_once(url, tmp_path)
        assert report.census is not None and report.census.spared == 1
        assert why(report).endswith("that distinguishes it from a copy")


def test_daemon_logs_until_when_it_ends_nothing_and_what_a_restart_cost(
    server: PrivatePostgreSQL, tmp_path: Path
) -> None:
    url = server.create_database("main")
    settings: dict[str, Any] = {"database_url": url, "restart_grace": 60, "state_dir": tmp_path / "state"}
    with Daemon(tmp_path, **settings) as daemon:
        daemon.comes_up().sweeps_on(2)
        [line] = [line for line in daemon.log if "no job for its silence" in line["event"]]
        assert line["event"] == f"Reaper ends no job for its silence before {line['nothing_before']}."
        assert line["level"] == "warning"
        assert line["away_from"] is None and "no earlier contact with it is remembered" in line["why"]
        assert daemon.stop()[0] == 0
    let_server_be_old(url, tmp_path / "state", "default")
    silent, _ = make_jobs(url)
    server.restart()
    with Daemon(tmp_path, **settings) as daemon, closing(psycopg.connect(libpq(url), autocommit=True)) as connection:
        line = daemon.says("Reaper does not count the database's downtime as silence.")
        assert line["away_from"] < line["silence_counts_from"]
        protea = Protea(url, connection)
        wait_until(lambda: protea.status(silent) == "failed", "the silent job's end")
        daemon.sweeps_on(2)
        assert [entry["event"] for entry in daemon.log if "silence" in entry["event"]] == [line["event"]]
