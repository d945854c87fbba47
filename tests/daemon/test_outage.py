"""The daemon while its database is away, hangs, or is in trouble: it stays, says so once, and comes back by itself."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from reaper.database.timeouts import Timeouts
from reaper.dev.postgres import PrivatePostgreSQL, temporary
from reaper.model import JobCounts
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from tests.support.daemons import Daemon, closed
from tests.support.freezing import freezing, frozen, frozen_server
from tests.support.protea import Protea, SweepRecorder, thresholds
from tests.support.waiting import stays_true, wait_until


@pytest.fixture(scope="module")
def fragile() -> Iterator[PrivatePostgreSQL]:
    """A server that may be stopped, started and frozen; a test leaves it running."""
    with temporary() as server:
        yield server


@pytest.fixture
def url(fragile: PrivatePostgreSQL, request: pytest.FixtureRequest) -> str:
    """A database of its own on the fragile server, which runs."""
    fragile.start()
    return fragile.create_database(request.node.name[:60])


@contextmanager
def connect_protea(url: str) -> Iterator[Protea]:
    with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as connection:
        yield Protea(url, connection)


def test_frozen_processes_move_again_although_one_of_them_has_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as ended, subprocess.Popen(["sleep", "60"]) as other:
        try:
            with frozen(psutil.Process(ended.pid), psutil.Process(other.pid)):
                wait_until(lambda: psutil.Process(other.pid).status() == psutil.STATUS_STOPPED, "it is stopped")
                ended.kill()
                ended.wait()
            assert psutil.Process(other.pid).status() != psutil.STATUS_STOPPED
        finally:
            ended.kill()
            other.kill()


class AfterSurvey(SweepRecorder):
    """Does something between the survey and what follows it."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self.then = then

    def surveyed(self, source: str, census: JobCounts) -> None:
        self.then()


def test_daemon_waits_for_a_database_that_is_away_at_start(
    fragile: PrivatePostgreSQL, url: str, tmp_path: Path
) -> None:
    with connect_protea(url) as protea:
        job = protea.stale()
    fragile.stop()
    with Daemon(tmp_path, database_url=url, interval_seconds=8) as daemon:
        daemon.comes_up()
        # At 0, 1, 3, 7 and then every 8 s: later and later, and never later than a sweep is due.
        wait_until(lambda: daemon.sweeps("failed") >= 3, "three tries")
        tried = daemon.sweeps("failed")
        stays_true(lambda: daemon.sweeps("failed") <= tried + 1, "it backs off", 2.5)
        assert daemon.said("Reaper cycle failed") == [daemon.says("Reaper cycle failed", database_away=True)]
        assert daemon.value("reaper_database_up") == 0
        ready, problems = daemon.ready
        assert not ready
        assert problems["default"][0].startswith("database away: connection ")
        fragile.start()
        daemon.shows("reaper_database_up", 1)
        assert daemon.says("Reaper cycle recovered.")["failed_cycles"] == daemon.sweeps("failed")
        assert daemon.ready == (True, {"default": []})
        # How long it was away is unknown: with the restart trusted, only the outage that this daemon saw is downtime.
        with connect_protea(url) as protea:
            wait_until(lambda: protea.status(job) == "failed", "the stale job's end")


def test_outage_is_logged_once_and_ends_no_job_that_was_alive_before_it(
    fragile: PrivatePostgreSQL, url: str, tmp_path: Path
) -> None:
    with connect_protea(url) as protea:
        silent = protea.stale()
        settings: dict[str, Any] = {"timeout_seconds": 5, "stall_seconds": 3, "restart_grace": 1, "breaker_share": 1}
        daemon = Daemon(tmp_path, database_url=url, **settings)
    with daemon:
        daemon.comes_up().shows("reaper_database_up", 1)
        with (
            connect_protea(url) as protea,
            daemon.paused(),
        ):  # however slow the machine is: it was alive just before the outage
            alive = protea.job()
            protea.event(alive)
            fragile.stop(immediate=True)
        begun = time.monotonic()
        daemon.shows("reaper_database_up", 0)
        # The outage outlasts the stall window.
        wait_until(lambda: daemon.sweeps("failed") >= 4 and time.monotonic() - begun > 3, "four tries in 3 s")
        assert daemon.value("reaper_leader") == 0
        outage = time.monotonic() - begun
        fragile.start()
        daemon.shows("reaper_database_up", 1)
        with connect_protea(url) as protea:
            # It is ended when it stays silent for a whole window of time in which it could have been heard.
            wait_until(lambda: protea.status(alive) == "failed", "the end of the job that fell silent")
            assert protea.status(silent) == "failed"
            [event] = protea.audits(alive)
            assert outage > 3
            assert event["fields"]["silence_seconds"] >= outage + 1 + 3
        assert len(daemon.said("Reaper cycle failed")) == len(daemon.said("Reaper cycle recovered.")) == 1
        assert daemon.stop()[0] == 0


def test_daemon_stops_in_time_while_the_server_is_frozen(fragile: PrivatePostgreSQL, url: str, tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url=url) as daemon:
        daemon.comes_up().sweeps_on(1)
        with frozen_server(fragile):
            done = daemon.sweeps()
            stays_true(lambda: daemon.sweeps() <= done + 1, "it hangs", 1.5)
            assert daemon.get("/live") == (200, "alive\n")
            status, seconds = daemon.stop()
        assert status == 0
        assert seconds < 5


def test_connection_to_a_server_that_freezes_during_a_sweep_is_closed(
    fragile: PrivatePostgreSQL, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reaper.database.postgresql.MARGIN_SECONDS", 0.5)
    source = Source("main", url, resolve("protea"), thresholds(), Timeouts(statement=1, connect=1))
    with connect_protea(url) as protea:
        job = protea.stale()
        with ExitStack() as ice:
            begun = time.monotonic()
            report = protea.sweep(source, recorder=AfterSurvey(lambda: ice.enter_context(frozen_server(fragile))))
            assert time.monotonic() - begun < 10
            assert report.database_away
            assert report.error == "the database does not answer: hung up after 2 s"
            assert report.reaped == 0
            assert protea.sweep(source).database_away
        wait_until(lambda: protea.sweep(source).reaped == 1, "the silent job is reaped")
        assert len(protea.audits(job)) == 1


def test_job_with_a_sign_of_life_just_before_a_freeze_during_a_sweep_is_not_ended_after_it(
    fragile: PrivatePostgreSQL, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reaper.source.database_access._STALL_SECONDS", 0.5)
    downtime = DowntimeTracker(0)
    with connect_protea(url) as protea, freezing(fragile, 4) as freeze:
        stale, alive = protea.stale(), protea.job()
        source = protea.source(thresholds(timeout=3, stall=3))
        protea.event(alive)

        def then() -> None:
            protea.event(alive)
            freeze()

        begun = time.monotonic()
        assert protea.sweep(source, downtime=downtime, recorder=AfterSurvey(then)).reaped == 1
        assert time.monotonic() - begun > 4
        assert protea.status(stale) == "failed"
        assert protea.sweep(source, downtime=downtime).reaped == 0
        # It is ended when it stays silent.
        wait_until(lambda: protea.sweep(source, downtime=downtime).reaped == 1, "the silent job is reaped")
        [event] = protea.audits(alive)
        assert event["fields"]["silence_seconds"] > 4 + 3 - 1


def test_job_with_a_sign_of_life_just_before_a_freeze_is_not_ended_by_a_sweep_that_waited(
    fragile: PrivatePostgreSQL, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reaper.source.database_access._STALL_SECONDS", 0.5)
    timeouts = Timeouts(statement=30, connect=30)
    source = Source("main", url, resolve("protea"), thresholds(timeout=3, stall=3), timeouts)
    with connect_protea(url) as protea, freezing(fragile, 4) as freeze:
        alive = protea.job()
        protea.event(alive)
        freeze()
        begun = time.monotonic()
        report = protea.sweep(source)
        assert time.monotonic() - begun > 3.5
        assert not report.database_away
        assert protea.status(alive) == "running"


@pytest.mark.parametrize("read_only", [False, True])
def test_freeze_during_a_commit_is_deaf_time(
    fragile: PrivatePostgreSQL, url: str, read_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reaper.source.database_access._STALL_SECONDS", 0.5)
    downtime = DowntimeTracker(0)
    with ExitStack() as opened:
        source = opened.enter_context(connect_protea(url)).source()
        connection, freeze = opened.enter_context(source.connect()), opened.enter_context(freezing(fragile, 1.5))
        source.begin_evaluation(connection, downtime)
        assert (downtime.now - downtime.cutoff(60).at).total_seconds() == 60
        with source.transaction(connection, read_only=read_only):
            freeze()
        source.begin_evaluation(connection, downtime)
        assert 61 < (downtime.now - downtime.cutoff(60).at).total_seconds() < 70


def test_source_in_trouble_leaves_the_others_alone(protea: Protea, server: PrivatePostgreSQL, tmp_path: Path) -> None:
    """One is away, one is locked, one has no tables; the fourth keeps its interval."""
    urls = {"well": protea.url}
    for name in ("away", "locked", "bare"):
        urls[name] = server.create_database(f"trouble_{name}", tables=name != "bare")
    config = "\n".join(f'[sources.{name}]\ndatabase_url = "{url}"' for name, url in urls.items())
    libpq = server.url.replace("+psycopg", "")
    with closed(libpq, "trouble_away"), connect_protea(urls["locked"]) as locked, locked.connect() as holder:
        holder.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        with Daemon(tmp_path, config) as daemon:
            daemon.comes_up().sweeps_on(1, source="well")
            daemon.sweeps_on(3, source="well", seconds=6)
            job = protea.stale()
            wait_until(lambda: protea.status(job) == "failed", "a sweep", 3)
            locked_out = daemon.says("Reaper cycle failed", source="locked")
            assert "lock timeout" in locked_out["error"]
            up = {name: daemon.value("reaper_database_up", name) for name in urls}
            assert up == {"well": 1, "away": 0, "locked": 1, "bare": 1}
            ready, problems = daemon.ready
            assert not ready
            assert problems["well"] == []
            assert problems["away"][0].startswith("database away: ")
            assert 'relation "job" does not exist' in problems["bare"][0]
            assert problems["locked"][0].startswith("last sweep failed: ")
            away = daemon.says("Reaper cycle failed", source="away")
            bare = daemon.says("Reaper cycle failed", source="bare")
            assert (away["database_away"], bare["database_away"]) == (True, False)
            holder.rollback()
            wait_until(lambda: not daemon.ready[1]["locked"], "the locked one's sweep")
    for name in ("away", "locked", "bare"):
        server.drop_database(f"trouble_{name}")
