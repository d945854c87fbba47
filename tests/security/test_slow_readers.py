"""Readers of a source that hangs, however many and whatever they ask: no other reader of the page waits for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg

from tests.conftest import TEMPLATE
from tests.support.api import ApiDaemon
from tests.support.databases import TemporaryDatabases
from tests.support.protea import HOUR, Protea
from tests.support.waiting import wait_until
from tests.web.test_slow_source import HANG, HANGING, number, timed

SLOW = [
    "/jobs/one/7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d{:04}",
    "/api/jobs/one/7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d{:04}",
    "/?source=one&kind=k{}",
    "/api/jobs?source=one&kind=k{}",
    "/?kind=k{}",
    "/api/jobs?kind=k{}",
]
OTHERS = [
    "/?source=two",
    "/api/jobs?source=two",
    "/jobs/two/7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11",
    "/api/changes",
]


def test_readers_of_a_hanging_source_delay_no_reader_of_anything_else(
    databases: TemporaryDatabases, tmp_path: Path
) -> None:
    names = ("one", "two")
    with databases.temporary(TEMPLATE) as one, databases.temporary(TEMPLATE) as two:
        config = "".join(
            f'[sources.{name}]\ndatabase_url = "{url}"\n' for name, url in zip(names, (one, two), strict=True)
        )
        with (
            psycopg.connect(one.replace("+psycopg", ""), autocommit=True) as connection,
            ThreadPoolExecutor(10 * len(SLOW)) as clients,
            ApiDaemon(tmp_path, config) as daemon,  # ended first: no client waits for its answer
        ):
            wait_until(lambda: all(daemon.sweeps(source=name) for name in names), "both have been swept")
            Protea(one, connection).job(age=9 * HOUR)
            connection.execute(HANG)
            for reader in range(10):
                for path in SLOW:
                    clients.submit(timed, daemon.port, path.format(reader))
            wait_until(lambda: number(connection, HANGING) >= 1, "a read hangs", 10)
            answers = {other: timed(daemon.port, other) for other in OTHERS}
            assert all(status < 500 and seconds < 5 for status, seconds in answers.values()), answers
