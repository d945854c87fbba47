"""Fixtures of `reaper check` on MariaDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.mariadb import MariaDB
from tests.support.mariadb_checks import MariaDBPlace, tables_of


@pytest.fixture
def place(mariadb: MariaDB) -> Iterator[MariaDBPlace]:
    yield from tables_of(mariadb, "protea")


@pytest.fixture
def adhese(mariadb: MariaDB) -> Iterator[MariaDBPlace]:
    yield from tables_of(mariadb, "adhese")
