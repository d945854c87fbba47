"""Places: each world on each database server that it supports, in a new database."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
from sqlalchemy import make_url

from tests.support.databases import TemporaryDatabases
from tests.support.mariadb import MariaDB
from tests.support.worlds import WORLDS, Database, World
from tests.support.worlds.mariadb import MariaDBDatabase
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.world import new_role

W = TypeVar("W", bound=World)
Place = tuple[type[World], str]
"""A world, and the name of a server that it supports."""
PLACES: list[Place] = [(world, server) for world in WORLDS for server in world.servers]
_QUICK_ON_MARIADB = {("protea", "fail"), ("adhese", "fail"), ("adhese", "delete")}
_QUICK_LONG_ON_MARIADB = _QUICK_ON_MARIADB - {("adhese", "delete")}
_numbers = itertools.count()
_ROLE, _DATABASE = "least_of_any_test", "database_of_any_test"
_granted: dict[Place, list[str]] = {}
"""The statements that give a role its privileges in each place, with these two names."""


def place_id(place: Place) -> str:
    """The parameter id of a place in test names."""
    world, server = place
    return f"{world.tables_of or world.profile}-{world.action}-{server}"


def places_where(
    holds: Callable[[type[World]], bool] = lambda _: True,
    *,
    long: bool = False,
    public: bool = False,
    repeats: Callable[[type[World]], bool] = lambda _: False,
) -> list[object]:
    """Test parameters: the places of the worlds for which `holds` is true.

    Without --thorough only three worlds run on MariaDB; in `long` tests, which try every moment of a sweep, only two,
    and none on tables as they are today. Nor do those run for which `repeats` is true: another world of the same
    tables tries the same. Public job systems run only where `public` is true: their words are tried in other worlds.
    """
    return [
        pytest.param(
            place,
            marks=[]
            if _is_quick(place, long=long) and not repeats(place[0]) and (public or not place[0].public)
            else [pytest.mark.thorough],
        )
        for place in PLACES
        if holds(place[0])
    ]


def _is_quick(place: Place, *, long: bool) -> bool:
    world, server = place
    if long and world.tables_of:
        return False
    return server != "mariadb" or (world.profile, world.action) in (
        _QUICK_LONG_ON_MARIADB if long else _QUICK_ON_MARIADB
    )


def repeats_a_shape(world: type[World]) -> bool:
    """Whether another world's tables have the same parts, so that a test of those parts finds the same in both."""
    return bool(world.tables_of) or world.profile in {"vuls", "adhese-schedule"}


def only_where(
    holds: Callable[[type[World]], bool],
    *,
    long: bool = False,
    public: bool = False,
    repeats: Callable[[type[World]], bool] = lambda _: False,
) -> pytest.MarkDecorator:
    """Run a test only in the worlds for which `holds` is true. For the other arguments see `places_where`."""
    places = places_where(holds, long=long, public=public, repeats=repeats)
    return pytest.mark.parametrize("world", places, ids=place_id, indirect=True)


def mostly_on(server: str, fixture: str = "tasks") -> pytest.MarkDecorator:
    """Run a test on this server always, and on the other one with --thorough: other tests of its file try that.

    Args:
        fixture: The fixture that gets the server's name.
    """
    servers = [
        pytest.param(name, marks=[] if name == server else [pytest.mark.thorough]) for name in ("postgresql", "mariadb")
    ]
    return pytest.mark.parametrize(fixture, servers, indirect=True)


@contextmanager
def world_on(request: pytest.FixtureRequest, kind: type[W], where: str) -> Iterator[W]:
    """A world in a database of its own, on the test's server of that name."""
    if where == "mariadb":
        with database_on(request, where) as database, kind.create(database) as made:
            yield made
    else:
        with postgresql_world(request.getfixturevalue("databases"), kind) as made:
            yield made


@contextmanager
def restricted_world_on(request: pytest.FixtureRequest, kind: type[W], where: str) -> Iterator[W]:
    """The same, and the reaper connects as a role with just its privileges, those that `reaper grants` prints.

    They follow from tables that are the same in each test, so they are found out once for each place: that takes longer
    than to give them.
    """
    with world_on(request, kind, where) as world:
        database = str(make_url(world.database.url).database)
        if (kind, where) not in _granted:
            statements = world.grants(_ROLE).statements()
            _granted[kind, where] = [sql.replace(database, _DATABASE) for sql in statements]
        role = new_role()
        granted = [sql.replace(_DATABASE, database).replace(_ROLE, role) for sql in _granted[kind, where]]
        with world.restricted_to(role, granted):
            yield world


@contextmanager
def postgresql_world(databases: TemporaryDatabases, kind: type[W]) -> Iterator[W]:
    """A world in a copy of a database in which its tables were made: they take ten times as long as the copy."""

    def fill(url: str) -> None:
        with kind.create(PostgreSQLDatabase(url)):
            pass

    template = databases.template(f"template_{kind.__name__}", fill)
    with databases.temporary(template) as url, kind(PostgreSQLDatabase(url)) as made:
        yield made


@contextmanager
def database_on(request: pytest.FixtureRequest, where: str) -> Iterator[Database]:
    """An empty database on the test's server of that name. It is dropped after the block."""
    if where == "mariadb":
        with _mariadb_database(request.getfixturevalue("mariadb")) as database:
            yield database
    else:
        with postgresql_database(request.getfixturevalue("databases")) as database:
            yield database


@contextmanager
def postgresql_database(databases: TemporaryDatabases) -> Iterator[PostgreSQLDatabase]:
    """The same where nothing but PostgreSQL will do."""
    with databases.temporary() as url:
        yield PostgreSQLDatabase(url)


@contextmanager
def _mariadb_database(server: MariaDB) -> Iterator[MariaDBDatabase]:
    # A name that no other database has: every process that runs tests has servers of its own.
    name = f"world_{next(_numbers)}"
    yield MariaDBDatabase(server.create_database(name))
    server.drop_database(name)
