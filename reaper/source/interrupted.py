"""Jobs that were interrupted by a restart of their server: which they are, as one SQL expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, FromClause, and_, not_, select

from reaper.common.durations import format_duration
from reaper.source.survey import Candidate, version_columns
from reaper.sql import expressions as sql
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A predicate: started before the restart, last sign of life within the window before it, and none since."""

    rule: Rule
    restart: datetime
    window_seconds: float

    def __call__(self, jobs: FromClause, context: EvaluationContext) -> ColumnElement[bool]:
        last_sign = self.rule.last_sign(jobs, context)
        return and_(
            self.rule.tables.started(jobs) < sql.instant(self.restart),
            last_sign >= sql.instant(self.restart - timedelta(seconds=self.window_seconds)),
            last_sign <= sql.instant(self.restart),
            not_(self.rule.unknown(jobs, context)),
        )

    @property
    def message(self) -> str:
        """The jobs' error message."""
        at = self.restart.strftime("%Y-%m-%d %H:%M:%S UTC")
        window = format_duration(self.window_seconds)
        return f"Interrupted: its server was restarted at {at}; last sign of life within {window} before, none since."

    def candidates(self, connection: Connection, context: EvaluationContext) -> Sequence[tuple[Candidate, float]]:
        """The running jobs that were interrupted, each with its last sign of life in seconds since 1970."""
        tables, jobs = self.rule.tables, self.rule.tables.jobs
        key = tables.key_text(jobs)
        last_sign = sql.epoch(self.rule.last_sign(jobs, context)).label("seen")
        query = select(*key, *version_columns(self.rule), last_sign).where(tables.running(jobs), self(jobs, context))
        rows = connection.execute(query).all()
        return [(Candidate(tuple(row[: len(key)]), tuple(row[len(key) : -1])), row[-1]) for row in rows]
