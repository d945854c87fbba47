"""Do the rows themselves fit the profile? Every question is bounded: it takes an index or is cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from sqlalchemy import Executable, TableClause, func, literal, literal_column, not_, select
from sqlalchemy.sql import ColumnElement

from reaper import sql
from reaper.preflight.examination import OVERRIDE, Examination, listed
from reaper.preflight.finding import Finding, note, warning
from reaper.preflight.postgresql import Unanswered
from reaper.profile import Alive, Children
from reaper.schema import Schema

_FUTURE = timedelta(minutes=1)
_LONGEST_CYCLE = 16


def check_rows(exam: Examination) -> Iterator[Finding]:
    """Nothing, where the profile does not fit or the role may not read: that is told of elsewhere."""
    name = exam.profile.jobs.table
    if exam.jobs is None or not exam.jobs.readable(exam.profile.jobs.key):
        return
    if not exam.jobs.readable([exam.profile.jobs.running.column]) or _unfit(exam):
        return
    yield from _told(name, "whether running jobs are spelled otherwise", partial(_other_case, exam))
    if _instants(exam, name, exam.profile.jobs.started):
        yield from _told(name, "whether a job starts in the future", partial(_future_start, exam))
    for alive in exam.profile.alive:
        question = f"whether {alive.witness!r} speaks from the future"
        yield from _told(name, question, partial(_future_sign, exam, alive))
        if alive.children and exam.jobs.readable(alive.children.parent):
            yield from _told(name, "whether jobs are each other's parents", partial(_cycle, exam, alive.children))


def _told(subject: str, question: str, ask: Callable[[], Finding | None]) -> Iterator[Finding]:
    try:
        found = ask()
    except Unanswered as why:
        found = note(subject, f"{question} could not be told: {why}")
    if found is not None:
        yield found


def _unfit(exam: Examination) -> bool:
    """A running value that the column cannot be compared with."""
    table, running = exam.profile.jobs.table, exam.profile.jobs.running
    column = exam.column(table, running.column)
    if column is None:
        return True
    if column.labels:
        return not set(running.values) <= set(column.labels)
    return column.family != "text" and not all(exam.catalog.takes(column.words, str(v)) for v in running.values)


def _instants(exam: Examination, table: str, names: tuple[str, ...]) -> bool:
    found = exam.real(table)
    columns = list(exam.columns(table, names))
    fit = len(columns) == len(names) and all(column.family == "timestamptz" for column in columns)
    return fit and found is not None and found.readable(names)


def _other_case(exam: Examination) -> Finding | None:
    jobs, running = exam.schema.jobs, exam.profile.jobs.running
    name, column = exam.profile.jobs.table, exam.column(exam.profile.jobs.table, running.column)
    if column is None or column.family != "text" or _exists(exam, exam.schema.running(jobs)):
        return None
    for value in (value for value in running.values if isinstance(value, str)):
        for other in sorted({value.upper(), value.lower(), value.capitalize(), value.title()} - {value}):
            if _exists(exam, jobs.c[column.name] == sql.untyped(other)):
                exam.corrections.values[name, column.name, value] = other
                message = f"no row holds {value!r}, and some hold {other!r}; the case of a value matters"
                return warning(f"{name}.{column.name}", message, OVERRIDE)
    return None


def _exists(exam: Examination, where: ColumnElement[bool]) -> bool:
    return bool(exam.catalog.ask(select(literal_column("1")).select_from(exam.schema.jobs).where(where).limit(1)))


def _future_start(exam: Examination) -> Finding | None:
    jobs = exam.schema.jobs
    started = func.coalesce(*(jobs.c[name] for name in exam.profile.jobs.started), type_=sql.INSTANT)
    return _future(exam, jobs, started, "it started")


def _future_sign(exam: Examination, alive: Alive) -> Finding | None:
    jobs, table = exam.schema.jobs, exam.profile.jobs.table
    sign = f"its newest sign of life ({alive.witness}) is"
    at: tuple[str, ...]
    if alive.column and _instants(exam, table, (alive.column,)):
        return _future(exam, jobs, jobs.c[alive.column], sign)
    if alive.events and _instants(exam, alive.events.table, (alive.events.at,)):
        where, key, at = alive.events.table, alive.events.job, (alive.events.at,)
    elif alive.children and _instants(exam, table, alive.children.at):
        where, key, at = table, alive.children.parent, alive.children.at
    else:
        return None
    rows = exam.real(where)
    # Without an index every running job would cost a reading of the whole table.
    if rows is None or not rows.readable(key) or not any(index.leads_with(key) for index in rows.indexes):
        return None
    other = exam.schema.table(where).alias()
    same = Schema.same([other.c[name] for name in key], exam.schema.key(jobs))
    newest = select(func.max(sql.newest(*(other.c[name] for name in at)))).where(same).scalar_subquery()
    return _future(exam, jobs, newest, sign)


def _future(exam: Examination, jobs: TableClause, moment: sql.Element, what: str) -> Finding | None:
    running = exam.schema.running(jobs)
    asked = select(*exam.schema.key(jobs), moment.label("moment")).where(running).subquery()
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
