"""What a profile does with the columns that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reaper.profile import First, Insert, Now, Profile, Update, Value, Variable
from reaper.profile.related_tables import condition_sets


@dataclass(frozen=True, slots=True)
class RowWrite:
    """One row that an action writes: the job's own, another, or a new one."""

    place: str
    table: str
    values: Mapping[str, Value]
    inserts: bool


class TimestampColumn(NamedTuple):
    """A column with moments; one that is only written takes whatever its type makes of one."""

    table: str
    column: str
    read: bool


def row_writes(profile: Profile) -> Iterator[RowWrite]:
    for name, action in profile.actions.items():
        if action.assign is not None:
            yield RowWrite(f"actions.{name}.set", profile.jobs.table, action.assign, inserts=False)
        for n, step in enumerate(action.also):
            place = f"actions.{name}.also.{n}"
            if isinstance(step, Insert):
                yield RowWrite(place, step.table, step.values, inserts=True)
            elif isinstance(step, Update):
                yield RowWrite(place, step.table, step.assign, inserts=False)


def possible_values(value: Value) -> Iterator[Value]:
    """What may come to stand in the column itself: the value, or each of those that are tried for it."""
    if isinstance(value, First):
        for part in value.first:
            yield from possible_values(part)
    else:
        yield value


def is_variable(value: object, known: str) -> bool:
    """A value is what the reaper knows by that name."""
    return isinstance(value, Variable) and value.name == known


def timestamp_columns(profile: Profile) -> list[TimestampColumn]:
    """Every moment that is compared with the database's clock, or set from it."""
    read = {(table, column) for table, column in _moments_read(profile)}
    written = {(table, column) for table, column in _moments_written(profile)}
    return [TimestampColumn(*pair, read=pair in read) for pair in sorted(read | written)]


def _moments_read(profile: Profile) -> Iterator[tuple[str, str]]:
    jobs = profile.jobs
    mine = [*jobs.started, *(profile.purge.at if profile.purge else ())]
    for alive in profile.alive:
        if alive.events:
            yield from ((alive.events.table, name) for name in alive.events.at)
        mine += [*(alive.children.at if alive.children else ()), *filter(None, (alive.column, alive.deadline))]
    yield from ((jobs.table, name) for name in mine)
    for _, table, asked in condition_sets(profile):
        for condition in asked:
            if condition.column and isinstance(condition.less_than or condition.greater_than, Now):
                yield table, condition.column


def _moments_written(profile: Profile) -> Iterator[tuple[str, str]]:
    for writing in row_writes(profile):
        for name, value in writing.values.items():
            if any(is_variable(part, "now") for part in possible_values(value)):
                yield writing.table, name
