"""Checks that the database can compare the columns by which rows of other tables, and children, belong to a job."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from reaper.check.context import CheckContext
from reaper.check.finding import Finding, error
from reaper.profile import Profile
from reaper.profile.related_tables import related_rows


class ComparedColumns(NamedTuple):
    """`table.column` = the job's `job_column`, as the key `place` in the file says."""

    place: str
    table: str
    column: str
    job_column: str


def check_matches(context: CheckContext) -> Iterator[Finding]:
    jobs = context.profile.jobs.table
    for place, table, name, job_column in comparisons(context.profile):
        one, other = context.column(table, name), context.column(jobs, job_column)
        if one is not None and other is not None and not context.catalog.can_compare(one.type, other.type):
            theirs = ".".join(context.profile.real_column(jobs, job_column))
            yield error(
                f"{table}.{name}",
                f"is of type {one.type}, and {place} compares it with {theirs}, which is of type "
                f"{other.type}: the database cannot compare them. Give both columns one type, or name others",
            )


def comparisons(profile: Profile) -> Iterator[ComparedColumns]:
    """All of them, each with its place in the file."""
    key = profile.jobs.key
    for place, related in related_rows(profile):
        yield from (ComparedColumns(f"{place}.match", related.table, *pair) for pair in related.match.items())
    for n, witness in enumerate(profile.alive):
        if (rows := witness.rows) is not None:
            place = f"alive.{n}.{witness.rows_key}.{'match' if rows.match else 'job'}"
            yield from (ComparedColumns(place, rows.table, *pair) for pair in rows.matching(key).items())
        if (children := witness.children) is not None:
            pairs = zip(children.parent, key, strict=True)
            yield from (ComparedColumns(f"alive.{n}.children.parent", profile.jobs.table, *pair) for pair in pairs)
