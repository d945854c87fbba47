"""The survey: how many jobs run, which of them are stale, which are newly spared. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, func, not_, select

from reaper.database.dialect import dialect_of
from reaper.model import JobCounts, Key
from reaper.profile.columns import columns_judged
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import reserved_alias
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule


class Candidate(NamedTuple):
    """A stale job as the survey saw it. When it is locked, its `version` must still be the same."""

    key: Key
    version: tuple[Any, ...]


class SurveyCounts(NamedTuple):
    """The counts of one pass over the running jobs. The census does not have the stale ones yet."""

    census: JobCounts
    newly_past_timeout: int


def version_columns(rule: Rule) -> list[Element]:
    """A job's version: its start and its claim columns, which must not change between two looks at it.

    The start travels as a number: it is only compared, and a number can hold what Python's dates cannot.
    """
    jobs = rule.tables.jobs
    return [
        sql.epoch(rule.tables.started(jobs)).label("start"),
        *(sql.text_of(jobs.c[name]).label(f"claim_{n}") for n, name in enumerate(rule.tables.profile.jobs.claim)),
    ]


class Survey:
    """The reading statements for one rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._jobs = rule.tables.jobs
        self._key = rule.tables.key_text(self._jobs)

    # --- statements ----------------------------------------------------------------------------------------------

    def candidates_query(self, context: EvaluationContext) -> Select[Any]:
        """Every stale job: its key and its version."""
        return select(*self._key, *version_columns(self.rule)).where(self.rule.stale(self._jobs, context))

    def count_query(self, context: EvaluationContext, before: EvaluationContext | None = None) -> Select[Any]:
        """Counts the running jobs, those past their timeout, and those past it only since `before`; the oldest start.

        All in one pass over the running jobs: with many of them, it costs most of a sweep after the candidates.
        """
        jobs = self._jobs
        columns: list[Element] = [
            func.count().label("running"),
            sql.count_if(self.rule.older_than_timeout(jobs, context)).label("past_timeout"),
            sql.count_if(*self._newly_past_timeout(context, before)).label("crossed"),
            sql.epoch(func.min(self.rule.tables.started(jobs))).label("oldest"),
            self.rule.most_overdue(jobs, context).label("most_overdue"),
        ]
        return select(*columns).where(self.rule.tables.running(jobs))

    def newly_spared_query(
        self, context: EvaluationContext, before: EvaluationContext | None, limit: int, stale: int
    ) -> Select[Any]:
        """The keys of jobs that have passed their timeout since `before` and have a recent sign of life, oldest first.

        Of the oldest `limit + stale` of them at most `stale` are silent, so no others have to be read.
        """
        started = self.rule.tables.started(self._jobs)
        running = self.rule.tables.running(self._jobs)
        # Not every column that the profile names: the role need not be able to read those that are only written.
        columns = [self._jobs.c[name] for name in sorted(columns_judged(self.rule.tables.profile))]
        newly_past = select(*columns).where(running, *self._newly_past_timeout(context, before))
        oldest = newly_past.order_by(started).limit(limit + stale).subquery(reserved_alias("oldest"))
        spared = select(*self.rule.tables.key_text(oldest)).where(self.rule.has_recent_sign(oldest, context))
        return spared.order_by(self.rule.tables.started(oldest)).limit(limit)

    def _newly_past_timeout(
        self, context: EvaluationContext, before: EvaluationContext | None
    ) -> list[ColumnElement[bool]]:
        """Conditions on running jobs: past their timeout, and not yet at `before`."""
        conditions = [self.rule.older_than_timeout(self._jobs, context)]
        if before is not None:
            conditions.append(not_(self.rule.older_than_timeout(self._jobs, before)))
        return conditions

    # --- results -------------------------------------------------------------------------------------------------

    def count(
        self, connection: Connection, context: EvaluationContext, before: EvaluationContext | None
    ) -> SurveyCounts:
        row = connection.execute(self.count_query(context, before)).one()
        most_overdue = float(row.most_overdue or 0) if row.past_timeout else 0.0
        return SurveyCounts(JobCounts(row.running, row.past_timeout, 0, row.oldest, most_overdue), row.crossed)

    def census(self, connection: Connection, context: EvaluationContext) -> JobCounts:
        """All counts except the stale jobs, which the candidates count."""
        return self.count(connection, context, None).census

    def count_stale(self, connection: Connection, context: EvaluationContext) -> int:
        count = select(func.count()).select_from(self._jobs).where(self.rule.stale(self._jobs, context))
        return int(connection.execute(count).scalar_one())

    def stream(self, connection: Connection, context: EvaluationContext) -> Iterator[Candidate]:
        """The candidates one after the other, never all in memory."""
        return self._streamed(connection, self.candidates_query(context))

    def stream_running(self, connection: Connection) -> Iterator[Candidate]:
        """Every running job, in the same way."""
        running = self.rule.tables.running(self._jobs)
        return self._streamed(connection, select(*self._key, *version_columns(self.rule)).where(running))

    def _streamed(self, connection: Connection, query: Select[Any]) -> Iterator[Candidate]:
        width = len(self._key)
        for row in dialect_of(connection).stream(connection, query):
            yield Candidate(tuple(row[:width]), tuple(row[width:]))

    def kinds(self, connection: Connection) -> list[tuple[str | None, int]]:
        """The number of running jobs of each kind, largest first."""
        kind, count = self.rule.kind(self._jobs).label("kind"), func.count().label("jobs")
        columns: list[Element] = [kind, count]
        query = select(*columns).where(self.rule.tables.running(self._jobs)).group_by(kind)
        return [(row.kind, row.jobs) for row in connection.execute(query.order_by(count.desc(), kind))]


def with_stale(census: JobCounts, stale: int) -> JobCounts:
    """The census with the stale jobs that the candidates counted."""
    return replace(census, stale=stale, past_timeout=max(census.past_timeout, stale))
