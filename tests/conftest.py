"""One real PostgreSQL for the whole run; for each test a database of its own, most often copied from a template."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from reaper.embedded import Embedded, temporary
from reaper.garbage import collected_apart
from tests import mariadb as mariadb_server
from tests import scratch
from tests.brokers import Broker, RedisServer, Staff, redis_server
from tests.mariadb import MariaDB
from tests.support import Protea
from tests.worlds import World
from tests.worlds.places import called, database_on, everywhere, postgresql_database
from tests.worlds.postgresql import PostgreSQLDatabase
from tests.worlds.vuls import VulsWorld

TEMPLATE = "protea_template"
_numbers = itertools.count()

LONG = (
    "test_packaging", "test_behaviour", "test_celery_witness", "test_host", "test_grants", "test_page_browser",
    "test_install", "test_vuls", "test_daemon_outage", "test_systemd", "test_alerts", "test_manage", "test_demo",
    "test_interleavings", "test_log_interleavings", "test_many_sources", "test_fence", "test_bench", "test_http_flood",
    "test_api_schema", "test_slow_source", "test_daemon", "test_halt", "test_killed", "test_purge", "test_resume",
    "test_cli_jobs",
)  # fmt: skip
"""The files that take longest go first: a worker that begins one of them when all others are done is waited for."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="Try all of what is otherwise tried in part, for time.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: only with --thorough; something like it is tried always.")
    # Workers find it in their environment.
    if folder := scratch.make():
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def _collected_apart() -> Iterator[None]:
    """Tests sweep in several threads, as the daemon does, and drop many a source meanwhile."""
    with collected_apart():
        yield
        # Not left for later: what says in a finalizer that it was not closed disturbs whoever parses something then.
        gc.collect()


@pytest.fixture(scope="session")
def thorough(request: pytest.FixtureRequest) -> bool:
    """Whether there is time for everything."""
    return bool(request.config.getoption("thorough"))


@pytest.fixture(scope="session")
def server() -> Iterator[Embedded]:
    """A private server that is thrown away afterwards; tests must leave it running."""
    # Nothing here outlives the run, so nothing needs to reach a disk; prepared transactions hold rows in one test.
    fast = {"fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "5", "max_connections": "200"}
    with temporary(fast) as running:
        running.create_database(TEMPLATE)
        yield running


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A private MariaDB server; tests must leave it running."""
    with mariadb_server.temporary() as running:
        yield running


@pytest.fixture
def database(server: Embedded) -> Iterator[str]:
    """The URL of an empty database with the protea tables."""
    name = f"t{os.getpid()}_{next(_numbers)}"
    url = server.create_database(name, tables=False, template=TEMPLATE)
    yield url
    server.drop_database(name)


@pytest.fixture
def protea(database: str) -> Iterator[Protea]:
    """A protea database with hands to make jobs and to look at them."""
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        yield Protea(database, connection)


@pytest.fixture
def empty(server: Embedded) -> Iterator[PostgreSQLDatabase]:
    """A database without tables."""
    with postgresql_database(server) as database:
        yield database


@pytest.fixture(params=everywhere(), ids=called)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Every world, on every server that it can be on."""
    kind, where = request.param
    with database_on(request, where) as database, kind.create(database) as made:
        yield made


@pytest.fixture
def vuls(empty: PostgreSQLDatabase) -> Iterator[VulsWorld]:
    """A vuls database with hands to make runs and schedules, and to look at them."""
    with VulsWorld.create(empty) as world:
        yield world


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, which may do with it what it likes."""
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
def broker(redis: RedisServer) -> Broker:
    """What Celery's workers are on: Redis, unless a module tries others, too."""
    return redis


@pytest.fixture
def staff(broker: Broker, tmp_path: Path) -> Iterator[Staff]:
    """Whoever is hired on it goes with the test."""
    employed = Staff(broker, tmp_path)
    yield employed
    employed.close()
