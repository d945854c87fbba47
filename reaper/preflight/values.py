"""Can the columns hold what a profile compares them with, and writes into them?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from reaper.model import Reason
from reaper.nearest import did_you_mean, nearest
from reaper.preflight.examination import OVERRIDE, Examination, listed
from reaper.preflight.finding import Finding, error, warning
from reaper.preflight.tables import Check, Column, Table
from reaper.preflight.uses import Writing, instants, writings
from reaper.profile import FromColumn, Known, Value

_LONG_ENOUGH = 512
"""Characters that hold any message but an operator's longest."""

_SCALARS: Mapping[type, tuple[str, ...]] = {
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
}


def check_values(exam: Examination) -> Iterator[Finding]:
    yield from _check_instants(exam)
    table, running = exam.profile.jobs.table, exam.profile.jobs.running
    if column := exam.column(table, running.column):
        for value in running.values:
            yield from _check_literal(exam, table, column, value, "jobs.running.in")
            yield from _check_constraints(exam, table, {column.name: value}, "jobs.running.in")
    for writing in writings(exam.profile):
        for column in exam.columns(writing.table, writing.values):
            yield from _check_value(exam, writing, column, writing.values[column.name])
        yield from _check_constraints(exam, writing.table, writing.values, writing.place)
        if writing.inserts:
            yield from _check_left_out(exam, writing)


def _check_instants(exam: Examination) -> Iterator[Finding]:
    for table, name in instants(exam.profile):
        column = exam.column(table, name)
        if column is None or column.family == "timestamptz":
            continue
        message = f"is {column.words}; only 'timestamp with time zone' is supported"
        if column.family != "timestamp":
            yield error(f"{table}.{name}", message)
            continue
        yield error(
            f"{table}.{name}",
            f"{message}, as a naive one does not say whose clock it is; the statement reads it as UTC, rewrites "
            "the table, and must suit the application",
            exam.catalog.remedies.as_instant(exam.tables[table], name),
        )


def _check_value(exam: Examination, writing: Writing, column: Column, value: Value) -> Iterator[Finding]:
    subject = f"{writing.table}.{column.name}"
    if column.computed:
        yield error(subject, f"{writing.place} gives a value to a generated column, which takes none")
    elif isinstance(value, Known):
        yield from _check_known(exam, writing, column, value)
    elif isinstance(value, FromColumn):
        source = exam.column(exam.profile.jobs.table, value.column)
        if source and not _assignable(source, column):
            what = f"{exam.profile.jobs.table}.{source.name} ({source.words})"
            yield error(subject, f"{writing.place} copies {what} into {column.words}, which does not fit")
    else:
        yield from _check_literal(exam, writing.table, column, value, writing.place)


def _assignable(source: Column, target: Column) -> bool:
    if source.family == target.family or "other" in (source.family, target.family):
        return True
    return target.family == "text" or (source.family, target.family) == ("integer", "number")


def _check_known(exam: Examination, writing: Writing, column: Column, value: Known) -> Iterator[Finding]:
    subject, place = f"{writing.table}.{column.name}", writing.place
    remedies, table = exam.catalog.remedies, exam.tables[writing.table]
    if value.known == "null" and not column.nullable:
        yield error(subject, f"{place} sets NULL, and the column is NOT NULL")
    elif value.known == "reason":
        for reason in Reason:
            yield from _check_literal(exam, writing.table, column, reason.value, place)
    elif value.known == "message" and column.family != "text":
        yield error(subject, f"{place} writes the message, a text, into {column.words}")
    elif value.known == "message" and column.length is not None and column.length < _LONG_ENOUGH:
        yield warning(
            subject,
            f"{place} writes the message into {column.words}; a longer one makes the transition fail",
            remedies.retype(table, column.name, "text"),
        )
    elif value.known == "evidence" and (column.family not in ("json", "text") or column.length is not None):
        yield error(subject, f"{place} writes the evidence, a JSON object, into {column.words}; expected jsonb")
    elif value.known == "evidence" and column.family == "text":
        yield warning(subject, f"{place} writes the evidence into {column.words}; as jsonb it could be searched")


def _check_literal(
    exam: Examination, table: str, column: Column, value: bool | float | str, place: str
) -> Iterator[Finding]:
    subject = f"{table}.{column.name}"
    if column.labels:
        if value not in column.labels:
            yield _no_label(exam, table, column, str(value), place)
    elif not isinstance(value, str):
        if column.family != "other" and column.family not in _SCALARS[type(value)]:
            yield error(subject, f"{place}: {value!r} does not fit {column.words}")
    elif column.length is not None and len(value) > column.length:
        yield error(
            subject,
            f"{place}: {value!r} is {len(value)} characters long, too long for {column.words}",
            exam.catalog.remedies.retype(exam.tables[table], column.name, "text"),
        )
    elif column.family != "text" and not exam.catalog.takes(column.words, value):
        yield error(subject, f"{place}: {value!r} cannot be read as {column.words}")


def _no_label(exam: Examination, table: str, column: Column, value: str, place: str) -> Finding:
    subject = f"{table}.{column.name}"
    message = f"{place}: {value!r} is no label of the enum {column.words} ({listed(column.labels)})"
    near = nearest(value, column.labels)
    if near is None:
        return error(subject, f"{message}{did_you_mean(value, column.labels)}")
    exam.corrections.values[table, column.name, value] = near
    message += f"; did you mean {near!r}?"
    if near == value.upper():
        message += " An enum made by SQLAlchemy stores the names of its members"
    return error(subject, message, OVERRIDE)


def _check_constraints(exam: Examination, name: str, values: Mapping[str, Value], place: str) -> Iterator[Finding]:
    """Ask each CHECK that depends on nothing but these values; the others depend on the row."""
    table = exam.real(name)
    if table is None:
        return
    known: dict[str, tuple[str, str | None]] = {}
    for column in exam.columns(name, values):
        value = values[column.name]
        if not isinstance(value, FromColumn) and _wrong_label(column, value) is False:
            known[column.name] = (column.words, _sample(exam, value))
    for check in table.checks:
        if check.columns and check.columns <= set(known):
            given = {column: known[column] for column in sorted(check.columns)}
            if exam.catalog.holds(check.expression, given) is False:
                yield _refused(exam, name, table, check, given, place)


def _wrong_label(column: Column, value: Value) -> bool:
    """Already told of, and no value that could be asked about."""
    return bool(column.labels) and not isinstance(value, Known) and value not in column.labels


def _sample(exam: Examination, value: Value) -> str | None:
    """A value of the kind that a sweep would write."""
    if not isinstance(value, Known):
        return str(value).lower() if isinstance(value, bool) else str(value)
    samples = {
        "now": exam.catalog.server.now.isoformat(),
        "reason": Reason.JOB_TIMEOUT.value,
        "message": "No sign of life",
        "evidence": "{}",
    }
    return samples.get(value.known)


def _refused(
    exam: Examination, name: str, table: Table, check: Check, given: Mapping[str, tuple[str, str | None]], place: str
) -> Finding:
    shown = listed(f"{column} = {value!r}" for column, (_, value) in given.items())
    message = f"{place}: {shown} is refused by the constraint {check.name}: CHECK ({check.expression})"
    if len(given) == 1:
        ((column, (words, value)),) = given.items()
        quoted = {text.replace("''", "'") for text in re.findall(r"'((?:[^']|'')*)'", check.expression)}
        near = nearest(value, quoted) if value is not None else None
        if value is not None and near and exam.catalog.holds(check.expression, {column: (words, near)}):
            exam.corrections.values[name, column, value] = near
            return error(f"{name}.{column}", f"{message}; did you mean {near!r}?", OVERRIDE)
    return error(f"{name}.{next(iter(given))}" if len(given) == 1 else table.name, message)


def _check_left_out(exam: Examination, writing: Writing) -> Iterator[Finding]:
    table = exam.real(writing.table)
    for column in table.columns.values() if table else ():
        if column.name not in writing.values and not column.nullable and not column.filled:
            yield error(
                f"{writing.table}.{column.name}",
                f"{writing.place} inserts no value, and the column is NOT NULL without a default; "
                f"give it one in the profile",
            )
