"""Checks that there is one row beside each job, where nothing says which of several is meant."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select

from reaper.catalog import QueryFailed
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, error, note, warning


def check_beside(context: CheckContext) -> Iterator[Finding]:
    """Finds nothing where a table is missing or may not be read: other checks report that."""
    for name, beside in context.profile.jobs.beside.items():
        table = context.table_with_rows(beside.table)
        if beside.newest is not None or table is None or not context.has_columns(beside.table, beside.match):
            continue
        if not any(i.unique and i.valid and set(i.columns) <= set(beside.match) for i in table.indexes):
            yield _not_unique(context, name)


def _not_unique(context: CheckContext, name: str) -> Finding:
    table, columns = context.profile.jobs.beside[name].table, listed(context.profile.jobs.beside[name].match)
    what = f"no unique key on ({columns}), so that several rows may be the row {name!r} of one job"
    remedy = f"say in jobs.beside.{name} which is meant, by 'newest', or leave the others out by 'where'"
    try:
        several = _job_with_several(context, name)
    except QueryFailed as failed:
        return note(table, f"could not check whether several rows are the row {name!r} of one job: {failed}")
    if several is None:
        return warning(table, f"{what}: such a job is unknown, and is never ended; {remedy}")
    return error(table, f"{what}: the job {several} has several, is unknown, and is never ended; {remedy}")


def _job_with_several(context: CheckContext, name: str) -> str | None:
    """The key of a running job that has several; None where none has, or where the rows may not be read."""
    schema, jobs, running = context.schema, context.schema.jobs, context.profile.jobs.running
    tables = {context.profile.jobs.table, *(related.table for related in (running.related if running else ()))}
    tables |= {beside.table for beside in context.profile.jobs.beside.values()}
    if not all(context.may_read(table, context.required[table].select) for table in tables):
        return None
    several = dict(schema.rows_beside_that_are_several(jobs))[name]
    rows = context.catalog.query(select(*schema.key_text(jobs)).where(schema.running(jobs), several).limit(1))
    return listed(map(str, rows[0])) if rows else None
