"""Checks that a column has room for what an action writes into it: a job whose transition fails can never be ended."""

from __future__ import annotations

from collections.abc import Iterator

from reaper.catalog.tables import Column
from reaper.check.context import CheckContext
from reaper.check.finding import Finding, error
from reaper.model import TimestampFormat
from reaper.profile import FromColumn, Json, Scalar, Value, Variable
from reaper.profile.column_usage import RowWrite, possible_values, row_writes
from reaper.profile.values import DURATIONS, TEXTS

LONGEST_MESSAGE = 512
"""Enough for every message but an operator's longest, which is refused where its column has no room."""

_LONGEST = {"message": LONGEST_MESSAGE, "source": 64, "host": 64, "sweep_id": 12}
_LONGEST_DURATION = 10 * 366 * 86_400
_UNITS = {TimestampFormat.EPOCH_S: 1, TimestampFormat.EPOCH_MS: 1000}


def check_sizes(context: CheckContext) -> Iterator[Finding]:
    for writing in row_writes(context.profile):
        for column in context.columns(writing.table, writing.values):
            for value in possible_values(writing.values[column.name]):
                if not column.generated and (too_large := _too_large(context, writing, column, value)):
                    what, remedy = too_large
                    message = f"{writing.place} writes {what} into {column.type}, and such a job can never be ended"
                    fix = None
                    if column.family == "text":
                        fix = context.catalog.fixes.retype(context.tables[writing.table], column.name, "text")
                    yield error(f"{writing.table}.{column.name}", f"{message}{remedy}", fix)


def _too_large(context: CheckContext, writing: RowWrite, column: Column, value: Value) -> tuple[str, str] | None:
    """What does not fit, and what to do, in words."""
    if isinstance(value, Variable):
        return _variable(context, writing, column, value)
    if isinstance(value, FromColumn):
        return _copy(context, column, value)
    if isinstance(value, Json) and column.family == "text" and (column.length or LONGEST_MESSAGE) < LONGEST_MESSAGE:
        return "a JSON object, which may be longer,", ""
    if isinstance(value, Scalar) and not isinstance(value, str) and _outside(column, float(value)):
        return f"{value!r}, which is out of its range,", ""
    return None


def _variable(context: CheckContext, writing: RowWrite, column: Column, value: Variable) -> tuple[str, str] | None:
    if value.name in TEXTS and column.family == "text" and column.length is not None:
        longest = value.most or _LONGEST[value.name]
        if longest > column.length:
            cap = f'; cap it: {{ is = "{value.name}", most = {column.length} }}'
            return f"the {value.name}, of up to {longest} characters,", cap
    if value.name in DURATIONS and column.numbers is not None:
        longest, largest = value.most or _LONGEST_DURATION, int(column.numbers[1])
        if longest > largest:
            cap = f'; cap it: {{ is = "{value.name}", most = {largest} }}' if largest >= 1 else ""
            return f"the {value.name}, a number of seconds that may be larger than {largest},", cap
    if value.name == "now":
        unit = _UNITS.get(context.profile.said_time(writing.table, column.name).format)
        now = context.catalog.server.now.timestamp() + (value.plus or 0)
        if unit is not None and _outside(column, now * unit):
            return "the moment, as a number that is out of its range,", ""
    return None


def _copy(context: CheckContext, column: Column, value: FromColumn) -> tuple[str, str] | None:
    jobs = context.profile.jobs.table
    source = context.column(jobs, value.column)
    if source is None:
        return None
    shown = f"{jobs}.{source.name} ({source.type}), which may be"
    texts = column.family == source.family == "text" and column.length is not None
    if texts and (source.length is None or source.length > (column.length or 0)):
        return f"{shown} longer,", f'; cut it: {{ sql = "substr({{{source.name}}}, 1, {column.length})" }}'
    if column.numbers is not None and source.numbers is not None and source.numbers[1] > column.numbers[1]:
        return f"{shown} larger,", f"; make the column {source.type}, too"
    return None


def _outside(column: Column, number: float) -> bool:
    return column.numbers is not None and not column.numbers[0] <= number <= column.numbers[1]
