"""Reading: how many jobs run, which of them are stale, which have lately been spared. Changes nothing."""

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
    """A stale job as the survey saw it. `claim` must still be the same when it is locked."""

    key: Key
    version: tuple[Any, ...]


class SurveyCounts(NamedTuple):
    """What one pass over the running jobs counts. The census knows nothing of the stale ones yet."""

    census: JobCounts
    newly_past_timeout: int


def version_columns(rule: Rule) -> list[Element]:
    """What must not change between two looks at a job: its start, and the columns of its claim.

    The start travels as a number: it is only compared, and the number takes what Python's dates cannot.
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

    def candidates_query(self, context: EvaluationContext) -> Select[Any]:
        """Every stale job: its key and its identity."""
        return select(*self._key, *version_columns(self.rule)).where(self.rule.stale(self._jobs, context))

    def count_query(self, context: EvaluationContext, before: EvaluationContext | None = None) -> Select[Any]:
        """The running jobs, those past their timeout and how far, those past it only since `before`, the oldest start.

        All in one pass over the running ones: with many of them, it is the second dearest thing in a sweep.
        """
        jobs = self._jobs
        counted: list[Element] = [
            func.count().label("running"),
            sql.count_if(self.rule.older_than_timeout(jobs, context)).label("past_timeout"),
            sql.count_if(*self._crossing(context, before)).label("crossed"),
            sql.epoch(func.min(self.rule.tables.started(jobs))).label("oldest"),
            self.rule.most_overdue(jobs, context).label("most_overdue"),
        ]
        return select(*counted).where(self.rule.tables.running(jobs))

    def count(
        self, connection: Connection, context: EvaluationContext, before: EvaluationContext | None
    ) -> SurveyCounts:
        row = connection.execute(self.count_query(context, before)).one()
        overdue = float(row.most_overdue or 0) if row.past_timeout else 0.0
        return SurveyCounts(JobCounts(row.running, row.past_timeout, 0, row.oldest, overdue), row.crossed)

    def census(self, connection: Connection, context: EvaluationContext) -> JobCounts:
        """Everything but the stale ones, which the candidates count."""
        return self.count(connection, context, None).census

    def count_stale(self, connection: Connection, context: EvaluationContext) -> int:
        counted = select(func.count()).select_from(self._jobs).where(self.rule.stale(self._jobs, context))
        return int(connection.execute(counted).scalar_one())

    def newly_spared_query(
        self, context: EvaluationContext, before: EvaluationContext | None, limit: int, stale: int
    ) -> Select[Any]:
        """Jobs that have passed their timeout since `before` and were heard of since the cutoff, oldest first.

        Of the oldest `limit + stale` no more than `stale` can be silent: no others have to be looked at.
        """
        started = self.rule.tables.started(self._jobs)
        running = self.rule.tables.running(self._jobs)
        # Not every column that the profile names: those that are only written need not be granted to be read.
        judged = [self._jobs.c[name] for name in sorted(columns_judged(self.rule.tables.profile))]
        crossing = select(*judged).where(running, *self._crossing(context, before))
        oldest = crossing.order_by(started).limit(limit + stale).subquery(reserved_alias("oldest"))
        heard = select(*self.rule.tables.key_text(oldest)).where(self.rule.has_recent_sign(oldest, context))
        return heard.order_by(self.rule.tables.started(oldest)).limit(limit)

    def _crossing(self, context: EvaluationContext, before: EvaluationContext | None) -> list[ColumnElement[bool]]:
        """Of the running ones: past their timeout, and not yet at `before`."""
        crossing = [self.rule.older_than_timeout(self._jobs, context)]
        if before is not None:
            crossing.append(not_(self.rule.older_than_timeout(self._jobs, before)))
        return crossing

    def stream(self, connection: Connection, context: EvaluationContext) -> Iterator[Candidate]:
        """The candidates one after the other, never all in memory."""
        return self._streamed(connection, self.candidates_query(context))

    def stream_running(self, connection: Connection) -> Iterator[Candidate]:
        """Every running job, in the same way."""
        running = self.rule.tables.running(self._jobs)
        return self._streamed(connection, select(*self._key, *version_columns(self.rule)).where(running))

    def _streamed(self, connection: Connection, found: Select[Any]) -> Iterator[Candidate]:
        width = len(self._key)
        for row in dialect_of(connection).stream(connection, found):
            yield Candidate(tuple(row[:width]), tuple(row[width:]))

    def kinds(self, connection: Connection) -> list[tuple[str | None, int]]:
        """How many jobs of each kind are running, most first."""
        kind, counted = self.rule.kind(self._jobs).label("kind"), func.count().label("jobs")
        told: list[Element] = [kind, counted]
        running = select(*told).where(self.rule.tables.running(self._jobs)).group_by(kind)
        return [(row.kind, row.jobs) for row in connection.execute(running.order_by(counted.desc(), kind))]


def with_stale(census: JobCounts, stale: int) -> JobCounts:
    """The census, completed by what the survey counted."""
    return replace(census, stale=stale, past_timeout=max(census.past_timeout, stale))
