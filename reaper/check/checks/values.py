"""Can the columns hold what a profile compares them with?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from reaper.catalog.tables import Check, Column, Table
from reaper.check.context import OVERRIDE, CheckContext, listed
from reaper.check.finding import Finding, Level, error
from reaper.common.suggestions import did_you_mean, nearest
from reaper.model import Reason
from reaper.profile import Condition, Now, Profile, Scalar, Value, Variable
from reaper.profile.related_tables import condition_sets

_FENCE = "fence.again"
_NUMBERS = ("integer", "number")
_SCALARS: Mapping[type, tuple[str, ...]] = {bool: ("boolean",), int: _NUMBERS, float: ("number",)}


class Compared(NamedTuple):
    """A column and a value that it is compared with."""

    place: str
    table: str
    column: str
    value: Scalar


def check_values(ctx: CheckContext) -> Iterator[Finding]:
    for place, table, name, value in compared(ctx.profile):
        column = ctx.column(table, name)
        if column and place == _FENCE:
            # Sweeps do without a fence.
            yield from (replace(each, level=Level.NOTE) for each in check_literal(ctx, table, column, value, place))
        elif column:
            yield from check_literal(ctx, table, column, value, place)
            if place.endswith((".in", ".started", ".ended")):
                yield from check_constraints(ctx, table, {name: value}, place)
    yield from _check_numbers(ctx)


def compared(profile: Profile) -> Iterator[Compared]:
    jobs = profile.jobs
    if jobs.running and jobs.running.column:
        for value in jobs.running.values or ():
            yield Compared("jobs.running.in", jobs.table, jobs.running.column, value)
    if profile.fence and jobs.state:
        yield from (Compared(_FENCE, jobs.table, jobs.state, value) for value in profile.fence.again)
    if jobs.log:
        for what, types in (("started", jobs.log.started), ("ended", jobs.log.ended)):
            yield from (Compared(f"jobs.log.{what}", jobs.table, jobs.log.type, value) for value in types)
    for place, table, asked in condition_sets(profile):
        for n, one in enumerate(asked):
            for what, bound in _values(one):
                if one.column and not isinstance(bound, Now):
                    yield Compared(f"{place}.{n}.{what}", table, one.column, bound)


def _values(asked: Condition) -> Iterator[tuple[str, Now | Scalar]]:
    yield from (("in", value) for value in asked.values or ())
    yield from (("not_in", value) for value in asked.not_in or ())
    if asked.less_than is not None:
        yield "less_than", asked.less_than
    if asked.greater_than is not None:
        yield "greater_than", asked.greater_than


def _check_numbers(ctx: CheckContext) -> Iterator[Finding]:
    table, limits, attempts = ctx.profile.jobs.table, ctx.profile.limits, ctx.profile.attempts
    numbers = [("limits.timeout", limits.timeout.column)] if limits else []
    if attempts:
        numbers += [("attempts.limit_column", attempts.limit_column)] if attempts.limit_column else []
        column = ctx.column(table, attempts.column)
        if not attempts.array:
            numbers.append(("attempts", attempts.column))
        elif column and column.family not in ctx.catalog.documents:
            yield error(f"{table}.{column.name}", f"attempts.array: is {column.words}; expected an array")
    for place, name in numbers:
        column = ctx.column(table, name)
        if column and column.family not in (*_NUMBERS, "other"):
            yield error(f"{table}.{name}", f"{place}: is {column.words}; expected a number")


def check_literal(ctx: CheckContext, table: str, column: Column, value: Scalar, place: str) -> Iterator[Finding]:
    subject = f"{table}.{column.name}"
    if column.labels:
        if not column.has_label(value):
            yield _no_label(ctx, table, column, str(value), place)
    elif not isinstance(value, str):
        if column.family != "other" and column.family not in _SCALARS[type(value)]:
            yield error(subject, f"{place}: {value!r} does not fit {column.words}")
    elif column.length is not None and len(value) > column.length:
        yield error(
            subject,
            f"{place}: {value!r} is {len(value)} characters long, too long for {column.words}",
            ctx.catalog.fixes.retype(ctx.tables[table], column.name, "text"),
        )
    elif column.family != "text" and not ctx.catalog.takes(column.words, value):
        yield error(subject, f"{place}: {value!r} cannot be read as {column.words}")


def _no_label(ctx: CheckContext, table: str, column: Column, value: str, place: str) -> Finding:
    subject = f"{table}.{column.name}"
    message = f"{place}: {value!r} is no label of the enum {column.words} ({listed(column.labels)})"
    near = nearest(value, column.labels)
    if near is None:
        return error(subject, f"{message}{did_you_mean(value, column.labels)}")
    ctx.corrections.values[table, column.name, value] = near
    message += f"; did you mean {near!r}?"
    if near == value.upper():
        message += " An enum made by SQLAlchemy stores the names of its members"
    return error(subject, message, OVERRIDE)


def check_constraints(ctx: CheckContext, name: str, values: Mapping[str, Value], place: str) -> Iterator[Finding]:
    """Ask each CHECK that depends on nothing but these values; the others depend on the row."""
    table = ctx.real(name)
    if table is None:
        return
    known: dict[str, tuple[str, str | None]] = {}
    for column in ctx.columns(name, values):
        value = values[column.name]
        if isinstance(value, (Variable, *_PLAIN)) and not _wrong_label(column, value):
            known[column.name] = (column.words, _sample(ctx, value))
    for check in table.checks:
        if check.columns and check.columns <= set(known):
            given = {column: known[column] for column in sorted(check.columns)}
            if ctx.catalog.holds(check.expression, given) is False:
                yield _refused(ctx, name, table, check, given, place)


_PLAIN = (bool, int, float, str)


def _wrong_label(column: Column, value: Value) -> bool:
    """Already told of, and no value that could be asked about."""
    return bool(column.labels) and not isinstance(value, Variable) and not column.has_label(value)


def _sample(ctx: CheckContext, value: Variable | Scalar) -> str | None:
    """A value of the kind that a sweep would write."""
    if not isinstance(value, Variable):
        return str(value).lower() if isinstance(value, bool) else str(value)
    samples = {
        "now": ctx.catalog.server.now.isoformat(),
        "reason": Reason.JOB_TIMEOUT.value,
        "message": "No sign of life",
        "evidence": "{}",
        **dict.fromkeys(("age", "silence"), "60"),
        **dict.fromkeys(("source", "sweep_id", "host"), "x"),
    }
    return samples.get(value.name)


def _refused(
    ctx: CheckContext, name: str, table: Table, check: Check, given: Mapping[str, tuple[str, str | None]], place: str
) -> Finding:
    shown = listed(f"{column} = {value!r}" for column, (_, value) in given.items())
    message = f"{place}: {shown} is refused by the constraint {check.name}: CHECK ({check.expression})"
    if len(given) == 1:
        ((column, (words, value)),) = given.items()
        quoted = {text.replace("''", "'") for text in re.findall(r"'((?:[^']|'')*)'", check.expression)}
        near = nearest(value, quoted) if value is not None else None
        if value is not None and near and ctx.catalog.holds(check.expression, {column: (words, near)}):
            ctx.corrections.values[name, column, value] = near
            return error(f"{name}.{column}", f"{message}; did you mean {near!r}?", OVERRIDE)
    return error(f"{name}.{next(iter(given))}" if len(given) == 1 else table.name, message)
