"""The dialect for PostgreSQL.

Everything is set for the transaction (SET LOCAL), never for the session: only that works behind a pooler which gives
each transaction another server connection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, NullPool, Row, TableClause, TextClause, create_engine, event, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError

from reaper.database.postgresql.connection import TimedConnection, connection_class
from reaper.database.postgresql.lease import lease_statement
from reaper.database.postgresql.lock_holder import find_lock_holders
from reaper.database.postgresql.real_tables import real_tables
from reaper.database.postgresql.row_security import hidden_rows
from reaper.database.postgresql.search_path import own_path, own_schemas, pin, pinned_again, pinned_path, record_pin
from reaper.database.postgresql.server_zone import filled_by_clock, server_zone
from reaper.database.postgresql.settings import NOTATION, set_for_transaction
from reaper.database.postgresql.slow_reads import rows_written, what_slows_reads
from reaper.database.postgresql.unique_keys import has_unique_key
from reaper.database.server_zone import ServerZone
from reaper.database.timeouts import IDLE_SECONDS, LOCK_SECONDS, MARGIN_SECONDS, Timeouts
from reaper.errors import DatabaseUnavailable
from reaper.model import Key, LockHolder, ServerClock
from reaper.profile.real_tables import RealTable
from reaper.sql.tables import ProfileTables

# search_path: see `reaper.database.postgresql.search_path`. jit: compiling these statements takes longer than running
# them.
TRANSACTION_SETTINGS = "SELECT pg_catalog.current_setting('search_path') AS own_path, " + set_for_transaction(
    {
        "search_path": ":path",
        **NOTATION,
        "jit": "'off'",
        "statement_timeout": ":statement",
        "lock_timeout": ":lock",
        "idle_in_transaction_session_timeout": ":idle",
    }
)
# When the server recovers from a crash of one of its processes, the checkpointer starts again, and the postmaster keeps
# its own start time. The WAL writer starts when a recovery is over, and a standby has become the primary: before, no
# worker could write. A role that may not see them gets NULL, which greatest() ignores.
READ_CLOCK = (
    "SELECT clock_timestamp() AS now, greatest(pg_postmaster_start_time(), (SELECT max(backend_start)"
    " FROM pg_stat_activity WHERE backend_type IN ('checkpointer', 'walwriter'))) AS server_started,"
    " pg_is_in_recovery() AS standby, current_setting('transaction_read_only') = 'on' AS read_only"
)
LOCK_MS = LOCK_SECONDS * 1000
IDLE_MS = IDLE_SECONDS * 1000
_CHUNK_ROWS = 1000


class PostgreSQL:
    """See `reaper.database.dialect.Dialect`."""

    def engine(self, url: str, source: str, timeouts: Timeouts) -> Engine:
        engine = _engine(url, source, timeouts)
        timed = connection_class(timeouts.statement + MARGIN_SECONDS)

        @event.listens_for(engine, "do_connect")
        def _connect(
            _dialect: object, _record: object, args: Sequence[str], options: Mapping[str, Any]
        ) -> TimedConnection:
            return timed.connect(*args, **options)

        return engine

    def begin(
        self, connection: Connection, timeouts: Timeouts, *, read_only: bool, lookup_schemas: Sequence[str] = ()
    ) -> None:
        if read_only:
            connection.execute(text("SET TRANSACTION READ ONLY"))
        path = pinned_path(lookup_schemas)
        limits = {"statement": f"{round(timeouts.statement * 1000)}", "lock": f"{LOCK_MS}", "idle": f"{IDLE_MS}"}
        settings = connection.execute(text(TRANSACTION_SETTINGS), {"path": path, **limits}).one()
        record_pin(connection, settings.own_path, path)

    def own_schemas(self, connection: Connection) -> Sequence[str]:
        return own_schemas(connection)

    def own_path(self, connection: Connection) -> str:
        return own_path(connection)

    def pin_again(self, connection: Connection) -> None:
        pin(connection)

    def pinned_again(self, connection: Connection) -> AbstractContextManager[None]:
        return pinned_again(connection)

    def read_clock(self, connection: Connection) -> ServerClock:
        row = connection.execute(text(READ_CLOCK)).one()
        if row.standby:
            raise DatabaseUnavailable("the server is a standby in recovery: nothing can be written there")
        if row.read_only:
            raise DatabaseUnavailable("the database is read-only: nothing can be written there")
        return ServerClock(now=row.now, server_started=row.server_started)

    def server_zone(self, connection: Connection) -> ServerZone:
        return server_zone(connection)

    def filled_by_clock(
        self, connection: Connection, table: TableClause, columns: Collection[str]
    ) -> Mapping[str, str]:
        return filled_by_clock(connection, table, columns)

    def hidden_rows(self, connection: Connection, tables: Collection[TableClause], consequence: str) -> str | None:
        return hidden_rows(connection, tables, consequence)

    def has_unique_key(self, connection: Connection, table: TableClause, columns: Sequence[str]) -> bool:
        return has_unique_key(connection, table, columns)

    def stream(
        self, connection: Connection, statement: str, parameters: Mapping[str, Any]
    ) -> Iterator[tuple[Any, ...]]:
        """Without a server-side cursor, for which PostgreSQL uses no parallel workers."""
        driver = connection.connection.driver_connection
        if not isinstance(driver, psycopg.Connection):
            raise TypeError(f"cannot stream rows from {type(driver).__name__}")
        chunk = _CHUNK_ROWS if psycopg.capabilities.has_stream_chunked() else 1
        try:
            with driver.cursor() as cursor:
                yield from cursor.stream(statement, parameters, size=chunk)
        except psycopg.Error as error:
            raise DBAPIError.instance(statement, None, error, psycopg.Error) from error

    def is_alive(self, connection: Connection, within_seconds: float) -> bool:
        driver = connection.connection.driver_connection
        return isinstance(driver, TimedConnection) and driver.responds(within_seconds)

    def lease(self, tables: ProfileTables, ttl_seconds: float) -> Sequence[TextClause]:
        return [lease_statement(tables, _DIALECT, ttl_seconds)]

    def real_tables(
        self, execute: Callable[[TextClause], Sequence[Row[Any]]], names: Iterable[str], path: Sequence[str]
    ) -> Sequence[RealTable]:
        return real_tables(execute, names, path)

    def rows_written(self, connection: Connection, tables: Collection[TableClause]) -> int:
        return rows_written(connection, tables)

    def what_slows_reads(
        self, connection: Connection, lookups: Collection[tuple[TableClause, Sequence[str]]]
    ) -> Sequence[str]:
        return what_slows_reads(connection, lookups)

    def lock_holders(
        self, connection: Connection, tables: ProfileTables, keys: Sequence[Key]
    ) -> Mapping[Key, LockHolder]:
        return find_lock_holders(connection, tables, keys)


_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


def _engine(url: str, source: str, timeouts: Timeouts) -> Engine:
    engine = create_engine(
        url,
        poolclass=NullPool,
        # psycopg would look up the type along the role's own path, outside of any transaction of ours.
        use_native_hstore=False,
        # The rule is judged again in a fresh snapshot, whatever the role's default isolation is.
        isolation_level="READ COMMITTED",
        connect_args={
            "application_name": f"reaper/{source}",
            # A role or database may set another, with which text comes back as bytes or not at all.
            "client_encoding": "utf8",
            "connect_timeout": max(1, round(timeouts.connect)),
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            # A prepared statement belongs to a server connection, which a pooler changes with every transaction.
            "prepare_threshold": None,
        },
    )
    # SQLAlchemy asks for it along the role's own path, and needs it only to reflect tables.
    engine.dialect._get_default_schema_name = lambda connection: "pg_catalog"  # type: ignore[method-assign]  # noqa: ARG005
    return engine
