"""The holder of a row lock on PostgreSQL.

A row lock is not in pg_locks. The row itself carries the number of the holder's transaction (xmax), and pg_locks shows
which session holds the lock on that number. Several holders share a number of another kind (a multixact), which is
resolved into its members first.
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
"""The system column with the holder's transaction. Reading it needs a privilege as for any other column."""
_INSUFFICIENT_PRIVILEGE = "42501"

TRANSACTION_OWNER = """
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
OLDER_TRANSACTIONS = """
    SELECT l.transactionid::text FROM pg_locks l
    WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
      AND age(l.transactionid) >= age(CAST(CAST(:number AS text) AS xid))
      AND EXISTS (SELECT FROM pg_locks r
                  WHERE r.virtualtransaction = l.virtualtransaction AND r.locktype = 'relation'
                    AND r.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND r.relation = to_regclass(:table) AND r.mode IN ('RowShareLock', 'RowExclusiveLock'))
    """
MULTIXACT_MEMBERS = "SELECT xid::text FROM pg_get_multixact_members(CAST(CAST(:number AS text) AS xid))"

LOG_WRITER = """
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


def find_lock_holder(connection: Connection, tables: ProfileTables, key: Key) -> LockHolder | None:
    """The transaction that has held the job's row longest; None when none does, or when it cannot be found out."""
    table = connection.dialect.identifier_preparer.format_table(tables.jobs)
    if tables.profile.jobs.log is not None:
        # Entries of a log are never locked: the lock is one on the table.
        return _lock_holder(connection.execute(text(LOG_WRITER), {"table": table}).one_or_none())
    number = _transaction_number(connection, tables, key)
    if number is None or number == "0":
        return None
    return (
        _owner(connection, [number])
        or _owner(connection, _multixact_members(connection, number))
        or _owner(connection, _only_older_transaction(connection, table, number))
    )


def _transaction_number(connection: Connection, tables: ProfileTables, key: Key) -> str | None:
    """The row's xmax; None without the row, and where the role may not read it, since it only serves a message."""
    xmax = select(cast(column(XMAX), Text)).select_from(tables.jobs).where(tables.key_in_batch(tables.jobs))
    try:
        with connection.begin_nested():
            number: str | None = connection.execute(xmax, key_parameters([key])).scalar_one_or_none()
    except DBAPIError as error:
        if sqlstate(error) != _INSUFFICIENT_PRIVILEGE:
            raise
        return None
    return number


def _owner(connection: Connection, numbers: Sequence[str]) -> LockHolder | None:
    if not numbers:
        return None
    return _lock_holder(connection.execute(text(TRANSACTION_OWNER), {"numbers": list(numbers)}).one_or_none())


def _lock_holder(row: Row[Any] | None) -> LockHolder | None:
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


def _multixact_members(connection: Connection, number: str) -> list[str]:
    """The transactions that share a lock; none when the number is not a multixact's."""
    try:
        with connection.begin_nested():
            return list(connection.execute(text(MULTIXACT_MEMBERS), {"number": number}).scalars())
    except DBAPIError:
        # For the number of a plain transaction the server raises an error: there is no other way to tell the two apart.
        return []


def _only_older_transaction(connection: Connection, table: str, number: str) -> list[str]:
    """The holder after a released savepoint, which keeps its row locks and gives up the lock on its number.

    It is a transaction that is older than the number and has locks on the table. It is known only when there is one.
    """
    numbers = list(connection.execute(text(OLDER_TRANSACTIONS), {"number": number, "table": table}).scalars())
    return numbers if len(numbers) == 1 else []
