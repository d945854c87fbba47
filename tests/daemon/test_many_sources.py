"""Several sources in one daemon: each is alone in its trouble, however many are in trouble at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import psycopg
import pytest

from reaper.dev.postgres import PrivatePostgreSQL, temporary
from tests.daemon.test_outage import connect_protea
from tests.support.daemons import Daemon
from tests.support.freezing import frozen_server
from tests.support.protea import Protea
from tests.support.server_proxy import ServerProxy
from tests.support.waiting import wait_until

INTERVAL = 1.0
"""Seconds, as `Daemon.configure` writes it."""

WELL = ("well", "hale")
TROUBLED = ("away", "frozen", "locked", "crawling")
"""Those that cannot be swept. One more, "slow", can be, but takes longer than its interval."""


@dataclass
class TroubledSources:
    """Seven sources with a database each. Every trouble has an end of its own, to be called once."""

    urls: dict[str, str]
    proteas: dict[str, Protea]
    locked: psycopg.Connection[Any]
    ends: dict[str, Callable[[], object]] = field(default_factory=dict)
    freeze: Callable[[], object] = lambda: None

    @property
    def config(self) -> str:
        sources = (f'[sources.{name}]\ndatabase_url = "{url}"' for name, url in self.urls.items())
        # Longer than a sweep waits for a lock, which is 5 s.
        return "\n".join(['log_level = "debug"\nstatement_timeout_seconds = 6\nconnect_timeout_seconds = 2', *sources])

    def hanging(self) -> bool:
        """Whether a sweep waits for the lock now, and another one for the survey that takes for ever."""
        waits = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'job'::regclass"
        sleeps = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        crawling = self.proteas["crawling"].connection
        return bool(self.locked.execute(waits).fetchone() and crawling.execute(sleeps).fetchone())


@pytest.fixture(scope="module")
def others() -> Iterator[tuple[PrivatePostgreSQL, PrivatePostgreSQL]]:
    """Two more servers: one to stop, one to freeze."""
    with temporary() as one, temporary() as two:
        yield one, two


@pytest.fixture
def troubles(
    server: PrivatePostgreSQL, others: tuple[PrivatePostgreSQL, PrivatePostgreSQL]
) -> Iterator[TroubledSources]:
    """All of them in trouble, but "frozen", which wants to be met first; `freeze` begins that."""
    one, two = others
    on = {"away": one, "frozen": two}
    one.start()
    with ExitStack() as stack:
        urls = {}
        for name in (*WELL, *TROUBLED, "slow"):
            urls[name] = on.get(name, server).create_database(f"many_{name}")
            stack.callback(on.get(name, server).drop_database, f"many_{name}")
        stack.callback(one.start)
        proteas = {name: stack.enter_context(connect_protea(url)) for name, url in urls.items() if name != "away"}
        mended = threading.Event()
        # Each piece of an answer comes late, until the line is mended.
        slow = ServerProxy(
            server.url.partition("host=")[2].partition("&")[0] + "/.s.PGSQL." + _port(server),
            lambda _: mended.wait(0.15),
        )
        stack.callback(slow.close)
        urls["slow"] = f"postgresql://postgres@127.0.0.1:{slow.port}/many_slow"
        locked = stack.enter_context(proteas["locked"].connect())
        ice = stack.enter_context(ExitStack())
        made = TroubledSources(urls, proteas, locked)
        made.freeze = lambda: ice.enter_context(frozen_server(two))
        made.ends = {
            "away": one.start,
            "frozen": ice.close,
            "locked": locked.rollback,
            "crawling": _crawl(proteas["crawling"]),
            "slow": mended.set,
        }
        locked.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        proteas["slow"].stale()
        one.stop()
        yield made


def _port(server: PrivatePostgreSQL) -> str:
    return server.url.rpartition("port=")[2]


def _crawl(protea: Protea) -> Callable[[], object]:
    """Make each survey take half a minute: the job table is a view whose rows come slowly. Returns the end of it."""
    protea.stale()
    protea.connection.execute(
        "ALTER TABLE job RENAME TO job_rows; CREATE TABLE pace AS SELECT 30 AS seconds;"
        "CREATE FUNCTION slowly() RETURNS boolean LANGUAGE plpgsql SET search_path = public AS"
        " $$ BEGIN PERFORM pg_sleep(seconds) FROM pace; RETURN true; END $$;"
        "CREATE VIEW job AS SELECT * FROM job_rows WHERE slowly()"
    )
    return lambda: protea.connection.execute("UPDATE pace SET seconds = 0")


def gaps(daemon: Daemon, source: str) -> list[float]:
    """Seconds from each survey of a source to the next."""
    surveys = [
        datetime.fromisoformat(line["timestamp"]) for line in daemon.said("Reaper surveyed a source.", source=source)
    ]
    return [(later - earlier).total_seconds() for earlier, later in pairwise(surveys)]


def seconds_to_end(protea: Protea) -> float:
    """How long a stale job waits for its end from the moment that it is there."""
    begun = time.monotonic()
    job = protea.stale()
    wait_until(lambda: protea.status(job) == "failed", f"the end of a stale job in {protea.url}")
    return time.monotonic() - begun


def reaps(daemon: Daemon, source: str) -> list[float]:
    """The seconds that each sweep took that ended something."""
    return [line["seconds"] for line in daemon.said("Reaped 1 stale job(s).", source=source)]


@pytest.mark.thorough
def test_well_sources_keep_their_interval_and_troubled_ones_recover_alone(
    troubles: TroubledSources, tmp_path: Path
) -> None:
    with Daemon(tmp_path, troubles.config) as daemon:
        daemon.comes_up()
        for name in (*WELL, "frozen"):
            daemon.sweeps_on(1, source=name)
        troubles.freeze()
        waits: list[float] = []
        while len(waits) < 12 or any(not daemon.said("Reaper cycle failed", source=name) for name in TROUBLED):
            waits += [seconds_to_end(troubles.proteas[name]) for name in WELL]
        # A busy machine may lose a second once. Waiting for the troubled sources would lose several, and often.
        assert median(waits) < INTERVAL + 0.8
        assert max(waits) < INTERVAL + 2

        # Each trouble is reported once, under the name of its source.
        failures = {name: daemon.says("Reaper cycle failed", source=name) for name in TROUBLED}
        assert {name: line["database_away"] for name, line in failures.items()} == {
            "away": True,
            "frozen": True,
            "locked": False,
            "crawling": False,
        }
        assert "lock timeout" in failures["locked"]["error"]
        assert "statement timeout" in failures["crawling"]["error"]
        assert not any(daemon.said("Reaper cycle failed", source=name) for name in (*WELL, "slow"))
        up = {name: daemon.value("reaper_database_up", name) for name in troubles.urls}
        assert up == {name: name not in ("away", "frozen") for name in troubles.urls}
        ready, problems = daemon.ready
        assert not ready
        # The slow one may have taken as long as three intervals.
        assert {name for name, said in problems.items() if said} - {"slow"} == set(TROUBLED)
        # The slow one is swept, only not as often.
        wait_until(lambda: reaps(daemon, "slow"), "a sweep of the slow one")
        assert reaps(daemon, "slow")[0] > INTERVAL

        for position, name in enumerate(TROUBLED):
            troubles.ends[name]()
            daemon.says("Reaper cycle recovered.", source=name)
            assert not any(daemon.said("Reaper cycle recovered.", source=other) for other in TROUBLED[position + 1 :])
            with connect_protea(troubles.urls[name]) as protea:
                seconds_to_end(protea)
        troubles.ends["slow"]()
        # The sweep in hand may still have been a slow one.
        wait_until(
            lambda: seconds_to_end(troubles.proteas["slow"]) and reaps(daemon, "slow")[-1] < INTERVAL, "fast sweeps"
        )

        wait_until(lambda: daemon.ready == (True, {name: [] for name in troubles.urls}), "all is well")
        for event in ("Reaper cycle failed", "Reaper cycle recovered."):
            assert sorted(line["source"] for line in daemon.said(event)) == sorted(TROUBLED)
        for name in WELL:
            apart = gaps(daemon, name)
            print(f"{name}: {len(apart) + 1} sweeps, {min(apart):.2f} to {max(apart):.2f} s apart, {mean(apart):.3f}")
            assert len(apart) > 12
            assert mean(apart) == pytest.approx(INTERVAL, rel=0.1)
            # The machine may stand still for a moment; a sweep that is left out each time shows in the mean.
            assert max(apart) < 3 * INTERVAL, "sweeps were left out"
        assert daemon.stop()[0] == 0


def test_well_source_does_not_wait_for_many_that_hang(protea: Protea, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as deaf:
        # The kernel accepts their connections, and no process ever answers.
        port = deaf.getsockname()[1]
        sources = [f'[sources.hangs{n}]\ndatabase_url = "postgresql://127.0.0.1:{port}/d{n}"' for n in range(70)]
        config = "\n".join(["connect_timeout_seconds = 60", *sources, f'[sources.well]\ndatabase_url = "{protea.url}"'])
        with Daemon(tmp_path, config) as daemon:
            daemon.comes_up().sweeps_on(3, source="well")
            assert seconds_to_end(protea) < INTERVAL + 0.8
            assert daemon.metrics.total("reaper_sweeps_total", outcome="failed") == 0
            status, seconds = daemon.stop()
            assert status == 0
            assert seconds < 5


@pytest.mark.thorough
def test_daemon_stops_in_time_while_every_trouble_lasts(troubles: TroubledSources, tmp_path: Path) -> None:
    with Daemon(tmp_path, troubles.config) as daemon:
        daemon.comes_up()
        for name in (*WELL, "frozen", "slow"):
            daemon.sweeps_on(1, source=name)
        troubles.freeze()
        daemon.sweeps_on(2, source=WELL[0])
        wait_until(troubles.hanging, "sweeps that hang in the database")
        status, seconds = daemon.stop()
        assert status == 0
        assert seconds < 5
        assert daemon.said("Reaper stops.")
        assert not any(daemon.said("Reaper cycle recovered.", source=name) for name in TROUBLED)
