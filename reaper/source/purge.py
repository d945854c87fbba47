"""Deleting finished jobs: find the oldest, lock, judge again, delete them with the rows that belong to them.

One transaction deletes one batch:

1. Lock the rows by key, and skip those that another transaction holds.
2. In a new statement, whose snapshot sees everything that was committed before the lock, ask again which of them may be
   deleted.
3. Delete the rows that belong to those jobs, in the profile's order, and then the jobs' rows.
4. Commit.

A job may be deleted when the profile's purge says that it has ended, before the cutoff; when it does not run, whatever
the purge says; when no row of `needed` exists; and when no parent or child of it runs.

What others can do between two of these statements:

- A worker or an operator that wants to change or requeue the row waits for our commit, since step 1 has locked it, and
  then finds it gone. Nor can the row become the parent of a new job where that has a foreign key.
- A child that starts to run after step 2 starts as it would after the commit: that its parent is gone does not stop it.
- A second reaper skips the rows that this one has locked.
- If this process is killed, or the server stops or fails over before the commit, the server rolls everything back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Engine,
    FromClause,
    Select,
    and_,
    delete,
    func,
    literal,
    not_,
    or_,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError

from reaper.database.dialect import dialect_of
from reaper.database.errors import error_number, sqlstate
from reaper.database.lease import Lease
from reaper.errors import PartialTransition
from reaper.model import Key, TimestampFormat
from reaper.profile import Delete as DeleteStep
from reaper.profile import PurgeRules
from reaper.source.survey import Candidate
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.keys import key_parameters
from reaper.sql.tables import ProfileTables, reserved_alias

_DAY_SECONDS = 86400.0
# A foreign key may change rows that another transaction holds: to wait for those would keep the whole batch locked.
_SHORT_LOCK_TIMEOUT = {"postgresql": text("SELECT set_config('lock_timeout', '200', true)")}
_SHORT_LOCK_TIMEOUT_MARIADB = text("SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1")
_LOCK_NOT_AVAILABLE, _LOCK_WAIT_TIMEOUT = "55P03", 1205


def purge_cutoff(connection: Connection, days_to_keep: float) -> datetime:
    """The moment that many days ago, by the database's clock."""
    moment = sql.add_seconds(sql.now(), -days_to_keep * _DAY_SECONDS)
    cutoff: datetime = connection.execute(select(moment)).scalar_one()
    return cutoff


def is_lock_timeout(error: DBAPIError) -> bool:
    """Another transaction holds a row that has to be changed."""
    return sqlstate(error) == _LOCK_NOT_AVAILABLE or error_number(error) == _LOCK_WAIT_TIMEOUT


def purge_lease(engine: Engine, tables: ProfileTables, ttl_seconds: float) -> Lease:
    """The lease of purges, the same for every replica. Not that of sweeps: one replica can sweep and another purge."""
    purge_profile = tables.profile.model_copy(update={"name": f"{tables.profile.name} purge"})
    return Lease(engine, ProfileTables(purge_profile), ttl_seconds)


class PurgeStatements:
    """The statements that delete the jobs that ended before one moment."""

    def __init__(self, tables: ProfileTables, before: datetime) -> None:
        """Raises ValueError for a profile without a purge, or whose jobs are a log."""
        purge = tables.profile.purge
        if purge is None or tables.profile.jobs.log is not None:
            raise ValueError(f"profile {tables.profile.name!r} does not purge")
        self._tables, self._purge, self._before = tables, purge, before
        self._table = tables.profile.jobs.table
        self._timestamp_format = tables.timestamp_format(self._table)
        self.second_check = self._deletable()
        self.lock = self.second_check.with_for_update(skip_locked=True)
        self.delete_related = [self._delete_related(step) for step in purge.also]
        self.delete = self._delete(purge)

    def count(self, connection: Connection) -> int:
        """How many jobs may be deleted now."""
        count = select(func.count()).select_from(self._tables.jobs).where(self._may_be_deleted(self._tables.jobs))
        return int(connection.execute(count).scalar_one())

    def page(self, after: Candidate | None, limit: int) -> Select[Any]:
        """The next rows that may be deleted, ordered by their ends and keys. The end is the candidate's version."""
        jobs = self._tables.jobs
        ended, key = self._ended(jobs), self._tables.key(jobs)
        where = [self._may_be_deleted(jobs)]
        if after is not None:
            end = sql.untyped(after.version[0])
            # The first condition follows from the second, but only the first can use an index on the end.
            where += [ended >= end, or_(ended > end, _after_key(key, after.key))]
        page = select(*self._tables.key_text(jobs), sql.text_of(ended)).where(*where)
        return page.order_by(ended, *key).limit(limit)

    def stream(self, connection: Connection, after: Candidate | None, limit: int) -> Iterator[Candidate]:
        """The rows of a page one after the other, never all in memory."""
        width = len(self._tables.profile.jobs.key)
        for row in dialect_of(connection).stream(connection, self.page(after, limit)):
            yield Candidate(tuple(row[:width]), tuple(row[width:]))

    def run(self, connection: Connection, keys: Sequence[Key]) -> int:
        """Delete those of the jobs that may be deleted, inside the caller's transaction. Returns how many those were.

        Raises DBAPIError when the database refuses any of it, PartialTransition when a row stays without an error.
        """
        connection.execute(_SHORT_LOCK_TIMEOUT.get(connection.dialect.name, _SHORT_LOCK_TIMEOUT_MARIADB))
        locked = [tuple(row) for row in connection.execute(self.lock, key_parameters(keys))] if keys else []
        if not locked:
            return 0
        to_delete = [tuple(row) for row in connection.execute(self.second_check, key_parameters(locked))]
        if not to_delete:
            return 0
        for statement in self.delete_related:
            connection.execute(statement, key_parameters(to_delete))
        deleted = connection.execute(self.delete, key_parameters(to_delete)).rowcount
        if deleted != len(to_delete):
            raise PartialTransition(
                f"{self._table}: {deleted} of {len(to_delete)} finished rows were deleted: a trigger or rule interferes"
            )
        return len(to_delete)

    # --- which rows ------------------------------------------------------------------------------------------

    def _may_be_deleted(self, jobs: FromClause) -> ColumnElement[bool]:
        return and_(
            self._tables.conditions_hold(self._purge.where, jobs, self._table),
            self._ended_before_cutoff(jobs),
            not_(self._tables.running(jobs)),
            *(not_(self._tables.has_related_row(needed, jobs)) for needed in self._purge.needed),
            *(not_(relative) for relative in self._running_relatives(jobs)),
        )

    def _ended_before_cutoff(self, jobs: FromClause) -> ColumnElement[bool]:
        """Also compares the column as it is stored, which can use an index on it."""
        columns = [self._tables.instant(self._table, jobs.c[name]) for name in self._purge.at]
        ended_at = func.coalesce(*columns, type_=sql.INSTANT) if len(columns) > 1 else columns[0]
        return and_(self._ended(jobs) < self._stored_cutoff(), ended_at < sql.instant(self._before))

    def _ended(self, jobs: FromClause) -> Element:
        """The end as it is stored."""
        columns = [jobs.c[name] for name in self._purge.at]
        return func.coalesce(*columns) if len(columns) > 1 else columns[0]

    def _stored_cutoff(self) -> Element:
        """The cutoff as the columns store it. An epoch in whole units, so that an index on integers can be used."""
        if self._timestamp_format in (TimestampFormat.EPOCH_S, TimestampFormat.EPOCH_MS):
            units_per_second = 1 if self._timestamp_format is TimestampFormat.EPOCH_S else 1000
            return literal(math.ceil(self._before.timestamp() * units_per_second))
        return sql.from_instant(sql.instant(self._before), self._timestamp_format)

    def _running_relatives(self, jobs: FromClause) -> list[ColumnElement[bool]]:
        """A child of the job runs, or a parent: it may read this job's row, or count it."""
        conditions: list[ColumnElement[bool]] = []
        for witness in self._tables.profile.alive:
            if witness.children is None:
                continue
            child = self._tables.table(self._table).alias(reserved_alias("child"))
            parent = self._tables.table(self._table).alias(reserved_alias("parent"))
            parent_of_child = [child.c[name] for name in witness.children.parent]
            parent_of_job = [jobs.c[name] for name in witness.children.parent]
            for relative, is_relative in (
                (child, ProfileTables.keys_equal(parent_of_child, self._tables.key(jobs))),
                (parent, ProfileTables.keys_equal(self._tables.key(parent), parent_of_job)),
            ):
                running = select(literal(1)).select_from(relative).where(is_relative, self._tables.running(relative))
                conditions.append(running.correlate(jobs).exists())
        return conditions

    # --- statements ------------------------------------------------------------------------------------------

    def _deletable(self) -> Select[Any]:
        """The jobs of a batch that may be deleted."""
        jobs = self._tables.jobs
        return select(*self._tables.key_text(jobs)).where(self._tables.key_in_batch(jobs), self._may_be_deleted(jobs))

    def _delete_related(self, step: DeleteStep) -> Delete:
        """Deletes the rows that belong to the jobs of a batch; a row that is a job itself only if it does not run."""
        row, jobs = self._tables.table(step.table), self._tables.jobs.alias(reserved_alias("job"))
        where = [self._tables.key_in_batch(jobs), self._tables.belongs_to_job(step, row, jobs)]
        if step.table == self._table:
            where.append(not_(self._tables.running(row)))
        return delete(row).where(*where)

    def _delete(self, purge: PurgeRules) -> Delete:
        jobs = self._tables.jobs
        statement = delete(jobs).where(self._tables.key_in_batch(jobs))
        running = self._tables.profile.jobs.running
        read_by_running = {related.table for related in running.related} if running else set()
        # Rows that were deleted just before must not make the job look as if it ran.
        if read_by_running & {step.table for step in purge.also}:
            return statement
        return statement.where(not_(self._tables.running(jobs)))


def _after_key(columns: Sequence[Element], key: Key) -> ColumnElement[bool]:
    """These columns come after the key in the order of the columns."""
    (column, *other_columns), (value, *other_values) = columns, key
    is_greater: ColumnElement[bool] = column > sql.untyped(value)
    if not other_columns:
        return is_greater
    return or_(is_greater, and_(column == sql.untyped(value), _after_key(other_columns, tuple(other_values))))
