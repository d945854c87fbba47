"""What must fit together in a profile. Every problem begins with its place, in the words of the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reaper.common.suggestions import did_you_mean
from reaper.errors import InconsistentProfile
from reaper.profile.actions import REQUEUE_ELSE_FAIL, Action, Insert, Update
from reaper.profile.contradictions import contradictions, purged_while_running, still_running
from reaper.profile.values import FromColumn, Next

if TYPE_CHECKING:
    from reaper.profile.profile import Profile

_START = "start"  # what evidence says in place of a witness when there is no sign of life


def check(profile: Profile) -> None:
    """Raises Inconsistent with everything that does not fit."""
    found = [
        *_actions(profile),
        *_witnesses(profile),
        *contradictions(profile),
        *purged_while_running(profile),
        *_purge(profile),
        *_fence(profile),
    ]
    misfits = list(_widths(profile))
    found += misfits or _times(profile)  # whose columns belong to which table is known only when keys fit
    if found:
        raise InconsistentProfile(found)


def _times(profile: Profile) -> Iterator[str]:
    named = profile.tables
    for table in profile.times:
        if table not in named:
            yield f"times: the profile names no table {table!r}{did_you_mean(table, named)}"


def _purge(profile: Profile) -> Iterator[str]:
    if profile.purge and profile.jobs.log:
        yield f"purge: is not supported for jobs that are a log: drop old partitions of {profile.jobs.table!r} instead"


def _fence(profile: Profile) -> Iterator[str]:
    if profile.fence is None:
        return
    if profile.jobs.log:
        yield "fence: jobs that are a log have no row that could be kept as it is"
    elif profile.fence.again and profile.jobs.state is None:
        yield "fence.again: nothing says which column holds these states: give jobs.status"


# --- witnesses ---------------------------------------------------------------------------------------------------


def _witnesses(profile: Profile) -> Iterator[str]:
    named, celery = list[str](), 0
    for place, alive in enumerate(profile.alive):
        where = f"alive.{place}"
        if alive.witness in named:
            yield f"{where}.witness: two witnesses are called {alive.witness!r}"
        if alive.witness == _START:
            yield f"{where}.witness: {_START!r} is what evidence calls the start itself"
        named.append(alive.witness)
        celery += alive.celery is not None
        if alive.celery and celery > 1:
            yield f"{where}.celery: one witness asks Celery, not two"
        if alive.children and profile.jobs.log:
            yield f"{where}.children: jobs that are a log have no rows that could be children"


def _widths(profile: Profile) -> Iterator[str]:
    key = profile.jobs.key
    for place, alive in enumerate(profile.alive):
        job = alive.events.job if alive.events else None
        parent = alive.children.parent if alive.children else None
        for what, columns in (("events.job", job), ("children.parent", parent)):
            if columns is not None and len(columns) != len(key):
                yield f"alive.{place}.{what}: expected as many columns as jobs.key has, {len(key)}, not {len(columns)}"


# --- actions -----------------------------------------------------------------------------------------------------


def _actions(profile: Profile) -> Iterator[str]:
    if "fail" not in profile.actions:
        yield "actions: 'fail' is missing: it is what a sweep does with a stale job"
    for name, action in profile.actions.items():
        where = f"actions.{name}"
        if name == REQUEUE_ELSE_FAIL:
            yield f"{where}: the reaper makes this one itself, of 'requeue', 'fail' and 'attempts': give those"
        if name == "fail" and action.unique_violation == "fail":
            yield f"{where}.unique_violation: 'fail' cannot take its own place: expected 'skip'"
        yield from _log_action(profile, where, action) if profile.jobs.log else _row_action(profile, where, action)
        yield from _changed_twice(profile, where, action)
        yield from _same_for_several(profile, where, action)


def _changed_twice(profile: Profile, where: str, action: Action) -> Iterator[str]:
    """PostgreSQL makes one change to a row in a statement, and passes over a second one without a word."""
    changed = {} if profile.jobs.log else {profile.jobs.table: "the transition"}
    for place, step in enumerate(action.also):
        if isinstance(step, Insert):
            continue
        what = "update" if isinstance(step, Update) else "delete"
        if step.table in changed:
            yield (
                f"{where}.also.{place}.{what}: {step.table!r} is changed by {changed[step.table]} already, and each "
                "table can be changed once"
            )
        changed.setdefault(step.table, f"also.{place}")


def _same_for_several(profile: Profile, where: str, action: Action) -> Iterator[str]:
    """All jobs of a batch see what there was before it: what comes next would be the same for several of them."""
    written = [(f"{where}.set", action.assign or {})]
    written += [
        (f"{where}.also.{place}.values", step.values)
        for place, step in enumerate(action.also)
        if isinstance(step, Insert)
    ]
    for here, values in written:
        for column, value in values.items():
            if isinstance(value, Next) and not set(profile.jobs.key) <= set(value.series.match.values()):
                key = ", ".join(map(repr, profile.jobs.key))
                yield (
                    f"{here}.{column}.next.match: expected the whole key of the job, {key}, or "
                    "several jobs of one batch would get the same value"
                )


def _row_action(profile: Profile, where: str, action: Action) -> Iterator[str]:
    if action.assign is None and not action.delete:
        yield f"{where}: nothing ends the job: expected 'set' or 'delete = true'"
        return
    for column in profile.jobs.key:
        if column in (action.assign or {}):
            yield f"{where}.set: {column!r} is part of the key and stays"
    if action.assign is not None and (why := still_running(profile, action)) is not None:
        yield f"{where}{why}"


def _log_action(profile: Profile, where: str, action: Action) -> Iterator[str]:
    log, table = profile.jobs.log, profile.jobs.table
    assert log is not None
    for what, given in (("set", action.assign is not None), ("delete", action.delete)):
        if given:
            yield f"{where}.{what}: jobs that are a log have no row to change: an insert in 'also' ends them"
    ended = False
    for place, step in enumerate(action.also):
        if not isinstance(step, Insert) or step.table != table:
            continue
        here, written = f"{where}.also.{place}.values", step.values.get(log.type)
        if written in log.started:
            yield f"{here}: {written!r} is one of jobs.log.started: it would start the job anew"
        if written in log.ended:
            ended = True
            for column in profile.jobs.key:
                if step.values.get(column) != FromColumn(column=column):
                    yield f"{here}: {column!r} must be {{ column = {column!r} }}, or another job would be ended"
    if not ended:
        yield (
            f"{where}.also: nothing ends the job: expected an insert into {table!r} whose {log.type!r} is one of "
            "jobs.log.ended"
        )
