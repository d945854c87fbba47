"""Do the columns with moments store them as the profile says?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from sqlalchemy import select

from reaper.catalog import QueryFailed
from reaper.catalog.tables import Column
from reaper.check.context import OVERRIDE, CheckContext
from reaper.check.finding import Finding, error
from reaper.model import TimestampFormat
from reaper.profile.usage import TimestampColumn, timestamp_columns

_FAMILIES: Mapping[TimestampFormat, tuple[str, ...]] = {
    TimestampFormat.TIMESTAMPTZ: ("timestamptz", "datetime"),
    TimestampFormat.NAIVE: ("timestamp", "datetime"),
    TimestampFormat.EPOCH_S: ("integer", "number"),
    TimestampFormat.EPOCH_MS: ("integer", "number"),
}
_WORDS: Mapping[TimestampFormat, str] = {
    TimestampFormat.EPOCH_S: "a number of seconds",
    TimestampFormat.EPOCH_MS: "a number of milliseconds",
}
_CLOCKS = ("timestamptz", "timestamp", "datetime")
_LAST_SECOND = 1e11
"""As seconds since 1970 this lies in the year 5138, as milliseconds in 1973."""


def check_moments(ctx: CheckContext) -> Iterator[Finding]:
    for name, group in groupby(timestamp_columns(ctx.profile), key=lambda instant: instant.table):
        found = [(i, column) for i in group if (column := ctx.column(name, i.column))]
        declared = ctx.profile.time_of(name)
        wrong = [column for instant, column in found if not _fits(instant, column, declared)]
        if not wrong:
            continue
        read = [column for instant, column in found if instant.read]
        meant = _meant(ctx, name, read)
        mixed = any(column.family in _FAMILIES[declared] for column in read)
        for column in wrong:
            yield _misfit(ctx, name, column, declared, meant, mixed=mixed)


def _fits(instant: TimestampColumn, column: Column, declared: TimestampFormat) -> bool:
    # A moment that is only written is converted, and the session's time zone is UTC.
    if not instant.read and column.family in _CLOCKS:
        return declared in (TimestampFormat.TIMESTAMPTZ, TimestampFormat.NAIVE)
    return column.family in _FAMILIES[declared]


def _meant(ctx: CheckContext, table: str, read: list[Column]) -> TimestampFormat | None:
    """The format that all columns that are read have."""
    formats = {_format_of(ctx, table, column) for column in read}
    return formats.pop() if len(formats) == 1 else None


def _format_of(ctx: CheckContext, table: str, column: Column) -> TimestampFormat | None:
    if column.family in _CLOCKS:
        return TimestampFormat.TIMESTAMPTZ if column.family == "timestamptz" else TimestampFormat.NAIVE
    if column.family not in ("integer", "number"):
        return None
    real, stored = ctx.real(table), ctx.schema.table(table).c[column.name]
    if real is None or not real.readable([column.name]):
        return None
    try:
        rows = ctx.catalog.ask(select(stored).where(stored.is_not(None)).limit(1))
    except QueryFailed:
        return None
    return (TimestampFormat.EPOCH_MS if float(rows[0][0]) > _LAST_SECOND else TimestampFormat.EPOCH_S) if rows else None


def _misfit(
    ctx: CheckContext,
    table: str,
    column: Column,
    declared: TimestampFormat,
    meant: TimestampFormat | None,
    *,
    mixed: bool,
) -> Finding:
    subject = f"{table}.{column.name}"
    words = {**_WORDS, **ctx.catalog.clocks}[declared]
    message = f"is {column.words}, and the profile's time format of {table} is {declared.value!r}, {words}"
    if meant is not None:
        ctx.corrections.times[table] = meant
        return error(subject, f"{message}; did you mean {meant.value!r}?", OVERRIDE)
    if mixed:
        message += ", which others of its columns have"
    elif column.family in ("integer", "number"):
        return error(subject, f"{message}; a number is 'epoch s' or 'epoch ms', and no row tells which")
    if column.family != "timestamp" or declared is not TimestampFormat.TIMESTAMPTZ:
        return error(subject, message)
    return error(
        subject,
        f"{message}; the statement reads it as UTC, rewrites the table, and must suit the application",
        ctx.catalog.fixes.as_instant(ctx.tables[table], column.name),
    )
