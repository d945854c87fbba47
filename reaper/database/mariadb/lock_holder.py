"""The holder of a row lock on MariaDB.

MariaDB shows which transactions hold row locks, but on which rows only where another transaction waits for one. Whether
a row is locked is found out by locking it, without waiting, in a transaction that ends at once. Who holds it is known
only when a single transaction holds row locks in the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, select, text
from sqlalchemy.exc import DBAPIError

from reaper.model import Key, LockHolder
from reaper.sql.keys import key_parameters
from reaper.sql.statement import StatementCompiler
from reaper.sql.tables import ProfileTables, reserved_alias

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
# Empty on a server without its performance schema, and refused to a role without a right to it.
PROGRAM_NAME = """
    SELECT attr_value FROM performance_schema.session_connect_attrs
    WHERE processlist_id = :pid AND attr_name = 'program_name'
    """


def find_lock_holders(connection: Connection, tables: ProfileTables, keys: Sequence[Key]) -> dict[Key, LockHolder]:
    """Of each job whose row, or a row that belongs to it, is locked: the only transaction that can hold it.

    A holder without a process: several transactions could be it. In a transaction that may write, and ends at once.
    Empty without the privilege PROCESS, or those to lock the rows.
    """
    if not keys or not (transactions := _attempt(connection, lambda: _transactions(connection))):
        return {}
    holder = _holder(connection, transactions)
    if tables.profile.jobs.log is not None:
        # Entries of a log are never locked.
        return dict.fromkeys(keys, holder)
    locked = _attempt(connection, lambda: list(_locked_rows(connection, tables, keys)))
    return {key: replace(holder, table=table) for key, table in reversed(locked)}


def _attempt(connection: Connection, read: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    """The rows; none where a privilege is missing. The transaction goes on: an error ends only its statement."""
    try:
        return read()
    except DBAPIError:
        if connection.invalidated:
            raise
        return ()


def _transactions(connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(text(LOCKING_TRANSACTIONS)).all()


def _holder(connection: Connection, transactions: Sequence[Row[Any]]) -> LockHolder:
    if len(transactions) != 1:
        return LockHolder(None, None, None, None, None, None)
    [row] = transactions
    names = _attempt(connection, lambda: connection.execute(text(PROGRAM_NAME), {"pid": row.pid}).scalars().all())
    return LockHolder(
        pid=row.pid,
        application=names[0] if names else None,
        user=row.user,
        state=row.state,
        since=row.since,
        held_seconds=float(row.held),
    )


def _locked_rows(
    connection: Connection, tables: ProfileTables, keys: Sequence[Key]
) -> Iterator[tuple[Key, str | None]]:
    """The jobs with a locked row; with the table of the row, where it is not the job's own."""
    compiled, values = StatementCompiler(connection.dialect), key_parameters(keys)
    for table, query in row_queries(tables):
        # The free ones first: a row that is deleted in between is not taken for a locked one.
        free, existing = (
            Counter(tuple(row) for row in compiled(form).execute(connection, values))
            for form in (query.with_for_update(skip_locked=True), query)
        )
        yield from ((key, table) for key in keys if free[key] < existing[key])


def row_queries(tables: ProfileTables) -> Iterator[tuple[str | None, Select[Any]]]:
    """The keys of the jobs, once for the job's own row (None), and once for each row that belongs to it, by table."""
    jobs = tables.jobs
    yield None, select(*tables.key_text(jobs)).where(tables.key_in_batch(jobs))
    for part in tables.profile.jobs.parts:
        row = tables.table(part.table).alias(reserved_alias("part"))
        joined = jobs.join(row, tables.belongs_to_job(part, row, jobs))
        yield part.table, select(*tables.key_text(jobs)).select_from(joined).where(tables.key_in_batch(jobs))
