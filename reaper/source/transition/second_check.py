"""The second evaluation of the rule, behind the locks: which jobs of a batch are to be ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import CTE, ColumnElement, FromClause, String, and_, true

from reaper.model import Verdict
from reaper.source.evidence import evidence_cte
from reaper.source.transition.audit_event import AUDIT_FIELD
from reaper.source.transition.due_steps import due_columns
from reaper.source.transition.values import ValueCompiler
from reaper.sql import expressions as sql
from reaper.staleness.rule import Rule

Predicate = Callable[[Rule, FromClause], ColumnElement[bool]]
"""Which of the running jobs are to be ended."""


def is_stale(rule: Rule, jobs: FromClause) -> ColumnElement[bool]:
    """Those that are stale: what a sweep ends. Their evidence has their newest signs: by these it is asked there, and
    not here a second time, whether they are silent.
    """
    return rule.older_than_timeout(jobs)


def is_worker_lost(rule: Rule, jobs: FromClause) -> ColumnElement[bool]:
    """Those whose worker is gone, and is as the sweep has seen it: one that has beaten since spares its jobs."""
    return rule.worker_lost(jobs)


def is_any(_rule: Rule, _jobs: FromClause) -> ColumnElement[bool]:
    """All: an operator has decided it, and nothing is judged."""
    return true()


class SecondCheck:
    """`to_end` has a row for each job of a batch that runs and is to be ended, with its evidence and its message.

    `audit_fields` are those texts of the audit event that are the same for every job of a sweep. `action` is the one
    that ends the jobs.
    """

    def __init__(self, rule: Rule, predicate: Predicate, audit_fields: Sequence[str], action: str) -> None:
        rule, jobs, tables = rule.of_batch(), rule.tables.jobs, rule.tables
        is_to_end = and_(tables.key_in_batch(jobs), tables.running(jobs), predicate(rule, jobs))
        stale, lost = predicate is is_stale, predicate is is_worker_lost
        verdict = Verdict.STALE if stale or lost else None
        fields = {name: sql.parameter(AUDIT_FIELD.format(name), String()) for name in audit_fields}
        due = due_columns(tables, jobs, action)
        self.to_end: CTE = evidence_cte(
            rule, jobs, is_to_end, fields, verdict, action, due, only_silent=stale, lost=lost
        )
        self.values = ValueCompiler(tables, fields)
