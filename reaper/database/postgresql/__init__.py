"""PostgreSQL: how it is met and treated.

Everything is set with the transaction itself (SET LOCAL), never on the session: that is what works behind a pooler
which hands every transaction to another server connection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, NullPool, Select, TextClause, create_engine, event, text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError

from reaper.database.postgresql.connection import TimedConnection, connection_class
from reaper.database.postgresql.lease import lease_statement
from reaper.database.postgresql.row_holders import find_lock_holder
from reaper.database.postgresql.row_security import hidden_rows
from reaper.database.timeouts import IDLE_SECONDS, LOCK_SECONDS, MARGIN_SECONDS, Timeouts
from reaper.errors import DatabaseUnavailable
from reaper.model import Key, LockHolder, ServerClock
from reaper.sql.tables import ProfileTables

# TimeZone, DateStyle and extra_float_digits: a role or database may have its own, in which moments cannot be read
# back, and numbers lose their digits. Compiling such statements takes longer than running them.
TRANSACTION_SETTINGS = text(
    "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true), "
    "set_config('extra_float_digits', '3', true), set_config('jit', 'off', true), "
    "set_config('statement_timeout', :statement, true), "
    "set_config('lock_timeout', :lock, true), set_config('idle_in_transaction_session_timeout', :idle, true)"
)
# The checkpointer is started anew when the server recovers from a crash of one of its processes, which leaves the
# postmaster's own start time as it was. Roles that may not see it get NULL, which greatest() passes over.
READ_CLOCK = text(
    "SELECT clock_timestamp() AS now, greatest(pg_postmaster_start_time(), (SELECT max(backend_start)"
    " FROM pg_stat_activity WHERE backend_type = 'checkpointer')) AS server_started,"
    " pg_is_in_recovery() AS standby, current_setting('transaction_read_only') = 'on' AS read_only"
)
LOCK_MS = LOCK_SECONDS * 1000
IDLE_MS = IDLE_SECONDS * 1000


_CHUNK = 1000


class PostgreSQL:
    """See `reaper.database.dialect.Dialect`."""

    def engine(self, url: str, source: str, timeouts: Timeouts) -> Engine:
        engine = _engine(url, source, timeouts)
        lines = connection_class(timeouts.statement + MARGIN_SECONDS)

        @event.listens_for(engine, "do_connect")
        def _connect(
            _dialect: object, _record: object, words: Sequence[str], options: Mapping[str, Any]
        ) -> TimedConnection:
            return lines.connect(*words, **options)

        return engine

    def begin(self, connection: Connection, timeouts: Timeouts, *, read_only: bool) -> None:
        if read_only:
            connection.execute(text("SET TRANSACTION READ ONLY"))
        limits = {"statement": f"{round(timeouts.statement * 1000)}", "lock": f"{LOCK_MS}", "idle": f"{IDLE_MS}"}
        connection.execute(TRANSACTION_SETTINGS, limits)

    def read_clock(self, connection: Connection) -> ServerClock:
        """Ask for the database's clock and its server's start, inside a transaction.

        Raises DatabaseAway when nobody could write there now: a standby, or a server set to read only.
        """
        row = connection.execute(READ_CLOCK).one()
        if row.standby:
            raise DatabaseUnavailable("the server is a standby in recovery: nothing can be written there")
        if row.read_only:
            raise DatabaseUnavailable("the database is read-only: nothing can be written there")
        return ServerClock(now=row.now, server_started=row.server_started)

    def hidden_rows(self, connection: Connection, tables: Collection[str], consequence: str) -> str | None:
        return hidden_rows(connection, tables, consequence)

    def stream(self, connection: Connection, statement: Select[Any]) -> Iterator[tuple[Any, ...]]:
        """Not through a cursor of the server: PostgreSQL does not use parallel workers for those."""
        compiled = statement.compile(dialect=connection.dialect)
        driver = connection.connection.driver_connection
        if not isinstance(driver, psycopg.Connection):
            raise TypeError(f"no way to stream rows from {type(driver).__name__}")
        chunk = _CHUNK if psycopg.capabilities.has_stream_chunked() else 1
        try:
            with driver.cursor() as cursor:
                yield from cursor.stream(compiled.string, compiled.construct_params(), size=chunk)
        except psycopg.Error as error:
            raise DBAPIError.instance(compiled.string, None, error, psycopg.Error) from error

    def is_alive(self, connection: Connection, within_seconds: float) -> bool:
        driver = connection.connection.driver_connection
        return isinstance(driver, TimedConnection) and driver.responds(within_seconds)

    def lease(self, schema: ProfileTables, ttl_seconds: float) -> Sequence[TextClause]:
        return [lease_statement(schema, _DIALECT, ttl_seconds)]

    def lock_holder(self, connection: Connection, schema: ProfileTables, key: Key) -> LockHolder | None:
        return find_lock_holder(connection, schema, key)


_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call]


def _engine(url: str, source: str, timeouts: Timeouts) -> Engine:
    return create_engine(
        url,
        poolclass=NullPool,
        # The rule is judged again in a fresh snapshot, whatever the role's default isolation is.
        isolation_level="READ COMMITTED",
        connect_args={
            "application_name": f"reaper/{source}",
            # A role or database may have another, in which text comes back as bytes or not at all.
            "client_encoding": "utf8",
            "connect_timeout": max(1, round(timeouts.connect)),
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
            # Prepared statements outlive transactions, and behind a pooler the server connection does not.
            "prepare_threshold": None,
        },
    )
