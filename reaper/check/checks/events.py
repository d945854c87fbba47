"""Is a late sign of life kept out while a job is ended?"""

from __future__ import annotations

from collections.abc import Iterator

from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, warning
from reaper.profile import Events


def check_fence(ctx: CheckContext) -> Iterator[Finding]:
    """Of a log nothing is said: it is locked in another way."""
    for alive in ctx.profile.alive if ctx.profile.jobs.log is None else ():
        if alive.events:
            yield from _check_events(ctx, alive.events)


def _check_events(ctx: CheckContext, events: Events) -> Iterator[Finding]:
    table, jobs, key = ctx.real(events.table), ctx.jobs, ctx.profile.jobs.key
    theirs_of = {ours: theirs for theirs, ours in events.matching(key).items()}
    # Whatever else matches, a reference to the key is one to the job's row.
    by_key = set(key) <= set(theirs_of)
    columns = tuple(theirs_of[ours] for ours in (key if by_key else theirs_of))
    if table is None or jobs is None or not ctx.complete(events.table, columns):
        return
    if not ctx.complete(ctx.profile.jobs.table, key):
        return
    if any(f.columns == set(columns) and f.refers_to == jobs.identity for f in table.foreign_keys):
        return
    fix = ctx.catalog.fixes.add_foreign_key(table, columns, jobs, key) if by_key else None
    yield warning(
        events.table,
        f"no foreign key from ({listed(columns)}) to {ctx.profile.jobs.table}: a sign of life can slip in "
        "between the second judgement and the commit, as nothing makes it wait for the job's lock",
        fix,
    )
