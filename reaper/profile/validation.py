"""Checks across the parts of a profile. Each problem begins with the key in the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from reaper.common.suggestions import did_you_mean
from reaper.errors import InconsistentProfile
from reaper.profile.actions import REQUEUE_ELSE_FAIL, Action, Insert, Update, is_conditional
from reaper.profile.beside import problems_beside
from reaper.profile.contradictions import contradictions, purged_while_running, still_running
from reaper.profile.values import FromColumn, Next

if TYPE_CHECKING:
    from reaper.profile.profile import Profile

_START = "start"  # the witness in evidence where a job has shown no sign of life


def check(profile: Profile) -> None:
    """Raises InconsistentProfile with everything that does not fit together."""
    problems = [
        *_actions(profile),
        *_choices(profile),
        *_witnesses(profile),
        *problems_beside(profile),
        *contradictions(profile),
        *purged_while_running(profile),
        *_purge(profile),
        *_fence(profile),
    ]
    widths = list(_key_widths(profile))
    # Which columns belong to which table is known only where the keys fit.
    problems += widths or _times(profile)
    if problems:
        raise InconsistentProfile(problems)


def _times(profile: Profile) -> Iterator[str]:
    columns = profile.columns()
    for key in profile.times:
        table, column = profile.time_key(key)
        if table not in columns:
            yield f"times: the profile names no table {table!r}{did_you_mean(table, columns)}"
        elif column is not None and column not in columns[table]:
            yield f"times: the profile names no column {key!r}{did_you_mean(column, columns[table])}"


def _purge(profile: Profile) -> Iterator[str]:
    if profile.purge and profile.jobs.log:
        yield f"purge: is not supported for jobs that are a log: drop old partitions of {profile.jobs.table!r} instead"
    for n, step in enumerate(profile.purge.also if profile.purge else ()):
        if step.keep:
            yield f"purge.also.{n}.keep: a purge keeps nothing; remove it"
        if step.when:
            yield f"purge.also.{n}.when: is for steps of actions; say in purge.where which jobs are deleted"


def _fence(profile: Profile) -> Iterator[str]:
    if profile.fence is None:
        return
    if profile.jobs.log:
        yield "fence: jobs that are a log have no row that a fence could protect"
    elif profile.fence.again and profile.jobs.state is None:
        yield "fence.again: the column with these states is unknown: give jobs.status"


# --- witnesses ---------------------------------------------------------------------------------------------------


def _witnesses(profile: Profile) -> Iterator[str]:
    names = list[str]()
    for place, alive in enumerate(profile.alive):
        where = f"alive.{place}"
        if alive.witness in names:
            yield f"{where}.witness: two witnesses are called {alive.witness!r}"
        if alive.witness == _START:
            yield f"{where}.witness: {_START!r} is reserved: evidence uses it for the start of a job"
        names.append(alive.witness)
        for kind in ("celery", "worker"):
            before = profile.alive[:place]
            if getattr(alive, kind) and any(getattr(other, kind) for other in before):
                yield f"{where}.{kind}: only one witness of a profile can be {kind!r}"
        if alive.children and profile.jobs.log:
            yield f"{where}.children: jobs that are a log cannot have children"
        if alive.ended_by_reaper and not (alive.events or alive.children):
            yield f"{where}.ended_by_reaper: is for 'events' and 'children': the reaper ends no other rows"
        if alive.ended_by_reaper == "silent" and alive.events and alive.events.key is None:
            yield (
                f"{where}.ended_by_reaper: the rows that the reaper has ended are known by their key: "
                "give its columns in events.key"
            )


def _key_widths(profile: Profile) -> Iterator[str]:
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
        yield "actions: 'fail' is missing: sweeps take this action for stale jobs"
    for name, action in profile.actions.items():
        where = f"actions.{name}"
        if name == REQUEUE_ELSE_FAIL:
            parts = "'requeue', 'fail' and 'attempts'"
            yield f"{where}: the reaper makes this action itself from {parts}: give these instead"
        if name == "fail" and action.unique_violation == "fail":
            yield f"{where}.unique_violation: 'fail' cannot be its own fallback: expected 'skip'"
        yield from _log_action(profile, where, action) if profile.jobs.log else _row_action(profile, where, action)
        yield from _changed_twice(profile, where, action)
        yield from _next_not_unique(profile, where, action)


def _choices(profile: Profile) -> Iterator[str]:
    for name, choice in profile.choices.items():
        where = f"choices.{name}"
        if name in profile.actions:
            yield f"{where}: there is an action of this name; a source could not say which one it means"
        if name == REQUEUE_ELSE_FAIL:
            yield f"{where}: the reaper makes this choice itself from 'requeue', 'fail' and 'attempts'"
        for key, action in (("then", choice.then), ("else", choice.otherwise)):
            if action not in profile.actions:
                yield f"{where}.{key}: there is no action {action!r}{did_you_mean(action, profile.actions)}"


def _changed_twice(profile: Profile, where: str, action: Action) -> Iterator[str]:
    """PostgreSQL changes a row once per statement, and silently ignores a second change."""
    changed = {} if profile.jobs.log else {profile.jobs.table: "the transition"}
    for place, step in enumerate(action.also):
        if isinstance(step, Insert):
            continue
        what = "update" if isinstance(step, Update) else "delete"
        if step.table in changed:
            yield (
                f"{where}.also.{place}.{what}: {step.table!r} is already changed by {changed[step.table]}; "
                "each table can be changed once per action"
            )
        changed.setdefault(step.table, f"also.{place}")


def _next_not_unique(profile: Profile, where: str, action: Action) -> Iterator[str]:
    """All jobs of a batch see the rows before the batch, so that `next` would give several of them the same value."""
    assignments = [(f"{where}.set", action.assign or {})]
    assignments += [
        (f"{where}.also.{place}.values", step.values)
        for place, step in enumerate(action.also)
        if isinstance(step, Insert)
    ]
    for here, values in assignments:
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
            yield f"{where}.set: {column!r} is part of the key and cannot be changed"
    if action.assign is not None and (why := still_running(profile, action)) is not None:
        yield f"{where}{why}"


def _log_action(profile: Profile, where: str, action: Action) -> Iterator[str]:
    log, table = profile.jobs.log, profile.jobs.table
    assert log is not None
    for what, given in (("set", action.assign is not None), ("delete", action.delete)):
        if given:
            yield f"{where}.{what}: jobs that are a log have no row to change: end them with an insert in 'also'"
    ended = False
    for place, step in enumerate(action.also):
        if not isinstance(step, Insert) or step.table != table:
            continue
        here, written = f"{where}.also.{place}.values", step.values.get(log.type)
        if written in log.started:
            yield f"{here}: {written!r} is one of jobs.log.started: it would start the job again"
        if written in log.ended and step.optional:
            yield f"{where}.also.{place}.optional: this insert ends the job, and cannot be left out"
        if written in log.ended and is_conditional(step):
            condition = "when" if step.when else "unless_there"
            yield f"{where}.also.{place}.{condition}: this insert ends the job, and must be made for every job"
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
