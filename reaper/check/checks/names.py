"""Do the tables, columns and keys exist that a profile names?"""

from __future__ import annotations

from collections.abc import Iterator

from reaper.catalog.tables import Table
from reaper.check.context import OVERRIDE, CheckContext, listed
from reaper.check.finding import Finding, error, warning
from reaper.common.suggestions import did_you_mean, nearest
from reaper.grants.needs import locked
from reaper.profile.usage import row_writes
from reaper.sql.tables import split_name


def check_names(ctx: CheckContext) -> Iterator[Finding]:
    must_be_real = {ctx.profile.jobs.table, *locked(ctx.profile), *(w.table for w in row_writes(ctx.profile))}
    must_be_real.update(alive.events.table for alive in ctx.profile.alive if alive.events)
    for name, columns in sorted(ctx.profile.columns().items()):
        if name in ctx.hidden:
            continue  # told of elsewhere
        table = ctx.tables.get(name)
        if name in ctx.unreadable:
            message = f"could not be examined ({ctx.unreadable[name]}): somebody seems to keep it locked exclusively"
            yield warning(name, message)
        elif table is None:
            yield _missing_table(ctx, name)
        else:
            if not table.real and name in must_be_real:
                yield _not_a_table(ctx, name, table)
            for column in sorted(columns - set(table.columns)):
                yield _missing_column(ctx, name, table, column)
    yield from _check_key(ctx)


def _missing_table(ctx: CheckContext, name: str) -> Finding:
    elsewhere = ctx.catalog.elsewhere(name)
    if elsewhere:
        where = "that schema" if split_name(name)[0] else "the search path"
        message = f"no such table in {where}; there is {listed(elsewhere)}"
        if (path := ctx.catalog.search_path(ctx.catalog.server.role)) is not None and _astray(ctx, name):
            schemas = sorted({schema for other in ctx.profile.tables if (schema := _astray(ctx, other))})
            return error(name, message, ctx.catalog.fixes.look_in(schemas, path))
        ctx.corrections.tables[name] = elsewhere[0]
        return error(name, message, OVERRIDE)
    names = ctx.catalog.names(name)
    if (near := nearest(name, names)) is not None:
        ctx.corrections.tables[name] = near
        return error(name, f"no such table; did you mean {near!r}?", OVERRIDE)
    return error(name, f"no such table{did_you_mean(name, names)}")


def _astray(ctx: CheckContext, name: str) -> str | None:
    """The only schema that has the table, when a bare name does not lead there."""
    if split_name(name)[0] is not None or name in ctx.tables:
        return None
    elsewhere = ctx.catalog.elsewhere(name)
    return split_name(elsewhere[0])[0] if len(elsewhere) == 1 else None


def _not_a_table(ctx: CheckContext, name: str, table: Table) -> Finding:
    message = f"is a {table.kind}: its rows cannot be locked, so nothing can be judged again before it is ended"
    behind = ctx.catalog.viewed(table) if table.kind.endswith("view") else []
    if len(behind) == 1:
        ctx.corrections.tables[name] = behind[0]
        return error(name, f"{message}; it reads from {behind[0]}", OVERRIDE)
    fix = ctx.catalog.fixes.lockable(table)
    return error(name, f"{message}; it reads from {listed(behind)}" if behind else message, fix)


def _missing_column(ctx: CheckContext, name: str, table: Table, column: str) -> Finding:
    # A column that the profile names already is not the one that was meant.
    free = set(table.columns) - ctx.profile.columns()[name]
    if (near := nearest(column, free)) is not None:
        ctx.corrections.columns[name, column] = near
        return error(f"{name}.{column}", f"no such column; did you mean {near!r}?", OVERRIDE)
    return error(f"{name}.{column}", f"no such column{did_you_mean(column, table.columns)}")


def _check_key(ctx: CheckContext) -> Iterator[Finding]:
    jobs, name, key = ctx.jobs, ctx.profile.jobs.table, ctx.profile.jobs.key
    if jobs is None or not ctx.complete(name, key):
        return
    unique = [set(i.columns) for i in jobs.indexes if i.unique and i.valid and i.predicate is None]
    if (log := ctx.profile.jobs.log) is not None:
        if ctx.column(name, log.order) and not any(columns <= {*key, log.order} for columns in unique):
            yield warning(
                f"{name}.{log.order}",
                "jobs.log.order is not unique within a job: which of two entries came first cannot be told",
                ctx.catalog.fixes.add_unique(jobs, (*key, log.order)),
            )
        return
    if set(key) not in unique:
        yield error(
            name,
            f"jobs.key ({listed(key)}) is not unique: no primary key or unique constraint on exactly these "
            "columns, so one job's end could be another's",
            ctx.catalog.fixes.add_unique(jobs, key),
        )
    for column in ctx.columns(name, key):
        if column.nullable:
            yield warning(
                f"{name}.{column.name}",
                "is part of jobs.key and may be NULL: such a job can never be claimed",
                ctx.catalog.fixes.not_null(jobs, column.name),
            )
