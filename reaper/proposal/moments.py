"""Which columns of a table hold moments, in which format, and what these are the moments of."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from reaper.catalog.tables import Column
from reaper.model import TimestampFormat
from reaper.proposal.looks import Key, Looks, Row
from reaper.proposal.words import Moment, moment_of, words
from reaper.source.local_time_proof import offset_text
from reaper.sql.iso_text import ISO_MOMENT

_DATES = ("timestamptz", "timestamp", "datetime")
_FIRST, _LAST = 1e8, 1e11
"""Seconds since 1970 from 1973 to 5138; in milliseconds, a thousand times as many."""
_STEP, _LARGEST_OFFSET, _APART = 900, 14 * 3600, 120.0
"""Offsets of zones are multiples of a quarter of an hour; how far from one is a moment that was just written."""
_SAID_BY_NAME = frozenset(("at", "time", "ts", "ms", "epoch", "timestamp", "when", "on", "until", "since"))


@dataclass(frozen=True, slots=True)
class MomentColumn:
    """A column with moments. `certain`: its format follows from its type or from its values, not from its name.

    `at` are the moments of the rows that have one, in seconds since 1970, where a moment without a zone is in UTC.
    """

    name: str
    format: TimestampFormat
    role: Moment | None
    certain: bool = True
    at: Mapping[Key, float] = field(default_factory=dict)


def moment_columns(looks: Looks) -> dict[str, MomentColumn]:
    """The columns with moments, by name."""
    found = (_moment_column(column, looks.rows) for column in looks.table.columns.values())
    return {column.name: column for column in found if column is not None}


def format_of(column: Column, values: Collection[str]) -> tuple[TimestampFormat, bool] | None:
    """The format of a column's moments, and whether that is certain; None for a column of something else."""
    if column.family in _DATES:
        return (TimestampFormat.TIMESTAMPTZ if column.family == "timestamptz" else TimestampFormat.NAIVE), True
    if column.family in ("integer", "number"):
        numbers = [number for text in values if (number := _number(text))]
        if numbers and all(_FIRST <= number < _LAST for number in numbers):
            return TimestampFormat.EPOCH_S, True
        if numbers and all(_FIRST * 1000 <= number < _LAST * 1000 for number in numbers):
            return TimestampFormat.EPOCH_MS, True
        if not numbers and _is_called_moment(column.name):
            in_ms = {"ms", "millis"} & set(words(column.name))
            return (TimestampFormat.EPOCH_MS if in_ms else TimestampFormat.EPOCH_S), False
    if column.family == "text" and values and all(re.match(ISO_MOMENT, text) for text in values):
        return TimestampFormat.ISO_TEXT, True
    return None


def seconds(text: str, format_: TimestampFormat) -> float | None:
    """A value in seconds since 1970; None for one that is no moment of a job."""
    if format_ in (TimestampFormat.EPOCH_S, TimestampFormat.EPOCH_MS):
        return _number(text) / (1000 if format_ is TimestampFormat.EPOCH_MS else 1) or None
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:  # infinity, a year that Python does not know, a zero date
        return None
    at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return at if at > 0 else None


def local_offset(looks: Looks) -> tuple[str, str] | None:
    """A column without a zone in which moments were written between the two looks in local time, and their offset;
    None where there is no such column.
    """
    for column in looks.table.columns.values():
        if format_of(column, ()) != (TimestampFormat.NAIVE, True):
            continue
        moments = [seconds(text or "", TimestampFormat.NAIVE) for text in looks.moved_to.get(column.name, ())]
        ahead = [at - looks.now.timestamp() for at in moments if at is not None]
        offsets = {round(one / _STEP) * _STEP for one in ahead if abs((one + _APART) % _STEP - _APART) <= _APART}
        if len(offsets) == 1 and (offset := offsets.pop()) and abs(offset) <= _LARGEST_OFFSET:
            return column.name, offset_text(offset)
    return None


def _moment_column(column: Column, rows: Mapping[Key, Row]) -> MomentColumn | None:
    values = {key: text for key, row in rows.items() if (text := row[column.name]) is not None}
    found = format_of(column, list(values.values()))
    if found is None:
        return None
    format_, certain = found
    at = {key: moment for key, text in values.items() if (moment := seconds(text, format_)) is not None}
    return MomentColumn(column.name, format_, moment_of(column.name), certain, at)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _is_called_moment(name: str) -> bool:
    return moment_of(name) is not None and words(name)[-1] in _SAID_BY_NAME
