"""A MariaDB database and its sessions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import pymysql
import pymysql.constants.ER
from sqlalchemy import make_url

from tests.support.mariadb import statements
from tests.support.worlds.database import Database, Deadlock, Session

_GATE = "tests.support.worlds"


class MariaDBSession(Session):
    integrity_error = pymysql.IntegrityError
    _connection: pymysql.Connection[pymysql.cursors.Cursor]

    def __init__(self, connection: pymysql.Connection[pymysql.cursors.Cursor]) -> None:
        super().__init__(connection)
        self.number = self.one("SELECT connection_id()")

    def do(self, statement: str, *values: object) -> int:
        with self._connection.cursor() as cursor:
            try:
                return cursor.execute(statement, values or None)
            except pymysql.OperationalError as error:
                if error.args[0] == pymysql.constants.ER.LOCK_DEADLOCK:
                    raise Deadlock from error
                raise

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())


class MariaDBDatabase(Database):
    ago = naive_ago = "(utc_timestamp(6) - INTERVAL %s SECOND)"
    host = "@localhost"
    deadlocks = True
    raise_statement = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused by a trigger'"
    wait_statement = f"DO get_lock('{_GATE}', 60)"
    close_gate_statement = f"SELECT get_lock('{_GATE}', 60)"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._own_sessions: list[int] = []

    def session(self, *, autocommit: bool = False) -> Session:
        url = make_url(self.url)
        session = MariaDBSession(
            pymysql.connect(
                unix_socket=str(url.query["unix_socket"]),
                user=url.username,
                database=url.database,
                autocommit=autocommit,
                ssl_disabled=True,  # a socket needs no TLS, and making a TLS context takes 25 ms
                init_command="SET time_zone = '+00:00', sql_mode = 'ANSI_QUOTES,STRICT_TRANS_TABLES'",
            )
        )
        self._own_sessions.append(session.number)
        return session

    def restrict_to_role(self, role: str, granted: Iterable[str]) -> None:
        with self.session(autocommit=True) as session:
            for statement in granted:
                session.do(statement)
            session.do(f"ALTER USER {role}{self.host} ACCOUNT UNLOCK")
        self.reaper = make_url(self.url).set(username=role).render_as_string(hide_password=False)

    def drop_role(self, role: str) -> None:
        self.reaper = self.url
        with self.session(autocommit=True) as session:
            session.do(f"DROP USER {role}{self.host}")

    def create(self, tables: str) -> None:
        script = resources.files("reaper.profiles").joinpath(f"{tables}.mariadb.sql").read_text()
        with self.session(autocommit=True) as session:
            for statement in statements(script):
                session.do(statement)

    def rows(self, session: Session, table: str) -> list[str]:
        return sorted(f"{table} {row}" for row in session.ask(f"SELECT * FROM {table}"))

    def document(self, value: Any) -> Any:
        return json.loads(value)

    def is_blocked(self, session: Session, watcher: Session) -> bool:
        """Reads InnoDB's monitor: its tables do not show sessions that wait before their first change."""
        [(_, _, monitor)] = watcher.ask("SHOW ENGINE INNODB STATUS")
        transactions = monitor[monitor.index("LIST OF TRANSACTIONS") :]
        waiting = re.findall(r"^LOCK WAIT .*\nMariaDB thread id (\d+),", transactions, flags=re.MULTILINE)
        return str(session.number) in waiting

    def reaper_sessions(self, watcher: Session) -> int:
        own = ", ".join(map(str, self._own_sessions))
        return int(
            watcher.one(
                "SELECT count(*) FROM information_schema.processlist"
                f" WHERE db = database() AND id NOT IN ({own}) AND command <> 'Daemon'"
            )
        )

    def gate_has_waiter(self, watcher: Session) -> bool:
        return bool(watcher.one("SELECT count(*) FROM information_schema.processlist WHERE state = 'User lock'"))

    @contextmanager
    def with_trigger(self, table: str, operation: str, what: str) -> Iterator[None]:
        with self.session(autocommit=True) as session:
            session.do(f"CREATE TRIGGER interfere BEFORE {operation} ON {table} FOR EACH ROW {what}")
            try:
                yield
            finally:
                session.do("DROP TRIGGER interfere")
