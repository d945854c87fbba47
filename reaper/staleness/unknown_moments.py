"""Moments that are not known: those of a column without a zone that is known not to be in UTC, and numbers that can
only be in another unit than is said of their column.

What they say of a job is no silence: the job is spared, as one whose witness could not be asked. Other jobs, and other
columns, are judged as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import ColumnElement, FromClause, String, and_, case, false, func, literal, null, or_, true

from reaper.model import StoredTime, TimestampFormat
from reaper.profile import Profile, Witness
from reaper.profile.columns import TableColumn
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables
from reaper.staleness import parameters
from reaper.staleness.signs import Signs

_UNITS = {TimestampFormat.EPOCH_S: TimestampFormat.EPOCH_MS, TimestampFormat.EPOCH_MS: TimestampFormat.EPOCH_S}
"""The formats that are numbers, each with the other one."""
_IN_WORDS = {TimestampFormat.EPOCH_S: "seconds", TimestampFormat.EPOCH_MS: "milliseconds"}


def columns_without_zone(profile: Profile) -> tuple[TableColumn, ...]:
    """The columns with starts and signs of life whose moments have no zone, where none is said."""
    return tuple(column for column in _columns(profile) if is_without_zone(profile.time_of(*column)))


def columns_of_numbers(profile: Profile) -> tuple[TableColumn, ...]:
    """The columns with starts and signs of life whose moments are numbers."""
    return tuple(column for column in _columns(profile) if is_number(profile.time_of(*column)))


def _columns(profile: Profile) -> tuple[TableColumn, ...]:
    columns = [profile.real_column(profile.jobs.table, name) for name in profile.jobs.started]
    columns += [column for witness in profile.alive for column in columns_of_witness(profile, witness)]
    return tuple(dict.fromkeys(columns))


def is_without_zone(time: StoredTime) -> bool:
    """Moments that are stored so have no zone, and none is said."""
    return time.format is TimestampFormat.NAIVE and time.zone is None


def is_number(time: StoredTime) -> bool:
    """Moments that are stored so are numbers of one of two units."""
    return time.format in _UNITS


def is_in_other_unit(stored: Element, time: StoredTime) -> ColumnElement[bool]:
    """A number that is stored so is in the other unit; not so for NULL."""
    return func.coalesce(sql.can_only_be(_UNITS[time.format], stored), false())


def columns_of_witness(profile: Profile, witness: Witness) -> list[TableColumn]:
    """The columns with the moments of a witness."""
    return [profile.real_column(_table_of(profile, witness), name) for name in _names_of(witness)]


def _table_of(profile: Profile, witness: Witness) -> str:
    return witness.rows.table if witness.rows else profile.jobs.table


def _names_of(witness: Witness) -> list[str]:
    """Its columns as the profile names them: `row.column` for one of a row beside the job."""
    if rows := witness.rows or witness.children:
        return list(rows.at)
    return [name for name in (witness.column, witness.deadline) if name]


def describe_other_unit(profile: Profile, column: TableColumn) -> str:
    """Why a number in this column is no moment that is known."""
    name, said = ".".join(column), profile.time_of(*column).format
    other = _UNITS[said]
    return (
        f"{name} has numbers that can only be {_IN_WORDS[other]}, and is read as {said.value!r}: such moments are "
        f'unknown until times."{name}" = "{other.value}" is said, or the rows are corrected'
    )


class _Doubt(NamedTuple):
    """`holds` of a job whose moment is unknown, and `why`."""

    holds: ColumnElement[bool]
    why: Element


class UnknownMoments:
    """Expressions for one profile. A parameter for each column without a zone says why its moments are unknown."""

    def __init__(self, tables: ProfileTables, signs: Signs, columns: tuple[TableColumn, ...]) -> None:
        """`columns`: those without a zone."""
        self._tables, self._signs, self._columns = tables, signs, columns
        self._numbers = columns_of_numbers(tables.profile)

    @property
    def possible(self) -> bool:
        """Whether the profile has a column whose moments may be unknown."""
        return bool(self._columns or self._numbers)

    def unknown(self, jobs: FromClause) -> ColumnElement[bool]:
        """The start of the job, or a sign of life, is unknown."""
        return or_(self.start(jobs), *(self.sign(witness, jobs) for witness in self._tables.profile.alive))

    def start(self, jobs: FromClause) -> ColumnElement[bool]:
        """The start of the job is unknown."""
        return or_(false(), *(doubt.holds for doubt in self._of_start(jobs)))

    def sign(self, witness: Witness, jobs: FromClause) -> ColumnElement[bool]:
        """A sign of life of this witness is unknown."""
        return or_(false(), *(doubt.holds for doubt in self._of_sign(witness, jobs)))

    def why(self, jobs: FromClause) -> Element:
        """Which column that is, in words; NULL where all moments of the job are known."""
        witnesses = self._tables.profile.alive
        doubts = [*self._of_start(jobs), *(doubt for witness in witnesses for doubt in self._of_sign(witness, jobs))]
        return case(*doubts, else_=null()) if doubts else sql.null_text()

    def in_other_unit(self, column: TableColumn, jobs: FromClause) -> ColumnElement[bool]:
        """The job has a number in this column that is in the other unit."""
        profile = self._tables.profile
        uses = [self._start_in_other_unit(name, jobs) for name, real, _ in self._starts(jobs) if real == column]
        for witness in profile.alive:
            names = zip(_names_of(witness), columns_of_witness(profile, witness), strict=True)
            uses += [self._sign_in_other_unit(witness, name, jobs) for name, real in names if real == column]
        return or_(false(), *uses)

    def _of_start(self, jobs: FromClause) -> Iterator[_Doubt]:
        for name, column, is_first in self._starts(jobs):
            if column in self._columns:
                has_moment = self._tables.start(jobs, name).is_not(None)
                yield self._not_in_utc(column, and_(is_first, has_moment))
            elif column in self._numbers:
                yield self._in_other_unit(column, and_(is_first, self._start_in_other_unit(name, jobs)))

    def _starts(self, jobs: FromClause) -> Iterator[tuple[str, TableColumn, ColumnElement[bool]]]:
        """The columns with the start, and whether no other one before it has a moment."""
        profile, before = self._tables.profile, list[ColumnElement[bool]]()
        for name in profile.jobs.started:
            yield name, profile.real_column(profile.jobs.table, name), and_(true(), *before)
            before.append(self._tables.start(jobs, name).is_(None))

    def _of_sign(self, witness: Witness, jobs: FromClause) -> Iterator[_Doubt]:
        profile = self._tables.profile
        for name, column in zip(_names_of(witness), columns_of_witness(profile, witness), strict=True):
            if column in self._columns:
                yield self._not_in_utc(column, self._has_sign(witness, jobs))
            elif column in self._numbers:
                yield self._in_other_unit(column, self._sign_in_other_unit(witness, name, jobs))

    def _not_in_utc(self, column: TableColumn, concerned: ColumnElement[bool]) -> _Doubt:
        why = sql.parameter(parameters.UNKNOWN_MOMENTS.format(self._columns.index(column)), String())
        return _Doubt(and_(why.is_not(None), concerned), why)

    def _in_other_unit(self, column: TableColumn, concerned: ColumnElement[bool]) -> _Doubt:
        return _Doubt(concerned, literal(describe_other_unit(self._tables.profile, column), String))

    def _has_sign(self, witness: Witness, jobs: FromClause) -> ColumnElement[bool]:
        rows = self._signs.of(witness, jobs).rows
        if rows is not None:
            return rows.exists()
        at = self._tables.instant(self._tables.profile.jobs.table, jobs, witness.column or witness.deadline or "")
        limits = self._tables.profile.limits
        if witness.deadline is None or (limits is not None and limits.stall is not None):
            return at.is_not(None)
        # A moment without a zone is over everywhere once it is over in the westernmost one.
        return and_(at.is_not(None), at >= sql.instant_parameter(parameters.LEASE_OVER))

    def _start_in_other_unit(self, name: str, jobs: FromClause) -> ColumnElement[bool]:
        return self._is_in_other_unit(self._tables.profile.jobs.table, name, self._tables.job_column(jobs, name))

    def _sign_in_other_unit(self, witness: Witness, name: str, jobs: FromClause) -> ColumnElement[bool]:
        table, signs = _table_of(self._tables.profile, witness), self._signs.of(witness, jobs)
        if signs.rows is None:
            return self._is_in_other_unit(table, name, self._tables.job_column(jobs, name))
        assert signs.table is not None
        return signs.rows.where(self._is_in_other_unit(table, name, signs.table.c[name])).exists()

    def _is_in_other_unit(self, table: str, name: str, stored: Element) -> ColumnElement[bool]:
        return is_in_other_unit(stored, self._tables.stored_time(table, name))
