"""What a profile does with the columns that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reaper.profile import Delete, First, FromColumn, Insert, Known, Now, Profile, Scalar, Update, Value
from reaper.profile.columns import columns_read
from reaper.profile.places import conditions
from reaper.profile.values import inside


@dataclass(frozen=True, slots=True)
class Writing:
    """One row that an action writes: the job's own, another, or a new one."""

    place: str
    table: str
    values: Mapping[str, Value]
    inserts: bool


class Instant(NamedTuple):
    """A column with moments; one that is only written takes whatever its type makes of one."""

    table: str
    column: str
    read: bool


def writings(profile: Profile) -> Iterator[Writing]:
    for name, action in profile.actions.items():
        if action.assign is not None:
            yield Writing(f"actions.{name}.set", profile.jobs.table, action.assign, inserts=False)
        for n, step in enumerate(action.also):
            place = f"actions.{name}.also.{n}"
            if isinstance(step, Insert):
                yield Writing(place, step.table, step.values, inserts=True)
            elif isinstance(step, Update):
                yield Writing(place, step.table, step.assign, inserts=False)


def written_as(value: Value) -> Iterator[Value]:
    """What may come to stand in the column itself: the value, or each of those that are tried for it."""
    if isinstance(value, First):
        for part in value.first:
            yield from written_as(part)
    else:
        yield value


# --- privileges --------------------------------------------------------------------------------------------------


def reads(profile: Profile) -> dict[str, set[str]]:
    """Columns that statements read, by table."""
    found = columns_read(profile)
    # The rows of earlier reaps are looked up by what does not differ between them, newest first.
    for writing in writings(profile):
        if writing.inserts and any(_is(part, "evidence") for v in writing.values.values() for part in inside(v)):
            found.setdefault(writing.table, set()).update(n for n, v in writing.values.items() if _looked_at(v))
    return found


def _looked_at(value: Value) -> bool:
    if isinstance(value, FromColumn):
        return value.plus is None and value.append is None
    if isinstance(value, Scalar):
        return True
    return _is(value, "now") or any(_is(part, "evidence") for part in inside(value))


def _is(value: object, known: str) -> bool:
    return isinstance(value, Known) and value.known == known


def updates(profile: Profile) -> dict[str, set[str]]:
    """Columns of rows that are there which actions set, by table."""
    return _written(profile, inserts=False)


def inserts(profile: Profile) -> dict[str, set[str]]:
    """Columns of the rows that actions insert, by table."""
    return _written(profile, inserts=True)


def _written(profile: Profile, *, inserts: bool) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for writing in writings(profile):
        if writing.inserts == inserts:
            found.setdefault(writing.table, set()).update(writing.values)
    return found


def deletes(profile: Profile) -> set[str]:
    """Tables from which actions delete."""
    found = {step.table for action in profile.actions.values() for step in action.also if isinstance(step, Delete)}
    if any(action.delete for action in profile.actions.values()):
        found.add(profile.jobs.table)
    return found


def purges(profile: Profile) -> set[str]:
    """Tables from which the purge deletes."""
    return {profile.jobs.table, *(step.table for step in profile.purge.also)} if profile.purge else set()


def locks(profile: Profile) -> dict[str, str]:
    """Tables whose rows are locked before anything is changed, and a column that each has for sure."""
    found = {} if profile.jobs.log else {profile.jobs.table: profile.jobs.key[0]}
    return found | {part.table: next(iter(part.match)) for part in profile.jobs.parts}


def closes(profile: Profile) -> str | None:
    """The log that is locked as a whole."""
    log = profile.jobs.log
    return profile.jobs.table if log and log.lock == "table" else None


# --- moments -----------------------------------------------------------------------------------------------------


def instants(profile: Profile) -> list[Instant]:
    """Every moment that is compared with the database's clock, or set from it."""
    read = {(table, column) for table, column in _moments_read(profile)}
    written = {(table, column) for table, column in _moments_written(profile)}
    return [Instant(*pair, read=pair in read) for pair in sorted(read | written)]


def _moments_read(profile: Profile) -> Iterator[tuple[str, str]]:
    jobs = profile.jobs
    mine = [*jobs.started, *(profile.purge.at if profile.purge else ())]
    for alive in profile.alive:
        if alive.events:
            yield from ((alive.events.table, name) for name in alive.events.at)
        mine += [*(alive.children.at if alive.children else ()), *filter(None, (alive.column, alive.deadline))]
    yield from ((jobs.table, name) for name in mine)
    for _, table, asked in conditions(profile):
        for condition in asked:
            if condition.column and isinstance(condition.less_than or condition.greater_than, Now):
                yield table, condition.column


def _moments_written(profile: Profile) -> Iterator[tuple[str, str]]:
    for writing in writings(profile):
        for name, value in writing.values.items():
            if any(_is(part, "now") for part in written_as(value)):
                yield writing.table, name
