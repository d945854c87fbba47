"""A profile's tables as SQLAlchemy sees them: names always quoted, types left to the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import (
    ColumnElement,
    FromClause,
    TableClause,
    and_,
    column,
    literal,
    not_,
    select,
    table,
    true,
)
from sqlalchemy.sql import quoted_name

from reaper.model import TimestampFormat
from reaper.profile import Conditions, Delete, Profile, Related, Update
from reaper.sql.conditions import among, holds
from reaper.sql.expressions import Element, key_in_batch, text_of, to_instant
from reaper.sql.expressions import key_parameters as key_parameters


def split_name(name: str) -> tuple[str | None, str]:
    """`schema.table` as its parts; without a dot the search path decides."""
    schema, dot, bare = name.partition(".")
    return (schema, bare) if dot else (None, name)


def reserved_alias(part: str) -> str:
    """What a part of a statement is called, so that no table of the user's is: the wrong one would be meant."""
    return f"reaper_{part}"


def table_of(name: str, columns: Iterable[str]) -> TableClause:
    """A table with these columns."""
    schema, bare = split_name(name)
    return table(
        quoted_name(bare, quote=True),
        *(column(quoted_name(c, quote=True)) for c in sorted(columns)),
        schema=quoted_name(schema, quote=True) if schema else None,
    )


class ProfileTables:
    """The tables that one profile names, each with the columns that it names."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._columns = profile.columns()
        self.jobs = self.table(profile.jobs.table)

    def table(self, name: str) -> TableClause:
        return table_of(name, self._columns[name])

    def key(self, jobs: FromClause) -> list[Element]:
        """The key columns, in the profile's order."""
        return [jobs.c[name] for name in self.profile.jobs.key]

    def key_text(self, jobs: FromClause) -> list[Element]:
        """The key columns as text: how keys travel, whatever their types."""
        return [text_of(column) for column in self.key(jobs)]

    def key_in_batch(self, keys: Sequence[Element]) -> ColumnElement[bool]:
        """These columns are one of the keys that `key_parameters` binds."""
        return key_in_batch(keys)

    def is_job(self, jobs: FromClause) -> ColumnElement[bool]:
        """A row of the table of jobs is one; of a log, the first entry with which a job starts."""
        log = self.profile.jobs.log
        if log is None:
            return true()
        earlier = self.table(self.profile.jobs.table).alias(reserved_alias("earlier"))
        before = select(literal(1)).where(
            ProfileTables.keys_equal(self.key(earlier), self.key(jobs)),
            among(earlier.c[log.type], log.started),
            earlier.c[log.order] < jobs.c[log.order],
        )
        return and_(among(jobs.c[log.type], log.started), not_(before.correlate(jobs).exists()))

    def running(self, jobs: FromClause) -> ColumnElement[bool]:
        """The job says that it runs."""
        asked = [self.running_by_own_row(jobs)]
        if (running := self.profile.jobs.running) is not None:
            asked += [self.has_related_row(related, jobs) for related in running.exists]
            asked += [not_(self.has_related_row(related, jobs)) for related in running.missing]
        return and_(*asked)

    def running_by_own_row(self, jobs: FromClause) -> ColumnElement[bool]:
        """What the job's own row, or its log, says of that."""
        if (running := self.profile.jobs.running) is not None:
            return self.conditions_hold(running.conditions, jobs, self.profile.jobs.table)
        return and_(self.is_job(jobs), not_(self._has_ended(jobs)))

    def _has_ended(self, jobs: FromClause) -> ColumnElement[bool]:
        log = self.profile.jobs.log
        if log is None:
            raise ValueError("only a log has entries that end a job")
        end = self.table(self.profile.jobs.table).alias(reserved_alias("end"))
        ended = select(literal(1)).where(
            ProfileTables.keys_equal(self.key(end), self.key(jobs)), among(end.c[log.type], log.ended)
        )
        return ended.correlate(jobs).exists()

    def conditions_hold(self, conditions: Conditions, row: FromClause, table: str) -> ColumnElement[bool]:
        """All of these conditions hold for a row of a table."""
        return holds(conditions, row, self.timestamp_format(table))

    def belongs_to_job(
        self, related: Related | Delete | Update, theirs: FromClause, jobs: FromClause
    ) -> ColumnElement[bool]:
        """Rows of another table that belong to a job."""
        matching = [theirs.c[column] == jobs.c[own] for column, own in related.match.items()]
        return and_(*matching, self.conditions_hold(related.where, theirs, related.table))

    def has_related_row(self, related: Related, jobs: FromClause) -> ColumnElement[bool]:
        """There is such a row."""
        theirs = self.table(related.table).alias(reserved_alias("related"))
        return select(literal(1)).where(self.belongs_to_job(related, theirs, jobs)).correlate(jobs).exists()

    def timestamp_format(self, table: str) -> TimestampFormat:
        """How a table stores moments."""
        return self.profile.time_of(table)

    def instant(self, table: str, column: Element) -> Element:
        """The moment in a column of a table."""
        return to_instant(column, self.timestamp_format(table))

    @staticmethod
    def keys_equal(left: Sequence[Element], right: Sequence[Element]) -> ColumnElement[bool]:
        """Two keys are equal, column by column."""
        return and_(*(a == b for a, b in zip(left, right, strict=True)))
