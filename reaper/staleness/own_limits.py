"""The limits that stand in a job's own row: its timeout, and its stall window."""

from __future__ import annotations

from sqlalchemy import FromClause, Numeric, case, cast, literal, literal_column, null

from reaper.profile.profile import LimitColumn
from reaper.sql import expressions as sql
from reaper.sql.conditions import fill_template
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables

_SHORTEST, _LONGEST = 1e-3, 1e10
"""What a limit in a job's own row may be, in seconds."""


def own_limit(tables: ProfileTables, limit: LimitColumn, jobs: FromClause, above: float) -> Element:
    """The limit in seconds; NULL for none, which many systems write as 0 or -1, and for one that is not above `above`,
    in seconds.
    """
    column, unit = limit.column, limit.seconds
    duration = (
        fill_template(limit.sql or "", tables.job_row(jobs)) if column is None else tables.job_column(jobs, column)
    )
    table, real = tables.profile.real_column(tables.profile.jobs.table, column or "")
    if tables.profile.column_kinds.get(table, {}).get(real) in ("interval", "time"):
        duration, unit = sql.interval_seconds(duration), 1.0
    seconds = case(
        (duration >= _exact(_LONGEST / unit), literal(_LONGEST, sql.FLOAT)),
        (duration >= _exact(_SHORTEST / unit), cast(duration, sql.FLOAT) * unit),
        (duration > literal(0), literal(_SHORTEST, sql.FLOAT)),
        else_=null(),
    )
    return seconds if not above else case((seconds > literal(above, sql.FLOAT), seconds), else_=null())


def _exact(number: float) -> Element:
    """A decimal number, with which a column of any numeric type can be compared: not all decimals fit into a float."""
    return literal_column(f"{number:.12f}", Numeric)
