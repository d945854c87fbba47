"""May the connected role do what a sweep does?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sqlalchemy import select

from reaper.catalog import QueryFailed
from reaper.catalog.tables import Table
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, error, note, warning
from reaper.grants.needs import (
    BORROWED,
    Missing,
    Workload,
    actions_of,
    difference,
    firing,
    hides,
    lacks_close,
    lacks_functions,
    lacks_holder,
    lacks_sequences,
    missing,
    needs,
    runs_as_role,
    seen_through,
    skipped_because_hidden,
)

_DENIED = {"42501", "1142", "1143", "1356", "1370"}


def check_privileges(ctx: CheckContext) -> Iterator[Finding]:
    told: set[str] = set()
    for name, table in sorted(ctx.tables.items()):
        if name in ctx.needs and not table.rights.usage and table.schema not in told:
            told.add(table.schema)
            yield error(
                name,
                f"the role {ctx.catalog.server.role!r} may not use the schema {table.schema!r}",
                ctx.catalog.fixes.grant_schema(table.schema),
            )
        if name in ctx.needs:
            yield from _check_table(ctx, name, table)
        yield from _check_further(ctx, name, table)
    if not ctx.catalog.server.sees_sessions:
        yield note(
            "server",
            f"the role {ctx.catalog.server.role!r} does not see the state of other sessions in pg_stat_activity: "
            "who holds a locked job's row is told without it",
            ctx.catalog.fixes.grant_role("pg_read_all_stats"),
        )


def _check_table(ctx: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    need, role = ctx.needs[name], ctx.catalog.server.role
    lacking = missing(need, table)
    if lacking:
        yield error(name, f"the role {role!r} may not {_words(lacking)}", ctx.catalog.fixes.grant(table, lacking))
    if lacks_close(need, table, lacking):
        yield error(
            name,
            f"the role {role!r} may not LOCK the table, which keeps late entries out while a job is ended",
            ctx.catalog.fixes.grant_close(table),
        )
    if lacks_holder(need, table):
        yield note(
            name,
            f"the role {role!r} may not SELECT xmax: who holds a locked job's row is not told",
            ctx.catalog.fixes.grant_holder(table),
        )
    if table.kind == "view" and table.readable(need.select & set(table.columns)):
        yield from _check_view(ctx, name, table)
    yield from _check_called(ctx, name, table)
    yield from _check_policies(ctx, name, table)
    yield from _check_triggers(ctx, name, table)


def _check_view(ctx: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    """Only to be read through it shows whether the role may do that; no row is asked for."""
    need, view = ctx.needs[name], ctx.schema.table(name)
    columns = [view.c[column] for column in sorted(need.select & set(table.columns))]
    try:
        ctx.catalog.ask(select(*columns).limit(0))
    except QueryFailed as why:
        if why.state in _DENIED:
            more = seen_through(need, table) or "what it takes is not told"
            who = f"the role {ctx.catalog.server.role!r}"
            yield error(name, f"{who} may not read what is behind the view ({why}): {more}")


def _check_policies(ctx: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    """A hidden row that decides makes a living job look dead, or unneeded; any other is merely left alone."""
    commands: dict[str, list[str]] = {}
    for hiding in hides(ctx.needs[name], table):
        commands.setdefault(ctx.catalog.fixes.see_all(hiding), []).append(hiding.command)
    who = f"the role {ctx.catalog.server.role!r}"
    for fix, kept in commands.items():
        if "SELECT" not in kept:
            yield warning(name, f"row-level security may not let {who} {listed(kept)}: such jobs are not ended", fix)
        elif lost := skipped_because_hidden(name, ctx.profile, ctx.duties):
            yield error(name, f"row-level security may hide rows from {who}, {lost}", fix)
        else:
            yield warning(name, f"row-level security may hide rows from {who}: these are neither seen nor ended", fix)


def _check_triggers(ctx: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    need = ctx.needs[name]
    if names := dict.fromkeys(str(each) for each in firing(need, table)):
        yield note(name, f"triggers fire when a job is ended, in the same transaction: {listed(names)}")
    if calls := runs_as_role(need, table):
        yield note(name, f"{listed(calls)} {BORROWED}")


def _check_called(ctx: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    """What the server calls for the role while a row is written."""
    need, role = ctx.needs[name], ctx.catalog.server.role
    for column, sequence in lacks_sequences(need, table):
        yield error(
            f"{name}.{column}",
            f"the role {role!r} may not take the next value of the sequence {sequence[1]!r}, the column's default",
            ctx.catalog.fixes.grant_sequence(*sequence),
        )
    for function in lacks_functions(need, table):
        yield error(
            name,
            f"the role {role!r} may not EXECUTE the function {function}, which is called when a row is written",
            ctx.catalog.fixes.grant_function(function),
        )


# --- what people may want to do beside -----------------------------------------------------------------------------


def _check_further(ctx: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    """What the source's own action and settings do not ask for, and a person may."""
    role, grant = ctx.catalog.server.role, ctx.catalog.fixes.grant
    if lacking := _lacking(ctx, name, table, [replace(ctx.duties, purge=True)]):
        message = f"the role {role!r} may not {_words(lacking)}: `reaper purge` cannot delete what has finished"
        yield note(name, message, grant(table, lacking))
    others = sorted(set(ctx.profile.actions) - set(actions_of(ctx.profile, ctx.duties.action)))
    if lacking := _lacking(ctx, name, table, [Workload(other, ctx.duties.purge) for other in others]):
        doing = [o for o in others if _lacking(ctx, name, table, [Workload(o, ctx.duties.purge)])]
        message = f"the role {role!r} may not {_words(lacking)}: `reaper fail --action` cannot {listed(doing)}"
        yield note(name, message, grant(table, lacking))


def _lacking(ctx: CheckContext, name: str, table: Table, more: Iterable[Workload]) -> Missing:
    """What else these duties would ask for."""
    base = missing(ctx.needs[name], table) if name in ctx.needs else {}
    found: dict[str, set[str]] = {}
    for duties in more:
        if (need := needs(ctx.profile, duties).get(name)) is not None:
            for privilege, columns in difference(missing(need, table), base).items():
                found.setdefault(privilege, set()).update(columns)
    return {privilege: sorted(columns) for privilege, columns in found.items()}


def _words(lacking: Missing) -> str:
    return "; ".join(f"{privilege} {listed(columns)}".rstrip() for privilege, columns in lacking.items())
