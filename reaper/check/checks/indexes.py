"""Can the rows that belong to a job be found without reading whole tables?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from reaper.catalog.tables import Column, Index, Table
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, Level, note, warning
from reaper.profile import Condition, Next
from reaper.profile.related_tables import related_rows


@dataclass(frozen=True, slots=True)
class Need:
    """A look-up by `columns`, which are compared for equality, and then by `newest`."""

    table: str
    columns: tuple[str, ...]
    newest: str | None
    what: str
    level: Level = Level.WARNING

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.columns, *([self.newest] if self.newest else []))


def check_indexes(ctx: CheckContext) -> Iterator[Finding]:
    for name in sorted(ctx.tables):
        if table := ctx.real(name):
            yield from _check_valid(ctx, name, table)
    told: set[tuple[str, frozenset[str]]] = set()
    for need in needs(ctx):
        if (same := (need.table, frozenset(need.columns))) not in told:
            told.add(same)
            yield from _check_need(ctx, need)


def needs(ctx: CheckContext) -> Iterator[Need]:
    """What sweeps look up, and how; the running jobs are looked for elsewhere."""
    profile, mine = ctx.profile, ctx.profile.jobs.table
    for alive in profile.alive:
        if alive.events:
            by = tuple(alive.events.matching(profile.jobs.key))
            newest = alive.events.at[0] if len(alive.events.at) == 1 else None
            yield Need(alive.events.table, by, newest, "the events of each old job are searched")
        if alive.children:
            yield Need(mine, alive.children.parent, None, "the children of each old job are searched")
    if (log := profile.jobs.log) is not None:
        yield Need(mine, (*profile.jobs.key, log.type), None, "the end of each old job is searched")
        yield Need(mine, (log.type,), profile.jobs.started[0], "the jobs themselves are searched")
    for _, one in related_rows(profile):
        yield Need(one.table, tuple(one.match), None, "the rows that belong to each old job are searched")
    for action in profile.actions.values():
        for value in action.values():
            if isinstance(value, Next):
                by = tuple(value.series.match)
                yield Need(value.series.table, by, value.series.column, "the newest value for each old job is searched")
    if profile.purge and len(profile.purge.at) == 1:
        yield Need(mine, profile.purge.at, None, "the rows that are old enough to purge are searched", Level.NOTE)


def _check_valid(ctx: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    for index in table.indexes:
        if not index.valid:
            message = f"the index {index.name} is invalid: it is kept up to date and never used"
            yield warning(name, message, ctx.catalog.fixes.rebuild(table, index))


def _check_need(ctx: CheckContext, need: Need) -> Iterator[Finding]:
    table = ctx.real(need.table)
    if table is None or not ctx.complete(need.table, need.all):
        return
    fix = ctx.catalog.fixes.create_index(table, need.all)
    found = [index for index in table.indexes if _finds(ctx, index, need)]
    if not found:
        message = f"no index on ({listed(need.all)}): {need.what} in {rows(table)}"
        yield Finding(need.level, need.table, message, fix)
    elif need.newest and not any(_sorts(index, need) for index in found):
        message = f"an index on all of ({listed(need.all)}) would be faster: {need.what} in {rows(table)}"
        yield note(need.table, message, fix)


def _finds(ctx: CheckContext, index: Index, need: Need) -> bool:
    """Its first column is one of those that are compared, which leaves few rows, or all of them come first."""
    return index.ordered and index.valid and index.columns[0] in need.columns and _complete(index, ctx)


def _sorts(index: Index, need: Need) -> bool:
    first = index.columns[: len(need.all)]
    return set(first) == set(need.all) and first[-1] == need.newest


def _complete(index: Index, ctx: CheckContext) -> bool:
    """Has a row for each that is not NULL in its columns."""
    quote = ctx.catalog.fixes.name
    return index.predicate in {None, *(f"({quote(name)} IS NOT NULL)" for name in index.columns if name)}


def rows(table: Table) -> str:
    return f"about {table.rows:,} rows"


_SAMPLES = {
    **dict.fromkeys(("timestamptz", "timestamp"), "2000-01-01"),
    **dict.fromkeys(("integer", "number"), "1"),
    "uuid": "00000000-0000-0000-0000-000000000000",
    "boolean": "true",
    "json": "{}",
    "text": "x",
}


def check_running(ctx: CheckContext) -> Iterator[Finding]:
    """Of a log, and of jobs that only other rows say of that they run, nothing is said here."""
    jobs, name, running = ctx.jobs, ctx.profile.jobs.table, ctx.profile.jobs.running
    asked = {c.column: c for c in (running.conditions if running else ()) if c.column and ctx.column(name, c.column)}
    if jobs is None or not asked or any(_serves_running(ctx, asked, index) for index in jobs.indexes):
        return
    column, condition = next(iter(asked.items()))
    yield warning(
        f"{name}.{column}",
        f"no index finds the running jobs: every sweep reads all of {name} ({rows(jobs)})",
        _remedy(ctx, jobs, {column: condition} if condition.null is None else asked),
    )


def _serves_running(ctx: CheckContext, asked: Mapping[str, Condition], index: Index) -> bool:
    # One whose predicate picks the running jobs finds them whatever its columns are.
    if not (index.ordered and index.valid and (index.columns[0] in asked or index.predicate)):
        return False
    return index.predicate is None or _covers(ctx, asked, index.predicate)


def _covers(ctx: CheckContext, asked: Mapping[str, Condition], predicate: str) -> bool:
    """Every running row is in the index, as far as its predicate speaks of nothing but these columns."""
    name = ctx.profile.jobs.table
    columns = [column for column in ctx.columns(name, asked) if _samples(column, asked[column.name])]
    for values in product(*(_samples(column, asked[column.name]) for column in columns)):
        given = {column.name: (column.words, value) for column, value in zip(columns, values, strict=True)}
        if not given or not ctx.catalog.holds(predicate, given):
            return False
    return bool(columns)


def _samples(column: Column, condition: Condition) -> list[str | None]:
    """Values that a running row may have there, as far as they can be named."""
    if condition.values is not None:
        return [str(value) for value in condition.values]
    if condition.null == "null":
        return [None]
    sample = column.labels[0] if column.labels else _SAMPLES.get(column.family)
    return [sample] if condition.null == "not null" and sample is not None else []


def _remedy(ctx: CheckContext, jobs: Table, asked: Mapping[str, Condition]) -> str:
    started = ctx.profile.jobs.started[-1:]
    null = {name: condition.null == "null" for name, condition in asked.items() if condition.null}
    if null:
        return ctx.catalog.fixes.create_index(jobs, started, null)
    return ctx.catalog.fixes.create_index(jobs, dict.fromkeys((*asked, *started)))
