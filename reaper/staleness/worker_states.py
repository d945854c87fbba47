"""The workers of a profile as SQL: what each is known by, and the state of its row.

A heartbeat of NULL says nothing: such a worker has no state, and is never gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, FromClause, String, and_, case, func, literal, select

from reaper.common.durations import format_duration
from reaper.profile.witnesses import WorkerWitness
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.relations import LookedUp
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness import parameters
from reaper.staleness.lost_workers import MISSING

_SEPARATOR = "\x1f"


class WorkerStates:
    """The workers of one profile, as SQL."""

    def __init__(self, tables: ProfileTables, worker: WorkerWitness) -> None:
        self._tables, self._worker = tables, worker
        self.row = tables.table(worker.table).alias(reserved_alias("held_by"))
        self.is_worker = tables.conditions_hold(worker.where, self.row, worker.table)
        """A row is that of a worker."""

    def matches(self, held_by: Sequence[Element]) -> list[ColumnElement[bool]]:
        """The row is the one that these values name: those of a job's columns in `match`."""
        return [self.row.c[name] == value for name, value in zip(self._worker.match, held_by, strict=True)]

    def of_job(self, jobs: FromClause) -> list[Element]:
        """The values that name the worker of a job."""
        return [self._tables.job_column(jobs, ours) for ours in self._worker.match.values()]

    def of_row(self) -> list[Element]:
        """The values that name the worker of a row."""
        return [self.row.c[theirs] for theirs in self._worker.match]

    @staticmethod
    def identity(values: Sequence[Element]) -> Element:
        """What a worker is known by; NULL where one of the values is."""
        texts = [sql.fingerprint(sql.text_of(value)) for value in values]
        parts = [part for n, text in enumerate(texts) for part in ((_SEPARATOR, text) if n else (text,))]
        return case((and_(*(value.is_not(None) for value in values)), sql.concat(*parts)), else_=sql.null_text())

    def heartbeat(self) -> Element:
        """The heartbeat of a row, as it is stored."""
        return self.row.c[self._worker.at]

    def state(self, held_by: Sequence[Element], of: FromClause) -> Element:
        """The state of the worker that these values of `of` name; NULL where its heartbeat is."""
        # An aggregate: the database need not know that there is one row at most.
        beat = sql.text_of(func.max(self.heartbeat()))
        missing = case((func.count() == 0, literal(MISSING, String)), else_=sql.null_text())
        state = select(func.coalesce(beat, missing, type_=String)).select_from(self.row)
        return state.where(*self.matches(held_by), self.is_worker).correlate(of).scalar_subquery()

    def is_gone(self, jobs: FromClause) -> ColumnElement[bool]:
        """The worker of the job was gone when this evaluation began, and is still as it was then."""
        held_by = self.of_job(jobs)
        known = LookedUp(parameters.LOST_WORKERS, self.identity(held_by))
        # First, by itself: of most jobs the worker is not gone, and then its row is not looked up.
        return and_(known.is_not(None), func.coalesce(self.state(held_by, jobs) == known, False))

    def why_gone(self, jobs: FromClause) -> Element:
        """Since when the worker of such a job is gone, as a text."""
        held_by = self.of_job(jobs)
        since = sql.instant_at(LookedUp(parameters.LOST_SINCE, self.identity(held_by)))
        is_missing = LookedUp(parameters.LOST_WORKERS, self.identity(held_by)) == MISSING
        what = case((is_missing, literal(f"no row in {self._worker.table}", String)), else_=literal("no heartbeat"))
        return sql.concat(what, " since ", sql.utc_text(since), f" (gone after {self._limit})")

    @property
    def _limit(self) -> str:
        return format_duration(self._worker.gone_after or 0.0)
