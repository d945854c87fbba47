"""Which of several replicas sweeps: economy, never correctness.

The lease is a lock of the server's on a connection of its own. The server itself ends it when its owner has not
renewed it in time: a replica that vanished without closing its connection cannot keep the others out.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from reaper.database.dialect import dialect_of
from reaper.sql.tables import ProfileTables

_INTERVALS = 3
_SHORTEST_SECONDS = 30.0


def ttl_for(interval_seconds: float) -> float:
    """How long a lease lasts without being renewed, in seconds."""
    return max(_SHORTEST_SECONDS, interval_seconds * _INTERVALS)


class Lease:
    """Held by at most one replica at a time. Not thread-safe: one per source."""

    def __init__(self, engine: Engine, schema: ProfileTables, ttl_seconds: float) -> None:
        self._engine, self._ttl = engine, ttl_seconds
        self._statements = dialect_of(engine).lease(schema, ttl_seconds)
        self._connection: Connection | None = None
        self._renewed = 0.0

    def acquire(self) -> bool:
        """Renew the lease, or try to get it. Raises DBAPIError when the database is away."""
        if self._connection is not None:
            try:
                self._connection.commit()
                return self._take(self._connection)
            except DBAPIError:
                # The server ended it: somebody else may have it by now.
                self._drop()
        self._connection = self._engine.connect()
        return self._take(self._connection)

    def renew_if_due(self) -> bool:
        """Whether it is still ours; renews it only when a good part of its time is over."""
        if self._connection is not None and time.monotonic() - self._renewed < self._ttl / 6:
            return True
        return self.acquire()

    def release(self) -> None:
        """Let another replica have it at its next sweep."""
        self._drop()

    def _take(self, connection: Connection) -> bool:
        try:
            *before, take = self._statements
            for statement in before:
                connection.execute(statement)
            row = connection.execute(take).one()
        except DBAPIError:
            self._drop()
            raise
        self._renewed = time.monotonic()
        if not row.mine:
            self._drop()
        return bool(row.mine)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
