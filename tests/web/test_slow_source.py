"""A source that hangs, and many who look: nobody who wants something else has to wait, and the database is spared."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from reaper.dev.postgres import Embedded
from reaper.web.limiter import Limiter, TooManyReaders
from reaper.web.ui import page_cache
from reaper.web.ui.page_cache import PageCache, RenderedPage
from tests.conftest import TEMPLATE
from tests.support.api import Client, Steered, steered
from tests.support.protea import HOUR, Protea
from tests.support.waiting import wait_until

# Whoever reads the table of jobs gets no answer for long.
HANG = """
    ALTER TABLE job RENAME TO job_that_was;
    CREATE VIEW job AS SELECT job_that_was.* FROM (SELECT pg_sleep(60)) AS asleep CROSS JOIN job_that_was;
"""
HANGING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'reaper/%'
"""
CLIENTS = 40
JOB = "7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11"


def number(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


def timed(port: int, path: str) -> tuple[int, float]:
    begun = time.monotonic()
    status = Client(port, None).get(path).status
    return status, time.monotonic() - begun


@pytest.fixture
def both(server: Embedded, tmp_path: Path) -> Iterator[tuple[Steered, psycopg.Connection]]:
    """A daemon with two sources, and a connection to the one that hangs."""
    names = ("one", "two")
    urls = {name: server.create_database(f"slow_{name}", tables=False, template=TEMPLATE) for name in names}
    config = "".join(f'[sources.{name}]\ndatabase_url = "{url}"\n' for name, url in urls.items())
    with (
        psycopg.connect(urls["one"].replace("+psycopg", ""), autocommit=True) as connection,
        Steered(tmp_path, config) as daemon,
    ):
        wait_until(lambda: all(daemon.sweeps(source=name) for name in names), "both have been swept")
        Protea(urls["one"], connection).job(age=9 * HOUR)
        connection.execute(HANG)
        yield daemon, connection
    for name in names:
        server.drop_database(f"slow_{name}")


@pytest.mark.parametrize("path", ["/api/jobs?source=one", "/?source=one", "/api/jobs/one/{}"])
def test_a_source_that_hangs_is_in_nobody_elses_way(both: tuple[Steered, psycopg.Connection], path: str) -> None:
    daemon, connection = both
    asked = path.format(JOB)
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(timed, daemon.port, asked) for _ in range(4)]
        wait_until(lambda: number(connection, HANGING) >= 1, "a read hangs", 10)
        for other in ("/api/supervisor/state", "/static/page.css", "/?source=two", "/api/jobs?source=two"):
            status, seconds = timed(daemon.port, other)
            assert (status, seconds < 2) == (200, True), (other, seconds)
        answers = [each.result() for each in waiting]
    # One of them is told of the source's trouble in time, on a page that there is all the same; others may not wait.
    assert {status for status, _ in answers} <= ({200, 503} if path.startswith("/?") else {502, 503}), answers
    assert max(seconds for _, seconds in answers) < 16, answers
    if "/jobs/" not in path:
        status, seconds = timed(daemon.port, asked)
        assert seconds < 1, "what has just been refused is not asked for again"


def test_however_many_ask_for_jobs_two_connections_are_for_them(both: tuple[Steered, psycopg.Connection]) -> None:
    daemon, connection = both
    # The lease, and the last sweep's, which is kept for the next one.
    wait_until(lambda: number(connection, SESSIONS) == 2, "two sessions")
    paths = [daemon.api.at(JOB, "one"), "/api/jobs?source=one"]
    with ThreadPoolExecutor(CLIENTS) as clients:
        asked = [clients.submit(daemon.api.ask, "GET", paths[n % 2]) for n in range(CLIENTS)]
        most = 0
        while not all(each.done() for each in asked):
            most = max(most, number(connection, SESSIONS))
    assert most == 2 + 2
    assert {each.result().status for each in asked} == {502, 503}


def test_all_of_many_are_answered_by_a_source_that_answers(server: Embedded, tmp_path: Path) -> None:
    with steered(server, tmp_path, "slow_many") as (daemon, protea), ThreadPoolExecutor(CLIENTS) as clients:
        job = protea.stale()
        asked = [clients.submit(daemon.api.ask, "GET", daemon.api.at(job)) for _ in range(CLIENTS)]
        assert [each.result().status for each in asked] == [200] * CLIENTS


# --- room ----------------------------------------------------------------------------------------------------


def test_who_waits_comes_in_when_somebody_leaves() -> None:
    made = Limiter(1, 1, 10)
    assert made.enter()
    threading.Timer(0.1, made.leave).start()
    with made.place():
        assert not made.enter(wait=False)
    assert made.enter(wait=False)


def test_nobody_waits_for_longer_than_patience_lasts_nor_at_all_for_one_that_has_been_in_for_so_long() -> None:
    made = Limiter(1, 1, 0.3)
    made.enter()
    begun = time.monotonic()
    assert not made.enter()
    first = time.monotonic()
    assert 0.2 < first - begun < 2
    with pytest.raises(TooManyReaders, match="too many are looking just now"), made.place():
        pass
    assert time.monotonic() - first < 0.2


def test_of_very_many_not_all_may_wait() -> None:
    made = Limiter(1, 1, 10)
    made.enter()
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(made.enter)
        wait_until(lambda: made._room_to_wait == 0, "no room to wait")
        assert not made.enter()
        made.leave()
        assert waiting.result()


def test_instead_of_a_page_that_does_not_come_the_last_one_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_FRESH_SECONDS", 0.0), ("_STALE_SECONDS", 0.0), ("_PATIENCE_SECONDS", 0.2)):
        monkeypatch.setattr(page_cache, name, seconds)
    pages, held, begun = PageCache(), threading.Event(), threading.Event()

    def slow() -> RenderedPage:
        begun.set()
        held.wait(10)
        return RenderedPage(200, b"new")

    assert pages.at("page", lambda: RenderedPage(200, b"old")).body == b"old"
    with ThreadPoolExecutor(2) as others:
        makers = [others.submit(pages.at, "page", slow)]
        assert begun.wait(10)
        assert pages.at("page", slow).body == b"old"
        monkeypatch.setattr(page_cache, "_OLDEST_SECONDS", 0.0)
        with pytest.raises(TooManyReaders):
            pages.at("page", slow)
        held.set()
        assert makers[0].result().body == b"new"
