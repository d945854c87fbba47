"""Which of several replicas sweeps: economy, never correctness.

The lease is a transaction that holds an advisory lock and does nothing else. That works through a pooler which hands
out server connections by the transaction, where a session's lock would stay behind on somebody else's connection. It
holds no snapshot and no row, so it is in nobody's way, and the server itself ends it, by
idle_in_transaction_session_timeout, when its owner has not renewed it in time: a replica that vanished without
closing its connection cannot keep the others out.
"""

from __future__ import annotations

import time
import zlib

from sqlalchemy import BigInteger, Connection, Dialect, Engine, String, TextClause, bindparam, text
from sqlalchemy.exc import DBAPIError

from reaper.schema import Schema

_INTERVALS = 3
_SHORTEST_SECONDS = 30.0

# Without parameters: the driver then sends a simple query, which is done with when it is answered. One with parameters
# leaves its portal, and the portal's snapshot, behind until the transaction ends, and no dead row could be vacuumed.
# The server says which table the name means here: with a schema per tenant there are many of that name in one database.
_TAKE = text(
    "SELECT set_config('idle_in_transaction_session_timeout', :ttl, true),"
    " pg_try_advisory_xact_lock("
    "(CAST(:profile AS bigint) << 32) | coalesce(to_regclass(:jobs)::oid::bigint, 0)) AS mine"
)


def ttl_for(interval_seconds: float) -> float:
    """How long a lease lasts without being renewed, in seconds."""
    return max(_SHORTEST_SECONDS, interval_seconds * _INTERVALS)


def take(schema: Schema, dialect: Dialect, ttl_seconds: float) -> TextClause:
    """The statement that takes the lease of one job table, the same for every replica, whatever it calls its source."""
    given = {
        "ttl": (String, f"{round(ttl_seconds * 1000)}"),
        "profile": (BigInteger, zlib.crc32(schema.profile.name.encode()) & 0x7FFFFFFF),
        "jobs": (String, dialect.identifier_preparer.format_table(schema.jobs)),
    }
    return _TAKE.bindparams(
        *(bindparam(name, value, type_=kind, literal_execute=True) for name, (kind, value) in given.items())
    )


class Lease:
    """Held by at most one replica at a time. Not thread-safe: one per source."""

    def __init__(self, engine: Engine, schema: Schema, ttl_seconds: float) -> None:
        self._engine, self._ttl = engine, ttl_seconds
        self._statement = take(schema, engine.dialect, ttl_seconds)
        self._connection: Connection | None = None
        self._renewed = 0.0

    def hold(self) -> bool:
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

    def keep(self) -> bool:
        """Whether it is still ours; renews it only when a good part of its time is over."""
        if self._connection is not None and time.monotonic() - self._renewed < self._ttl / 6:
            return True
        return self.hold()

    def release(self) -> None:
        """Let another replica have it at its next sweep."""
        self._drop()

    def _take(self, connection: Connection) -> bool:
        try:
            row = connection.execute(self._statement).one()
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
