"""Checks that no sign of life can be written while a job is being ended: that takes a foreign key to the job."""

from __future__ import annotations

from collections.abc import Iterator

from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, warning
from reaper.profile import Events


def check_foreign_keys(context: CheckContext) -> Iterator[Finding]:
    """Skips jobs that exist only as a log, which are locked in another way."""
    for alive in context.profile.alive if context.profile.jobs.log is None else ():
        if alive.events:
            yield from _check_events(context, alive.events)


def _check_events(context: CheckContext, events: Events) -> Iterator[Finding]:
    table, jobs, key = context.table_with_rows(events.table), context.jobs, context.profile.jobs.key
    event_columns = {job_column: column for column, job_column in events.matching(key).items()}
    # A reference to the whole key is a reference to the job's row, whatever else the columns match.
    matches_key = set(key) <= set(event_columns)
    columns = tuple(event_columns[name] for name in (key if matches_key else event_columns))
    if table is None or jobs is None or not context.has_columns(events.table, columns):
        return
    if not context.has_columns(context.profile.jobs.table, key):
        return
    if any(f.columns == set(columns) and f.refers_to == jobs.identity for f in table.foreign_keys):
        return
    yield warning(
        events.table,
        f"no foreign key from ({listed(columns)}) to {context.profile.jobs.table}: a sign of life can be written "
        "between the second judgement of a job and the commit that ends it, as it does not wait for the job's lock",
        context.catalog.fixes.add_foreign_key(table, columns, jobs, key) if matches_key else None,
    )
