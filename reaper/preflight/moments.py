"""Do the columns with moments store them as the profile says?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from sqlalchemy import select

from reaper.model import Time
from reaper.preflight.catalog import Unanswered
from reaper.preflight.examination import OVERRIDE, Examination
from reaper.preflight.finding import Finding, error
from reaper.preflight.tables import Column
from reaper.preflight.uses import Instant, instants

_FAMILIES: Mapping[Time, tuple[str, ...]] = {
    Time.TIMESTAMPTZ: ("timestamptz", "datetime"),
    Time.NAIVE: ("timestamp", "datetime"),
    Time.EPOCH_S: ("integer", "number"),
    Time.EPOCH_MS: ("integer", "number"),
}
_WORDS: Mapping[Time, str] = {
    Time.EPOCH_S: "a number of seconds",
    Time.EPOCH_MS: "a number of milliseconds",
}
_CLOCKS = ("timestamptz", "timestamp", "datetime")
_LAST_SECOND = 1e11
"""As seconds since 1970 this lies in the year 5138, as milliseconds in 1973."""


def check_moments(exam: Examination) -> Iterator[Finding]:
    for name, group in groupby(instants(exam.profile), key=lambda instant: instant.table):
        found = [(i, column) for i in group if (column := exam.column(name, i.column))]
        declared = exam.profile.time_of(name)
        wrong = [column for instant, column in found if not _fits(instant, column, declared)]
        if not wrong:
            continue
        read = [column for instant, column in found if instant.read]
        meant = _meant(exam, name, read)
        mixed = any(column.family in _FAMILIES[declared] for column in read)
        for column in wrong:
            yield _misfit(exam, name, column, declared, meant, mixed=mixed)


def _fits(instant: Instant, column: Column, declared: Time) -> bool:
    # A moment that is only written is converted, and the session's time zone is UTC.
    if not instant.read and column.family in _CLOCKS:
        return declared in (Time.TIMESTAMPTZ, Time.NAIVE)
    return column.family in _FAMILIES[declared]


def _meant(exam: Examination, table: str, read: list[Column]) -> Time | None:
    """The format that all columns that are read have."""
    formats = {_format_of(exam, table, column) for column in read}
    return formats.pop() if len(formats) == 1 else None


def _format_of(exam: Examination, table: str, column: Column) -> Time | None:
    if column.family in _CLOCKS:
        return Time.TIMESTAMPTZ if column.family == "timestamptz" else Time.NAIVE
    if column.family not in ("integer", "number"):
        return None
    real, stored = exam.real(table), exam.schema.table(table).c[column.name]
    if real is None or not real.readable([column.name]):
        return None
    try:
        rows = exam.catalog.ask(select(stored).where(stored.is_not(None)).limit(1))
    except Unanswered:
        return None
    return (Time.EPOCH_MS if float(rows[0][0]) > _LAST_SECOND else Time.EPOCH_S) if rows else None


def _misfit(
    exam: Examination, table: str, column: Column, declared: Time, meant: Time | None, *, mixed: bool
) -> Finding:
    subject = f"{table}.{column.name}"
    words = {**_WORDS, **exam.catalog.clocks}[declared]
    message = f"is {column.words}, and the profile's time format of {table} is {declared.value!r}, {words}"
    if meant is not None:
        exam.corrections.times[table] = meant
        return error(subject, f"{message}; did you mean {meant.value!r}?", OVERRIDE)
    if mixed:
        message += ", which others of its columns have"
    elif column.family in ("integer", "number"):
        return error(subject, f"{message}; a number is 'epoch s' or 'epoch ms', and no row tells which")
    if column.family != "timestamp" or declared is not Time.TIMESTAMPTZ:
        return error(subject, message)
    return error(
        subject,
        f"{message}; the statement reads it as UTC, rewrites the table, and must suit the application",
        exam.catalog.remedies.as_instant(exam.tables[table], column.name),
    )
