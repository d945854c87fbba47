"""Parts of a profile about rows of other tables: related rows, conditions, and tables that must not hide rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from reaper.profile.actions import Delete, Insert, Update
from reaper.profile.conditions import Conditions, Related

if TYPE_CHECKING:
    from reaper.profile.profile import Profile


class ConditionSet(NamedTuple):
    """Conditions that a row of `table` must meet together. `place` is their key in the file."""

    place: str
    table: str
    conditions: Conditions


def related_rows(profile: Profile) -> Iterator[tuple[str, Related | Update | Delete]]:
    """Every part of the profile about rows of other tables that belong to a job, with its key in the file."""
    jobs, purge = profile.jobs, profile.purge
    if jobs.running:
        yield from ((f"jobs.running.exists.{n}", related) for n, related in enumerate(jobs.running.exists))
        yield from ((f"jobs.running.missing.{n}", related) for n, related in enumerate(jobs.running.missing))
    yield from ((f"jobs.parts.{n}", part) for n, part in enumerate(jobs.parts))
    yield from ((f"jobs.beside.{name}", beside) for name, beside in jobs.beside.items())
    for name, action in profile.actions.items():
        for n, step in enumerate(action.also):
            if not isinstance(step, Insert):
                yield f"actions.{name}.also.{n}", step
    for name, choice in profile.choices.items():
        yield from ((f"choices.{name}.rows.{n}", related) for n, related in enumerate(choice.rows))
    if purge:
        yield from ((f"purge.needed.{n}", related) for n, related in enumerate(purge.needed))
        yield from ((f"purge.also.{n}", related) for n, related in enumerate(purge.also))


def liveness_tables(profile: Profile) -> frozenset[str]:
    """Tables whose rows, when row-level security hides them, make a living job look stale, or choose another action.

    These are the tables with signs of life and with ends, those with rows beside the job, and those whose rows a choice
    counts.
    """
    jobs = profile.jobs
    tables = {alive.rows.table for alive in profile.alive if alive.rows}
    tables.update(related.table for related in (*(jobs.running.missing if jobs.running else ()), *jobs.parts))
    tables.update(beside.table for beside in jobs.beside.values())
    tables.update(rows.table for choice in profile.choices.values() for rows in choice.rows)
    if jobs.log or any(alive.children for alive in profile.alive):
        tables.add(jobs.table)
    return frozenset(tables)


def task_tables(profile: Profile) -> frozenset[str]:
    """Tables whose rows, when row-level security hides them, make a Celery task look like an orphan."""
    return frozenset({profile.jobs.table} if profile.task else ())


def purge_guard_tables(profile: Profile) -> frozenset[str]:
    """Tables whose rows, when row-level security hides them, make a finished job look unneeded."""
    jobs, purge = profile.jobs, profile.purge
    if purge is None:
        return frozenset()
    tables = {related.table for related in (*purge.needed, *(jobs.running.exists if jobs.running else ()))}
    if any(alive.children for alive in profile.alive):
        tables.add(jobs.table)
    return frozenset(tables)


def condition_sets(profile: Profile) -> Iterator[ConditionSet]:
    """All conditions of the profile, except the values of `jobs.running.in`."""
    jobs = profile.jobs
    if jobs.running:
        yield ConditionSet("jobs.running.where", jobs.table, jobs.running.where)
    for name, choice in profile.choices.items():
        yield ConditionSet(f"choices.{name}.where", jobs.table, choice.where)
    for name, action in profile.actions.items():
        for n, step in enumerate(action.also):
            yield ConditionSet(f"actions.{name}.also.{n}.when", jobs.table, step.when)
    for place, related in related_rows(profile):
        yield ConditionSet(f"{place}.where", related.table, related.where)
    for n, alive in enumerate(profile.alive):
        if alive.rows:
            yield ConditionSet(f"alive.{n}.{alive.rows_key}.where", alive.rows.table, alive.rows.where)
    if profile.purge:
        yield ConditionSet("purge.where", jobs.table, profile.purge.where)
