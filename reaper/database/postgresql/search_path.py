"""The search path of our transactions on PostgreSQL: no name of ours is looked up where another role may create.

A function or an operator in any schema of the path is called instead of PostgreSQL's own when it fits the types of the
arguments better, and runs with our rights. So every transaction begins by pinning its path to `pg_catalog`, for itself
alone, as behind a pooler nothing else lasts no longer than the transaction. Tables are named with their schema.

What the user's own triggers, defaults and constraints look up is found along the role's own path: the statement that
writes sets it (`reaper.sql.expressions.along_own_path`), after its own names have been looked up. Until the path is
pinned again, no other statement of ours may follow; at the commit it is the role's own again, for triggers that are
deferred until then. Only triggers BEFORE ... FOR EACH STATEMENT run before the statement sets the path.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psycopg.sql
from sqlalchemy import Connection, text

from reaper.database.postgresql.settings import set_for_transaction

PINNED = "pg_catalog, pg_temp"
"""The path of a transaction whose statements look up no name of the user's."""

SET_PATH = "SELECT " + set_for_transaction({"search_path": ":path"})
"""Sets the path until the transaction ends. It may be parsed along any path: no name in it is looked up along it."""

SETS_PATH = "pg_catalog.set_config('search_path'"
"""Is part of each statement that sets the path, once its values are written out."""

_OWN, _PINNED_TO = "reaper.own_path", "reaper.pinned_path"


def pinned_path(schemas: Sequence[str] = ()) -> str:
    """The path that also looks into these schemas, after `pg_catalog`. Temporary tables and types come last."""
    quoted = (psycopg.sql.Identifier(schema).as_string(None) for schema in schemas)
    return ", ".join(("pg_catalog", *quoted, "pg_temp"))


def names_in(path: str) -> list[str]:
    """The schemas in a setting of the search path, as they are written: `$user` stands for the role."""
    return [name.strip() for row in csv.reader([path], skipinitialspace=True) for name in row]


def record_pin(connection: Connection, own_path: str, pinned_to: str) -> None:
    """Keep, until the next transaction, the role's own path and the one to which it has been pinned."""
    connection.info[_OWN], connection.info[_PINNED_TO] = own_path, pinned_to


def own_path(connection: Connection) -> str:
    """The role's own path. In a transaction of ours."""
    path: str = connection.info[_OWN]
    return path


def pin(connection: Connection) -> None:
    """Pin the path again, after a statement that has written along the role's own."""
    _set(connection, connection.info[_PINNED_TO])


def unpin(connection: Connection) -> None:
    """Set the role's own path, along which triggers are to run that are deferred to the commit."""
    _set(connection, own_path(connection))


@contextmanager
def pinned(connection: Connection) -> Iterator[None]:
    """Pins the path in a transaction, or a savepoint, that has just begun. What was recorded beforecomes back."""
    recorded = connection.info.get(_OWN), connection.info.get(_PINNED_TO)
    current: str = connection.execute(text("SELECT pg_catalog.current_setting('search_path')")).scalar_one()
    _set(connection, PINNED)
    own = recorded[0] if recorded[0] is not None and current == recorded[1] else current
    record_pin(connection, own, PINNED)
    try:
        yield
    finally:
        connection.info[_OWN], connection.info[_PINNED_TO] = recorded


@contextmanager
def pinned_again(connection: Connection) -> Iterator[None]:
    """Pins the path for statements that follow one that has written."""
    pin(connection)
    yield
    unpin(connection)


def own_schemas(connection: Connection) -> list[str]:
    """The schemas in which names of the role's are looked up, in this order: those that exist and that it may use."""
    unpin(connection)
    # The only statements that may be parsed along the role's own path: each name is qualified, and each type exact.
    schemas = connection.exec_driver_sql("SELECT pg_catalog.current_schemas(false)").scalar_one()
    pin(connection)
    return list(schemas)


def _set(connection: Connection, path: str) -> None:
    connection.execute(text(SET_PATH), {"path": path})
