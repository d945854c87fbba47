"""The statements that delete finished jobs: which may be deleted, and their rows. `reaper.source.purge` runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    FromClause,
    Integer,
    Select,
    and_,
    case,
    delete,
    false,
    func,
    literal,
    not_,
    or_,
    select,
)

from reaper.model import StoredTime, TimestampFormat
from reaper.profile import Delete as DeleteStep
from reaper.source.unique_key import shared_key_query
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.statement import StatementCompiler
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness.rule import Rule
from reaper.staleness.unknown_moments import is_in_other_unit, is_number, is_without_zone

BEFORE, BEFORE_S, BEFORE_MS = "reaper_before", "reaper_before_s", "reaper_before_ms"
BEFORE_IN_EVERY_ZONE = "reaper_before_in_every_zone"
AFTER_END, AFTER_KEY, LIMIT = "reaper_after_end", "reaper_after_key_{}", "reaper_limit"
"""Parameters: the cutoff, also as epochs; the cutoff for moments without a zone, as they are read, so that they are
before the other one in every zone; and the end and the key of the row that a page comes after."""


class PurgeStatements:
    """The statements that delete the jobs of a batch."""

    def __init__(self, rule: Rule, compiler: StatementCompiler) -> None:
        queries, dialect = _PurgeQueries(rule.tables), compiler.dialect
        self.second_check = compiler(queries.deletable())
        lockable = queries.deletable().where(rule.tables.are_the_same())
        self.lock = compiler(lockable.with_for_update(skip_locked=True))
        self.delete_related = [
            compiler(sql.along_own_path(statement, dialect)) for statement in queries.delete_related()
        ]
        self.delete = compiler(sql.along_own_path(queries.delete(), dialect))


def count_query(rule: Rule) -> Select[Any]:
    """The number of jobs that may be deleted."""
    return _PurgeQueries(rule.tables).count()


def page_query(rule: Rule, after: bool) -> Select[Any]:
    """The first rows that may be deleted, ordered by their ends and keys; with `after`, those behind one."""
    return _PurgeQueries(rule.tables).page(after=after)


def shared_by_deletable_query(rule: Rule) -> Select[Any]:
    """One key that several of the jobs have that may be deleted."""
    queries = _PurgeQueries(rule.tables)
    return shared_key_query(rule.tables, queries.may_be_deleted(rule.tables.jobs))


def shared_in_batch_query(rule: Rule) -> Select[Any]:
    """One key of a batch that several jobs have, whether they may be deleted or not."""
    return shared_key_query(rule.tables, rule.tables.key_in_batch(rule.tables.jobs))


class _PurgeQueries:
    """Builds the statements of a profile that purges."""

    def __init__(self, tables: ProfileTables) -> None:
        if tables.profile.purge is None:
            raise ValueError(f"profile {tables.profile.name!r} does not purge")
        self._tables, self._purge = tables, tables.profile.purge
        self._table = tables.profile.jobs.table
        self._times = {tables.stored_time(self._table, name) for name in self._purge.at}

    def count(self) -> Select[Any]:
        """The number of jobs that may be deleted."""
        return select(func.count()).select_from(self._tables.jobs).where(self.may_be_deleted(self._tables.jobs))

    def page(self, *, after: bool) -> Select[Any]:
        """The first rows that may be deleted, ordered by their ends and keys; with `after`, those behind one."""
        jobs = self._tables.jobs
        ended, key = self._ended(jobs), self._tables.key(jobs)
        where = [self.may_be_deleted(jobs)]
        if after:
            end = sql.parameter(AFTER_END)
            # The first condition follows from the second, but only the first can use an index on the end.
            where += [ended >= end, or_(ended > end, _after_key(key))]
        page = select(*self._tables.key_text(jobs), sql.text_of(ended)).where(*where)
        return page.order_by(ended, *key).limit(sql.parameter(LIMIT, Integer()))

    # --- which rows ------------------------------------------------------------------------------------------

    def may_be_deleted(self, jobs: FromClause) -> ColumnElement[bool]:
        """The job has ended before the cutoff, nothing needs it, and no relative of it runs."""
        return and_(
            self._tables.conditions_hold(self._purge.where, jobs, self._table),
            self._ended_before_cutoff(jobs),
            not_(self._tables.running(jobs)),
            *(not_(self._tables.has_related_row(needed, jobs)) for needed in self._purge.needed),
            *(not_(relative) for relative in self._running_relatives(jobs)),
        )

    def _ended_before_cutoff(self, jobs: FromClause) -> ColumnElement[bool]:
        """Also compares the column as it is stored, which can use an index on it."""
        return and_(self._ended(jobs) < self._stored_cutoff(), self._known_to_have_ended_before(jobs))

    def _known_to_have_ended_before(self, jobs: FromClause) -> ColumnElement[bool]:
        """The first column with a moment decides. An unknown one is not passed over: the next may be the start."""
        decided: list[tuple[ColumnElement[bool], ColumnElement[bool]]] = []
        for name in self._purge.at:
            time, moment = self._tables.stored_time(self._table, name), self._tables.instant(self._table, jobs, name)
            if is_number(time):
                decided.append((is_in_other_unit(jobs.c[name], time), false()))
            cutoff = sql.instant_parameter(BEFORE_IN_EVERY_ZONE if is_without_zone(time) else BEFORE)
            decided.append((moment.is_not(None), moment < cutoff))
        return case(*decided, else_=false())

    def _ended_at(self, jobs: FromClause) -> Element:
        columns = [self._tables.instant(self._table, jobs, name) for name in self._purge.at]
        return func.coalesce(*columns, type_=sql.INSTANT) if len(columns) > 1 else columns[0]

    @property
    def _stored_alike(self) -> StoredTime | None:
        """How all of the columns store the end, where stored values have the order of their moments; else None."""
        [time, *others] = self._times
        return time if not others and sql.compares_as_stored(time) else None

    def _ended(self, jobs: FromClause) -> Element:
        """The end as it is stored, where that can be compared."""
        if self._stored_alike is None:
            return self._ended_at(jobs)
        columns = [jobs.c[name] for name in self._purge.at]
        return func.coalesce(*columns) if len(columns) > 1 else columns[0]

    def _stored_cutoff(self) -> Element:
        """The cutoff as the columns store it."""
        time = self._stored_alike
        if time is None:
            return sql.instant_parameter(BEFORE)
        if time.format is TimestampFormat.EPOCH_S:
            return sql.parameter(BEFORE_S, BigInteger())
        if time.format is TimestampFormat.EPOCH_MS:
            return sql.parameter(BEFORE_MS, BigInteger())
        return sql.from_instant(sql.instant_parameter(BEFORE), time)

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
        return select(*self._tables.key_text(jobs)).where(self._tables.key_in_batch(jobs), self.may_be_deleted(jobs))

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
        # Rows that were deleted just before must not make the job look as if it ran.
        if self._tables.running_depends_on(self._purge.also):
            return statement
        return statement.where(not_(self._tables.running(jobs)))


def _after_key(columns: Sequence[Element], number: int = 0) -> ColumnElement[bool]:
    """These columns come after the key in the order of the columns, of which the first has this number."""
    column, *other_columns = columns
    value = sql.key_value(column, sql.parameter(AFTER_KEY.format(number)))
    is_greater: ColumnElement[bool] = column > value
    if not other_columns:
        return is_greater
    return or_(is_greater, and_(column == value, _after_key(other_columns, number + 1)))
