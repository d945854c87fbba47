"""Which of several replicas sweeps: economy, never correctness.

The lease is a transaction that holds an advisory lock and does nothing else. That works through a pooler which hands
out server connections by the transaction, where a session's lock would stay behind on somebody else's connection. It
holds no snapshot and no row, so it is in nobody's way, and the server itself ends it, by
idle_in_transaction_session_timeout, when its owner has not renewed it in time: a replica that vanished without
closing its connection cannot keep the others out.
"""

from __future__ import annotations

import hashlib
import time

from sqlalchemy import BigInteger, Connection, Engine, String, bindparam, text
from sqlalchemy.exc import DBAPIError

# Without parameters: the driver then sends a simple query, which is done with when it is answered. One with parameters
# leaves its portal, and the portal's snapshot, behind until the transaction ends, and no dead row could be vacuumed.
_TAKE = text(
    "SELECT set_config('idle_in_transaction_session_timeout', :ttl, true), pg_try_advisory_xact_lock(:lock) AS mine"
).bindparams(
    bindparam("ttl", type_=String, literal_execute=True), bindparam("lock", type_=BigInteger, literal_execute=True)
)


def lock_number(table: str, profile: str) -> int:
    """The advisory lock of one job table: the same for every replica, whatever it calls its source."""
    digest = hashlib.sha256(f"reaper:{profile}:{table}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


class Lease:
    """Held by at most one replica at a time. Not thread-safe: one per source."""

    def __init__(self, engine: Engine, lock: int, ttl_seconds: float) -> None:
        self._engine, self._lock, self._ttl = engine, lock, ttl_seconds
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
            row = connection.execute(_TAKE, {"ttl": f"{round(self._ttl * 1000)}", "lock": self._lock}).one()
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
