"""Checks that read rows: do the values in the tables fit the profile? Each query uses an index or is cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial

from sqlalchemy import Executable, func, literal, literal_column, not_, select
from sqlalchemy.sql import ColumnElement

from reaper.catalog import QueryFailed
from reaper.catalog.tables import Column
from reaper.check.checks.indexes import indexes_that_find
from reaper.check.context import OVERRIDE, CheckContext, listed
from reaper.check.finding import Finding, note, warning
from reaper.profile import Children, Condition, Scalar, Witness
from reaper.source import duplicates
from reaper.sql import expressions as sql
from reaper.sql.conditions import is_one_of
from reaper.sql.tables import ProfileTables

_FUTURE = timedelta(minutes=1)
"""A timestamp that is further ahead than this is in the future; less is a difference between clocks."""

_LONGEST_CYCLE = 16
_MOST_LOST = 100


def check_rows(context: CheckContext) -> Iterator[Finding]:
    """Finds nothing where the profile does not fit or the role may not read: other checks report that."""
    jobs = context.profile.jobs
    if context.jobs is None or not _readable(context, jobs.table) or _has_invalid_state(context):
        return
    related = (*(jobs.running.related if jobs.running else ()), *jobs.beside.values())
    if not all(_readable(context, part.table) for part in related):
        return
    yield from _result(jobs.table, "whether running jobs are spelled in another case", partial(_other_case, context))
    for n, condition in enumerate(jobs.running.where if jobs.running else ()):
        question = f"whether NULL in {condition.column} keeps rows from counting as running"
        if condition.not_in is not None and condition.or_null is None:
            yield from _result(jobs.table, question, partial(_left_out_by_null, context, n))
    yield from _result(jobs.table, "whether a job starts in the future", partial(_future_start, context))
    yield from _result(jobs.table, "whether jobs have lost their start", partial(_start_lost, context))
    for alive in context.profile.alive:
        question = f"whether {alive.witness!r} has a sign of life in the future"
        yield from _result(jobs.table, question, partial(_future_sign, context, alive))
        if alive.children:
            question = "whether jobs are each other's parents"
            yield from _result(jobs.table, question, partial(_parent_cycle, context, alive.children))
    for place in duplicates.next_value_columns(context.profile):
        if _readable(context, place.table) and _readable(context, place.beyond.table):
            question = f"whether the next {place.column} already exists in {place.beyond.table}"
            yield from _result(place.table, question, partial(_taken_next_value, context, place))


def _result(subject: str, question: str, check: Callable[[], Finding | None]) -> Iterator[Finding]:
    try:
        finding = check()
    except QueryFailed as failed:
        finding = note(subject, f"could not check {question}: {failed}")
    if finding is not None:
        yield finding


def _readable(context: CheckContext, name: str) -> bool:
    return context.may_read(name, context.required[name].select)


def _running_values(context: CheckContext) -> tuple[Column, tuple[Scalar, ...]] | None:
    """The column that says that a job runs, and the values with which it says so."""
    jobs = context.profile.jobs
    running, log = jobs.running, jobs.log
    name, values = (log.type, log.started) if log else (running and running.column, running and running.values)
    column = context.column(jobs.table, name) if name else None
    return (column, values) if column and values else None


def _has_invalid_state(context: CheckContext) -> bool:
    """Whether the column cannot be compared with one of the running values."""
    if (running := _running_values(context)) is None:
        return False
    column, values = running
    if column.labels:
        return not all(column.has_label(value) for value in values)
    return column.family != "text" and not all(context.catalog.accepts(column.type, str(value)) for value in values)


def _other_case(context: CheckContext) -> Finding | None:
    jobs, running, name = context.schema.jobs, _running_values(context), context.profile.jobs.table
    if running is None or running[0].family != "text":
        return None
    column, values = running
    state = jobs.c[column.name]
    if _exists(context, is_one_of(state, values)):
        return None
    for value in (value for value in values if isinstance(value, str)):
        for other in sorted({value.upper(), value.lower(), value.capitalize(), value.title()} - {value}):
            if _exists(context, state == sql.untyped(other)):
                context.corrections.values[name, column.name, value] = other
                message = f"no row has {value!r}, and some have {other!r}; the case of a value matters"
                return warning(f"{name}.{column.name}", message, OVERRIDE)
    return None


def _left_out_by_null(context: CheckContext, number: int) -> Finding | None:
    """Rows that meet all conditions of `jobs.running` but one: what they have there is not among the values, as it is
    NULL.
    """
    jobs = context.profile.jobs
    running = jobs.running
    assert running is not None
    name = running.where[number].column or ""
    column = context.column(jobs.table, name)
    if column is None or not column.nullable:
        return None
    null = Condition.model_validate({"column": name, "is": "null"})
    where = (*running.where[:number], null, *running.where[number + 1 :])
    asked = context.profile.model_copy(
        update={"jobs": jobs.model_copy(update={"running": running.model_copy(update={"where": where})})}
    )
    schema = ProfileTables(asked, context.schema.schemas)
    rows = context.catalog.query(
        select(literal_column("1")).select_from(schema.jobs).where(schema.running(schema.jobs)).limit(_MOST_LOST + 1)
    )
    if not rows:
        return None
    count = f"{len(rows)}" if len(rows) <= _MOST_LOST else f"more than {_MOST_LOST}"
    return warning(
        f"{jobs.table}.{name}",
        f"{count} row(s) have NULL, and jobs.running.where.{number}.not_in is not met by NULL: they do not count as "
        'running. Say "or_null = true" beside not_in if such jobs run, and "or_null = false" if they do not',
    )


def _exists(context: CheckContext, where: ColumnElement[bool]) -> bool:
    jobs = context.schema.jobs
    return bool(context.catalog.query(select(literal_column("1")).select_from(jobs).where(where).limit(1)))


# --- jobs of a log whose start was lost ------------------------------------------------------------------------------


def _start_lost(context: CheckContext) -> Finding | None:
    """Without an index on the entries' moment, the whole log would be read: another check reports that."""
    lost, table = context.profile.with_start_lost(), context.jobs
    started = context.profile.jobs.started
    if lost is None or table is None or not all(indexes_that_find(context, table, [name]) for name in started):
        return None
    schema = ProfileTables(lost, context.schema.schemas)
    running = schema.search_condition(schema.jobs), schema.running(schema.jobs)
    rows = context.catalog.query(select(*schema.key_text(schema.jobs)).where(*running).limit(_MOST_LOST + 1))
    if not rows:
        return None
    several = f"{len(rows)}" if len(rows) <= _MOST_LOST else f"more than {_MOST_LOST}"
    return warning(
        context.profile.jobs.table,
        f"{several} job(s), such as {listed(map(str, rows[0]))}, have entries and none that starts or ends them: their "
        "start was lost. `reaper report` shows them apart, and `reaper cleanup` ends those that are old and silent; "
        'sweeps do with start_lost = "end", and start_lost = "off" leaves them out',
    )


# --- timestamps in the future ----------------------------------------------------------------------------------------


def _future_start(context: CheckContext) -> Finding | None:
    started = [_timestamp(context, name) for name in context.profile.jobs.started]
    return _in_future(context, func.coalesce(*started, type_=sql.INSTANT), "its start", sign=False)


def _future_sign(context: CheckContext, alive: Witness) -> Finding | None:
    what, jobs = f"its newest sign of life ({alive.witness})", context.profile.jobs
    if alive.column:
        return _in_future(context, _timestamp(context, alive.column), what)
    if alive.rows and _readable(context, alive.rows.table):
        return _newest_in_future(context, alive.rows.table, alive.rows.matching(jobs.key), alive.rows.at, what)
    if alive.children:
        parent = dict(zip(alive.children.parent, jobs.key, strict=True))
        return _newest_in_future(context, jobs.table, parent, alive.children.at, what)
    return None


def _timestamp(context: CheckContext, name: str) -> sql.Element:
    return context.schema.instant(context.profile.jobs.table, context.schema.jobs, name)


def _newest_in_future(
    context: CheckContext, name: str, match: Mapping[str, str], at: tuple[str, ...], what: str
) -> Finding | None:
    table = context.table_with_rows(name)
    # Without an index the whole table would be read for each running job.
    if table is None or not indexes_that_find(context, table, match):
        return None
    other = context.schema.table(name).alias()
    timestamps = [context.schema.instant(name, other, column) for column in at]
    schema = context.schema
    same = [other.c[column] == schema.job_column(schema.jobs, ours) for column, ours in match.items()]
    return _in_future(context, select(func.max(sql.newest(*timestamps))).where(*same).scalar_subquery(), what)


def _in_future(context: CheckContext, timestamp: sql.Element, what: str, *, sign: bool = True) -> Finding | None:
    """A sign of life counts from when a sweep first sees it; a start counts from its own moment."""
    consequence = "counts as alive" if sign else "cannot become stale for a long time"
    begins = "when a sweep first sees it" if sign else "only then"
    jobs = context.schema.jobs
    running = (
        select(*context.schema.key(jobs), timestamp.label("moment")).where(context.schema.running(jobs)).subquery()
    )
    latest = context.catalog.server.now + _FUTURE
    rows = context.catalog.query(
        select(*(sql.text_of(column) for column in running.c)).where(running.c.moment > sql.instant(latest)).limit(1)
    )
    if not rows:
        return None
    *key, at = map(str, rows[0])
    return warning(
        context.profile.jobs.table,
        f"the job {listed(key)} {consequence}: by the database's clock, {what} is in the future, at {at}, and the "
        f"stall window of {context.stall_seconds:g} s begins {begins}",
    )


# --- parents and next values -----------------------------------------------------------------------------------------


def _parent_cycle(context: CheckContext, children: Children) -> Finding | None:
    rows = context.catalog.query(cycles(context.schema, children))
    if not rows:
        return None
    return warning(
        context.profile.jobs.table,
        f"running jobs are each other's parents and keep each other alive for ever, such as {listed(rows[0])}",
    )


def _taken_next_value(context: CheckContext, place: duplicates.NextValueColumn) -> Finding | None:
    duplicate = duplicates.read_duplicates(
        place, context.catalog.query(duplicates.duplicates_query(context.schema, place))
    )
    return warning(place.table, str(duplicate)) if duplicate else None


def cycles(schema: ProfileTables, children: Children) -> Executable:
    """Selects one running job that is its own ancestor through other running jobs. A job that is its own parent does
    not count. Cycles longer than any that could arise by accident are not searched for."""
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
