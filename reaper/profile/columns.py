"""The columns that a profile names, by table: all, those that statements read, those that the verdict needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from reaper.profile.actions import Action, Delete, Insert, Update
from reaper.profile.audit_events import audit_inserts, columns_that_find
from reaper.profile.conditions import Condition, OtherColumn, Related, single_conditions
from reaper.profile.related_tables import related_rows
from reaper.profile.sql_template import columns_in
from reaper.profile.values import FromColumn, Next, Sql, Variable, walk_values
from reaper.profile.witnesses import Witness

if TYPE_CHECKING:
    from reaper.profile.profile import Profile

TableColumn = tuple[str, str]
"""A table, and one of its columns."""


def columns(profile: Profile) -> dict[str, set[str]]:
    """Every column that the profile names, by table."""
    jobs_table = profile.jobs.table
    queue = [(jobs_table, profile.jobs.queue)] if profile.jobs.queue else []  # no statement reads it
    written = (pair for action in profile.actions.values() for pair in _written(jobs_table, action))
    return _by_table(profile, (*_read(profile), *_kept(profile), *written, *queue))


def columns_read(profile: Profile) -> dict[str, set[str]]:
    """The columns that statements read. Columns that are only written are left out."""
    return _by_table(profile, (*_read(profile), *_kept(profile)))


def columns_evaluated(profile: Profile) -> dict[str, set[str]]:
    """Those that statements evaluate: without the columns of deleted rows, which are only logged."""
    return _by_table(profile, _read(profile))


def columns_judged(profile: Profile) -> set[str]:
    """The columns of a job's row that a verdict may need. Columns for transitions and purges only are left out."""
    without_changes = profile.model_copy(update={"actions": {}, "choices": {}, "purge": None})
    return columns_read(without_changes)[profile.jobs.table]


def columns_copied_by(action: Action) -> Iterator[str]:
    """The columns of a job's row that an action reads, as they were before the transition."""
    for value in action.values():
        yield from _columns_in_value(value)
    for step in action.also:
        if not isinstance(step, Insert):
            yield from step.match.values()


def condition_columns(conditions: Iterable[Condition]) -> Iterator[str]:
    """The columns in conditions."""
    for condition in conditions:
        for _, single in single_conditions(condition):
            if single.column is not None:
                yield single.column
            if isinstance(single.bound, OtherColumn):
                yield single.bound.column
            if single.sql is not None:
                yield from columns_in(single.sql)


def _by_table(profile: Profile, pairs: Iterable[TableColumn]) -> dict[str, set[str]]:
    by_table: dict[str, set[str]] = {profile.jobs.table: set()}
    for pair in pairs:
        table, column = profile.real_column(*pair)
        by_table.setdefault(table, set()).add(column)
    return by_table


def _read(profile: Profile) -> Iterator[TableColumn]:
    jobs_table = profile.jobs.table
    for column in _columns_of_jobs(profile):
        yield jobs_table, column
    if kind_name := profile.jobs.kind_name:
        yield kind_name.table, kind_name.column
        for theirs, ours in kind_name.match.items():
            yield kind_name.table, theirs
            yield jobs_table, ours
    for _, related in related_rows(profile):
        yield from _columns_of_related(jobs_table, related)
    yield from ((beside.table, beside.newest) for beside in profile.jobs.beside.values() if beside.newest)
    for alive in profile.alive:
        yield from _columns_of_witness(profile, alive)
    for action in profile.actions.values():
        yield from ((jobs_table, column) for column in columns_copied_by(action))
        for step in action.also:
            yield from ((jobs_table, column) for column in condition_columns(step.when))
            if isinstance(step, Insert):
                yield from ((step.table, column) for column in step.unless_there)
        yield from _columns_of_series(jobs_table, action)


def _columns_of_jobs(profile: Profile) -> Iterator[str]:
    jobs = profile.jobs
    named = [jobs.kind, jobs.status, jobs.holder]
    if jobs.log:
        named += [jobs.log.type, jobs.log.order]
    if profile.limits:
        named += (name for limit in profile.limits.by_name.values() for name in limit.columns)
    if profile.attempts:
        named += profile.attempts.columns
    yield from (*jobs.key, *jobs.started, *jobs.claim, *(name for name in named if name))
    if jobs.running:
        yield from condition_columns(jobs.running.conditions)
    for choice in profile.choices.values():
        yield from condition_columns(choice.where)
    if profile.purge:
        yield from profile.purge.at
        yield from condition_columns(profile.purge.where)


def _columns_of_related(jobs_table: str, related: Related | Delete | Update) -> Iterator[TableColumn]:
    for theirs, ours in related.match.items():
        yield related.table, theirs
        yield jobs_table, ours
    for column in condition_columns(related.where):
        yield related.table, column


def _columns_of_witness(profile: Profile, alive: Witness) -> Iterator[TableColumn]:
    jobs_table = profile.jobs.table
    if alive.rows:
        for theirs, ours in alive.rows.matching(profile.jobs.key).items():
            yield alive.rows.table, theirs
            yield jobs_table, ours
        for column in (*alive.rows.at, *(alive.rows.key or ()), *condition_columns(alive.rows.where)):
            yield alive.rows.table, column
    if alive.worker:
        yield from ((alive.worker.table, column) for column in alive.worker.name or ())
    if alive.children:
        for column in (*alive.children.parent, *alive.children.at):
            yield jobs_table, column
    if alive.children and alive.reaper_is_silent:
        yield from _columns_of_audit_events(profile)
    if alive.sql:
        yield from ((jobs_table, column) for column in columns_in(alive.sql))
    celery = (alive.celery.task, alive.celery.queue) if alive.celery else ()
    for name in (alive.column, alive.deadline, *celery):
        if name:
            yield jobs_table, name


def _columns_of_audit_events(profile: Profile) -> Iterator[TableColumn]:
    """The columns by which an audit event shows that the reaper has ended a job."""
    for table, insert in audit_inserts(profile).items():
        yield from ((table, column) for column in columns_that_find(insert))


def _written(jobs_table: str, action: Action) -> Iterator[TableColumn]:
    yield from ((jobs_table, column) for column in action.assign or ())
    for step in action.also:
        if not isinstance(step, Delete):
            yield from ((step.table, column) for column in (step.values if isinstance(step, Insert) else step.assign))


def _kept(profile: Profile) -> Iterator[TableColumn]:
    """The columns of deleted rows that the log keeps."""
    for action in profile.actions.values():
        yield from ((profile.jobs.table, column) for column in action.keep)
        for step in action.also:
            if isinstance(step, Delete):
                yield from ((step.table, column) for column in step.keep)


def _columns_of_series(jobs_table: str, action: Action) -> Iterator[TableColumn]:
    """The columns that `next` values read: those of the series, and of an updated row its own value too."""
    rows = [(jobs_table, action.assign or {}), *((s.table, s.assign) for s in action.also if isinstance(s, Update))]
    for value in action.values():
        if isinstance(value, Next):
            yield from ((value.series.table, name) for name in (value.series.column, *value.series.match))
    for table, assign in rows:
        for column, value in assign.items():
            if isinstance(value, Next):
                yield from ((table, name) for name in (column, value.series.every_column) if name)


def _columns_in_value(value: Any) -> Iterator[str]:
    for part in walk_values(value):
        if isinstance(part, FromColumn):
            yield part.column
        elif isinstance(part, Variable) and part.grows is not None:
            yield part.grows.column
        elif isinstance(part, Sql):
            yield from part.columns
        elif isinstance(part, Next):
            yield from part.series.match.values()
