"""The holder of a row lock on MariaDB.

MariaDB shows which transactions hold row locks, but on which rows only where another transaction waits for one. So the
holder is known only when a single transaction holds row locks in the database.
"""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from reaper.model import LockHolder

# The view shows times in the server's own time zone, whatever the session's is.
LOCKING_TRANSACTIONS = """
    SELECT t.trx_mysql_thread_id AS pid, p.user AS user,
           CASE p.command WHEN 'Sleep' THEN 'idle in transaction' ELSE LOWER(p.command) END AS state,
           DATE_FORMAT(CONVERT_TZ(t.trx_started, 'SYSTEM', '+00:00'), '%Y-%m-%dT%H:%i:%SZ') AS since,
           TIMESTAMPDIFF(MICROSECOND, CONVERT_TZ(t.trx_started, 'SYSTEM', '+00:00'), NOW(6)) / 1e6 AS held
    FROM information_schema.innodb_trx t
    JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id
    WHERE (t.trx_rows_locked > 0 OR t.trx_rows_modified > 0) AND p.db = DATABASE() AND p.id <> CONNECTION_ID()
    LIMIT 2
    """


def find_lock_holder(connection: Connection) -> LockHolder | None:
    """The only transaction that can hold it; None where several can, or without the privilege PROCESS to see them."""
    try:
        transactions = connection.execute(text(LOCKING_TRANSACTIONS)).all()
    except DBAPIError:
        # A privilege is missing. The transaction goes on: on MariaDB an error ends only its statement.
        if connection.invalidated:
            raise
        return None
    if len(transactions) != 1:
        return None
    [row] = transactions
    return LockHolder(
        pid=row.pid, application=None, user=row.user, state=row.state, since=row.since, held_seconds=float(row.held)
    )
