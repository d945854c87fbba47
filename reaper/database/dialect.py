"""The operations that differ between database servers, apart from their SQL (see `reaper.sql.expressions`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Row, TableClause, TextClause

from reaper.database.mariadb import MariaDB
from reaper.database.postgresql import PostgreSQL
from reaper.database.server_zone import ServerZone
from reaper.database.timeouts import Timeouts
from reaper.model import Key, LockHolder, ServerClock
from reaper.profile.real_tables import RealTable
from reaper.sql.tables import ProfileTables


class Dialect(Protocol):
    """One kind of database server."""

    def engine(self, url: str, source: str, timeouts: Timeouts) -> Engine:
        """An engine without a pool, whose connections are closed when the server does not answer in time.

        Raises ArgumentError for a URL that cannot be used, ModuleNotFoundError without the driver.
        """

    def begin(
        self, connection: Connection, timeouts: Timeouts, *, read_only: bool, lookup_schemas: Sequence[str] = ()
    ) -> None:
        """Set up the transaction that has just begun: in UTC, READ COMMITTED, and with its time limits.

        READ COMMITTED whatever the role's default is, since the rule is judged again in a fresh snapshot. On
        PostgreSQL names are looked up in `pg_catalog`, and then in `lookup_schemas`, alone.
        """

    def own_schemas(self, connection: Connection) -> Sequence[str]:
        """The schemas in which a bare name of a table is looked up for the role itself. In a transaction of ours."""

    def own_path(self, connection: Connection) -> str | None:
        """The role's own search path, for a statement that writes; None where the server has no such path."""

    def pin_again(self, connection: Connection) -> None:
        """Let no name of ours be looked up along the role's own path, after a statement that has written along it."""

    def pinned_again(self, connection: Connection) -> AbstractContextManager[None]:
        """The same for a block; after it, triggers that wait for the commit have the role's own path again."""

    def read_clock(self, connection: Connection) -> ServerClock:
        """The database's clock and the start of its server. Inside a transaction.

        Raises DatabaseUnavailable when the server takes no changes now: a standby, or a server set to read-only.
        """

    def hidden_rows(self, connection: Connection, tables: Collection[TableClause], consequence: str) -> str | None:
        """Why rows of these tables may be hidden from the role, the consequence and the fix; None when none are."""

    def has_unique_key(self, connection: Connection, table: TableClause, columns: Sequence[str]) -> bool:
        """Whether a unique index covers these columns of the table, or some of them. Inside a transaction.

        False for what has no indexes of its own, such as a view.
        """

    def server_zone(self, connection: Connection) -> ServerZone:
        """The zone in which the server's clock reaches columns without one. Inside a transaction."""

    def filled_by_clock(
        self, connection: Connection, table: TableClause, columns: Collection[str]
    ) -> Mapping[str, str]:
        """Those of the columns that the server fills with its clock, each with how it does. Inside a transaction."""

    def stream(self, connection: Connection, statement: str, parameters: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        """The rows one after the other, never all in memory. Raises DBAPIError."""

    def is_alive(self, connection: Connection, within_seconds: float) -> bool:
        """Whether the server answers in time; if it does not, the connection is closed. Outside a transaction."""

    def lease(self, tables: ProfileTables, ttl_seconds: float) -> Sequence[TextClause]:
        """The statements that take or renew the lease of a job table; the last one returns whether it is `mine`.

        The lease is the same for every replica, whatever it calls its source. Without renewal it ends by itself.
        """

    def real_tables(
        self, execute: Callable[[TextClause], Sequence[Row[Any]]], names: Iterable[str], path: Sequence[str]
    ) -> Sequence[RealTable]:
        """The tables that these names would mean if the case of letters did not matter. `execute` runs queries.

        On PostgreSQL a bare name means the first table of that name in the schemas of `path`.
        """

    def rows_written(self, connection: Connection, tables: Collection[TableClause]) -> int:
        """How many rows sessions have written to these tables, or to more of them, since the server counts them."""

    def what_slows_reads(
        self, connection: Connection, lookups: Collection[tuple[TableClause, Sequence[str]]]
    ) -> Sequence[str]:
        """What to mend where a read is too slow, one sentence each: statistics, an index.

        In each of the tables rows are looked up by these columns; () by none.
        """

    def lock_holders(
        self, connection: Connection, tables: ProfileTables, keys: Sequence[Key]
    ) -> Mapping[Key, LockHolder]:
        """Of each job whose row, or a row that belongs to it, is locked: the transaction that holds the lock, as far as
        that can be found out. Of several, the one that has held it longest.

        In a transaction that may write, and ends at once: MariaDB locks the rows to find it out.
        """


_POSTGRESQL, _MARIADB = PostgreSQL(), MariaDB()


def dialect_named(name: str) -> Dialect:
    """The dialect with SQLAlchemy's name."""
    return _POSTGRESQL if name == "postgresql" else _MARIADB


def dialect_of(bind: Connection | Engine) -> Dialect:
    """The dialect of a connection or an engine."""
    return dialect_named(bind.dialect.name)
