"""A PostgreSQL database and its sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import resources
from typing import Any

import psycopg
from sqlalchemy import make_url

from tests.support.worlds.database import Database, Session

_GATE = 4711


class PostgreSQLSession(Session):
    integrity_error = psycopg.IntegrityError
    _connection: psycopg.Connection[Any]

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection)
        self.number = connection.info.backend_pid

    def do(self, statement: str, *values: object) -> int:
        return self._connection.execute(statement.encode(), values or None).rowcount

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement.encode(), values or None).fetchall()


class PostgreSQLDatabase(Database):
    ago = "(now() - make_interval(secs => %s))"
    naive_ago = "(timezone('UTC', now()) - make_interval(secs => %s))"
    raise_statement = "RAISE EXCEPTION 'refused by a trigger'"
    wait_statement = f"PERFORM pg_advisory_xact_lock({_GATE})"
    close_gate_statement = f"SELECT pg_advisory_lock({_GATE})"

    def session(self, *, autocommit: bool = False) -> Session:
        return PostgreSQLSession(psycopg.connect(self.url.replace("+psycopg", ""), autocommit=autocommit))

    def restrict_to_role(self, role: str, granted: Iterable[str]) -> None:
        with self.session(autocommit=True) as session:
            session.do(f"REVOKE ALL ON DATABASE {make_url(self.url).database} FROM PUBLIC")
            session.do("REVOKE ALL ON SCHEMA public FROM PUBLIC")
            for statement in granted:
                session.do(statement)
        self.reaper = make_url(self.url).set(username=role).render_as_string(hide_password=False)

    def drop_role(self, role: str) -> None:
        self.reaper = self.url
        with self.session(autocommit=True) as session:
            session.do(f"DROP OWNED BY {role}")
            session.do(f"DROP ROLE {role}")

    def create(self, tables: str) -> None:
        script = resources.files("reaper.profiles").joinpath(f"{tables}.sql").read_text()
        with self.session(autocommit=True) as session:
            session.do(script)

    def rows(self, session: Session, table: str) -> list[str]:
        return [f"{table} {row}" for (row,) in session.ask(f"SELECT r::text FROM {table} r ORDER BY 1")]

    def document(self, value: Any) -> Any:
        return value

    def is_blocked(self, session: Session, watcher: Session) -> bool:
        return bool(watcher.one("SELECT cardinality(pg_blocking_pids(%s)) > 0", session.number))

    def reaper_sessions(self, watcher: Session) -> int:
        return int(
            watcher.one(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name LIKE 'reaper/%'"
            )
        )

    def gate_has_waiter(self, watcher: Session) -> bool:
        return bool(watcher.one(f"SELECT EXISTS (SELECT FROM pg_locks WHERE objid = {_GATE} AND NOT granted)"))

    @contextmanager
    def with_trigger(self, table: str, operation: str, what: str) -> Iterator[None]:
        body = f"BEGIN {what}; RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; END"
        with self.session(autocommit=True) as session:
            session.do(f"CREATE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
            session.do(
                f"CREATE TRIGGER interfere BEFORE {operation} ON {table} FOR EACH ROW EXECUTE FUNCTION interfere()"
            )
            try:
                yield
            finally:
                session.do("DROP FUNCTION interfere CASCADE")
