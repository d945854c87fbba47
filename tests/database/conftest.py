"""The MariaDB database of a test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.database.mariadb_scene import TABLES, Scene
from tests.support.mariadb import MariaDB

_numbers = itertools.count()


@pytest.fixture
def scene(mariadb: MariaDB) -> Iterator[Scene]:
    name = f"protea_{next(_numbers)}"
    mariadb.create_database(name, TABLES)
    made = Scene(mariadb, name)
    yield made
    made.connection.close()
    mariadb.drop_database(name)
