"""The dialect for MariaDB.

MariaDB has no settings for a single transaction, so they are set on the session at the start of each: through a proxy,
each transaction may run on another server connection.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, Row, TableClause, TextClause, create_engine, event, text

from reaper.database.mariadb.lease import lease_statements
from reaper.database.mariadb.lock_holder import find_lock_holders
from reaper.database.mariadb.real_tables import real_tables
from reaper.database.mariadb.server_zone import filled_by_clock, server_zone
from reaper.database.mariadb.slow_reads import rows_written, what_slows_reads
from reaper.database.mariadb.unique_keys import has_unique_key
from reaper.database.server_zone import ServerZone
from reaper.database.timeouts import IDLE_SECONDS, LOCK_SECONDS, MARGIN_SECONDS, Timeouts
from reaper.errors import DatabaseUnavailable
from reaper.model import Key, LockHolder, ServerClock
from reaper.profile.real_tables import RealTable
from reaper.sql.tables import ProfileTables

# Strict, since a value that does not fit would otherwise be written as another one. Without NO_ZERO_DATE, since columns
# are compared with that date. Without ANSI_QUOTES, whose presence SQLAlchemy checks when it connects.
SQL_MODE = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
# derived_merge: a CTE that is merged into its query is computed once per mention. in_predicate_conversion_threshold: a
# long IN that is turned into a join with its values uses no index on the column. index_merge: a row that is found
# through two indexes is locked in both, one after the other, which deadlocks with a transaction that begins with the
# other index. eq_range_index_dive_limit: for an IN of more values than that, the rows of each are guessed from the
# average, which is nearly the whole table where most parents are NULL; 0 is no limit. timestamp and sql_select_limit:
# with a clock or a number of rows that was set before, by a trigger or by the client before in a pool of connections,
# living jobs would look dead, and rows would be missing from every answer. sql_quote_show_create: names without quotes
# cannot be told from the rest of a table's definition. tx_read_only: what changes a table ends our transaction, and the
# next one begins by itself.
SESSION_SETTINGS = (
    "SET SESSION timestamp = DEFAULT, sql_select_limit = 18446744073709551615,"
    f" time_zone = '+00:00', sql_mode = '{SQL_MODE}', tx_isolation = 'READ-COMMITTED',"
    " optimizer_switch = 'derived_merge=off,index_merge=off', in_predicate_conversion_threshold = 0,"
    " eq_range_index_dive_limit = 0, sql_quote_show_create = 1, tx_read_only = 0,"
    " max_statement_time = :statement, lock_wait_timeout = :lock, innodb_lock_wait_timeout = :lock,"
    " idle_transaction_timeout = :idle"
)
# UPTIME counts whole seconds from the start of the server to the start of the statement. The difference is therefore
# the same in every reading, also after the clock was corrected.
READ_CLOCK = (
    "SELECT version() AS version, now(6) AS now, @@read_only AS read_only, @@innodb_read_only AS forced_read_only,"
    " CAST(now() AS DATETIME) - INTERVAL (SELECT CAST(variable_value AS SIGNED) FROM information_schema.global_status"
    " WHERE variable_name = 'UPTIME') SECOND AS server_started,"
    " (SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'SLAVE_RUNNING') AS replica"
)
OLDEST_VERSION = (10, 6)  # the first with SKIP LOCKED and JSON_TABLE


class MariaDB:
    """See `reaper.database.dialect.Dialect`."""

    def engine(self, url: str, source: str, timeouts: Timeouts) -> Engine:
        from reaper.database.mariadb.connection import connect  # the driver is an extra

        engine = create_engine(
            url,
            poolclass=NullPool,
            connect_args={
                "charset": "utf8mb4",
                "sql_mode": SQL_MODE,
                "program_name": f"reaper/{source}",
            },
        )

        @event.listens_for(engine, "do_connect")
        def _connect(_dialect: object, _record: object, _args: Sequence[Any], options: Mapping[str, Any]) -> object:
            connection = connect(options, timeouts.connect, timeouts.statement + MARGIN_SECONDS)
            # Checked before SQLAlchemy asks another kind of server for things that it does not have.
            if "mariadb" not in (greeting := connection.greeting).casefold():
                connection.close()
                raise _unsupported(greeting)
            return connection

        return engine

    def begin(
        self,
        connection: Connection,
        timeouts: Timeouts,
        *,
        read_only: bool,
        lookup_schemas: Sequence[str] = (),  # noqa: ARG002
    ) -> None:
        limits = {"statement": timeouts.statement, "lock": LOCK_SECONDS, "idle": IDLE_SECONDS}
        connection.execute(text(SESSION_SETTINGS), limits)
        connection.execute(start_transaction(read_only=read_only))

    # A bare name of a table is looked up in the connection's own database alone, and a stored function that is called
    # like one of the server's own is never called by its bare name: nothing has to be pinned.

    def own_schemas(self, connection: Connection) -> Sequence[str]:  # noqa: ARG002
        return ()

    def own_path(self, connection: Connection) -> None: ...

    def pin_again(self, connection: Connection) -> None: ...

    def pinned_again(self, connection: Connection) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def read_clock(self, connection: Connection) -> ServerClock:
        row = connection.execute(text(READ_CLOCK)).one()
        _check_version(connection, row.version)
        if row.read_only not in (0, "OFF") or row.forced_read_only:
            role = "a replica" if row.replica == "ON" else "read-only"
            raise DatabaseUnavailable(f"the server is {role}: it takes no changes")
        return ServerClock(now=_aware(row.now), server_started=_aware(row.server_started))

    def server_zone(self, connection: Connection) -> ServerZone:
        return server_zone(connection)

    def filled_by_clock(
        self, connection: Connection, table: TableClause, columns: Collection[str]
    ) -> Mapping[str, str]:
        return filled_by_clock(connection, table, columns)

    def hidden_rows(self, connection: Connection, tables: Collection[TableClause], consequence: str) -> None:
        """None are: MariaDB has privileges on tables and columns, but not on rows."""

    def has_unique_key(self, connection: Connection, table: TableClause, columns: Sequence[str]) -> bool:
        return has_unique_key(connection, table, columns)

    def stream(self, connection: Connection, statement: str, parameters: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        options = {"stream_results": True, "max_row_buffer": 1000}
        with connection.exec_driver_sql(statement, dict(parameters), execution_options=options) as result:
            yield from result

    def is_alive(self, connection: Connection, within_seconds: float) -> bool:
        from reaper.database.mariadb.connection import TimedConnection

        driver = connection.connection.driver_connection
        return isinstance(driver, TimedConnection) and driver.responds(within_seconds)

    def lease(self, tables: ProfileTables, ttl_seconds: float) -> Sequence[TextClause]:
        return lease_statements(tables, ttl_seconds)

    def real_tables(
        self,
        execute: Callable[[TextClause], Sequence[Row[Any]]],
        names: Iterable[str],
        path: Sequence[str],  # noqa: ARG002
    ) -> Sequence[RealTable]:
        return real_tables(execute, names)

    def rows_written(self, connection: Connection, tables: Collection[TableClause]) -> int:  # noqa: ARG002
        return rows_written(connection)

    def what_slows_reads(
        self, connection: Connection, lookups: Collection[tuple[TableClause, Sequence[str]]]
    ) -> Sequence[str]:
        return what_slows_reads(connection, lookups)

    def lock_holders(
        self, connection: Connection, tables: ProfileTables, keys: Sequence[Key]
    ) -> Mapping[Key, LockHolder]:
        return find_lock_holders(connection, tables, keys)


def start_transaction(*, read_only: bool) -> TextClause:
    """The statement that begins a transaction."""
    return text(f"START TRANSACTION READ {'ONLY' if read_only else 'WRITE'}")


def _check_version(connection: Connection, version: str) -> None:
    """Raises DatabaseUnavailable for MySQL, which has the same protocol but other SQL, and for an old MariaDB."""
    numbers = connection.dialect.server_version_info or ()
    if "mariadb" not in version.casefold() or tuple(numbers[:2]) < OLDEST_VERSION:
        raise _unsupported(version)


def _unsupported(version: str) -> DatabaseUnavailable:
    oldest = ".".join(map(str, OLDEST_VERSION))
    return DatabaseUnavailable(f"the server is {version}: MariaDB {oldest} or later is needed")


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
