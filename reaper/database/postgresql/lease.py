"""The lease on PostgreSQL: a transaction that holds an advisory lock and does nothing else.

That works through a pooler which gives each transaction another server connection; a session's lock would stay behind
on a connection that others use. The transaction holds no snapshot and no row, so it blocks nothing. The server ends it,
by idle_in_transaction_session_timeout, when its owner has not renewed it in time.
"""

from __future__ import annotations

import zlib

from sqlalchemy import BigInteger, Dialect, String, TextClause, bindparam, text

from reaper.database.postgresql.search_path import PINNED
from reaper.database.postgresql.settings import set_for_transaction
from reaper.sql.tables import ProfileTables

# Without parameters: the driver then sends a simple query, of which nothing is left after the answer. A query with
# parameters leaves its portal, and the portal's snapshot, open until the transaction ends, and no dead row could be
# vacuumed. The server resolves the name of the table: with a schema per tenant, one database has many of that name.
#
# The path is pinned only while the statement runs, and its names have been looked up before: all are qualified.
_TAKE = (
    "SELECT "
    + set_for_transaction({"search_path": f"'{PINNED}'", "idle_in_transaction_session_timeout": ":ttl"})
    + ", pg_catalog.pg_try_advisory_xact_lock("
    "(CAST(:profile AS bigint) OPERATOR(pg_catalog.<<) 32) OPERATOR(pg_catalog.|)"
    " coalesce(CAST(CAST(pg_catalog.to_regclass(:jobs) AS pg_catalog.oid) AS bigint), CAST(0 AS bigint))) AS mine"
)


def lease_statement(tables: ProfileTables, dialect: Dialect, ttl_seconds: float) -> TextClause:
    """The statement that takes the lease of one job table, the same for every replica, whatever it calls its source."""
    parameters = {
        "ttl": (String, f"{round(ttl_seconds * 1000)}"),
        "profile": (BigInteger, zlib.crc32(tables.profile.name.encode()) & 0x7FFFFFFF),
        "jobs": (String, dialect.identifier_preparer.format_table(tables.jobs)),
    }
    return text(_TAKE).bindparams(
        *(bindparam(name, value, type_=kind, literal_execute=True) for name, (kind, value) in parameters.items())
    )
