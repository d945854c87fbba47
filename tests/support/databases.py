"""Databases for single tests, made and dropped over one connection to the server that all of them share."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from reaper.dev.postgres import PrivatePostgreSQL

_numbers = itertools.count()


class TemporaryDatabases:
    """Makes databases on a server that is for tests alone.

    A copy of the template's files costs half of what CREATE DATABASE does by default (a copy through the log), and no
    test needs it to survive a crash of the server while it is made.
    """

    def __init__(self, server: PrivatePostgreSQL) -> None:
        self._server = server
        self._connection: psycopg.Connection[object] | None = None
        self._filled = set[str]()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def template(self, name: str, fill: Callable[[str], None]) -> str:
        """The name of a database to copy. It is made once; then `fill`, which gets its URL, makes the tables in it."""
        if name not in self._filled:
            self._do("DROP DATABASE IF EXISTS {}", name)
            self._do("CREATE DATABASE {} STRATEGY FILE_COPY", name)
            fill(self._server.url_of(name))
            self._filled.add(name)
        return name

    @contextmanager
    def temporary(self, template: str = "template1") -> Iterator[str]:
        """The URL of a new database with a name that no other has. It is dropped after the block."""
        name = f"t{os.getpid()}_{next(_numbers)}"
        self._do("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template)
        try:
            yield self._server.url_of(name)
        finally:
            self._do("DROP DATABASE {} WITH (FORCE)", name)

    def _do(self, statement: str, *names: str) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._server.url.replace("+psycopg", ""), autocommit=True)
        self._connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
