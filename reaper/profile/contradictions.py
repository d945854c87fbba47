"""Contradictions between conditions, as far as they can be found without a database."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any

from reaper.profile.actions import Action, Delete, Insert, Update, is_conditional
from reaper.profile.columns import condition_columns
from reaper.profile.conditions import Condition
from reaper.profile.related_tables import condition_sets
from reaper.profile.values import Variable, is_variable

if TYPE_CHECKING:
    from reaper.profile.profile import Profile

_SCALARS = (bool, int, float, str)


def contradictions(profile: Profile) -> Iterator[str]:
    """Conditions that no row can meet together."""
    running = profile.jobs.running
    for place, _, conditions in condition_sets(profile):
        together = running.conditions if running and place == "jobs.running.where" else conditions
        contradicting = (a.column for a, b in combinations(together, 2) if _contradict(a, b))
        if (column := next(contradicting, None)) is not None:
            yield f"{place}: no row can meet both conditions on {column!r}"


def purged_while_running(profile: Profile) -> Iterator[str]:
    """A purge whose conditions are on the columns of `jobs.running`, and do not exclude running jobs."""
    running, purge = profile.jobs.running, profile.purge
    if running is None or purge is None:
        return
    shared = set(condition_columns(running.conditions)) & set(condition_columns(purge.where))
    pairs = [(a, b) for a in running.conditions for b in purge.where]
    if shared and all(_contradict(a, b) is False for a, b in pairs):
        yield (
            f"purge.where: matches running jobs too: add a condition on {min(shared)!r} that only finished jobs meet"
        )


def still_running(profile: Profile, action: Action) -> str | None:
    """Why a job still counts as running after an action has changed its row; None when it may have ended."""
    running, assign = profile.jobs.running, action.assign or {}
    if running is None or any(_holds_after(condition, assign) is not True for condition in running.conditions):
        return None
    if running_columns_left_to_the_database(profile, action):
        return None
    if ends_by_related_rows(profile, action):
        return None
    if running.column is not None and not (running.where or running.related):
        again = "must be set to a value that does not mean running, or every sweep would end the job again"
        return f".set: {running.column!r} {again}"
    change = "change a column or a row that jobs.running asks about, or every sweep would end the job again"
    return f": the job would still be running: {change}"


def ends_by_related_rows(profile: Profile, action: Action) -> bool:
    """Whether an action changes the rows of other tables by which a job says that it runs."""
    running = profile.jobs.running
    if running is None:
        return False
    required = {related.table for related in running.exists}
    excluded = {related.table for related in running.missing}
    required |= {profile.jobs.beside[name].table for name in _beside_running(profile)}
    matched = {ours for related in running.related for ours in related.match.values()}
    for step in action.also:
        if is_conditional(step):
            continue
        if isinstance(step, Update) and step.table in required | excluded:
            return True
        if isinstance(step, Delete) and step.table in required:
            return True
        if isinstance(step, Insert) and step.table in excluded:
            return True
    return bool(matched & set(action.assign or {}))


def _beside_running(profile: Profile) -> set[str]:
    """The rows beside the job by which it says that it runs."""
    running = profile.jobs.running
    names = condition_columns(running.conditions if running else ())
    return {beside for name in names if (beside := profile.jobs.place_of(name).beside) is not None}


def running_columns_left_to_the_database(profile: Profile, action: Action) -> frozenset[str]:
    """The columns that say whether a job runs, where an action sets none of them, but others of the row.

    The database may generate them from those that are set. Without it that is unknown. Empty where the end of a job
    does not depend on it.
    """
    running, assign = profile.jobs.running, set(action.assign or {})
    asked = set(condition_columns(running.conditions if running else ()))
    never_generated = {*profile.jobs.key, *profile.jobs.started}
    asked = {name for name in asked if profile.jobs.place_of(name).beside is None}
    return frozenset() if not assign or asked & assign else frozenset(asked - never_generated)


def _holds_after(condition: Condition, assign: Any) -> bool | None:
    """Whether a condition that was met is met after the change; None where that is unknown."""
    changed = set(condition_columns([condition])) & set(assign)
    if not changed:
        return True
    if condition.any_of is not None:
        # Which of them were met is unknown. One that is not changed may have been, or not.
        after = [_holds_after(part, assign) for part in condition.any_of if set(condition_columns([part])) & changed]
        none_left = len(after) == len(condition.any_of) and not any(holds is not False for holds in after)
        return True if True in after else False if none_left else None
    if condition.sql is not None or condition.column not in assign:
        return None
    value = assign[condition.column]
    if is_variable(value, "null"):
        return condition.null == "null" or bool(condition.or_null)
    if condition.null is not None:
        is_never_null = isinstance(value, (Variable, *_SCALARS))
        return condition.null == "not null" if is_never_null else None
    return _meets(value, condition) if isinstance(value, _SCALARS) else None


def _meets(value: Any, condition: Condition) -> bool | None:
    if condition.values is not None:
        return value in condition.values
    if condition.not_in is not None:
        return value not in condition.not_in
    less = condition.less_than is not None
    limit = condition.less_than if less else condition.greater_than
    if not isinstance(limit, (int, float)) or isinstance(value, str):
        return None  # the database has an order of its own for texts and moments
    return bool(value < limit if less else value > limit)


def _contradict(a: Condition, b: Condition) -> bool | None:
    """Whether no row can meet both; None where that is unknown. False for conditions on different columns."""
    if a.column is None or b.column is None:
        return None
    if a.column != b.column:
        return False
    if a.or_null or b.or_null:
        return None
    if "null" in (a.null, b.null):
        return a.null != b.null
    for one, other in ((a, b), (b, a)):
        if one.values is not None:
            met = [_meets(value, other) if other.null is None else True for value in one.values]
            return None if None in met else not any(met)
    bounds = (a.less_than, a.greater_than, b.less_than, b.greater_than)
    return False if all(bound is None for bound in bounds) else None
