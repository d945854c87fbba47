"""The operations that differ between database servers, apart from their SQL (see `reaper.sql.expressions`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Row, TextClause

from reaper.database.mariadb import MariaDB
from reaper.database.postgresql import PostgreSQL
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

    def begin(self, connection: Connection, timeouts: Timeouts, *, read_only: bool) -> None:
        """Set up the transaction that has just begun: in UTC, READ COMMITTED, and with its time limits.

        READ COMMITTED whatever the role's default is, since the rule is judged again in a fresh snapshot.
        """

    def read_clock(self, connection: Connection) -> ServerClock:
        """The database's clock and the start of its server. Inside a transaction.

        Raises DatabaseUnavailable when the server takes no changes now: a standby, or a server set to read-only.
        """

    def hidden_rows(self, connection: Connection, tables: Collection[str], consequence: str) -> str | None:
        """Why rows of these tables may be hidden from the role, the consequence and the fix; None when none are."""

    def stream(self, connection: Connection, statement: str, parameters: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        """The rows one after the other, never all in memory. Raises DBAPIError."""

    def is_alive(self, connection: Connection, within_seconds: float) -> bool:
        """Whether the server answers in time; if it does not, the connection is closed. Outside a transaction."""

    def lease(self, tables: ProfileTables, ttl_seconds: float) -> Sequence[TextClause]:
        """The statements that take or renew the lease of a job table; the last one returns whether it is `mine`.

        The lease is the same for every replica, whatever it calls its source. Without renewal it ends by itself.
        """

    def real_tables(
        self, execute: Callable[[TextClause], Sequence[Row[Any]]], names: Iterable[str]
    ) -> Sequence[RealTable]:
        """The tables that these names would mean if the case of letters did not matter. `execute` runs queries."""

    def lock_holder(self, connection: Connection, tables: ProfileTables, key: Key) -> LockHolder | None:
        """The transaction that has held the job's row longest; None when none does, or when it cannot be found out."""


_POSTGRESQL, _MARIADB = PostgreSQL(), MariaDB()


def dialect_named(name: str) -> Dialect:
    """The dialect with SQLAlchemy's name."""
    return _POSTGRESQL if name == "postgresql" else _MARIADB


def dialect_of(bind: Connection | Engine) -> Dialect:
    """The dialect of a connection or an engine."""
    return dialect_named(bind.dialect.name)
