"""The second evaluation of the rule, behind the locks: which jobs of a batch are to be ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import CTE, ColumnElement, FromClause, String, and_, func, literal

from reaper.model import Verdict
from reaper.source.evidence import evidence_cte
from reaper.source.transition.values import ValueCompiler
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule

Predicate = Callable[[FromClause, EvaluationContext], ColumnElement[bool]]
"""Which of the running jobs are to be ended, as of a moment."""


class SecondCheck:
    """`to_end` has a row for each job of a batch that runs and is to be ended, with its evidence and its message.

    `audit_fields` are the texts that are the same for every job. `predicate` says which running jobs are to be ended:
    True, those that are stale; False, all.
    """

    def __init__(
        self, rule: Rule, context: EvaluationContext, audit_fields: Mapping[str, str], predicate: Predicate | bool
    ) -> None:
        jobs, tables = rule.tables.jobs, rule.tables
        is_to_end = and_(tables.key_in_batch(jobs), tables.running(jobs))
        if predicate:
            is_to_end = and_(is_to_end, (rule.still_stale if predicate is True else predicate)(jobs, context))
        verdict = Verdict.STALE if predicate is True else None
        fields: dict[str, Element] = {name: literal(text, String) for name, text in audit_fields.items()}
        self.to_end: CTE = evidence_cte(rule, jobs, context, is_to_end, fields, verdict)
        self.values = ValueCompiler(tables, dict(audit_fields))


def has_attempts_left(tables: ProfileTables, to_end: CTE) -> ColumnElement[bool]:
    """The job may be tried again. A job without a limit has no attempt left."""
    attempts = tables.profile.attempts
    if attempts is None:
        raise ValueError("a choice between transitions needs attempts")
    tried = to_end.c[tables.row_alias(attempts.column)]
    limits: list[Element] = [literal(attempts.limit)] if attempts.limit is not None else []
    if attempts.limit_column is not None:
        limits.insert(0, to_end.c[tables.row_alias(attempts.limit_column)])
    limit = func.coalesce(*limits) if len(limits) > 1 else limits[0]
    return func.coalesce(func.coalesce(sql.array_length(tried) if attempts.array else tried, 0) < limit, False)
