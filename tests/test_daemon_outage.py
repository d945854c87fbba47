"""The daemon while its database is away, hangs, or is in trouble: it stays, says so once, and comes back by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from reaper.embedded import Embedded, temporary
from tests.daemons import Daemon, closed, lasts, until
from tests.support import Protea


@pytest.fixture(scope="module")
def fragile() -> Iterator[Embedded]:
    """A server that may be stopped, started and frozen; a test leaves it running."""
    with temporary() as server:
        yield server


@pytest.fixture
def url(fragile: Embedded, request: pytest.FixtureRequest) -> str:
    """A database of its own on the fragile server, which runs."""
    fragile.start()
    return fragile.create_database(request.node.name[:60])


@contextmanager
def hands(url: str) -> Iterator[Protea]:
    with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as connection:
        yield Protea(url, connection)


@contextmanager
def frozen(server: Embedded) -> Iterator[None]:
    """Nothing of the server moves; its port stays open."""
    postmaster = psutil.Process(server.pid)
    processes = (postmaster, *postmaster.children())
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def test_a_database_that_is_away_at_start_is_waited_for(fragile: Embedded, url: str, tmp_path: Path) -> None:
    with hands(url) as protea:
        job = protea.stale()
    fragile.stop()
    with Daemon(tmp_path, database_url=url, interval_seconds=8) as daemon:
        daemon.comes_up()
        # At 0, 1, 3, 7 and then every 8 s: later and later, and never later than a sweep is due.
        until(lambda: daemon.sweeps("failed") >= 3, "three tries")
        tried = daemon.sweeps("failed")
        lasts(lambda: daemon.sweeps("failed") <= tried + 1, "it backs off", 2.5)
        assert daemon.said("Reaper cycle failed") == [daemon.says("Reaper cycle failed", database_away=True)]
        assert daemon.value("reaper_database_up") == 0
        ready, problems = daemon.ready
        assert not ready
        assert problems["default"][0].startswith("database away: connection ")
        fragile.start()
        daemon.shows("reaper_database_up", 1)
        assert daemon.says("Reaper cycle recovered.")["failed_cycles"] == daemon.sweeps("failed")
        assert daemon.ready == (True, {"default": []})
        # Nobody knows how long it was away: with the restart trusted, only what this daemon saw is deaf.
        with hands(url) as protea:
            until(lambda: protea.status(job) == "failed", "the stale job's end")


def test_an_outage_is_told_once_and_kills_nobody_who_was_alive_before_it(
    fragile: Embedded, url: str, tmp_path: Path
) -> None:
    with hands(url) as protea:
        silent, alive = protea.stale(), protea.job()
        protea.event(alive)
        settings: dict[str, Any] = {"timeout_seconds": 5, "stall_seconds": 3, "restart_grace": 1, "breaker_share": 1}
        daemon = Daemon(tmp_path, database_url=url, **settings)
    with daemon:
        daemon.comes_up().shows("reaper_database_up", 1)
        with hands(url) as protea:
            protea.event(alive)
        fragile.stop(immediate=True)
        begun = time.monotonic()
        daemon.shows("reaper_database_up", 0)
        # The outage outlasts the stall window.
        until(lambda: daemon.sweeps("failed") >= 4, "four tries")
        assert daemon.value("reaper_leader") == 0
        outage = time.monotonic() - begun
        fragile.start()
        daemon.shows("reaper_database_up", 1)
        with hands(url) as protea:
            # It is ended when it stays silent for a whole window of time in which it could have been heard.
            until(lambda: protea.status(alive) == "failed", "the end of the one that fell silent")
            assert protea.status(silent) == "failed"
            [event] = protea.audits(alive)
            assert outage > 3
            assert event["fields"]["silence_seconds"] >= outage + 1 + 3
        assert len(daemon.said("Reaper cycle failed")) == len(daemon.said("Reaper cycle recovered.")) == 1
        assert daemon.stop()[0] == 0


def test_it_ends_in_time_while_the_server_is_frozen(fragile: Embedded, url: str, tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url=url) as daemon:
        daemon.comes_up().sweeps_on(1)
        with frozen(fragile):
            done = daemon.sweeps()
            lasts(lambda: daemon.sweeps() <= done + 1, "it hangs", 1.5)
            assert daemon.get("/live") == (200, "alive\n")
            status, seconds = daemon.stop()
        assert status == 0
        assert seconds < 5


def test_a_source_in_trouble_leaves_the_others_alone(protea: Protea, server: Embedded, tmp_path: Path) -> None:
    """One is away, one is locked, one has no tables; the fourth keeps its interval."""
    urls = {"well": protea.url}
    for name in ("away", "locked", "bare"):
        urls[name] = server.create_database(f"trouble_{name}", tables=name != "bare")
    config = "\n".join(f'[sources.{name}]\ndatabase_url = "{url}"' for name, url in urls.items())
    libpq = server.url.replace("+psycopg", "")
    with closed(libpq, "trouble_away"), hands(urls["locked"]) as locked, locked.connect() as holder:
        holder.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        with Daemon(tmp_path, config) as daemon:
            daemon.comes_up().sweeps_on(1, source="well")
            daemon.sweeps_on(3, source="well", seconds=6)
            job = protea.stale()
            until(lambda: protea.status(job) == "failed", "a sweep", 3)
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
            until(lambda: not daemon.ready[1]["locked"], "the locked one's sweep")
    for name in ("away", "locked", "bare"):
        server.drop_database(f"trouble_{name}")
