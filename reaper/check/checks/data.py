"""Do the rows themselves fit the profile? Every question is bounded: it takes an index or is cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial

from sqlalchemy import Executable, func, literal, literal_column, not_, select
from sqlalchemy.sql import ColumnElement

from reaper.catalog import QueryFailed
from reaper.catalog.tables import Column
from reaper.check.context import OVERRIDE, CheckContext, listed
from reaper.check.finding import Finding, note, warning
from reaper.profile import Children, Scalar, Witness
from reaper.source import duplicates
from reaper.sql import expressions as sql
from reaper.sql.conditions import is_one_of
from reaper.sql.tables import ProfileTables

_FUTURE = timedelta(minutes=1)
_LONGEST_CYCLE = 16


def check_rows(ctx: CheckContext) -> Iterator[Finding]:
    """Nothing, where the profile does not fit or the role may not read: that is told of elsewhere."""
    name = ctx.profile.jobs.table
    if ctx.jobs is None or not _readable(ctx, name) or _unfit(ctx):
        return
    running = ctx.profile.jobs.running
    if not all(_readable(ctx, related.table) for related in (running.related if running else ())):
        return
    yield from _told(name, "whether running jobs are spelled otherwise", partial(_other_case, ctx))
    yield from _told(name, "whether a job starts in the future", partial(_future_start, ctx))
    for alive in ctx.profile.alive:
        question = f"whether {alive.witness!r} speaks from the future"
        yield from _told(name, question, partial(_future_sign, ctx, alive))
        if alive.children:
            yield from _told(name, "whether jobs are each other's parents", partial(_cycle, ctx, alive.children))
    for place in duplicates.next_value_columns(ctx.profile):
        if _readable(ctx, place.table) and _readable(ctx, place.beyond.table):
            question = f"whether the next {place.column} exists in {place.beyond.table} already"
            yield from _told(place.table, question, partial(_taken, ctx, place))


def _told(subject: str, question: str, ask: Callable[[], Finding | None]) -> Iterator[Finding]:
    try:
        found = ask()
    except QueryFailed as why:
        found = note(subject, f"{question} could not be told: {why}")
    if found is not None:
        yield found


def _readable(ctx: CheckContext, table: str) -> bool:
    columns, found = ctx.needs[table].select, ctx.tables.get(table)
    return found is not None and ctx.complete(table, columns) and found.readable(columns)


def _states(ctx: CheckContext) -> tuple[Column, tuple[Scalar, ...]] | None:
    """The column that says that a job runs, and the values with which it does."""
    jobs = ctx.profile.jobs
    running, log = jobs.running, jobs.log
    name, values = (log.type, log.started) if log else (running and running.column, running and running.values)
    column = ctx.column(jobs.table, name) if name else None
    return (column, values) if column and values else None


def _unfit(ctx: CheckContext) -> bool:
    """A running value that the column cannot be compared with."""
    if (found := _states(ctx)) is None:
        return False
    column, values = found
    if column.labels:
        return not all(column.has_label(value) for value in values)
    return column.family != "text" and not all(ctx.catalog.takes(column.words, str(value)) for value in values)


def _other_case(ctx: CheckContext) -> Finding | None:
    jobs, found, name = ctx.schema.jobs, _states(ctx), ctx.profile.jobs.table
    if found is None or found[0].family != "text":
        return None
    column, values = found
    state = jobs.c[column.name]
    if _exists(ctx, is_one_of(state, values)):
        return None
    for value in (value for value in values if isinstance(value, str)):
        for other in sorted({value.upper(), value.lower(), value.capitalize(), value.title()} - {value}):
            if _exists(ctx, state == sql.untyped(other)):
                ctx.corrections.values[name, column.name, value] = other
                message = f"no row holds {value!r}, and some hold {other!r}; the case of a value matters"
                return warning(f"{name}.{column.name}", message, OVERRIDE)
    return None


def _exists(ctx: CheckContext, where: ColumnElement[bool]) -> bool:
    return bool(ctx.catalog.ask(select(literal_column("1")).select_from(ctx.schema.jobs).where(where).limit(1)))


def _future_start(ctx: CheckContext) -> Finding | None:
    started = [_instant(ctx, name) for name in ctx.profile.jobs.started]
    return _future(ctx, func.coalesce(*started, type_=sql.INSTANT), "it started")


def _future_sign(ctx: CheckContext, alive: Witness) -> Finding | None:
    sign, table = f"its newest sign of life ({alive.witness}) is", ctx.profile.jobs.table
    if alive.column:
        return _future(ctx, _instant(ctx, alive.column), sign)
    if alive.events and _readable(ctx, alive.events.table):
        return _newest(ctx, alive.events.table, alive.events.matching(ctx.profile.jobs.key), alive.events.at, sign)
    if alive.children:
        parent = dict(zip(alive.children.parent, ctx.profile.jobs.key, strict=True))
        return _newest(ctx, table, parent, alive.children.at, sign)
    return None


def _instant(ctx: CheckContext, name: str) -> sql.Element:
    return ctx.schema.instant(ctx.profile.jobs.table, ctx.schema.jobs.c[name])


def _newest(ctx: CheckContext, table: str, match: Mapping[str, str], at: tuple[str, ...], what: str) -> Finding | None:
    rows = ctx.real(table)
    # Without an index every running job would cost a reading of the whole table.
    if rows is None or not any(index.valid and index.ordered and index.columns[0] in match for index in rows.indexes):
        return None
    other = ctx.schema.table(table).alias()
    moments = [ctx.schema.instant(table, other.c[name]) for name in at]
    same = [other.c[theirs] == ctx.schema.jobs.c[ours] for theirs, ours in match.items()]
    return _future(ctx, select(func.max(sql.newest(*moments))).where(*same).scalar_subquery(), what)


def _future(ctx: CheckContext, context: sql.Element, what: str) -> Finding | None:
    jobs = ctx.schema.jobs
    asked = select(*ctx.schema.key(jobs), context.label("moment")).where(ctx.schema.running(jobs)).subquery()
    limit = ctx.catalog.server.now + _FUTURE
    found = ctx.catalog.ask(
        select(*(sql.text_of(column) for column in asked.c)).where(asked.c.moment > sql.instant(limit)).limit(1)
    )
    if not found:
        return None
    *values, at = map(str, found[0])
    return warning(
        ctx.profile.jobs.table,
        f"the job {listed(values)} cannot become stale for long: by the database's clock, {what} in the future, at "
        f"{at}; it can only after {ctx.stall_seconds:g} s more",
    )


def _cycle(ctx: CheckContext, children: Children) -> Finding | None:
    found = ctx.catalog.ask(cycles(ctx.schema, children))
    if not found:
        return None
    return warning(
        ctx.profile.jobs.table,
        f"running jobs are each other's parents and keep each other alive for ever, such as {listed(found[0])}",
    )


def _taken(ctx: CheckContext, place: duplicates.NextValueColumn) -> Finding | None:
    found = duplicates.read_duplicates(place, ctx.catalog.ask(duplicates.duplicates_query(ctx.schema, place)))
    return warning(place.table, str(found)) if found else None


def cycles(schema: ProfileTables, children: Children) -> Executable:
    """One running job that is its own ancestor through running jobs, not by itself alone. Longer cycles than
    any that grows by accident are passed over."""
    job, above = schema.jobs.alias("job_below"), schema.jobs.alias("job_above")
    width = range(len(children.parent))
    parent = [job.c[name] for name in children.parent]
    up = (
        select(
            *(column.label(f"origin_{n}") for n, column in enumerate(schema.key(job))),
            *(column.label(f"parent_{n}") for n, column in enumerate(parent)),
            literal(1).label("depth"),
        )
        .where(schema.running(job), not_(ProfileTables.keys_equal(parent, schema.key(job))))
        .cte("up", recursive=True)
    )
    origin, reached = [up.c[f"origin_{n}"] for n in width], [up.c[f"parent_{n}"] for n in width]
    step = select(*origin, *(above.c[name] for name in children.parent), up.c.depth + 1).where(
        ProfileTables.keys_equal(schema.key(above), reached),
        schema.running(above),
        up.c.depth < _LONGEST_CYCLE,
        not_(ProfileTables.keys_equal(reached, origin)),
    )
    up = up.union_all(step)
    origin, reached = [up.c[f"origin_{n}"] for n in width], [up.c[f"parent_{n}"] for n in width]
    return select(*(sql.text_of(column) for column in origin)).where(ProfileTables.keys_equal(reached, origin)).limit(1)
