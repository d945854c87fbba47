"""How a profile uses columns: values that it compares, rows that its actions write, and timestamps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reaper.profile import Condition, First, Insert, Now, Profile, Scalar, Update, Value
from reaper.profile.columns import columns_evaluated
from reaper.profile.conditions import OtherColumn, single_conditions
from reaper.profile.related_tables import condition_sets
from reaper.profile.values import is_moment_of_transition, is_variable

FENCE = "fence.again"
"""The key of the values that pass the fence."""


class Comparison(NamedTuple):
    """A column, and a value that it is compared with. `place` is its key in the file."""

    place: str
    table: str
    column: str
    value: Scalar

    @property
    def says_running(self) -> bool:
        """Whether the value is one of those by which a job claims to be running."""
        return self.place in ("jobs.running.in", "jobs.log.started")


@dataclass(frozen=True, slots=True)
class RowWrite:
    """A row that an action writes: the job's own, another one or a new one. `place` is its key in the file."""

    place: str
    table: str
    values: Mapping[str, Value]
    inserts: bool


class TimestampColumn(NamedTuple):
    """A column with timestamps. One that is only written may have any type that a timestamp can be stored in."""

    table: str
    column: str
    read: bool


def comparisons(profile: Profile) -> Iterator[Comparison]:
    """Every value that a column is compared with."""
    jobs = profile.jobs
    if jobs.running and jobs.running.column:
        for value in jobs.running.values or ():
            yield Comparison("jobs.running.in", jobs.table, jobs.running.column, value)
    if profile.fence and jobs.state:
        yield from (Comparison(FENCE, jobs.table, jobs.state, value) for value in profile.fence.again)
    if jobs.log:
        for name, types in (("started", jobs.log.started), ("ended", jobs.log.ended)):
            yield from (Comparison(f"jobs.log.{name}", jobs.table, jobs.log.type, value) for value in types)
    for place, table, table_conditions in condition_sets(profile):
        for n, condition in enumerate(table_conditions):
            for part, single in single_conditions(condition):
                for operator, value in _values_compared(single):
                    if single.column:
                        real = profile.real_column(table, single.column)
                        yield Comparison(f"{place}.{n}{part}.{operator}", *real, value)


def _values_compared(condition: Condition) -> Iterator[tuple[str, Scalar]]:
    yield from (("in", value) for value in condition.values or ())
    yield from (("not_in", value) for value in condition.not_in or ())
    if condition.bound is not None and not isinstance(condition.bound, Now | OtherColumn):
        yield "greater_than" if condition.less_than is None else "less_than", condition.bound


def row_writes(profile: Profile) -> Iterator[RowWrite]:
    """Every row that the actions write."""
    for name in profile.actions:
        yield from action_writes(profile, name)


def action_writes(profile: Profile, name: str) -> Iterator[RowWrite]:
    """Every row that one action writes."""
    action = profile.actions[name]
    if action.assign is not None:
        yield RowWrite(f"actions.{name}.set", profile.jobs.table, action.assign, inserts=False)
    for n, step in enumerate(action.also):
        place = f"actions.{name}.also.{n}"
        if isinstance(step, Insert):
            yield RowWrite(place, step.table, step.values, inserts=True)
        elif isinstance(step, Update):
            yield RowWrite(place, step.table, step.assign, inserts=False)


def possible_values(value: Value) -> Iterator[Value]:
    """The values that the column may get: the value itself, or each of those that `first` tries."""
    if isinstance(value, First):
        for part in value.first:
            yield from possible_values(part)
    else:
        yield value


def columns_set_to_now(profile: Profile) -> tuple[str, ...]:
    """The columns of a job's row that actions set to the moment of the transition, of those that statements read."""
    assigned = (action.assign or {} for action in profile.actions.values())
    written = {name for values in assigned for name, value in values.items() if _may_be_moment_of_transition(value)}
    return tuple(sorted(written & columns_evaluated(profile)[profile.jobs.table]))


def _may_be_moment_of_transition(value: Value) -> bool:
    return any(is_moment_of_transition(part) for part in possible_values(value))


def timestamp_columns(profile: Profile) -> list[TimestampColumn]:
    """Every column that is compared with the database's clock, or set from it."""
    read = {profile.real_column(table, column) for table, column in _timestamps_read(profile)}
    written = {(table, column) for table, column in _timestamps_written(profile)}
    return [TimestampColumn(*pair, read=pair in read) for pair in sorted(read | written)]


def _timestamps_read(profile: Profile) -> Iterator[tuple[str, str]]:
    jobs = profile.jobs
    job_columns = [*jobs.started, *(profile.purge.at if profile.purge else ())]
    for alive in profile.alive:
        if alive.rows:
            yield from ((alive.rows.table, name) for name in alive.rows.at)
        job_columns += [*(alive.children.at if alive.children else ()), *filter(None, (alive.column, alive.deadline))]
    yield from ((jobs.table, name) for name in job_columns)
    for _, table, conditions in condition_sets(profile):
        for condition in conditions:
            for _, single in single_conditions(condition):
                if single.column and isinstance(single.bound, Now):
                    yield table, single.column


def _timestamps_written(profile: Profile) -> Iterator[tuple[str, str]]:
    for write in row_writes(profile):
        for name, value in write.values.items():
            if any(is_variable(part, "now") for part in possible_values(value)):
                yield write.table, name
