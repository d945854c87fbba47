"""Who holds the row of a job.

A row lock is not in pg_locks: the row itself carries the holder's transaction (xmax), and that transaction holds a
lock on its own number, which is. Several holders share a number of their own kind, which is taken apart first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, column, select, text
from sqlalchemy.exc import DBAPIError

from reaper.database.errors import sqlstate
from reaper.model import Key, LockHolder
from reaper.sql.keys import key_parameters
from reaper.sql.tables import ProfileTables

XMAX = "xmax"
"""The column of every row that carries the holder. To read it is a privilege like that to any other."""
_FORBIDDEN = "42501"

TRANSACTION_OWNER = text(
    """
    SELECT l.pid, a.application_name, a.usename, coalesce(a.state, p.gid) AS state,
           to_char(timezone('UTC', coalesce(a.xact_start, p.prepared)), 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS since,
           extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, p.prepared))::float AS held
    FROM pg_locks l
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN (SELECT transaction, prepared, 'prepared transaction ' || gid AS gid FROM pg_prepared_xacts) p
           ON p.transaction = l.transactionid
    WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
      AND l.transactionid::text = ANY (:numbers)
    ORDER BY held DESC NULLS LAST LIMIT 1
    """
)
OLDER_TRANSACTIONS = text(
    """
    SELECT l.transactionid::text FROM pg_locks l
    WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
      AND age(l.transactionid) >= age(CAST(CAST(:number AS text) AS xid))
      AND EXISTS (SELECT FROM pg_locks r
                  WHERE r.virtualtransaction = l.virtualtransaction AND r.locktype = 'relation'
                    AND r.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND r.relation = to_regclass(:table) AND r.mode IN ('RowShareLock', 'RowExclusiveLock'))
    """
)
MULTIXACT_MEMBERS = text("SELECT xid::text FROM pg_get_multixact_members(CAST(CAST(:number AS text) AS xid))")

LOG_WRITER = text(
    """
    SELECT a.pid, coalesce(nullif(a.application_name, ''), a.backend_type) AS application_name, a.usename, a.state,
           to_char(timezone('UTC', a.xact_start), 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS since,
           extract(epoch FROM clock_timestamp() - a.xact_start)::float AS held
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.relation IN (SELECT to_regclass(:table) UNION ALL SELECT relid FROM pg_partition_tree(to_regclass(:table)))
      AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
    ORDER BY held DESC NULLS LAST LIMIT 1
    """
)


def find_lock_holder(connection: Connection, schema: ProfileTables, key: Key) -> LockHolder | None:
    """The one who has held the row longest, or None when nobody (any more) does or it cannot be told."""
    table = connection.dialect.identifier_preparer.format_table(schema.jobs)
    if schema.profile.jobs.log is not None:
        # Entries of a log are never locked: it is the log that somebody holds.
        return _named(connection.execute(LOG_WRITER, {"table": table}).one_or_none())
    number = _number(connection, schema, key)
    if number is None or number == "0":
        return None
    return (
        _owner(connection, [number])
        or _owner(connection, _members(connection, number))
        or _owner(connection, _only_suspect(connection, table, number))
    )


def _number(connection: Connection, schema: ProfileTables, key: Key) -> str | None:
    """The transaction that the row carries; None, too, where the role may not read that: it is told for people."""
    where = schema.key_in_batch(schema.jobs)
    asked = select(cast(column(XMAX), Text)).select_from(schema.jobs).where(where)
    try:
        with connection.begin_nested():
            number: str | None = connection.execute(asked, key_parameters([key])).scalar_one_or_none()
    except DBAPIError as error:
        if sqlstate(error) != _FORBIDDEN:
            raise
        return None
    return number


def _owner(connection: Connection, numbers: Sequence[str]) -> LockHolder | None:
    return _named(connection.execute(TRANSACTION_OWNER, {"numbers": list(numbers)}).one_or_none()) if numbers else None


def _named(row: Row[Any] | None) -> LockHolder | None:
    if row is None:
        return None
    return LockHolder(
        pid=row.pid,
        application=row.application_name or None,
        user=row.usename,
        state=row.state,
        since=row.since,
        held_seconds=row.held,
    )


def _members(connection: Connection, number: str) -> list[str]:
    """The transactions behind a shared lock; none when the number is not of that kind."""
    try:
        with connection.begin_nested():
            return list(connection.execute(MULTIXACT_MEMBERS, {"number": number}).scalars())
    except DBAPIError:
        # Asked of a plain transaction's number, the server answers with an error: there is no other way to tell.
        return []


def _only_suspect(connection: Connection, table: str, number: str) -> list[str]:
    """A released savepoint keeps its row locks and gives up the lock on its number.

    The holder is then a transaction that is older than the number and works on the table; it is named only when there
    is but one such.
    """
    found = list(connection.execute(OLDER_TRANSACTIONS, {"number": number, "table": table}).scalars())
    return found if len(found) == 1 else []
