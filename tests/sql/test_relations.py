"""Values that statements look up in what they are given as parameters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, column, select, table

from reaper.sql import expressions as sql
from reaper.sql.relations import LookedUp
from reaper.sql.statement import CompiledStatement
from tests.support.checks import connected
from tests.support.worlds import Database
from tests.support.worlds.mariadb import MariaDBDatabase
from tests.support.worlds.servers import database_on

pytestmark = pytest.mark.every_server

KEYS = ("1", "a|b", "A|b", "a ", "a", "", "é", "e\u0301", '"', "\\", "'%s", "$.a", "\U0001f600", "x" * 3000)


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_on(request, request.param) as made:
        yield made


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with connected(database.url) as made:
        yield made


def looked_up(connection: Connection) -> CompiledStatement:
    words = table("word", column("word"), column("number"))
    query = select(LookedUp("known", sql.text_of(words.c.word))).order_by(words.c.number)
    return CompiledStatement(query, connection.dialect)


def put(database: Database, words: tuple[str, ...]) -> None:
    text = "text CHARACTER SET utf8mb4" if isinstance(database, MariaDBDatabase) else "text"
    with database.session(autocommit=True) as session:
        session.do(f"CREATE TABLE word (number int PRIMARY KEY, word {text})")
        for number, word in enumerate(words):
            session.do("INSERT INTO word VALUES (%s, %s)", number, word)


def test_text_beside_the_very_same_key_is_found(database: Database, connection: Connection) -> None:
    put(database, KEYS)
    statement = looked_up(connection)
    for known in (KEYS, KEYS[::2], KEYS[1::2], ()):
        found = statement.execute(connection, {"known": {key: f"of {key[:20]}" for key in known}})
        assert [text for (text,) in found] == [f"of {key[:20]}" if key in known else None for key in KEYS]


def test_mariadb_does_not_read_all_keys_for_each_row(database: Database, connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        pytest.skip("PostgreSQL finds a member of a JSON object by its name")
    put(database, tuple(str(n) for n in range(50)))
    text, parameters = looked_up(connection).bound({"known": {str(n): "seen" for n in range(500)}})
    connection.exec_driver_sql(text, parameters).all()
    found = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read_%%'")
    read = {name: int(count) for name, count in found}
    assert read["Handler_read_key"] >= 50
    assert read["Handler_read_rnd_next"] < 5 * 500
