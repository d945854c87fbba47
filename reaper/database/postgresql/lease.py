"""The lease as a transaction that holds an advisory lock and does nothing else.

That works through a pooler which hands out server connections by the transaction, where a session's lock would stay
behind on somebody else's connection. It holds no snapshot and no row, so it is in nobody's way, and the server itself
ends it, by idle_in_transaction_session_timeout, when its owner has not renewed it in time.
"""

from __future__ import annotations

import zlib

from sqlalchemy import BigInteger, Dialect, String, TextClause, bindparam, text

from reaper.sql.tables import ProfileTables

# Without parameters: the driver then sends a simple query, which is done with when it is answered. One with parameters
# leaves its portal, and the portal's snapshot, behind until the transaction ends, and no dead row could be vacuumed.
# The server says which table the name means here: with a schema per tenant there are many of that name in one database.
_TAKE = text(
    "SELECT set_config('idle_in_transaction_session_timeout', :ttl, true),"
    " pg_try_advisory_xact_lock("
    "(CAST(:profile AS bigint) << 32) | coalesce(to_regclass(:jobs)::oid::bigint, 0)) AS mine"
)


def lease_statement(schema: ProfileTables, dialect: Dialect, ttl_seconds: float) -> TextClause:
    """The statement that takes the lease of one job table, the same for every replica, whatever it calls its source."""
    given = {
        "ttl": (String, f"{round(ttl_seconds * 1000)}"),
        "profile": (BigInteger, zlib.crc32(schema.profile.name.encode()) & 0x7FFFFFFF),
        "jobs": (String, dialect.identifier_preparer.format_table(schema.jobs)),
    }
    return _TAKE.bindparams(
        *(bindparam(name, value, type_=kind, literal_execute=True) for name, (kind, value) in given.items())
    )
