"""The second judgement, as both ways of ending jobs make it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import CTE, ColumnElement, FromClause, String, and_, func, literal

from reaper import sql
from reaper.model import Verdict
from reaper.profile import Profile
from reaper.rule import Moment, Rule
from reaper.source.evidence import copied, judged
from reaper.source.writing import Writing
from reaper.sql import Element

Judge = Callable[[FromClause, Moment], ColumnElement[bool]]
"""Which of the running jobs are to be ended, as of a moment."""


class Judging:
    """`doomed`: a row for each of the jobs of a batch that runs and is to be ended, with its evidence and its message.

    `stamp` are the texts that are the same for every job. `judge` says which of them are ended: True, those that are
    stale; False, all that run.
    """

    def __init__(self, rule: Rule, moment: Moment, stamp: Mapping[str, str], judge: Judge | bool) -> None:
        jobs, schema = rule.schema.jobs, rule.schema
        wanted = and_(schema.keyed(schema.key(jobs)), schema.running(jobs))
        if judge:
            wanted = and_(wanted, (rule.still_stale if judge is True else judge)(jobs, moment))
        verdict = Verdict.STALE if judge is True else None
        more: dict[str, Element] = {name: literal(text, String) for name, text in stamp.items()}
        self.doomed: CTE = judged(rule, jobs, moment, wanted, more, verdict)
        self.writing = Writing(schema, dict(stamp))


def attempts_left(profile: Profile, doomed: CTE) -> ColumnElement[bool]:
    """The job may be tried again. Where nobody knows a limit, there is no attempt left."""
    attempts = profile.attempts
    if attempts is None:
        raise ValueError("a choice between transitions needs attempts")
    tried = doomed.c[copied(profile, attempts.column)]
    limits: list[Element] = [literal(attempts.limit)] if attempts.limit is not None else []
    if attempts.limit_column is not None:
        limits.insert(0, doomed.c[copied(profile, attempts.limit_column)])
    limit = func.coalesce(*limits) if len(limits) > 1 else limits[0]
    return func.coalesce(func.coalesce(sql.length(tried) if attempts.array else tried, 0) < limit, False)
