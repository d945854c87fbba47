"""Checks that timestamp columns store what the profile's time format says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby

from sqlalchemy import select

from reaper.catalog import QueryFailed
from reaper.catalog.tables import Column
from reaper.check.context import OVERRIDE, CheckContext
from reaper.check.finding import Finding, error
from reaper.model import StoredTime, TimestampFormat
from reaper.profile.column_usage import TimestampColumn, timestamp_columns
from reaper.sql.iso_text import ISO_MOMENT

FAMILIES: Mapping[TimestampFormat, tuple[str, ...]] = {
    TimestampFormat.TIMESTAMPTZ: ("timestamptz", "datetime"),
    TimestampFormat.NAIVE: ("timestamp", "datetime"),
    TimestampFormat.EPOCH_S: ("integer", "number"),
    TimestampFormat.EPOCH_MS: ("integer", "number"),
    TimestampFormat.ISO_TEXT: ("text",),
}
_OTHER_FORMATS: Mapping[TimestampFormat, str] = {
    TimestampFormat.EPOCH_S: "a number of seconds",
    TimestampFormat.EPOCH_MS: "a number of milliseconds",
    TimestampFormat.ISO_TEXT: "a text such as 2026-07-01T12:00:00Z",
}
DATE_FAMILIES = ("timestamptz", "timestamp", "datetime")
_LARGEST_SECONDS = 1e11
"""As seconds since 1970 this is in the year 5138, as milliseconds in 1973."""
_UNITS: Mapping[TimestampFormat, tuple[float, float]] = {
    TimestampFormat.EPOCH_S: (_LARGEST_SECONDS / 1000, _LARGEST_SECONDS),
    TimestampFormat.EPOCH_MS: (_LARGEST_SECONDS, _LARGEST_SECONDS * 1000),
}
"""From which number, and up to which, a number is a moment of a job: from 1973 to 5138."""
_ROWS = 1_000


def check_timestamps(context: CheckContext) -> Iterator[Finding]:
    for name, group in groupby(timestamp_columns(context.profile), key=lambda instant: instant.table):
        columns = [(instant, column) for instant in group if (column := context.column(name, instant.column))]
        wrong = [column for instant, column in columns if not _fits(instant, column, _declared(context, name, column))]
        for instant, column in columns:
            if instant.read and column not in wrong:
                yield from _other_unit(context, name, column)
        if not wrong:
            continue
        read = [column for instant, column in columns if instant.read]
        common = _common_format(context, name, read)
        for column in wrong:
            yield _misfit(context, name, column, common, read)


def _declared(context: CheckContext, table: str, column: Column) -> TimestampFormat:
    return context.profile.said_time(table, column.name).format


def _fits(instant: TimestampColumn, column: Column, declared: TimestampFormat) -> bool:
    # A timestamp that is only written is converted by the server, and the session's time zone is UTC.
    if not instant.read and column.family in DATE_FAMILIES:
        return declared in (TimestampFormat.TIMESTAMPTZ, TimestampFormat.NAIVE)
    return column.family in FAMILIES[declared]


def _other_unit(context: CheckContext, name: str, column: Column) -> Iterator[Finding]:
    """Numbers that are no moments in the unit that is said, and are some in the other: then every sign of life in them
    is decades old, or in the far future.
    """
    declared, table = _declared(context, name, column), context.table_with_rows(name)
    if declared not in _UNITS or table is None or not context.may_read(name, [column.name]):
        return
    stored = context.schema.table(name).c[column.name]
    try:
        rows = context.catalog.query(select(stored).where(stored.is_not(None)).limit(_ROWS))
    except QueryFailed:
        return
    [other] = set(_UNITS) - {declared}
    numbers = [float(row[0]) for row in rows]
    if any(_is_in(number, declared) for number in numbers) or not any(_is_in(number, other) for number in numbers):
        return
    example = next(str(row[0]) for row in rows if _is_in(float(row[0]), other))
    subject = f"{name}.{column.name}"
    context.corrections.times[subject] = StoredTime(other)
    message = (
        f"holds {example}, which as {declared.value!r} is no moment of a job: the living would be taken for silent"
    )
    yield error(subject, f"{message}; did you mean {other.value!r} for this column?", OVERRIDE)


def _is_in(number: float, unit: TimestampFormat) -> bool:
    first, last = _UNITS[unit]
    return first <= number < last


def _common_format(context: CheckContext, table: str, read: list[Column]) -> TimestampFormat | None:
    """The format that all these columns have; None where they differ, or where it is unknown."""
    formats = {_format_of(context, table, column) for column in read}
    return formats.pop() if len(formats) == 1 else None


def _format_of(context: CheckContext, name: str, column: Column) -> TimestampFormat | None:
    if column.family in DATE_FAMILIES:
        return TimestampFormat.TIMESTAMPTZ if column.family == "timestamptz" else TimestampFormat.NAIVE
    if column.family not in ("integer", "number", "text"):
        return None
    table, stored = context.table_with_rows(name), context.schema.table(name).c[column.name]
    if table is None or not context.may_read(name, [column.name]):
        return None
    try:
        rows = context.catalog.query(select(stored).where(stored.is_not(None)).limit(1))
    except QueryFailed:
        return None
    if not rows:
        return None
    if column.family == "text":
        return TimestampFormat.ISO_TEXT if re.match(ISO_MOMENT, str(rows[0][0])) else None
    return TimestampFormat.EPOCH_MS if float(rows[0][0]) > _LARGEST_SECONDS else TimestampFormat.EPOCH_S


def _misfit(
    context: CheckContext,
    table: str,
    column: Column,
    common: TimestampFormat | None,
    read: list[Column],
) -> Finding:
    """`common` is the format that all of the columns that are `read` have; None where they differ."""
    subject, declared = f"{table}.{column.name}", _declared(context, table, column)
    expected = {**_OTHER_FORMATS, **context.catalog.timestamp_types}[declared]
    own = subject in context.profile.times
    message = f"is {column.type}, and the profile's time format of {subject if own else table} is {declared.value!r}"
    message = f"{message}, {expected}"
    if common is not None and not own:
        context.corrections.times[table] = StoredTime(common)
        return error(subject, f"{message}; did you mean {common.value!r}?", OVERRIDE)
    actual = _format_of(context, table, column) if column in read else None
    if actual is not None and (own or column.family != "timestamp" or declared is not TimestampFormat.TIMESTAMPTZ):
        context.corrections.times[subject] = StoredTime(actual)
        return error(subject, f"{message}; did you mean {actual.value!r} for this column?", OVERRIDE)
    if any(other.family in FAMILIES[declared] for other in read):
        message += ", which other columns of the table have"
    elif column.family in ("integer", "number"):
        return error(subject, f"{message}; a number is 'epoch s' or 'epoch ms', and there is no row that shows which")
    if column.family != "timestamp" or declared is not TimestampFormat.TIMESTAMPTZ:
        return error(subject, message)
    return error(
        subject,
        f"{message}; the statement reads it as UTC and rewrites the table, so make sure that the application agrees",
        context.catalog.fixes.as_instant(context.tables[table], column.name),
    )
