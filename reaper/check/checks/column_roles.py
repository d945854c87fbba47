"""What a column is for in the profile, and which columns of a table could be it by their type.

A column that does not exist is looked for among those first: the nearest name of another type is a wrong answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reaper.catalog.tables import Column, Table
from reaper.check.checks.timestamps import DATE_FAMILIES, FAMILIES
from reaper.check.context import CheckContext
from reaper.profile import Profile
from reaper.profile.column_usage import timestamp_columns
from reaper.profile.columns import TableColumn

_NUMBERS = ("integer", "number")
_NAMES = ("text", "enum", "integer", "uuid")


@dataclass(frozen=True, slots=True)
class ColumnRole:
    """`what`: the columns that could have it, in words. `fits`: whether a column of the table could."""

    what: str
    fits: Callable[[Table, Column], bool]


def role_of(context: CheckContext, table: str, column: str) -> ColumnRole | None:
    """What the profile has this column for; None where a column of any type will do."""
    if any((moment.table, moment.column) == (table, column) for moment in timestamp_columns(context.profile)):
        families = {*FAMILIES[context.profile.said_time(table, column).format], *DATE_FAMILIES}
        return ColumnRole("columns with moments", lambda _, other: other.family in families)
    return next((role for place, role in _roles(context) if place == (table, column)), None)


def _roles(context: CheckContext) -> Iterator[tuple[TableColumn, ColumnRole]]:
    profile = context.profile
    for column in profile.jobs.key:
        yield (profile.jobs.table, column), _KEY
    for job_column, role in _job_roles(profile, context.catalog.json_families):
        yield profile.real_column(profile.jobs.table, job_column), role
    for witness in profile.alive:
        if witness.worker is not None:
            for theirs, ours in witness.worker.match.items():
                yield (witness.worker.table, theirs), _NAME
                yield profile.real_column(profile.jobs.table, ours), _NAME


def _job_roles(profile: Profile, arrays: tuple[str, ...]) -> Iterator[tuple[str, ColumnRole]]:
    jobs, attempts = profile.jobs, profile.attempts
    tasks = (witness.celery.task for witness in profile.alive if witness.celery)
    yield from ((column, _NAME) for column in (jobs.kind, jobs.queue, jobs.holder, *tasks) if column)
    if attempts is not None:
        array = ColumnRole("columns with arrays", lambda _, column: column.family in arrays)
        yield from ((column, array if attempts.array else _NUMBER) for column in (attempts.column,) if column)
        yield from ((column, _NUMBER) for column in (attempts.retries_column, attempts.limit_column) if column)
    limits = profile.limits.by_name.values() if profile.limits else ()
    yield from ((limit.column, _DURATION) for limit in limits if limit.column)


def _is_unique(table: Table, column: Column) -> bool:
    return any(index.unique and column.name in index.columns for index in table.indexes)


_KEY = ColumnRole("columns of unique keys", _is_unique)
_NAME = ColumnRole("columns with names or ids", lambda _, column: column.family in _NAMES)
_NUMBER = ColumnRole("columns with numbers", lambda _, column: column.family in _NUMBERS)
_DURATION = ColumnRole(
    "columns with numbers or intervals",
    lambda _, column: column.family in _NUMBERS or column.type.startswith("interval"),
)
