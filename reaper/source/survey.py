"""Reading: how many jobs run, which of them are stale, which have lately been spared. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, func, not_, select

from reaper import sql
from reaper.model import Census, Key
from reaper.profile.columns import columns_judged
from reaper.rule import Moment, Rule
from reaper.schema import own_name
from reaper.source.dialect import dialect_of
from reaper.sql import Element


class Candidate(NamedTuple):
    """A stale job as the survey saw it. `claim` must still be the same when it is locked."""

    key: Key
    claim: tuple[Any, ...]


class Count(NamedTuple):
    """What one pass over the running jobs counts. The census knows nothing of the stale ones yet."""

    census: Census
    crossed: int


def identity(rule: Rule) -> list[Element]:
    """What must not change between two looks at a job: its start, and the columns of its claim.

    The start travels as a number: it is only compared, and the number takes what Python's dates cannot.
    """
    jobs = rule.schema.jobs
    return [
        sql.epoch(rule.started(jobs)).label("start"),
        *(sql.text_of(jobs.c[name]).label(f"claim_{n}") for n, name in enumerate(rule.schema.profile.jobs.claim)),
    ]


class Survey:
    """The reading statements for one rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._jobs = rule.schema.jobs
        self._key = rule.schema.key_text(self._jobs)

    def candidates(self, moment: Moment) -> Select[Any]:
        """Every stale job: its key and its identity."""
        return select(*self._key, *identity(self.rule)).where(self.rule.stale(self._jobs, moment))

    def counting(self, moment: Moment, before: Moment | None = None) -> Select[Any]:
        """The running jobs, those past their timeout and how far, those past it only since `before`, the oldest start.

        All in one pass over the running ones: with many of them, it is the second dearest thing in a sweep.
        """
        jobs = self._jobs
        counted: list[Element] = [
            func.count().label("running"),
            sql.count_if(self.rule.began_before_limit(jobs, moment)).label("past_timeout"),
            sql.count_if(*self._crossing(moment, before)).label("crossed"),
            sql.epoch(func.min(self.rule.started(jobs))).label("oldest"),
            self.rule.most_overdue(jobs, moment).label("most_overdue"),
        ]
        return select(*counted).where(self.rule.schema.running(jobs))

    def count(self, connection: Connection, moment: Moment, before: Moment | None) -> Count:
        row = connection.execute(self.counting(moment, before)).one()
        overdue = float(row.most_overdue or 0) if row.past_timeout else 0.0
        return Count(Census(row.running, row.past_timeout, 0, row.oldest, overdue), row.crossed)

    def census(self, connection: Connection, moment: Moment) -> Census:
        """Everything but the stale ones, which the candidates count."""
        return self.count(connection, moment, None).census

    def count_stale(self, connection: Connection, moment: Moment) -> int:
        counted = select(func.count()).select_from(self._jobs).where(self.rule.stale(self._jobs, moment))
        return int(connection.execute(counted).scalar_one())

    def crossed(self, moment: Moment, before: Moment | None, limit: int, stale: int) -> Select[Any]:
        """Jobs that have passed their timeout since `before` and were heard of since the cutoff, oldest first.

        Of the oldest `limit + stale` no more than `stale` can be silent: no others have to be looked at.
        """
        started = self.rule.started(self._jobs)
        running = self.rule.schema.running(self._jobs)
        # Not every column that the profile names: those that are only written need not be granted to be read.
        judged = [self._jobs.c[name] for name in sorted(columns_judged(self.rule.schema.profile))]
        crossing = select(*judged).where(running, *self._crossing(moment, before))
        oldest = crossing.order_by(started).limit(limit + stale).subquery(own_name("oldest"))
        heard = select(*self.rule.schema.key_text(oldest)).where(self.rule.heard(oldest, moment))
        return heard.order_by(self.rule.started(oldest)).limit(limit)

    def _crossing(self, moment: Moment, before: Moment | None) -> list[ColumnElement[bool]]:
        """Of the running ones: past their timeout, and not yet at `before`."""
        crossing = [self.rule.began_before_limit(self._jobs, moment)]
        if before is not None:
            crossing.append(not_(self.rule.began_before_limit(self._jobs, before)))
        return crossing

    def stream(self, connection: Connection, moment: Moment) -> Iterator[Candidate]:
        """The candidates one after the other, never all in memory."""
        return self._streamed(connection, self.candidates(moment))

    def stream_running(self, connection: Connection) -> Iterator[Candidate]:
        """Every running job, in the same way."""
        running = self.rule.schema.running(self._jobs)
        return self._streamed(connection, select(*self._key, *identity(self.rule)).where(running))

    def _streamed(self, connection: Connection, found: Select[Any]) -> Iterator[Candidate]:
        width = len(self._key)
        for row in dialect_of(connection).stream(connection, found):
            yield Candidate(tuple(row[:width]), tuple(row[width:]))

    def kinds(self, connection: Connection) -> list[tuple[str | None, int]]:
        """How many jobs of each kind are running, most first."""
        kind, counted = self.rule.kind(self._jobs).label("kind"), func.count().label("jobs")
        told: list[Element] = [kind, counted]
        running = select(*told).where(self.rule.schema.running(self._jobs)).group_by(kind)
        return [(row.kind, row.jobs) for row in connection.execute(running.order_by(counted.desc(), kind))]


def with_stale(census: Census, stale: int) -> Census:
    """The census, completed by what the survey counted."""
    return replace(census, stale=stale, past_timeout=max(census.past_timeout, stale))
