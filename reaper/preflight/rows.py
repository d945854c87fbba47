"""Do the rows themselves fit the profile? Every question is bounded: it takes an index or is cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial

from sqlalchemy import Executable, func, literal, literal_column, not_, select
from sqlalchemy.sql import ColumnElement

from reaper import sql
from reaper.condition import among
from reaper.preflight.catalog import Unanswered
from reaper.preflight.examination import OVERRIDE, Examination, listed
from reaper.preflight.finding import Finding, note, warning
from reaper.preflight.tables import Column
from reaper.profile import Alive, Children, Scalar
from reaper.schema import Schema
from reaper.source import taken

_FUTURE = timedelta(minutes=1)
_LONGEST_CYCLE = 16


def check_rows(exam: Examination) -> Iterator[Finding]:
    """Nothing, where the profile does not fit or the role may not read: that is told of elsewhere."""
    name = exam.profile.jobs.table
    if exam.jobs is None or not _readable(exam, name) or _unfit(exam):
        return
    running = exam.profile.jobs.running
    if not all(_readable(exam, related.table) for related in (running.related if running else ())):
        return
    yield from _told(name, "whether running jobs are spelled otherwise", partial(_other_case, exam))
    yield from _told(name, "whether a job starts in the future", partial(_future_start, exam))
    for alive in exam.profile.alive:
        question = f"whether {alive.witness!r} speaks from the future"
        yield from _told(name, question, partial(_future_sign, exam, alive))
        if alive.children:
            yield from _told(name, "whether jobs are each other's parents", partial(_cycle, exam, alive.children))
    for place in taken.places(exam.profile):
        if _readable(exam, place.table) and _readable(exam, place.beyond.table):
            question = f"whether the next {place.column} exists in {place.beyond.table} already"
            yield from _told(place.table, question, partial(_taken, exam, place))


def _told(subject: str, question: str, ask: Callable[[], Finding | None]) -> Iterator[Finding]:
    try:
        found = ask()
    except Unanswered as why:
        found = note(subject, f"{question} could not be told: {why}")
    if found is not None:
        yield found


def _readable(exam: Examination, table: str) -> bool:
    columns, found = exam.needs[table].select, exam.tables.get(table)
    return found is not None and exam.complete(table, columns) and found.readable(columns)


def _states(exam: Examination) -> tuple[Column, tuple[Scalar, ...]] | None:
    """The column that says that a job runs, and the values with which it does."""
    jobs = exam.profile.jobs
    running, log = jobs.running, jobs.log
    name, values = (log.type, log.started) if log else (running and running.column, running and running.values)
    column = exam.column(jobs.table, name) if name else None
    return (column, values) if column and values else None


def _unfit(exam: Examination) -> bool:
    """A running value that the column cannot be compared with."""
    if (found := _states(exam)) is None:
        return False
    column, values = found
    if column.labels:
        return not all(column.has_label(value) for value in values)
    return column.family != "text" and not all(exam.catalog.takes(column.words, str(value)) for value in values)


def _other_case(exam: Examination) -> Finding | None:
    jobs, found, name = exam.schema.jobs, _states(exam), exam.profile.jobs.table
    if found is None or found[0].family != "text":
        return None
    column, values = found
    state = jobs.c[column.name]
    if _exists(exam, among(state, values)):
        return None
    for value in (value for value in values if isinstance(value, str)):
        for other in sorted({value.upper(), value.lower(), value.capitalize(), value.title()} - {value}):
            if _exists(exam, state == sql.untyped(other)):
                exam.corrections.values[name, column.name, value] = other
                message = f"no row holds {value!r}, and some hold {other!r}; the case of a value matters"
                return warning(f"{name}.{column.name}", message, OVERRIDE)
    return None


def _exists(exam: Examination, where: ColumnElement[bool]) -> bool:
    return bool(exam.catalog.ask(select(literal_column("1")).select_from(exam.schema.jobs).where(where).limit(1)))


def _future_start(exam: Examination) -> Finding | None:
    started = [_instant(exam, name) for name in exam.profile.jobs.started]
    return _future(exam, func.coalesce(*started, type_=sql.INSTANT), "it started")


def _future_sign(exam: Examination, alive: Alive) -> Finding | None:
    sign, table = f"its newest sign of life ({alive.witness}) is", exam.profile.jobs.table
    if alive.column:
        return _future(exam, _instant(exam, alive.column), sign)
    if alive.events and _readable(exam, alive.events.table):
        return _newest(exam, alive.events.table, alive.events.matching(exam.profile.jobs.key), alive.events.at, sign)
    if alive.children:
        parent = dict(zip(alive.children.parent, exam.profile.jobs.key, strict=True))
        return _newest(exam, table, parent, alive.children.at, sign)
    return None


def _instant(exam: Examination, name: str) -> sql.Element:
    return exam.schema.instant(exam.profile.jobs.table, exam.schema.jobs.c[name])


def _newest(exam: Examination, table: str, match: Mapping[str, str], at: tuple[str, ...], what: str) -> Finding | None:
    rows = exam.real(table)
    # Without an index every running job would cost a reading of the whole table.
    if rows is None or not any(index.valid and index.ordered and index.columns[0] in match for index in rows.indexes):
        return None
    other = exam.schema.table(table).alias()
    moments = [exam.schema.instant(table, other.c[name]) for name in at]
    same = [other.c[theirs] == exam.schema.jobs.c[ours] for theirs, ours in match.items()]
    return _future(exam, select(func.max(sql.newest(*moments))).where(*same).scalar_subquery(), what)


def _future(exam: Examination, moment: sql.Element, what: str) -> Finding | None:
    jobs = exam.schema.jobs
    asked = select(*exam.schema.key(jobs), moment.label("moment")).where(exam.schema.running(jobs)).subquery()
    limit = exam.catalog.server.now + _FUTURE
    found = exam.catalog.ask(
        select(*(sql.text_of(column) for column in asked.c)).where(asked.c.moment > sql.instant(limit)).limit(1)
    )
    if not found:
        return None
    *values, at = map(str, found[0])
    return warning(
        exam.profile.jobs.table,
        f"the job {listed(values)} cannot become stale for long: by the database's clock, {what} in the future, at "
        f"{at}; it can only after {exam.stall_seconds:g} s more",
    )


def _cycle(exam: Examination, children: Children) -> Finding | None:
    found = exam.catalog.ask(cycles(exam.schema, children))
    if not found:
        return None
    return warning(
        exam.profile.jobs.table,
        f"running jobs are each other's parents and keep each other alive for ever, such as {listed(found[0])}",
    )


def _taken(exam: Examination, place: taken.Place) -> Finding | None:
    found = taken.answer(place, exam.catalog.ask(taken.question(exam.schema, place)))
    return warning(place.table, str(found)) if found else None


def cycles(schema: Schema, children: Children) -> Executable:
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
        .where(schema.running(job), not_(Schema.same(parent, schema.key(job))))
        .cte("up", recursive=True)
    )
    origin, reached = [up.c[f"origin_{n}"] for n in width], [up.c[f"parent_{n}"] for n in width]
    step = select(*origin, *(above.c[name] for name in children.parent), up.c.depth + 1).where(
        Schema.same(schema.key(above), reached),
        schema.running(above),
        up.c.depth < _LONGEST_CYCLE,
        not_(Schema.same(reached, origin)),
    )
    up = up.union_all(step)
    origin, reached = [up.c[f"origin_{n}"] for n in width], [up.c[f"parent_{n}"] for n in width]
    return select(*(sql.text_of(column) for column in origin)).where(Schema.same(reached, origin)).limit(1)
