"""The second judgement, as both ways of ending jobs make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import CTE, ColumnElement, FromClause, String, and_, func, literal

from reaper.model import Verdict
from reaper.profile import Profile
from reaper.source.evidence import evidence_cte, row_alias
from reaper.source.transition.values import ValueCompiler
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule

Predicate = Callable[[FromClause, EvaluationContext], ColumnElement[bool]]
"""Which of the running jobs are to be ended, as of a moment."""


class SecondCheck:
    """`doomed`: a row for each of the jobs of a batch that runs and is to be ended, with its evidence and its message.

    `stamp` are the texts that are the same for every job. `judge` says which of them are ended: True, those that are
    stale; False, all that run.
    """

    def __init__(
        self, rule: Rule, context: EvaluationContext, audit_info: Mapping[str, str], judge: Predicate | bool
    ) -> None:
        jobs, schema = rule.tables.jobs, rule.tables
        wanted = and_(schema.key_in_batch(jobs), schema.running(jobs))
        if judge:
            wanted = and_(wanted, (rule.still_stale if judge is True else judge)(jobs, context))
        verdict = Verdict.STALE if judge is True else None
        more: dict[str, Element] = {name: literal(text, String) for name, text in audit_info.items()}
        self.to_end: CTE = evidence_cte(rule, jobs, context, wanted, more, verdict)
        self.writing = ValueCompiler(schema, dict(audit_info))


def attempts_left(profile: Profile, doomed: CTE) -> ColumnElement[bool]:
    """The job may be tried again. Where nobody knows a limit, there is no attempt left."""
    attempts = profile.attempts
    if attempts is None:
        raise ValueError("a choice between transitions needs attempts")
    tried = doomed.c[row_alias(profile, attempts.column)]
    limits: list[Element] = [literal(attempts.limit)] if attempts.limit is not None else []
    if attempts.limit_column is not None:
        limits.insert(0, doomed.c[row_alias(profile, attempts.limit_column)])
    limit = func.coalesce(*limits) if len(limits) > 1 else limits[0]
    return func.coalesce(func.coalesce(sql.array_length(tried) if attempts.array else tried, 0) < limit, False)
