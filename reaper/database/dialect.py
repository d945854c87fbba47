"""What differs from one database server to another, apart from its SQL (see `reaper.sql.expressions`)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Select, TextClause

from reaper.database.mariadb import MariaDB
from reaper.database.postgresql import PostgreSQL
from reaper.database.timeouts import Timeouts
from reaper.model import Key, LockHolder, ServerClock
from reaper.sql.tables import ProfileTables


class Dialect(Protocol):
    """How a server is met and treated."""

    def engine(self, url: str, source: str, timeouts: Timeouts) -> Engine:
        """An engine without a pool, whose connections hang up on a server that does not answer.

        Raises ArgumentError for a URL that it cannot use, ModuleNotFoundError without the driver.
        """

    def begin(self, connection: Connection, timeouts: Timeouts, *, read_only: bool) -> None:
        """The transaction that has just begun is in UTC, READ COMMITTED, and limited in time.

        READ COMMITTED, since the rule is judged again in a fresh snapshot, whatever the role's default is.
        """

    def read_clock(self, connection: Connection) -> ServerClock:
        """The database's clock and its server's start, inside a transaction.

        Raises DatabaseAway when nobody could write there now: a standby, or a server set to read only.
        """

    def hidden_rows(self, connection: Connection, tables: Collection[str], consequence: str) -> str | None:
        """Why rows of these tables may be kept from the role, what follows, and what helps; None when it sees all."""

    def stream(self, connection: Connection, statement: Select[Any]) -> Iterator[Sequence[Any]]:
        """The rows one after the other, never all in memory. Raises DBAPIError."""

    def is_alive(self, connection: Connection, within_seconds: float) -> bool:
        """Whether the server is still there. Outside a transaction; one that keeps us waiting is hung up on."""

    def lease(self, schema: ProfileTables, ttl_seconds: float) -> Sequence[TextClause]:
        """Statements to take or renew the lease of a job table; the last one says whether it is `mine`.

        The lease is the same for every replica, whatever it calls its source; without renewal it ends by itself.
        """

    def lock_holder(self, connection: Connection, schema: ProfileTables, key: Key) -> LockHolder | None:
        """The one who has held the row longest, or None when nobody (any more) does or it cannot be told."""


_POSTGRESQL, _MARIADB = PostgreSQL(), MariaDB()


def dialect_named(name: str) -> Dialect:
    """By what SQLAlchemy calls it."""
    return _POSTGRESQL if name == "postgresql" else _MARIADB


def dialect_of(place: Connection | Engine) -> Dialect:
    """That of a connection or an engine."""
    return dialect_named(place.dialect.name)
