"""Which of several replicas sweeps: the lease saves work, and correctness never depends on it.

The lease is a lock of the server, held by a connection of its own. The server ends it when its owner has not renewed it
in time: a replica that vanished without closing its connection cannot keep the others out.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from reaper.database.dialect import dialect_of
from reaper.sql.tables import ProfileTables

_INTERVALS = 3
_SHORTEST_SECONDS = 30.0
_TRANSACTION_SECONDS = 60.0


def ttl_for(interval_seconds: float) -> float:
    """How many seconds a lease lasts without being renewed."""
    return max(_SHORTEST_SECONDS, interval_seconds * _INTERVALS)


class Lease:
    """Held by at most one replica at a time. Not thread-safe: one per source."""

    def __init__(self, engine: Engine, tables: Callable[[], ProfileTables], ttl_seconds: float) -> None:
        """`tables` are asked for each time: how the database spells them is known only after the first contact."""
        self._engine, self._tables, self.ttl_seconds = engine, tables, ttl_seconds
        self.transaction_seconds = _TRANSACTION_SECONDS
        """How old the transaction that holds the lease becomes, about: it is ended at a renewal."""
        self._connection: Connection | None = None
        self._renewed_at = self._begun_at = 0.0

    def acquire(self) -> bool:
        """Renew the lease, or try to take it. Whether it is ours. Raises DBAPIError when the database is away."""
        if self._connection is not None:
            try:
                self._end_long_transaction(self._connection)
                return self._take(self._connection)
            except DBAPIError:
                # The server ended it: another replica may hold it by now.
                self._close()
        self._connection, self._begun_at = self._engine.connect(), time.monotonic()
        return self._take(self._connection)

    def renew_if_due(self) -> bool:
        """Whether the lease is still ours; asks the database only when a sixth of its time is over."""
        if self._connection is not None and time.monotonic() - self._renewed_at < self.ttl_seconds / 6:
            return True
        return self.acquire()

    def release(self) -> None:
        """Give the lease up: another replica can take it at its next sweep."""
        self._close()

    def _end_long_transaction(self, connection: Connection) -> None:
        """A transaction that lasts does no harm here, but operators are alarmed by one.

        With it ends, on PostgreSQL, the lock: a replica that asks before it is taken again gets it. So not each time.
        """
        if time.monotonic() - self._begun_at >= self.transaction_seconds:
            connection.commit()
            self._begun_at = time.monotonic()

    def _take(self, connection: Connection) -> bool:
        try:
            *before, take = dialect_of(self._engine).lease(self._tables(), self.ttl_seconds)
            for statement in before:
                connection.execute(statement)
            row = connection.execute(take).one()
        except DBAPIError:
            self._close()
            raise
        self._renewed_at = time.monotonic()
        if not row.mine:
            self._close()
        return bool(row.mine)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
