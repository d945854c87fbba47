"""Fixtures of `reaper check` on MariaDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.mariadb import MariaDB
from tests.support.mariadb_checks import CheckedMariaDB, tables_of


@pytest.fixture
def checked(mariadb: MariaDB) -> Iterator[CheckedMariaDB]:
    yield from tables_of(mariadb, "protea")


@pytest.fixture
def adhese(mariadb: MariaDB) -> Iterator[CheckedMariaDB]:
    yield from tables_of(mariadb, "adhese")
