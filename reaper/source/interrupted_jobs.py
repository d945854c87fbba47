"""Jobs that were interrupted by a restart of their server: which they are, as one SQL expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, String, and_, not_

from reaper.common.durations import format_duration
from reaper.source.statements import SourceStatements
from reaper.source.survey import Candidate, key_and_version
from reaper.sql import expressions as sql
from reaper.sql.keys import is_whole
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule

_RESTART, _WINDOW_START, _HOLDER = "reaper_restart", "reaper_window_start", "reaper_holder"


@dataclass(frozen=True, slots=True)
class Restart:
    """A restart of the server that works on the jobs, and how many seconds before it they must have been alive.

    `holder` is that server, as the profile's `holder` column names it: only its jobs were interrupted. None: all jobs
    of the source are those of the restarted server.
    """

    at: datetime
    window_seconds: float
    holder: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The values of the parameters of the predicate."""
        moments = {_RESTART: self.at, _WINDOW_START: self.at - timedelta(seconds=self.window_seconds)}
        return moments if self.holder is None else {**moments, _HOLDER: self.holder}

    @property
    def message(self) -> str:
        """The error message of the jobs that it interrupted."""
        at = self.at.strftime("%Y-%m-%d %H:%M:%S UTC")
        window = format_duration(self.window_seconds)
        server = "its server" if self.holder is None else f"its server {self.holder}"
        return f"Interrupted: {server} was restarted at {at}; last sign of life within {window} before, none since."


def is_interrupted(rule: Rule, jobs: FromClause) -> ColumnElement[bool]:
    """Started before the restart, last sign of life within the window before it, and none since."""
    last_sign, restart = rule.last_sign(jobs), sql.instant_parameter(_RESTART)
    return and_(
        rule.tables.started(jobs) < restart,
        last_sign >= sql.instant_parameter(_WINDOW_START),
        last_sign <= restart,
        not_(rule.unknown(jobs)),
    )


def is_interrupted_of_holder(rule: Rule, jobs: FromClause) -> ColumnElement[bool]:
    """Interrupted, and held by the restarted server. A job without a holder is not."""
    holder = rule.tables.profile.jobs.holder
    assert holder is not None, "asked only of profiles that name the holder"
    held = sql.text_of(rule.tables.job_column(jobs, holder)) == sql.parameter(_HOLDER, String())
    return and_(held, is_interrupted(rule, jobs))


def interrupted_predicate(restart: Restart | None) -> Callable[[Rule, FromClause], ColumnElement[bool]]:
    """Which jobs this restart has interrupted."""
    return is_interrupted if restart is None or restart.holder is None else is_interrupted_of_holder


def interrupted_candidates(
    statements: SourceStatements, connection: Connection, context: EvaluationContext, restart: Restart
) -> Sequence[tuple[Candidate, float]]:
    """The running jobs that were interrupted, each with its last sign of life in seconds since 1970."""
    values, width = statements.values(context) | restart.values, len(statements.profile.jobs.key)
    rows = statements.execute(connection, values, _candidates_query, interrupted_predicate(restart)).all()
    whole = (row for row in rows if is_whole(row[:width]))
    return [(Candidate(tuple(row[:width]), tuple(row[width:-1])), row[-1]) for row in whole]


def _candidates_query(rule: Rule, predicate: Callable[[Rule, FromClause], ColumnElement[bool]]) -> Select[Any]:
    jobs = rule.tables.jobs
    query = key_and_version(rule).add_columns(sql.epoch(rule.last_sign(jobs)).label("seen"))
    return query.where(rule.tables.running(jobs), predicate(rule, jobs))
