"""The lease on MariaDB: a user-level lock, which lasts as long as its connection.

The server closes a connection that has been idle for `wait_timeout`, and releases the lock. Limitation: behind a proxy
that gives each transaction another server connection, the lock would stay with a connection that others use.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from sqlalchemy import TextClause, text

from reaper.sql.tables import ProfileTables, split_name

# All databases of the server share the names of locks, which have at most 64 characters. The name of the table is
# compared as the server compares it.
_TAKE = """
    SELECT COALESCE(IF(IS_USED_LOCK(name) = CONNECTION_ID(), 1, GET_LOCK(name, 0)), 0) AS mine
    FROM (SELECT CONCAT('reaper/', :profile, '/', MD5(IF(@@lower_case_table_names = 0, place, LOWER(place)))) AS name
          FROM (SELECT CONCAT(COALESCE(:schema, DATABASE()), '.', :jobs) AS place) AS given) AS lease
    """


def lease_statements(tables: ProfileTables, ttl_seconds: float) -> Sequence[TextClause]:
    """The statements that take or renew the lease of one job table, the same for every replica."""
    database, table = split_name(tables.profile.jobs.table)
    profile = zlib.crc32(tables.profile.name.encode())
    return (
        text("SET SESSION wait_timeout = :ttl").bindparams(ttl=max(1, round(ttl_seconds))),
        text(_TAKE).bindparams(profile=f"{profile:08x}", schema=database, jobs=table),
    )
