"""What conditions say together, as far as it can be told without a database."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

from reaper.profile.actions import Action, Delete, Insert, Update
from reaper.profile.columns import condition_columns
from reaper.profile.conditions import Condition
from reaper.profile.related_tables import condition_sets
from reaper.profile.values import Variable

if TYPE_CHECKING:
    from reaper.profile.profile import Profile

_SCALARS = (bool, int, float, str)


def contradictions(profile: Profile) -> Iterator[str]:
    """Conditions that no row fulfils."""
    running = profile.jobs.running
    for place, _, alone in condition_sets(profile):
        together = running.conditions if running and place == "jobs.running.where" else alone
        apart = (a.column for a, b in combinations(together, 2) if _apart(a, b))
        if (column := next(apart, None)) is not None:
            yield f"{place}: no row fulfils both conditions about {column!r}"


def purged_while_running(profile: Profile) -> Iterator[str]:
    """A purge whose conditions speak of what running means, and do not rule it out."""
    running, purge = profile.jobs.running, profile.purge
    if running is None or purge is None:
        return
    shared = set(condition_columns(running.conditions)) & set(condition_columns(purge.where))
    pairs = [(a, b) for a in running.conditions for b in purge.where]
    if shared and all(_apart(a, b) is False for a, b in pairs):
        yield f"purge.where: does not rule out a running job: say what else {min(shared)!r} is when one has ended"


def still_running(profile: Profile, action: Action) -> str | None:
    """Why a job runs on after an action has changed its row; None when it may have ended."""
    running, assign = profile.jobs.running, action.assign or {}
    if running is None or any(_after(condition, assign) is not True for condition in running.conditions):
        return None
    gone = {related.table for related in running.exists}
    come = {related.table for related in running.missing}
    matched = {ours for related in running.related for ours in related.match.values()}
    for step in action.also:
        if isinstance(step, Update) and step.table in gone | come:
            return None
        if isinstance(step, Delete) and step.table in gone:
            return None
        if isinstance(step, Insert) and step.table in come:
            return None
    if matched & set(assign):
        return None
    if running.column is not None and not (running.where or running.related):
        again = "must be set to a value that does not mean running, or every sweep would end the job again"
        return f".set: {running.column!r} {again}"
    return ": nothing that says that a job runs is changed, and every sweep would end it again"


def _after(condition: Condition, assign: Any) -> bool | None:
    """Whether a condition that held holds still; None when nobody can tell."""
    if condition.sql is not None:
        return None if set(condition_columns([condition])) & set(assign) else True
    if condition.column not in assign:
        return True
    value = assign[condition.column]
    if isinstance(value, Variable) and value.name == "null":
        return condition.null == "null"
    if condition.null is not None:
        known = isinstance(value, (Variable, *_SCALARS))
        return condition.null == "not null" if known else None
    return _fulfils(value, condition) if isinstance(value, _SCALARS) else None


def _fulfils(value: Any, condition: Condition) -> bool | None:
    if condition.values is not None:
        return value in condition.values
    if condition.not_in is not None:
        return value not in condition.not_in
    less = condition.less_than is not None
    limit = condition.less_than if less else condition.greater_than
    if not isinstance(limit, (int, float)) or isinstance(value, str):
        return None  # texts and moments have the database's own order
    return bool(value < limit if less else value > limit)


def _apart(a: Condition, b: Condition) -> bool | None:
    """No row fulfils both; None when nobody can tell. About different columns it is always False."""
    if a.sql is not None or b.sql is not None:
        return None
    if a.column != b.column:
        return False
    if "null" in (a.null, b.null):
        return a.null != b.null
    for one, other in ((a, b), (b, a)):
        if one.values is not None:
            said = [_fulfils(value, other) if other.null is None else True for value in one.values]
            return None if None in said else not any(said)
    bounds = (a.less_than, a.greater_than, b.less_than, b.greater_than)
    return False if all(bound is None for bound in bounds) else None
