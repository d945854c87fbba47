"""A source that hangs, and many readers: other requests do not wait for it, and its database is spared."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from reaper.dev.postgres import PrivatePostgreSQL
from reaper.web.read_cache import Limiter, TooManyReaders
from tests.conftest import TEMPLATE
from tests.support.api import ApiDaemon, Client, api_daemon
from tests.support.protea import HOUR, Protea
from tests.support.waiting import wait_until

# A query of the table of jobs gets no answer for a minute.
HANG = """
    ALTER TABLE job RENAME TO job_that_was;
    CREATE VIEW job AS SELECT job_that_was.* FROM (SELECT pg_sleep(60)) AS asleep CROSS JOIN job_that_was;
"""
HANGING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'reaper/%'
"""
CLIENTS = 40
STATEMENT_SECONDS = 7
"""The limit of a statement here: longer than the 6 s for which a reader waits behind another one."""
UNDELAYED_SECONDS = 4
"""A request that waits behind the hanging source takes 6 s or more; others take less than this on a busy machine."""
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
def both(server: PrivatePostgreSQL, tmp_path: Path) -> Iterator[tuple[ApiDaemon, psycopg.Connection]]:
    """A daemon with two sources, and a connection to the source that hangs."""
    names = ("one", "two")
    urls = {name: server.create_database(f"slow_{name}", tables=False, template=TEMPLATE) for name in names}
    config = "".join(f'[sources.{name}]\ndatabase_url = "{url}"\n' for name, url in urls.items())
    with (
        psycopg.connect(urls["one"].replace("+psycopg", ""), autocommit=True) as connection,
        ApiDaemon(tmp_path, f"statement_timeout_seconds = {STATEMENT_SECONDS}\n{config}") as daemon,
    ):
        wait_until(lambda: all(daemon.sweeps(source=name) for name in names), "both have been swept")
        Protea(urls["one"], connection).job(age=9 * HOUR)
        connection.execute(HANG)
        yield daemon, connection
    for name in names:
        server.drop_database(f"slow_{name}")


@pytest.mark.parametrize("path", ["/api/jobs?source=one", "/?source=one", "/api/jobs/one/{}"])
def test_hanging_source_delays_no_request_for_anything_else(
    both: tuple[ApiDaemon, psycopg.Connection], path: str
) -> None:
    daemon, connection = both
    asked = path.format(JOB)
    with ThreadPoolExecutor(4) as clients:
        waiting = [clients.submit(timed, daemon.port, asked) for _ in range(4)]
        wait_until(lambda: number(connection, HANGING) >= 1, "a read hangs", 10)
        for other in ("/api/supervisor/state", "/static/page.css", "/?source=two", "/api/jobs?source=two"):
            status, seconds = timed(daemon.port, other)
            assert (status, seconds < UNDELAYED_SECONDS) == (200, True), (other, seconds)
        answers = [each.result() for each in waiting]
    # One of them gets the error of the source in time, the page is shown all the same; the others do not wait for ever.
    assert {status for status, _ in answers} <= ({200, 503} if path.startswith("/?") else {502, 503}), answers
    assert STATEMENT_SECONDS <= max(seconds for _, seconds in answers) < STATEMENT_SECONDS + 6, answers
    if "/jobs/" not in path:
        status, seconds = timed(daemon.port, asked)
        assert seconds < 1, "what has just been refused is not asked for again"


def test_readers_of_jobs_use_two_connections_however_many_they_are(both: tuple[ApiDaemon, psycopg.Connection]) -> None:
    daemon, connection = both
    # The lease, and the last sweep's, which is kept for the next one.
    wait_until(lambda: number(connection, SESSIONS) == 2, "two sessions")
    paths = [daemon.api.at(JOB, "one"), "/api/jobs?source=one"]
    with ThreadPoolExecutor(CLIENTS) as clients:
        asked = [clients.submit(daemon.api.ask, "GET", paths[n % 2]) for n in range(CLIENTS)]
        most = 0
        while not all(each.done() for each in asked):
            most = max(most, number(connection, SESSIONS))
            time.sleep(0.02)
    assert most == 2 + 2
    assert {each.result().status for each in asked} == {502, 503}


def test_many_readers_are_all_answered_by_a_source_that_answers(server: PrivatePostgreSQL, tmp_path: Path) -> None:
    with api_daemon(server, tmp_path, "slow_many") as (daemon, protea), ThreadPoolExecutor(CLIENTS) as clients:
        job = protea.stale()
        asked = [clients.submit(daemon.api.ask, "GET", daemon.api.at(job)) for _ in range(CLIENTS)]
        assert [each.result().status for each in asked] == [200] * CLIENTS


# --- the limiter ---------------------------------------------------------------------------------------------


def test_limiter_lets_a_waiting_thread_in_when_a_slot_is_freed() -> None:
    limiter, entered = Limiter(1, 1, 10), threading.Event()
    with ExitStack() as first, ThreadPoolExecutor(1) as other:
        first.enter_context(limiter.slot())

        def enter() -> float:
            with limiter.slot():
                entered.set()
                return time.monotonic()

        waiting = other.submit(enter)
        assert not entered.wait(0.1)
        freed = time.monotonic()
        first.close()
        assert waiting.result() >= freed


def test_limiter_refuses_after_its_patience_and_at_once_when_no_slot_was_freed_for_so_long() -> None:
    limiter = Limiter(1, 1, 0.3)
    with limiter.slot():
        began = time.monotonic()
        with pytest.raises(TooManyReaders, match="too many are looking just now"), limiter.slot():
            pass
        first = time.monotonic()
        assert 0.2 < first - began < 2
        with pytest.raises(TooManyReaders), limiter.slot():
            pass
        assert time.monotonic() - first < 0.2


def test_limiter_lets_only_so_many_threads_wait() -> None:
    limiter, freed = Limiter(1, 1, 10), threading.Event()

    def enter() -> bool:
        try:
            with limiter.slot():
                return freed.is_set()
        except TooManyReaders:
            return False

    with ThreadPoolExecutor(2) as others:
        with limiter.slot():
            waiting = [others.submit(enter) for _ in range(2)]
            wait_until(lambda: any(each.done() for each in waiting), "the command waits for a lock")
            freed.set()
        assert sorted(each.result() for each in waiting) == [False, True]
