"""The lease as a user-level lock, which lives as long as its connection.

The server hangs up on a connection that has been idle for `wait_timeout`, and gives the lock free. Limitation: behind
a proxy that lends server connections by the transaction, the lock would stay with a connection of somebody else's.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from sqlalchemy import TextClause, text

from reaper.sql.tables import ProfileTables, split_name

# The name is one for the whole server and has at most 64 characters. The table's is compared as the server does it.
_TAKE = text(
    """
    SELECT COALESCE(IF(IS_USED_LOCK(name) = CONNECTION_ID(), 1, GET_LOCK(name, 0)), 0) AS mine
    FROM (SELECT CONCAT('reaper/', :profile, '/', MD5(IF(@@lower_case_table_names = 0, place, LOWER(place)))) AS name
          FROM (SELECT CONCAT(COALESCE(:schema, DATABASE()), '.', :jobs) AS place) AS given) AS lease
    """
)


def lease_statements(schema: ProfileTables, ttl_seconds: float) -> Sequence[TextClause]:
    """The statements that take or renew the lease, the same for every replica."""
    database, table = split_name(schema.profile.jobs.table)
    profile = zlib.crc32(schema.profile.name.encode())
    return (
        text("SET SESSION wait_timeout = :ttl").bindparams(ttl=max(1, round(ttl_seconds))),
        _TAKE.bindparams(profile=f"{profile:08x}", schema=database, jobs=table),
    )
