"""Checks that columns can hold the values that a profile compares them with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from reaper.catalog.tables import CheckConstraint, Column, Table
from reaper.check.checks.sizes import LONGEST_MESSAGE
from reaper.check.context import OVERRIDE, CheckContext, listed
from reaper.check.finding import Finding, Level, error
from reaper.common.suggestions import did_you_mean, nearest
from reaper.model import Reason
from reaper.profile import Scalar, Value, Variable
from reaper.profile.column_usage import FENCE, comparisons

_NUMBERS = ("integer", "number")
_SCALARS: Mapping[type, tuple[str, ...]] = {bool: ("boolean",), int: _NUMBERS, float: ("number",)}


def check_values(context: CheckContext) -> Iterator[Finding]:
    for place, table, name, value in comparisons(context.profile):
        column = context.column(table, name)
        if column and place == FENCE:
            # Sweeps work without a fence.
            findings = check_literal(context, table, column, value, place)
            yield from (replace(finding, level=Level.NOTE) for finding in findings)
        elif column:
            yield from check_literal(context, table, column, value, place)
            if place.endswith((".in", ".started", ".ended")):
                yield from check_constraints(context, table, {name: value}, place)
    yield from _check_numbers(context)


def _check_numbers(context: CheckContext) -> Iterator[Finding]:
    table, limits, attempts = context.profile.jobs.table, context.profile.limits, context.profile.attempts
    by_name = limits.by_name if limits else {}
    numbers = [(f"limits.{name}", limit.column) for name, limit in by_name.items() if limit.column]
    if attempts:
        numbers += [("attempts.limit_column", attempts.limit_column)] if attempts.limit_column else []
        column = context.column(table, attempts.counter)
        if not attempts.array:
            numbers.append(("attempts", attempts.counter))
        elif column and column.family not in context.catalog.json_families:
            yield error(f"{table}.{column.name}", f"attempts.array: is {column.type}; expected an array")
    for place, name in numbers:
        column = context.column(table, name)
        if column and column.family not in (*_NUMBERS, "other"):
            subject = ".".join(context.profile.real_column(table, name))
            yield error(subject, f"{place}: is {column.type}; expected a number")


def check_literal(context: CheckContext, table: str, column: Column, value: Scalar, place: str) -> Iterator[Finding]:
    """Whether the column can hold the value that stands at `place` in the profile."""
    subject = f"{table}.{column.name}"
    if column.labels:
        if not column.has_label(value):
            yield _unknown_label(context, table, column, str(value), place)
    elif not isinstance(value, str):
        if column.family != "other" and column.family not in _SCALARS[type(value)]:
            yield error(subject, f"{place}: {value!r} does not fit {column.type}")
    elif column.length is not None and len(value) > column.length:
        yield error(
            subject,
            f"{place}: {value!r} is {len(value)} characters long, too long for {column.type}",
            context.catalog.fixes.retype(context.tables[table], column.name, "text"),
        )
    elif column.family != "text" and not context.catalog.accepts(column.type, value):
        yield error(subject, f"{place}: {value!r} cannot be read as {column.type}")


def _unknown_label(context: CheckContext, table: str, column: Column, value: str, place: str) -> Finding:
    subject = f"{table}.{column.name}"
    message = f"{place}: {value!r} is no label of the enum {column.type} ({listed(column.labels)})"
    suggestion = nearest(value, column.labels)
    if suggestion is None:
        return error(subject, f"{message}{did_you_mean(value, column.labels)}")
    context.corrections.values[table, column.name, value] = suggestion
    return error(subject, f"{message}; did you mean {suggestion!r}?", OVERRIDE)


# --- CHECK constraints -----------------------------------------------------------------------------------------------

_SHOWN = 64
_PLAIN = (bool, int, float, str)


def check_constraints(context: CheckContext, name: str, values: Mapping[str, Value], place: str) -> Iterator[Finding]:
    """Evaluates each CHECK that reads no other columns than these; the result of the others depends on the row."""
    table = context.table_with_rows(name)
    if table is None:
        return
    samples: dict[str, tuple[str, str | None]] = {}
    for column in context.columns(name, values):
        value = values[column.name]
        if isinstance(value, (Variable, *_PLAIN)) and not _is_unknown_label(column, value):
            samples[column.name] = (column.type, _sample(context, value))
    for check in table.checks:
        if check.columns and check.columns <= set(samples):
            row = {column: samples[column] for column in sorted(check.columns)}
            if context.catalog.evaluate(check.expression, row) is False:
                yield _refused(context, name, table, check, row, place)


def _is_unknown_label(column: Column, value: Value) -> bool:
    """Such a value is reported by `check_literal`, and cannot be evaluated."""
    return bool(column.labels) and not isinstance(value, Variable) and not column.has_label(value)


def _sample(context: CheckContext, value: Variable | Scalar) -> str | None:
    """A value like the one that a sweep would write."""
    if not isinstance(value, Variable):
        return str(value).lower() if isinstance(value, bool) else str(value)
    samples = {
        "now": context.catalog.server.now.isoformat(),
        "reason": Reason.JOB_TIMEOUT.value,
        "message": ("No sign of life" + " " * LONGEST_MESSAGE)[: (value.most or LONGEST_MESSAGE) - 1] + ".",
        "evidence": "{}",
        **dict.fromkeys(("age", "silence"), "60"),
        **dict.fromkeys(("source", "sweep_id", "host"), "x"),
    }
    return samples.get(value.name)


def _refused(
    context: CheckContext,
    name: str,
    table: Table,
    check: CheckConstraint,
    row: Mapping[str, tuple[str, str | None]],
    place: str,
) -> Finding:
    shown = listed(f"{column} = {_short(value)}" for column, (_, value) in row.items())
    message = f"{place}: {shown} is refused by the constraint {check.name}: CHECK ({check.expression})"
    if len(row) > 1:
        return error(table.name, message)
    ((column, (type_, value)),) = row.items()
    quoted = {text.replace("''", "'") for text in re.findall(r"'((?:[^']|'')*)'", check.expression)}
    suggestion = nearest(value, quoted) if value is not None else None
    if value is not None and suggestion and context.catalog.evaluate(check.expression, {column: (type_, suggestion)}):
        context.corrections.values[name, column, value] = suggestion
        return error(f"{name}.{column}", f"{message}; did you mean {suggestion!r}?", OVERRIDE)
    return error(f"{name}.{column}", message)


def _short(value: str | None) -> str:
    return repr(value) if value is None or len(value) <= _SHOWN else f"a text of {len(value)} characters"
