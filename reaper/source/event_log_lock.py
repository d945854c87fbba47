"""Locks for jobs that exist only as entries of an event log ("executions"), and so have no row that can be locked.

An advisory lock for each job keeps a second reaper out. With `lock = "table"` there is also a SHARE ROW EXCLUSIVE lock
on the log: it waits a short time for entries that are being written, and then keeps others from being written until the
transaction ends. What the second check does not see can then only come after the commit.

With `lock = "job"` no writer waits. A job system that numbers the entries of a job one after the other then meets the
number of our entry, or we meet its: the unique key refuses the second one, which looks again. A job system with other
numbers may write an entry between the second check and the commit, and needs `lock = "table"`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, func, literal, select, text
from sqlalchemy.exc import DBAPIError

from reaper.database.errors import is_lock_timeout
from reaper.database.postgresql.settings import set_for_transaction
from reaper.errors import LogBusy
from reaper.profile import Profile
from reaper.sql import expressions as sql
from reaper.sql.statement import CompiledStatement, StatementCompiler
from reaper.sql.tables import ProfileTables, reserved_alias

_WAIT_MS = 200
# Longer than PostgreSQL's usual deadlock_timeout, after which autovacuum gives its lock up to those who wait for it.
_LONG_WAIT_MS = 1500


def lock_jobs(tables: ProfileTables, still_running: Select[Any]) -> Select[Any]:
    """The rows of `still_running` whose job this transaction could lock, by an advisory lock."""
    # A CTE, so that a job which another condition excludes is not locked on the way.
    running = still_running.cte(reserved_alias("running")).prefix_with("MATERIALIZED", dialect="postgresql")
    profile = tables.profile
    prefix = literal(f"{profile.name} {profile.jobs.table} ")
    key = (part for n in range(len(profile.jobs.key)) for part in (list(running.c)[n], " "))
    lock_name = sql.concat(prefix, *key)
    return select(running).where(func.pg_try_advisory_xact_lock(func.hashtextextended(lock_name, 0)))


def wait_values(*, long_wait: bool) -> dict[str, str]:
    """The parameter of the statement that limits how long the lock on the log is waited for."""
    return {"wait": f"{_LONG_WAIT_MS if long_wait else _WAIT_MS}"}


def locks_log(profile: Profile) -> bool:
    """The profile asks for a lock on the log."""
    return profile.jobs.log is not None and profile.jobs.log.lock == "table"


class EventLogLock:
    """Keeps entries from being written to a log until the transaction ends, where its profile asks for that."""

    def __init__(self, tables: ProfileTables, compiler: StatementCompiler) -> None:
        self._table = tables.profile.jobs.table
        self.statements: list[CompiledStatement] = []
        if locks_log(tables.profile):
            lock_timeout = text("SELECT " + set_for_transaction({"lock_timeout": ":wait"}))
            self.statements = [compiler(lock_timeout), compiler(sql.LockTable(tables.jobs))]

    def acquire(self, connection: Connection, *, long_wait: bool) -> None:
        """Raises LogBusy when another transaction has been writing to the log for the whole time."""
        if not self.statements:
            return
        lock_timeout, lock_table = self.statements
        try:
            lock_timeout.execute(connection, wait_values(long_wait=long_wait))
            lock_table.execute(connection, {})
        except DBAPIError as error:
            if is_lock_timeout(error):
                raise LogBusy(f"{self._table}: another transaction is writing to the log") from error
            raise
