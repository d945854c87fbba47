"""One real PostgreSQL for the whole run; for each test a database of its own, copied from a template."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import psycopg
import pytest

from reaper.embedded import Embedded, temporary
from tests import mariadb as mariadb_server
from tests.mariadb import MariaDB
from tests.support import Protea

TEMPLATE = "protea_template"
_numbers = itertools.count()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--thorough", action="store_true", help="Try all of what is otherwise tried in part, for time.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "thorough: only with --thorough; something like it is tried always.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]


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
