"""Which action is taken for a job, where a source's action is a choice between two."""

from __future__ import annotations

from sqlalchemy import ColumnElement, FromClause, String, and_, case, func, literal, or_

from reaper.profile import REQUEUE_ELSE_FAIL
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables


def takes_first(tables: ProfileTables, jobs: FromClause, action: str) -> ColumnElement[bool] | None:
    """Whether a job gets the first of the two actions between which `action` chooses; None where it is no choice."""
    if (choice := tables.profile.choices.get(action)) is not None:
        on_row = tables.conditions_hold(choice.where, jobs, tables.profile.jobs.table)
        return func.coalesce(and_(on_row, *(tables.has_related_rows(rows, jobs) for rows in choice.rows)), False)
    if action == REQUEUE_ELSE_FAIL:
        return _has_attempts_left(tables, jobs)
    return None


def action_name(tables: ProfileTables, first: Element, action: str) -> Element:
    """The name of the action that a job gets. `first` is what `takes_first` has said of it."""
    (then, otherwise) = tables.profile.branch_names(action)
    return case((first, literal(then, String)), else_=literal(otherwise, String))


def _has_attempts_left(tables: ProfileTables, jobs: FromClause) -> ColumnElement[bool]:
    """The job may be tried again. A job without a limit has no attempt left, unless the profile says otherwise."""
    attempts = tables.profile.attempts
    if attempts is None:
        raise ValueError("a choice by attempts needs attempts")
    counted = tables.job_column(jobs, attempts.counter)
    limits: list[Element] = [literal(attempts.limit)] if attempts.limit is not None else []
    if attempts.limit_column is not None:
        limits.insert(0, tables.job_column(jobs, attempts.limit_column))
    limit = func.coalesce(*limits) if len(limits) > 1 else limits[0]
    tried = func.coalesce(sql.array_length(counted) if attempts.array else counted, 0)
    below = func.coalesce((tried + 1 if attempts.retries_column else tried) < limit, False)
    return or_(limit.is_(None), below) if attempts.null_is_no_limit else below
