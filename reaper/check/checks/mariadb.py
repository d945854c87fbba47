"""What is asked of MariaDB alone."""

from __future__ import annotations

from collections.abc import Iterator

from reaper.catalog import QueryFailed
from reaper.catalog import mariadb_queries as queries
from reaper.catalog.mariadb import NOBODY, MariaDB
from reaper.catalog.tables import assumed
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, error, note, warning
from reaper.common.suggestions import did_you_mean
from reaper.grants.needs import EVERY_ACTION, Workload, missing, needs
from reaper.profile import Profile
from reaper.profile.related_tables import related_rows
from reaper.profile.usage import timestamp_columns

_BYTES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")


def check_mariadb(ctx: CheckContext, catalog: MariaDB) -> Iterator[Finding]:
    if catalog.read_only:
        fix = catalog.fixes.set_globally("read_only", "OFF")
        yield error("server", "is read-only, or a replica: nothing can be written there", fix)
    yield from _check_hidden(ctx, catalog)
    yield from _check_keys(ctx)
    yield from _check_compared(ctx, catalog)
    yield from _check_fractions(ctx, catalog)
    yield from _check_loose(ctx)
    yield from _check_process(ctx, catalog)


def _check_hidden(ctx: CheckContext, catalog: MariaDB) -> Iterator[Finding]:
    every = needs(ctx.profile, Workload(EVERY_ACTION.action, purge=True))
    for name, hidden in sorted(ctx.hidden.items()):
        table = assumed(ctx.profile, name, NOBODY, (hidden.schema, hidden.table))
        who = f"the user {ctx.catalog.server.role!r}"
        fix = catalog.fixes.grant(table, missing(ctx.needs.get(name, every[name]), table))
        if name not in ctx.needs:
            yield note(name, f"is not shown to {who}: `reaper purge`, or another action, cannot use it", fix)
        elif hidden.partly:
            message = f"could not be examined: {who} may see no more than single columns of it"
            yield warning(name, message, fix)
        else:
            near = did_you_mean(name, ctx.catalog.names(name))
            yield error(name, f"is not there, or {who} may not see it{near}", fix)


def _check_keys(ctx: CheckContext) -> Iterator[Finding]:
    table = ctx.profile.jobs.table
    for column in ctx.columns(table, ctx.profile.jobs.key):
        if column.words.partition("(")[0] in _BYTES:
            message = f"is {column.words}, and part of jobs.key: keys travel as text, which bytes are not"
            yield error(f"{table}.{column.name}", message)


def _check_compared(ctx: CheckContext, catalog: MariaDB) -> Iterator[Finding]:
    """The server refuses to compare texts of two collations, unless one of them is binary."""
    jobs, told = ctx.jobs, set[tuple[str, str]]()
    for table, column, own in _matches(ctx.profile):
        theirs = ctx.real(table)
        if jobs is None or theirs is None or (table, column) in told:
            continue
        if not (ctx.complete(table, [column]) and ctx.complete(ctx.profile.jobs.table, [own])):
            continue
        told.add((table, column))
        if (why := catalog.compare((theirs, column), (jobs, own))) is not None:
            collation = catalog.definitions[jobs.identity, own].collation
            fix = catalog.fixes.collate(theirs, column, collation) if collation else None
            message = f"cannot be compared with {ctx.profile.jobs.table}.{own}: {why}"
            yield error(f"{table}.{column}", message, fix)


def _matches(profile: Profile) -> Iterator[tuple[str, str, str]]:
    """Columns that are compared with columns of a job's row."""
    key = profile.jobs.key
    for alive in profile.alive:
        if alive.events:
            yield from ((alive.events.table, *pair) for pair in alive.events.matching(key).items())
        if alive.children:
            yield from ((profile.jobs.table, *pair) for pair in zip(alive.children.parent, key, strict=True))
    for _, related in related_rows(profile):
        yield from ((related.table, *pair) for pair in related.match.items())


def _check_fractions(ctx: CheckContext, catalog: MariaDB) -> Iterator[Finding]:
    for instant in timestamp_columns(ctx.profile):
        column, table = ctx.column(instant.table, instant.column), ctx.real(instant.table)
        if column and table and column.family == "datetime" and not column.words.endswith("(6)"):
            yield note(
                f"{instant.table}.{column.name}",
                f"is {column.words}: the fractions of its seconds are cut off, so that a moment looks earlier by up "
                "to a second; the statement rewrites the table",
                catalog.fixes.with_fractions(table, column.name),
            )


def _check_loose(ctx: CheckContext) -> Iterator[Finding]:
    profile = ctx.profile
    asked = profile.jobs.running.conditions if profile.jobs.running else ()
    mine = [*profile.jobs.key, *(condition.column for condition in asked if condition.column)]
    names = {f"{profile.jobs.table}.{c.name}": None for c in ctx.columns(profile.jobs.table, mine) if c.loose}
    for table, name, _ in _matches(profile):
        names |= {f"{table}.{c.name}": None for c in ctx.columns(table, [name]) if c.loose}
    if names:
        yield note(
            profile.jobs.table,
            f"compared by collations for which texts are equal that differ in case: {listed(names)}",
        )


def _check_process(ctx: CheckContext, catalog: MariaDB) -> Iterator[Finding]:
    try:
        catalog.ask(queries.SESSIONS)
    except QueryFailed:
        yield note(
            "server",
            f"the user {ctx.catalog.server.role!r} has not the privilege PROCESS: who holds a locked job's row is not "
            "told",
            catalog.fixes.grant_global("PROCESS"),
        )
