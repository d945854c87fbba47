"""What a profile does with the columns that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reaper.profile import Known, Profile, Value


@dataclass(frozen=True, slots=True)
class Writing:
    """One row that an action writes: the job's own, or an inserted one."""

    place: str
    table: str
    values: Mapping[str, Value]
    inserts: bool


def writings(profile: Profile) -> Iterator[Writing]:
    for name, action in profile.actions.items():
        yield Writing(f"actions.{name}.set", profile.jobs.table, action.assign, inserts=False)
        for insert in action.also:
            yield Writing(f"actions.{name}.also", insert.table, insert.values, inserts=True)


def reads(profile: Profile) -> dict[str, set[str]]:
    """Columns that statements read, by table."""
    jobs = profile.jobs
    found = {jobs.table: {*jobs.key, *jobs.started, *jobs.claim, jobs.running.column, *profile.row_columns()}}
    found[jobs.table].update(name for name in (jobs.kind, jobs.queue, jobs.status) if name)
    for alive in profile.alive:
        if alive.events:
            found.setdefault(alive.events.table, set()).update((*alive.events.job, alive.events.at))
        if alive.children:
            found[jobs.table].update((*alive.children.parent, *alive.children.at))
        if alive.column:
            found[jobs.table].add(alive.column)
    # The rows of earlier reaps are looked up by what does not differ between them, newest first.
    for insert in profile.actions["fail"].also:
        known = {name: value.known for name, value in insert.values.items() if isinstance(value, Known)}
        if "evidence" in known.values():
            looked_at = (name for name in insert.values if known.get(name) in (None, "evidence", "now"))
            found.setdefault(insert.table, set()).update(looked_at)
    return found


def updates(profile: Profile) -> dict[str, set[str]]:
    """Columns of the job's row that actions set."""
    return {profile.jobs.table: {name for action in profile.actions.values() for name in action.assign}}


def inserts(profile: Profile) -> dict[str, set[str]]:
    """Columns of the rows that actions insert, by table."""
    found: dict[str, set[str]] = {}
    for writing in writings(profile):
        if writing.inserts:
            found.setdefault(writing.table, set()).update(writing.values)
    return found


def instants(profile: Profile) -> list[tuple[str, str]]:
    """Table and column of every moment that is compared with the database's clock, or set from it."""
    jobs = profile.jobs
    found = [(jobs.table, name) for name in jobs.started]
    for alive in profile.alive:
        if alive.events:
            found.append((alive.events.table, alive.events.at))
        if alive.children:
            found.extend((jobs.table, name) for name in alive.children.at)
        if alive.column:
            found.append((jobs.table, alive.column))
    for writing in writings(profile):
        for name, value in writing.values.items():
            if isinstance(value, Known) and value.known == "now":
                found.append((writing.table, name))
    return list(dict.fromkeys(found))
