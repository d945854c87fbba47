"""Checks that an index finds the running jobs, and the rows that belong to a job, without reading whole tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from reaper.catalog.tables import Column, Index, Table
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, Level, note, warning
from reaper.profile import Beside, Condition, Insert, Next
from reaper.profile.related_tables import related_rows


@dataclass(frozen=True, slots=True)
class Lookup:
    """A look-up of rows by equal `columns`, of which the one with the newest `newest` is read.

    `what` is searched, in words.
    """

    table: str
    columns: tuple[str, ...]
    newest: str | None
    what: str
    level: Level = Level.WARNING

    @property
    def all_columns(self) -> tuple[str, ...]:
        return (*self.columns, *([self.newest] if self.newest else []))


def check_indexes(context: CheckContext) -> Iterator[Finding]:
    """All indexes but the one that finds the running jobs, which `check_running_index` looks for."""
    for name in sorted(context.tables):
        if table := context.table_with_rows(name):
            yield from _check_valid(context, name, table)
    checked: set[tuple[str, frozenset[str]]] = set()
    for lookup in lookups(context):
        if (same := (lookup.table, frozenset(lookup.columns))) not in checked:
            checked.add(same)
            yield from _check_lookup(context, lookup)


def lookups(context: CheckContext) -> Iterator[Lookup]:
    """What sweeps and purges look up in tables, besides the running jobs."""
    profile, jobs = context.profile, context.profile.jobs
    for alive in profile.alive:
        if alive.rows:
            by = tuple(alive.rows.matching(jobs.key))
            what = "the worker of each old job is" if alive.worker else "the events of each old job are"
            newest = alive.rows.at[0] if len(alive.rows.at) == 1 else None
            yield Lookup(alive.rows.table, by, newest, f"{what} searched")
        if alive.children:
            yield Lookup(jobs.table, alive.children.parent, None, "the children of each old job are searched")
    if (log := jobs.log) is not None:
        yield Lookup(jobs.table, (*jobs.key, log.type), None, "the end of each old job is searched")
        yield Lookup(jobs.table, (log.type,), jobs.started[0], "the jobs themselves are searched")
        if log.start_lost is not None:
            what = "recent entries, for jobs whose start was lost, are searched"
            yield from (Lookup(jobs.table, (name,), None, what) for name in jobs.started)
    for _, related in related_rows(profile):
        if isinstance(related, Beside):
            what = "the row beside each running job is searched"
            yield Lookup(related.table, tuple(related.match), related.newest, what)
            continue
        what = "the rows that belong to each old job are searched"
        yield Lookup(related.table, tuple(related.match), None, what)
    for action in profile.actions.values():
        for step in action.also:
            if isinstance(step, Insert) and step.unless_there:
                yield Lookup(
                    step.table, step.unless_there, None, "the row of 'unless_there' is searched for each old job"
                )
        for value in action.values():
            if isinstance(value, Next):
                by, what = tuple(value.series.match), "the newest value for each old job is searched"
                yield Lookup(value.series.table, by, value.series.column, what)
    if profile.purge and len(profile.purge.at) == 1:
        what = "the rows that are old enough to purge are searched"
        yield Lookup(jobs.table, profile.purge.at, None, what, Level.NOTE)


def _check_valid(context: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    for index in table.indexes:
        if not index.valid:
            message = f"the index {index.name} is invalid: every write updates it, and no query uses it"
            yield warning(name, message, context.catalog.fixes.rebuild(table, index))


def _check_lookup(context: CheckContext, lookup: Lookup) -> Iterator[Finding]:
    table = context.table_with_rows(lookup.table)
    if table is None or not context.has_columns(lookup.table, lookup.all_columns):
        return
    if any(
        i.unique and i.valid and i.predicate is None and set(i.columns) <= set(lookup.columns) for i in table.indexes
    ):
        return  # a unique key finds the only row
    fix = context.catalog.fixes.create_index(table, lookup.all_columns)
    indexes = indexes_that_find(context, table, lookup.columns)
    if not indexes:
        message = f"no index on ({listed(lookup.all_columns)}): {lookup.what} in {row_count(table)}"
        yield Finding(lookup.level, lookup.table, message, fix)
    elif lookup.newest and not any(_sorts(index, lookup) for index in indexes):
        message = f"an index on all of ({listed(lookup.all_columns)}) would be faster: "
        yield note(lookup.table, f"{message}{lookup.what} in {row_count(table)}", fix)


def indexes_that_find(context: CheckContext, table: Table, columns: Collection[str]) -> list[Index]:
    """The indexes that begin with one of the columns, so that few rows are left, and that have every row."""
    return [
        index
        for index in table.indexes
        if index.ordered and index.valid and index.columns[0] in columns and _has_every_row(index, context)
    ]


def _sorts(index: Index, lookup: Lookup) -> bool:
    first = index.columns[: len(lookup.all_columns)]
    return set(first) == set(lookup.all_columns) and first[-1] == lookup.newest


def _has_every_row(index: Index, context: CheckContext) -> bool:
    """Whether the index contains each row that is not NULL in the index's columns."""
    quote = context.catalog.fixes.name
    return index.predicate in {None, *(f"({quote(name)} IS NOT NULL)" for name in index.columns if name)}


def row_count(table: Table) -> str:
    return f"about {table.estimated_rows:,} rows"


# --- the running jobs ------------------------------------------------------------------------------------------------

_SAMPLES = {
    **dict.fromkeys(("timestamptz", "timestamp"), "2000-01-01"),
    **dict.fromkeys(("integer", "number"), "1"),
    "uuid": "00000000-0000-0000-0000-000000000000",
    "boolean": "true",
    "json": "{}",
    "text": "x",
}


def check_running_index(context: CheckContext) -> Iterator[Finding]:
    """Skips logs, and jobs whose running state depends only on rows of other tables."""
    jobs, name, running = context.jobs, context.profile.jobs.table, context.profile.jobs.running
    conditions = {
        condition.column: condition
        for condition in (running.conditions if running else ())
        if condition.column and jobs is not None and condition.column in jobs.columns
    }
    if jobs is None or not conditions or any(_finds_running(context, conditions, index) for index in jobs.indexes):
        return
    column, condition = next(iter(conditions.items()))
    if not jobs.columns[column].stored:
        # An index on its expression serves it.
        if not any(None in index.columns for index in jobs.indexes):
            message = "is a virtual generated column, of which PostgreSQL makes no index: every sweep reads all of"
            stored = "as a STORED column, or by an index on its expression, running jobs could be found"
            yield warning(f"{name}.{column}", f"{message} {name} ({row_count(jobs)}); {stored}")
        return
    yield warning(
        f"{name}.{column}",
        f"no index finds the running jobs: every sweep reads all of {name} ({row_count(jobs)})",
        _running_index(context, jobs, {column: condition} if condition.null is None else conditions),
    )


def _finds_running(context: CheckContext, conditions: Mapping[str, Condition], index: Index) -> bool:
    # A partial index of the running jobs finds them whatever its columns are.
    if not (index.ordered and index.valid and (index.columns[0] in conditions or index.predicate)):
        return False
    return index.predicate is None or _has_every_running_row(context, conditions, index.predicate)


def _has_every_running_row(context: CheckContext, conditions: Mapping[str, Condition], predicate: str) -> bool:
    """Whether a partial index contains every running row. False if its predicate reads other columns."""
    name = context.profile.jobs.table
    columns = [column for column in context.columns(name, conditions) if _samples(column, conditions[column.name])]
    for values in product(*(_samples(column, conditions[column.name]) for column in columns)):
        sample = {column.name: (column.type, value) for column, value in zip(columns, values, strict=True)}
        if not sample or not context.catalog.evaluate(predicate, sample):
            return False
    return bool(columns)


def _samples(column: Column, condition: Condition) -> list[str | None]:
    """Values that a running row may have in the column, where the condition says which."""
    if condition.values is not None:
        return [*(str(value) for value in condition.values), *([None] if condition.or_null else [])]
    if condition.null == "null":
        return [None]
    sample = column.labels[0] if column.labels else _SAMPLES.get(column.family)
    return [sample] if condition.null == "not null" and sample is not None else []


def _running_index(context: CheckContext, jobs: Table, conditions: Mapping[str, Condition]) -> str:
    started = [name for name in context.profile.jobs.started[-1:] if name in jobs.columns]
    null = {name: condition.null == "null" for name, condition in conditions.items() if condition.null}
    if null:
        return context.catalog.fixes.create_index(jobs, started, null)
    return context.catalog.fixes.create_index(jobs, dict.fromkeys((*conditions, *started)))
