"""Where in a profile the things stand that occur in many of its parts, as the file spells the place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from reaper.profile.actions import Delete, Insert, Update
from reaper.profile.conditions import Conditions, Related

if TYPE_CHECKING:
    from reaper.profile.profile import Profile


class ConditionSet(NamedTuple):
    """Conditions that must hold together for a row of `table`."""

    place: str
    table: str
    conditions: Conditions


def related_rows(profile: Profile) -> Iterator[tuple[str, Related | Update | Delete]]:
    """Rows of other tables that belong to a job, wherever the profile speaks of such."""
    jobs, purge = profile.jobs, profile.purge
    if jobs.running:
        yield from ((f"jobs.running.exists.{n}", one) for n, one in enumerate(jobs.running.exists))
        yield from ((f"jobs.running.missing.{n}", one) for n, one in enumerate(jobs.running.missing))
    yield from ((f"jobs.parts.{n}", part) for n, part in enumerate(jobs.parts))
    for name, action in profile.actions.items():
        for n, step in enumerate(action.also):
            if not isinstance(step, Insert):
                yield f"actions.{name}.also.{n}", step
    if purge:
        yield from ((f"purge.needed.{n}", one) for n, one in enumerate(purge.needed))
        yield from ((f"purge.also.{n}", one) for n, one in enumerate(purge.also))


def liveness_tables(profile: Profile) -> frozenset[str]:
    """Tables of which a row that is not seen makes a living job look dead: it is a sign of life, or tells of an end."""
    jobs = profile.jobs
    found = {alive.events.table for alive in profile.alive if alive.events}
    found.update(related.table for related in (*(jobs.running.missing if jobs.running else ()), *jobs.parts))
    if jobs.log or any(alive.children for alive in profile.alive):
        found.add(jobs.table)
    return frozenset(found)


def task_tables(profile: Profile) -> frozenset[str]:
    """Tables of which a row that is not seen makes a task of Celery look like nobody's."""
    return frozenset({profile.jobs.table} if profile.task else ())


def purge_guard_tables(profile: Profile) -> frozenset[str]:
    """Tables of which a row that is not seen makes a finished job look as if nothing needed it any more."""
    jobs, purge = profile.jobs, profile.purge
    if purge is None:
        return frozenset()
    found = {related.table for related in (*purge.needed, *(jobs.running.exists if jobs.running else ()))}
    if any(alive.children for alive in profile.alive):
        found.add(jobs.table)
    return frozenset(found)


def condition_sets(profile: Profile) -> Iterator[ConditionSet]:
    """Whatever is asked of rows, but for the values of `jobs.running.in`."""
    jobs = profile.jobs
    if jobs.running:
        yield ConditionSet("jobs.running.where", jobs.table, jobs.running.where)
    for place, one in related_rows(profile):
        yield ConditionSet(f"{place}.where", one.table, one.where)
    for n, alive in enumerate(profile.alive):
        if alive.events:
            yield ConditionSet(f"alive.{n}.events.where", alive.events.table, alive.events.where)
    if profile.purge:
        yield ConditionSet("purge.where", jobs.table, profile.purge.where)
