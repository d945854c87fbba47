"""Rows beside the job: one row of another table for each job, whose columns count as columns of the job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import AfterValidator

from reaper.common.suggestions import did_you_mean
from reaper.profile.base import Name
from reaper.profile.columns import condition_columns
from reaper.profile.conditions import Related

if TYPE_CHECKING:
    from reaper.profile.profile import Profile

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


def _beside_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("expected a name of at most 31 lower-case letters, digits and underscores, a letter first")
    return text


BesideName = Annotated[str, AfterValidator(_beside_name)]
"""The name of a row beside the job: the part before the dot in `args.kind`."""


class Beside(Related):
    """The row of `table` that matches the job and meets `where`.

    Of several rows, that with the `newest` moment or number counts. Without `newest` there may be one row at most: of
    a job with two it is unknown which is meant.
    """

    newest: Name | None = None


class Place(NamedTuple):
    """Where a column of a job is: in the row `beside` it, or in its own row where that is None."""

    beside: str | None
    column: str


def place_of(name: str, beside: Mapping[str, Beside]) -> Place:
    """Where the column is that a profile names so: `kind` in the job's own row, `args.kind` in the row `args`."""
    first, dot, column = name.partition(".")
    return Place(first, column) if dot and first in beside else Place(None, name)


def problems_beside(profile: Profile) -> Iterator[str]:
    """What does not fit together about rows beside the job."""
    jobs, known = profile.jobs, list[str]()
    for name, beside in jobs.beside.items():
        here = f"jobs.beside.{name}"
        if beside.table == jobs.table:
            yield f"{here}.table: {jobs.table!r} is the table of the jobs themselves: name a row of another table"
        for ours in beside.match.values():
            other = place_of(ours, jobs.beside).beside
            if other is not None and other not in known:
                yield f"{here}.match: {ours!r} is in a row that is not listed before this one"
        known.append(name)
    for place, name in _columns_of_own_row(profile):
        if place_of(name, jobs.beside).beside is not None:
            yield f"{place}: {name!r} is in a row beside the job: expected a column of {jobs.table!r} itself"
    for place, name in _names(profile):
        first, dot, _ = name.partition(".")
        if dot and jobs.beside and first not in jobs.beside:
            yield f"{place}: there is no row {first!r} in jobs.beside{did_you_mean(first, jobs.beside)}"


def _names(profile: Profile) -> Iterator[tuple[str, str]]:
    jobs = profile.jobs
    yield from ((f"jobs.started.{n}", name) for n, name in enumerate(jobs.started))
    yield from ((f"jobs.claim.{n}", name) for n, name in enumerate(jobs.claim))
    yield from (("jobs.kind", name) for name in [jobs.kind] if name)


def _columns_of_own_row(profile: Profile) -> Iterator[tuple[str, str]]:
    """The columns by which a job is found, changed and kept, with their keys in the file."""
    jobs, purge = profile.jobs, profile.purge
    yield from (("jobs.key", name) for name in jobs.key)
    yield from (("jobs.status", name) for name in [jobs.status] if name)
    if jobs.running and jobs.running.column:
        yield "jobs.running.column", jobs.running.column
    if jobs.log:
        yield from (("jobs.log.type", jobs.log.type), ("jobs.log.order", jobs.log.order))
    for n, alive in enumerate(profile.alive):
        if alive.children:
            yield from ((f"alive.{n}.children", name) for name in (*alive.children.parent, *alive.children.at))
        if alive.celery:
            names = (alive.celery.task, alive.celery.queue)
            yield from ((f"alive.{n}.celery", name) for name in names if name)
    for action_name, action in profile.actions.items():
        yield from ((f"actions.{action_name}.set", name) for name in action.assign or {})
        yield from ((f"actions.{action_name}.keep", name) for name in action.keep)
    if purge:
        yield from (("purge.at", name) for name in purge.at)
        yield from (("purge.where", name) for name in condition_columns(purge.where))
