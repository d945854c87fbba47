"""The holder of a row lock on PostgreSQL.

A row lock is not in pg_locks. The row itself carries the number of the holder's transaction (xmax), and pg_locks shows
which session holds the lock on that number. Several holders share a number of another kind (a multixact), which is
resolved into its members first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    TableClause,
    Text,
    cast,
    column,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from reaper.database.errors import sqlstate
from reaper.database.postgresql.view_rows import rows_behind_view
from reaper.model import Key, LockHolder
from reaper.profile import Related
from reaper.sql.keys import key_parameters
from reaper.sql.tables import ProfileTables, reserved_alias

XMAX = "xmax"
"""The system column with the holder's transaction. Reading it needs a privilege as for any other column."""
_NONE = "0"
"""Its value in a row that no transaction has locked."""
_MOST_NUMBERS = 200
"""So many rows are looked at."""
_DENIED, _NO_SUCH_COLUMN = "42501", "42703"
"""SQLSTATEs: a privilege is missing; there is no such column, as in a view."""
_REFUSED_STATEMENT = "42"
"""How the SQLSTATE begins of a missing privilege, and of types that do not fit where a column of a view is computed."""

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


def find_lock_holders(connection: Connection, tables: ProfileTables, keys: Sequence[Key]) -> dict[Key, LockHolder]:
    """Of each job whose row, or a row that belongs to it, is locked: the transaction that has held it longest.

    A job is missing, too, when its holder cannot be found out.
    """
    if not keys:
        return {}
    if tables.profile.jobs.log is not None:
        # Entries of a log are never locked: the lock is one on the table.
        log = connection.dialect.identifier_preparer.format_table(tables.jobs)
        writer = _lock_holder(connection.execute(text(LOG_WRITER), {"table": log}).one_or_none())
        return dict.fromkeys(keys, writer) if writer else {}
    found = dict[Key, LockHolder]()
    for place in (None, *tables.profile.jobs.parts):
        rows, table = _read_numbers(connection, tables, place, [key for key in keys if key not in found])
        owners = {number: _holder_by_number(connection, table, number) for number in dict.fromkeys(n for _, n in rows)}
        for key, number in rows:
            holder = owners[number]
            if holder is not None and _held_longer(holder, found.get(key)):
                found[key] = replace(holder, table=place.table if place else None)
    return found


def _held_longer(one: LockHolder, other: LockHolder | None) -> bool:
    return other is None or (one.held_seconds or 0.0) > (other.held_seconds or 0.0)


def numbers_query(
    tables: ProfileTables, part: Related | None, jobs: FromClause | None = None, rows: FromClause | None = None
) -> Select[Any]:
    """The keys of jobs, and the number of the transaction that holds, or has held, the row of each: its own row, or
    those of a part of it.

    `jobs` and `rows`: those behind the views that the profile names as the tables of jobs and of the part.
    """
    jobs = tables.jobs if jobs is None else jobs
    number = _system_column(jobs)
    query = select(*tables.key_text(jobs), number)
    if part is not None:
        row = (tables.table(part.table) if rows is None else rows).alias(reserved_alias("part"))
        number = _system_column(row)
        joined = jobs.join(row, tables.belongs_to_job(part, row, jobs))
        query = select(*tables.key_text(jobs), number).distinct().select_from(joined)
    return query.where(tables.key_in_batch(jobs), number != _NONE).limit(_MOST_NUMBERS)


def _system_column(rows: FromClause) -> ColumnElement[str]:
    return cast(column(XMAX, _selectable=rows), Text)


def _holder_by_number(connection: Connection, table: TableClause, number: str) -> LockHolder | None:
    return (
        _owner(connection, [number])
        or _owner(connection, _multixact_members(connection, number))
        or _owner(connection, _only_older_transaction(connection, table, number))
    )


def _read_numbers(
    connection: Connection, tables: ProfileTables, part: Related | None, keys: Sequence[Key]
) -> tuple[list[tuple[Key, str]], TableClause]:
    """Each key with a number, and the table with these rows; no key where that cannot be read, since it only serves a
    message.
    """
    table = tables.table(part.table) if part else tables.jobs
    if not keys:
        return [], table
    try:
        return _numbers(connection, numbers_query(tables, part), keys), table
    except DBAPIError as error:
        if sqlstate(error) not in (_DENIED, _NO_SUCH_COLUMN):
            raise
        if sqlstate(error) == _DENIED:
            return [], table
    jobs = rows_behind_view(connection, tables.jobs, tables.profile.jobs.key, XMAX)
    rows = rows_behind_view(connection, table, part.match, XMAX) if part else jobs
    if jobs is None and rows is None:  # a view that is not of one table
        return [], table
    query = numbers_query(tables, part, jobs.rows if jobs else None, rows.rows if rows and part else None)
    try:
        return _numbers(connection, query, keys), rows.table if rows else table
    except DBAPIError as error:
        if not (sqlstate(error) or "").startswith(_REFUSED_STATEMENT):
            raise
        return [], table


def _numbers(connection: Connection, query: Select[Any], keys: Sequence[Key]) -> list[tuple[Key, str]]:
    with connection.begin_nested():
        rows = connection.execute(query, key_parameters(keys)).all()
    return [(tuple(row[:-1]), row[-1]) for row in rows]


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


def _only_older_transaction(connection: Connection, table: TableClause, number: str) -> list[str]:
    """The holder after a released savepoint, which keeps its row locks and gives up the lock on its number.

    It is a transaction that is older than the number and has locks on the table. It is known only when there is one.
    """
    named = connection.dialect.identifier_preparer.format_table(table)
    numbers = list(connection.execute(text(OLDER_TRANSACTIONS), {"number": number, "table": named}).scalars())
    return numbers if len(numbers) == 1 else []
