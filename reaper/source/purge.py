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
    BigInteger,
    ColumnElement,
    Connection,
    Delete,
    Engine,
    FromClause,
    Integer,
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

from reaper.database.errors import error_number, sqlstate
from reaper.database.lease import Lease
from reaper.errors import PartialTransition
from reaper.model import Key, TimestampFormat
from reaper.profile import Delete as DeleteStep
from reaper.source.statements import SourceStatements
from reaper.source.survey import Candidate
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.keys import key_parameters
from reaper.sql.statement import CompiledStatement, StatementCompiler
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness.rule import Rule

_DAY_SECONDS = 86400.0
# A foreign key may change rows that another transaction holds: to wait for those would keep the whole batch locked.
_SHORT_LOCK_TIMEOUT = {"postgresql": text("SELECT set_config('lock_timeout', '200', true)")}
_SHORT_LOCK_TIMEOUT_MARIADB = text("SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1")
_BEFORE, _BEFORE_S, _BEFORE_MS = "reaper_before", "reaper_before_s", "reaper_before_ms"
_AFTER_END, _AFTER_KEY, _LIMIT = "reaper_after_end", "reaper_after_key_{}", "reaper_limit"
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


class JobPurge:
    """Deletes the jobs of one source that ended before one moment."""

    def __init__(self, statements: SourceStatements, before: datetime) -> None:
        """Raises ValueError for a profile without a purge, or whose jobs are a log."""
        self._statements, self._profile = statements, statements.profile
        if self._profile.purge is None or self._profile.jobs.log is not None:
            raise ValueError(f"profile {self._profile.name!r} does not purge")
        self._width = len(self._profile.jobs.key)
        seconds = before.timestamp()
        # In whole units, so that an index on integers can be used.
        self._before = {_BEFORE: before, _BEFORE_S: math.ceil(seconds), _BEFORE_MS: math.ceil(seconds * 1000)}

    def count(self, connection: Connection) -> int:
        """How many jobs may be deleted now."""
        return int(self._statements.execute(connection, self._before, _count_query).scalar_one())

    def stream(self, connection: Connection, after: Candidate | None, limit: int) -> Iterator[Candidate]:
        """The next rows that may be deleted, ordered by their ends and keys, one after the other.

        The end is the candidate's version. The rows are never all in memory.
        """
        values, width = self.page_values(after, limit), self._width
        for row in self._statements.stream(connection, values, page_query, after is not None):
            yield Candidate(tuple(row[:width]), tuple(row[width:]))

    def page_values(self, after: Candidate | None, limit: int) -> dict[str, Any]:
        """The values of the parameters of `page_query`."""
        values = {**self._before, _LIMIT: limit}
        if after is None:
            return values
        key = {_AFTER_KEY.format(n): part for n, part in enumerate(after.key)}
        return {**values, _AFTER_END: after.version[0], **key}

    def run(self, connection: Connection, keys: Sequence[Key]) -> int:
        """Delete those of the jobs that may be deleted, inside the caller's transaction. Returns how many those were.

        Raises DBAPIError when the database refuses any of it, PartialTransition when a row stays without an error.
        """
        statements = self._statements.get(connection.dialect, PurgeStatements)
        connection.execute(_SHORT_LOCK_TIMEOUT.get(connection.dialect.name, _SHORT_LOCK_TIMEOUT_MARIADB))
        locked = self._keys(statements.lock, connection, keys) if keys else []
        to_delete = self._keys(statements.second_check, connection, locked) if locked else []
        if not to_delete:
            return 0
        for statement in statements.delete_related:
            statement.execute(connection, key_parameters(to_delete))
        deleted = statements.delete.execute(connection, key_parameters(to_delete)).rowcount
        if deleted != len(to_delete):
            raise PartialTransition(
                f"{self._profile.jobs.table}: {deleted} of {len(to_delete)} finished rows were deleted: "
                "a trigger or rule interferes"
            )
        return len(to_delete)

    def _keys(self, statement: CompiledStatement, connection: Connection, keys: Sequence[Key]) -> list[Key]:
        return [tuple(row) for row in statement.execute(connection, {**self._before, **key_parameters(keys)})]


class PurgeStatements:
    """The statements that delete the jobs of a batch."""

    def __init__(self, rule: Rule, compiler: StatementCompiler) -> None:
        builder = _Builder(rule.tables)
        self.second_check = compiler(builder.deletable())
        self.lock = compiler(builder.deletable().with_for_update(skip_locked=True))
        self.delete_related = [compiler(statement) for statement in builder.delete_related()]
        self.delete = compiler(builder.delete())


def _count_query(rule: Rule) -> Select[Any]:
    return _Builder(rule.tables).count()


def page_query(rule: Rule, after: bool) -> Select[Any]:
    """The first rows that may be deleted, ordered by their ends and keys; with `after`, those behind one."""
    return _Builder(rule.tables).page(after=after)


class _Builder:
    """Builds the statements of a profile that purges."""

    def __init__(self, tables: ProfileTables) -> None:
        if tables.profile.purge is None:
            raise ValueError(f"profile {tables.profile.name!r} does not purge")
        self._tables, self._purge = tables, tables.profile.purge
        self._table = tables.profile.jobs.table
        self._timestamp_format = tables.timestamp_format(self._table)

    def count(self) -> Select[Any]:
        """The number of jobs that may be deleted."""
        return select(func.count()).select_from(self._tables.jobs).where(self._may_be_deleted(self._tables.jobs))

    def page(self, *, after: bool) -> Select[Any]:
        """The first rows that may be deleted, ordered by their ends and keys; with `after`, those behind one."""
        jobs = self._tables.jobs
        ended, key = self._ended(jobs), self._tables.key(jobs)
        where = [self._may_be_deleted(jobs)]
        if after:
            end = sql.parameter(_AFTER_END)
            # The first condition follows from the second, but only the first can use an index on the end.
            where += [ended >= end, or_(ended > end, _after_key(key))]
        page = select(*self._tables.key_text(jobs), sql.text_of(ended)).where(*where)
        return page.order_by(ended, *key).limit(sql.parameter(_LIMIT, Integer()))

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
        return and_(self._ended(jobs) < self._stored_cutoff(), ended_at < sql.instant_parameter(_BEFORE))

    def _ended(self, jobs: FromClause) -> Element:
        """The end as it is stored."""
        columns = [jobs.c[name] for name in self._purge.at]
        return func.coalesce(*columns) if len(columns) > 1 else columns[0]

    def _stored_cutoff(self) -> Element:
        """The cutoff as the columns store it."""
        if self._timestamp_format is TimestampFormat.EPOCH_S:
            return sql.parameter(_BEFORE_S, BigInteger())
        if self._timestamp_format is TimestampFormat.EPOCH_MS:
            return sql.parameter(_BEFORE_MS, BigInteger())
        return sql.from_instant(sql.instant_parameter(_BEFORE), self._timestamp_format)

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

    def deletable(self) -> Select[Any]:
        """The jobs of a batch that may be deleted."""
        jobs = self._tables.jobs
        return select(*self._tables.key_text(jobs)).where(self._tables.key_in_batch(jobs), self._may_be_deleted(jobs))

    def delete_related(self) -> list[Delete]:
        """Each of them deletes the rows of one table that belong to the jobs of a batch."""
        return [self._delete_related(step) for step in self._purge.also]

    def _delete_related(self, step: DeleteStep) -> Delete:
        """A row that is a job itself is deleted only if it does not run."""
        row, jobs = self._tables.table(step.table), self._tables.jobs.alias(reserved_alias("job"))
        where = [self._tables.key_in_batch(jobs), self._tables.belongs_to_job(step, row, jobs)]
        if step.table == self._table:
            where.append(not_(self._tables.running(row)))
        return delete(row).where(*where)

    def delete(self) -> Delete:
        """Deletes the jobs of a batch."""
        jobs = self._tables.jobs
        statement = delete(jobs).where(self._tables.key_in_batch(jobs))
        running = self._tables.profile.jobs.running
        read_by_running = {related.table for related in running.related} if running else set()
        # Rows that were deleted just before must not make the job look as if it ran.
        if read_by_running & {step.table for step in self._purge.also}:
            return statement
        return statement.where(not_(self._tables.running(jobs)))


def _after_key(columns: Sequence[Element], number: int = 0) -> ColumnElement[bool]:
    """These columns come after the key in the order of the columns, of which the first has this number."""
    column, *other_columns = columns
    value = sql.parameter(_AFTER_KEY.format(number))
    is_greater: ColumnElement[bool] = column > value
    if not other_columns:
        return is_greater
    return or_(is_greater, and_(column == value, _after_key(other_columns, number + 1)))
