"""The count of the running jobs: all of them, those past their timeout, those that are so only since before.

In one pass over them: with many of them, it costs most of a sweep after the candidates. Where kinds have limits of
their own, jobs are counted by kind, and each kind is compared with its limits as a whole. Only where some jobs of a
kind are past its timeout, and others are not, is each job compared with its limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, and_, case, func, literal, not_, or_, select

from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import reserved_alias
from reaper.staleness.rule import Rule

_PAST, _CROSSED, _RUNNING, _WITHOUT_START = "past_timeout", "crossed", "running", "without_start"
_START_UNKNOWN = "start_unknown"
_OLDEST, _NEWEST, _MOST_OVERDUE, _UNDECIDED = "oldest", "newest", "most_overdue", "undecided"


def count_query(rule: Rule) -> Select[Any]:
    """Counts the running jobs, those past their timeout, and those past it only since before; the oldest start.

    `undecided`: of how many kinds these counts are missing. `past_timeout_query` then counts them for all jobs.
    """
    return _of_kinds(rule) if rule.limits_are_of_kinds else _of_jobs(rule)


def past_timeout_query(rule: Rule) -> Select[Any]:
    """Counts the running jobs past their timeout, and those past it only since before."""
    jobs = rule.tables.jobs
    may_be_past = rule.started(jobs) < rule.newest_started_before
    return select(*_past(rule)).select_from(rule.with_timeouts(jobs)).where(*_is_running(rule), may_be_past)


def newly_past_timeout(rule: Rule) -> list[ColumnElement[bool]]:
    """Conditions on running jobs: past their timeout, and not yet at the previous evaluation."""
    jobs = rule.tables.jobs
    return [rule.older_than_timeout(jobs), not_(rule.older_than_timeout(jobs, previously=True))]


def _is_running(rule: Rule) -> list[ColumnElement[bool]]:
    return [rule.tables.search_condition(rule.tables.jobs), rule.tables.running(rule.tables.jobs)]


def _past(rule: Rule) -> list[Element]:
    older = sql.count_if(rule.older_than_timeout(rule.tables.jobs))
    return [older.label(_PAST), sql.count_if(*newly_past_timeout(rule)).label(_CROSSED)]


def _of_jobs(rule: Rule) -> Select[Any]:
    """Compares each job with its limits."""
    jobs = rule.tables.jobs
    columns: list[Element] = [
        func.count().label(_RUNNING),
        *_past(rule),
        sql.epoch(func.min(rule.started(jobs))).label(_OLDEST),
        rule.most_overdue(jobs).label(_MOST_OVERDUE),
        *_without_start(rule),
        literal(0, Integer).label(_UNDECIDED),
    ]
    return select(*columns).select_from(rule.with_timeouts(jobs)).where(*_is_running(rule))


def _of_kinds(rule: Rule) -> Select[Any]:
    """Compares each kind with its limits."""
    jobs, started = rule.tables.jobs, rule.started(rule.tables.jobs)
    kinds = [kind.label(f"kind_{n}") for n, kind in enumerate(rule.kinds(jobs))]
    counts: list[Element] = [
        func.count().label(_RUNNING),
        func.min(started).label(_OLDEST),
        func.max(started).label(_NEWEST),
        *_without_start(rule),
    ]
    counted = select(*kinds, *counts).select_from(jobs).where(*_is_running(rule))
    counted = counted.group_by(*(kind.element for kind in kinds))
    by_kind = counted.subquery(reserved_alias("by_kind"))
    past, crossed = _past_of_kind(rule, by_kind.c)
    columns = [
        *(_sum(by_kind.c[name]).label(name) for name in (_RUNNING, _WITHOUT_START, _START_UNKNOWN)),
        _sum(past).label(_PAST),
        _sum(crossed).label(_CROSSED),
        sql.epoch(func.min(by_kind.c[_OLDEST])).label(_OLDEST),
        func.max(rule.overdue_of_kind(by_kind.c[_OLDEST])).label(_MOST_OVERDUE),
        sql.count_if(or_(past.is_(None), crossed.is_(None))).label(_UNDECIDED),
    ]
    return select(*columns).select_from(rule.with_limits(by_kind, [by_kind.c[kind.name] for kind in kinds]))


def _past_of_kind(rule: Rule, kind: Any) -> Sequence[Element]:
    """How many jobs of a kind are past its timeout, and newly so; NULL where not all of them are alike."""
    before, previously = rule.started_before(), rule.started_before(previously=True)
    oldest, newest, jobs = kind[_OLDEST], kind[_NEWEST], kind[_RUNNING]
    none_past = or_(oldest.is_(None), oldest >= before)
    all_past = and_(newest < before, kind[_START_UNKNOWN] == 0)
    past = case((none_past, 0), (all_past, jobs))
    crossed = case((or_(none_past, newest < previously), 0), (and_(all_past, oldest >= previously), jobs))
    return past, crossed


def _without_start(rule: Rule) -> list[Element]:
    jobs = rule.tables.jobs
    starts = {_WITHOUT_START: rule.tables.started(jobs), _START_UNKNOWN: rule.started(jobs)}
    return [(func.count() - func.count(start)).label(name) for name, start in starts.items()]


def _sum(numbers: Element) -> Element:
    return func.coalesce(func.sum(numbers), 0)
