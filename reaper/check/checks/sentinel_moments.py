"""Checks for moments that mean "none", and for running jobs without any start. Each query is bounded, or cut off."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import and_, select

from reaper.catalog import QueryFailed
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, note, warning
from reaper.profile.columns import TableColumn
from reaper.sql import expressions as sql
from reaper.staleness.unknown_moments import columns_of_witness

_ROWS = 1_000
_MOST_JOBS = 100


def check_sentinel_moments(context: CheckContext) -> Iterator[Finding]:
    """Finds nothing where a table is missing or may not be read: other checks report that."""
    profile = context.profile
    starts = [profile.real_column(profile.jobs.table, name) for name in profile.jobs.started]
    signs = [column for witness in profile.alive for column in columns_of_witness(profile, witness)]
    for column in dict.fromkeys((*starts, *signs)):
        if _readable(context, [column]):
            yield from _none_in(context, column)
    if all(_readable(context, [start]) for start in starts) and not context.profile.jobs.log:
        yield from _without_start(context)


def _readable(context: CheckContext, columns: list[TableColumn]) -> bool:
    """The columns are there, and so is all that says which jobs run."""
    [table] = {name for name, _ in columns}
    real = context.table_with_rows(table)
    names = {*(name for _, name in columns), *context.required[table].select}
    return real is not None and context.may_read(table, names)


def _none_in(context: CheckContext, column: TableColumn) -> Iterator[Finding]:
    """Of the jobs, running ones; of another table, the first rows that the server comes upon."""
    table, name = column
    rows = context.schema.table(table)
    is_none = and_(rows.c[name].is_not(None), context.schema.instant(table, rows, name).is_(None))
    shown = sql.shortened(sql.text_of(rows.c[name]))
    if table == context.profile.jobs.table and not context.profile.jobs.log:
        query = select(shown).where(context.schema.running(rows), is_none).limit(1)
    else:
        some = select(rows.c[name]).limit(_ROWS).subquery()
        none = and_(some.c[name].is_not(None), context.schema.instant(table, some, name).is_(None))
        query = select(sql.shortened(sql.text_of(some.c[name]))).where(none).limit(1)
    try:
        found = context.catalog.query(query)
    except QueryFailed as failed:
        yield note(".".join(column), f"could not check whether it holds moments that mean none: {failed}")
        return
    if found:
        message = f"holds {found[0][0]!s}, which is no moment of a job: it counts as NULL"
        more = ", so that the next start column counts" if name in context.profile.jobs.started else ""
        yield note(".".join(column), message + more)


def _without_start(context: CheckContext) -> Iterator[Finding]:
    schema, jobs = context.schema, context.schema.jobs
    table, started = context.profile.jobs.table, context.profile.jobs.started
    query = select(*schema.key_text(jobs)).where(schema.running(jobs), schema.started(jobs).is_(None))
    try:
        rows = context.catalog.query(query.limit(_MOST_JOBS + 1))
    except QueryFailed as failed:
        yield note(table, f"could not check whether running jobs have a start: {failed}")
        return
    if rows:
        several = f"{len(rows)}" if len(rows) <= _MOST_JOBS else f"more than {_MOST_JOBS}"
        yield warning(
            table,
            f"{several} running job(s), such as {listed(map(str, rows[0]))}, have no start: {listed(started)} "
            f"{'has' if len(started) == 1 else 'have'} no moment. They count from when the reaper first saw them; if "
            "another column has their start or their creation, name it last in jobs.started",
        )
