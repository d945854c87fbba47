"""Which columns of which tables a profile names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from reaper.profile.actions import Action, Delete, Insert, Update
from reaper.profile.conditions import Condition, Related
from reaper.profile.related_tables import related_rows
from reaper.profile.sql_template import columns_in
from reaper.profile.values import FromColumn, Next, Sql, walk_values
from reaper.profile.witnesses import Witness

if TYPE_CHECKING:
    from reaper.profile.profile import Profile

Table = tuple[str, str]
"""A table and a column of it."""


def columns(profile: Profile) -> dict[str, set[str]]:
    """Every column that the profile names, by table."""
    mine = profile.jobs.table
    queue = [(mine, profile.jobs.queue)] if profile.jobs.queue else []  # no statement asks for it
    written = (pair for action in profile.actions.values() for pair in _written(mine, action))
    return _by_table(profile, (*_read(profile), *written, *queue))


def columns_read(profile: Profile) -> dict[str, set[str]]:
    """Those that statements read, and do not only write."""
    return _by_table(profile, _read(profile))


def columns_judged(profile: Profile) -> set[str]:
    """Those of a job's row that may be asked for to judge it, and none that only transitions or purges need."""
    bare = profile.model_copy(update={"actions": {}, "purge": None})
    return columns_read(bare)[profile.jobs.table]


def columns_copied_by(action: Action) -> Iterator[str]:
    """Columns of a job's row that an action reads, as they were before the transition."""
    for value in action.values():
        yield from _read_by(value)
    for step in action.also:
        if not isinstance(step, Insert):
            yield from step.match.values()


def condition_columns(conditions: Iterable[Condition]) -> Iterator[str]:
    """The columns that conditions ask about."""
    for condition in conditions:
        if condition.column is not None:
            yield condition.column
        if condition.sql is not None:
            yield from columns_in(condition.sql)


def _by_table(profile: Profile, pairs: Iterable[Table]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {profile.jobs.table: set()}
    for table, column in pairs:
        found.setdefault(table, set()).add(column)
    return found


def _read(profile: Profile) -> Iterator[Table]:
    mine = profile.jobs.table
    for column in _of_the_row(profile):
        yield mine, column
    for _, related in related_rows(profile):
        yield from _joined(mine, related)
    for alive in profile.alive:
        yield from _signs(profile, alive)
    for action in profile.actions.values():
        yield from ((mine, column) for column in columns_copied_by(action))
        yield from _beyond(mine, action)


def _of_the_row(profile: Profile) -> Iterator[str]:
    jobs = profile.jobs
    named = [jobs.kind, jobs.status]
    if jobs.log:
        named += [jobs.log.type, jobs.log.order]
    if profile.limits:
        named.append(profile.limits.timeout.column)
    if profile.attempts:
        named += [profile.attempts.column, profile.attempts.limit_column]
    yield from (*jobs.key, *jobs.started, *jobs.claim, *(name for name in named if name))
    if jobs.running:
        yield from condition_columns(jobs.running.conditions)
    if profile.purge:
        yield from profile.purge.at
        yield from condition_columns(profile.purge.where)


def _joined(mine: str, related: Related | Delete | Update) -> Iterator[Table]:
    for theirs, ours in related.match.items():
        yield related.table, theirs
        yield mine, ours
    for column in condition_columns(related.where):
        yield related.table, column


def _signs(profile: Profile, alive: Witness) -> Iterator[Table]:
    mine = profile.jobs.table
    if alive.events:
        for theirs, ours in alive.events.matching(profile.jobs.key).items():
            yield alive.events.table, theirs
            yield mine, ours
        for column in (*alive.events.at, *condition_columns(alive.events.where)):
            yield alive.events.table, column
    if alive.children:
        for column in (*alive.children.parent, *alive.children.at):
            yield mine, column
    celery = (alive.celery.task, alive.celery.queue) if alive.celery else ()
    for name in (alive.column, alive.deadline, *celery):
        if name:
            yield mine, name


def _written(mine: str, action: Action) -> Iterator[Table]:
    yield from ((mine, column) for column in action.assign or ())
    for step in action.also:
        if not isinstance(step, Delete):
            yield from ((step.table, column) for column in (step.values if isinstance(step, Insert) else step.assign))


def _beyond(mine: str, action: Action) -> Iterator[Table]:
    """What is read to find the next of a row of values; of a row that is updated, its own value too."""
    rows = [(mine, action.assign or {}), *((s.table, s.assign) for s in action.also if isinstance(s, Update))]
    for value in action.values():
        if isinstance(value, Next):
            yield from ((value.series.table, name) for name in (value.series.column, *value.series.match))
    for table, assign in rows:
        for column, value in assign.items():
            if isinstance(value, Next):
                yield from ((table, name) for name in (column, value.series.every_column) if name)


def _read_by(value: Any) -> Iterator[str]:
    for part in walk_values(value):
        if isinstance(part, FromColumn):
            yield part.column
        elif isinstance(part, Sql):
            yield from columns_in(part.sql)
        elif isinstance(part, Next):
            yield from part.series.match.values()
