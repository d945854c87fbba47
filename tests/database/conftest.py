"""The MariaDB database of a test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.database.mariadb_protea import TABLES, MariaDBProtea
from tests.support.mariadb import MariaDB

_numbers = itertools.count()


@pytest.fixture
def db(mariadb: MariaDB) -> Iterator[MariaDBProtea]:
    name = f"protea_{next(_numbers)}"
    mariadb.create_database(name, TABLES)
    made = MariaDBProtea(mariadb, name)
    yield made
    made.connection.close()
    mariadb.drop_database(name)
