"""Columns whose moments are unknown: they have no zone, none is said, and they are known not to be in UTC.

What such a column says of a job is no silence: the job is spared, as one whose witness could not be asked. Other jobs,
and other columns, are judged as ever.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, FromClause, String, and_, case, false, literal, null, or_

from reaper.model import TimestampFormat
from reaper.profile import Profile, Witness
from reaper.profile.columns import TableColumn
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables
from reaper.staleness import parameters
from reaper.staleness.signs import Signs


def columns_without_zone(profile: Profile) -> tuple[TableColumn, ...]:
    """The columns with starts and signs of life whose moments have no zone, where none is said."""
    table = profile.jobs.table
    columns = [profile.real_column(table, name) for name in profile.jobs.started]
    columns += [column for witness in profile.alive for column in columns_of_witness(profile, witness)]
    return tuple(dict.fromkeys(column for column in columns if _is_without_zone(profile, column)))


def _is_without_zone(profile: Profile, column: TableColumn) -> bool:
    time = profile.time_of(*column)
    return time.format is TimestampFormat.NAIVE and time.zone is None


def columns_of_witness(profile: Profile, witness: Witness) -> list[TableColumn]:
    """The columns with the moments of a witness."""
    if witness.rows:
        return [(witness.rows.table, name) for name in witness.rows.at]
    own = [name for name in (witness.column, witness.deadline) if name]
    names = [*(witness.children.at if witness.children else ()), *own]
    return [profile.real_column(profile.jobs.table, name) for name in names]


class UnknownMoments:
    """Expressions for one profile. A parameter for each of the columns says why its moments are unknown."""

    def __init__(self, tables: ProfileTables, signs: Signs, columns: tuple[TableColumn, ...]) -> None:
        self._tables, self._signs, self._columns = tables, signs, columns

    @property
    def possible(self) -> bool:
        """Whether the profile has such a column."""
        return bool(self._columns)

    def unknown(self, jobs: FromClause) -> ColumnElement[bool]:
        """The start of the job, or a sign of life, is in a column whose moments are unknown."""
        return or_(false(), *(and_(why.is_not(None), concerned) for why, concerned in self._doubts(jobs)))

    def why(self, jobs: FromClause) -> Element:
        """Which column that is, in words; NULL where the job has none."""
        doubts = [(and_(why.is_not(None), concerned), why) for why, concerned in self._doubts(jobs)]
        return case(*doubts, else_=null()) if doubts else sql.null_text()

    def _doubts(self, jobs: FromClause) -> list[tuple[Element, ColumnElement[bool]]]:
        reasons = (sql.parameter(parameters.UNKNOWN_MOMENTS.format(n), String()) for n in range(len(self._columns)))
        return [(why, self._concerns(column, jobs)) for why, column in zip(reasons, self._columns, strict=True)]

    def _concerns(self, column: TableColumn, jobs: FromClause) -> ColumnElement[bool]:
        """The job has a moment in this column that counts."""
        profile = self._tables.profile
        witnesses = (witness for witness in profile.alive if column in columns_of_witness(profile, witness))
        uses = [self._has_sign(witness, jobs) for witness in witnesses]
        uses += [self._starts(name, jobs) for name in profile.jobs.started if self._start_column(name) == column]
        return or_(*uses)

    def _has_sign(self, witness: Witness, jobs: FromClause) -> ColumnElement[bool]:
        rows = self._signs.of(witness, jobs).rows
        if rows is not None:
            return rows.exists()
        name = witness.column or witness.deadline or ""
        return self._tables.instant(self._tables.profile.jobs.table, jobs, name).is_not(None)

    def _start_column(self, name: str) -> TableColumn:
        return self._tables.profile.real_column(self._tables.profile.jobs.table, name)

    def _starts(self, column: str, jobs: FromClause) -> ColumnElement[bool]:
        """The job's start is in this column: no other one before it has a moment."""
        before: list[ColumnElement[bool]] = []
        for name in self._tables.profile.jobs.started:
            start = self._tables.start(jobs, name)
            if name == column:
                return and_(*before, start.is_not(None))
            before.append(start.is_(None))
        return literal(False)
