"""Where each witness of a profile keeps its signs of life, as SQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    FromClause,
    Select,
    and_,
    case,
    false,
    func,
    literal,
    not_,
    or_,
    select,
)

from reaper.model import TIMESTAMPTZ, StoredTime, TimestampFormat
from reaper.profile import Children, Events, Witness
from reaper.profile.column_usage import columns_set_to_now
from reaper.sql import expressions as sql
from reaper.sql.conditions import fill_template
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness import parameters
from reaper.staleness.celery_liveness import CeleryLiveness
from reaper.staleness.first_seen import first_seen
from reaper.staleness.reap_moments import is_audit_event, is_reapers, was_audited

ROUGHLY_SECONDS = 3 * 3600.0
"""Clocks that are put back show local times again: by less than this."""


class SignSource(NamedTuple):
    """The rows of a witness that belong to a job, and the moment of each as it is stored.

    Without rows, the moment is in the job's own row, or comes from outside the database. `roughly` is the column of a
    local time: its rows can be looked up by it, give or take ROUGHLY_SECONDS. `table` is what the rows are read from.
    """

    rows: Select[Any] | None
    at: Element
    time: StoredTime = TIMESTAMPTZ
    roughly: tuple[Element, StoredTime] | None = None
    table: FromClause | None = None

    def since(self, moment: Element, *, of_all: bool) -> ColumnElement[bool]:
        """The sign is not older than a moment, which is converted to the format of the column: an index on it helps.

        `of_all`: the moment is the same for all jobs.
        """
        if self.roughly is None:
            return _since(self.at, sql.from_instant(moment, self.time), of_all=of_all)
        return and_(self._roughly_since(moment, of_all=of_all), self.at >= moment)

    def after(self, moment: Element) -> ColumnElement[bool]:
        """The sign is later than a moment."""
        if self.roughly is None:
            return self.at > sql.from_instant(moment, self.time)
        return and_(self._roughly_since(moment, of_all=False), self.at > moment)

    def until(self, moment: Element) -> ColumnElement[bool]:
        """The sign is not later than a moment."""
        return self.at <= sql.from_instant(moment, self.time)

    def _roughly_since(self, moment: Element, *, of_all: bool) -> ColumnElement[bool]:
        assert self.roughly is not None
        column, time = self.roughly
        return _since(column, sql.from_instant(sql.add_seconds(moment, -ROUGHLY_SECONDS), time), of_all=of_all)


def _since(stored: Element, moment: Element, *, of_all: bool) -> ColumnElement[bool]:
    # Of a moment in each row the planner knows nothing, and of an expression neither: nothing can mislead it.
    return sql.not_before(stored, moment) if of_all and isinstance(stored, ColumnClause) else stored >= moment


class Signs:
    """The signs of life of one profile."""

    def __init__(
        self, tables: ProfileTables, celery: CeleryLiveness, *, has_max_age: bool, without_reaps: bool = False
    ) -> None:
        """`without_reaps`: what the reaper wrote is a sign of life to no witness, as far as audit events show it."""
        self._tables, self._jobs = tables, tables.profile.jobs
        self._witnesses = tables.profile.alive
        self._celery, self._has_max_age, self._without_reaps = celery, has_max_age, without_reaps

    def of(self, witness: Witness, jobs: FromClause) -> SignSource:
        """Where a witness keeps its signs."""
        if witness.rows:
            return self._events(witness, witness.rows, jobs)
        if witness.children:
            return self._children(witness, witness.children, jobs)
        if witness.column:
            return SignSource(None, self._instant(jobs, witness.column))
        if witness.deadline:
            deadline = self._instant(jobs, witness.deadline)
            return SignSource(None, case((deadline > sql.now(), sql.now()), else_=deadline))
        if witness.sql:
            return SignSource(None, sql.to_instant(fill_template(witness.sql, self._tables.job_row(jobs)), TIMESTAMPTZ))
        if witness.celery:
            return SignSource(None, self._celery.sign(witness.celery, jobs, self._beyond_max_age(jobs)))
        raise ValueError(f"witness {witness.witness!r} does not say where its signs of life are")

    def _events(self, witness: Witness, events: Events, jobs: FromClause) -> SignSource:
        table = self._tables.table(events.table).alias(reserved_alias("sign"))
        match = events.matching(self._jobs.key)
        matching = [table.c[column] == self._tables.job_column(jobs, ours) for column, ours in match.items()]
        rows = (
            select(literal(1))
            .select_from(table)
            .where(*matching, self._tables.conditions_hold(events.where, table, events.table))
            .correlate(jobs)
        )
        if self._without_reaps:
            rows = rows.where(*(not_(is_one) for is_one in is_audit_event(self._tables, events.table, table, jobs)))
        if len(events.at) == 1:
            [at] = events.at
            by_reaper = self._written_by_reaper(witness, table, events.key or (), at)
            rows = rows if by_reaper is None else rows.where(not_(by_reaper))
            time = self._tables.stored_time(events.table, at)
            if sql.compares_as_stored(time):
                return SignSource(rows, table.c[at], time, table=table)
            roughly = (table.c[at], time) if time.format is TimestampFormat.NAIVE else None
            return SignSource(rows, self._tables.instant(events.table, table, at), roughly=roughly, table=table)
        key = events.key or ()
        moments = [self._unless_by_reaper(witness, events.table, table, key, at) for at in events.at]
        return SignSource(rows, sql.newest(*moments), table=table)

    def child(self, witness: Witness, children: Children) -> tuple[FromClause, Element]:
        """A row that may be a child of another job, and the moment of its newest sign."""
        child = self._tables.jobs.alias(reserved_alias("child"))
        table, key = self._jobs.table, self._jobs.key
        moments = [self._unless_by_reaper(witness, table, child, key, name) for name in children.at]
        return child, case((self._tables.running(child), sql.now()), else_=sql.newest(*moments))

    def _children(self, witness: Witness, children: Children, jobs: FromClause) -> SignSource:
        child, at = self.child(witness, children)
        parent = [child.c[name] for name in children.parent]
        is_child = ProfileTables.keys_equal(parent, self._tables.key(jobs))
        is_job_itself = ProfileTables.keys_equal(self._tables.key(child), self._tables.key(jobs))
        # Follows from `is_child`, but the planner does not see that: without it, it reads every job that ever existed.
        has_parent = [column.is_not(None) for column in parent]
        rows = select(literal(1)).select_from(child).where(is_child, not_(is_job_itself), *has_parent).correlate(jobs)
        return SignSource(rows, at, table=child)

    # --- what the reaper wrote -----------------------------------------------------------------------------------

    def _unless_by_reaper(
        self, witness: Witness, table: str, rows: FromClause, key: Sequence[str], column: str
    ) -> Element:
        """The moment in a column; NULL where the reaper wrote it, and that is no sign of life to this witness."""
        at, by_reaper = self._tables.instant(table, rows, column), self._written_by_reaper(witness, rows, key, column)
        return at if by_reaper is None else case((by_reaper, sql.null_instant()), else_=at)

    def _written_by_reaper(
        self, witness: Witness, rows: FromClause, key: Sequence[str], column: str
    ) -> ColumnElement[bool] | None:
        """The reaper remembers that it wrote this moment, or an audit event beside it shows that it did."""
        marks: list[ColumnElement[bool]] = []
        if witness.reaper_is_silent:
            marks.append(is_reapers(self._witnesses.index(witness), rows, key, column))
        is_silent = witness.reaper_is_silent or self._without_reaps
        if is_silent and witness.children is not None and column in self._columns_set_to_now:
            marks += was_audited(self._tables, rows, column)
        return or_(*marks) if marks else None

    @cached_property
    def _columns_set_to_now(self) -> tuple[str, ...]:
        return columns_set_to_now(self._tables.profile)

    def _beyond_max_age(self, jobs: FromClause) -> ColumnElement[bool]:
        """So old that even a worker which executes the job no longer keeps it alive."""
        if not self._has_max_age:
            return false()
        started = func.coalesce(self._tables.started(jobs), first_seen(self._tables, jobs), type_=sql.INSTANT)
        return started < sql.instant_parameter(parameters.MAX_AGE_REACHED)

    def _instant(self, jobs: FromClause, column: str) -> Element:
        return self._tables.instant(self._jobs.table, jobs, column)
