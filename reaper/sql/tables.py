"""The tables of a profile as SQLAlchemy tables: names are always quoted, types are left to the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, FromClause, TableClause, and_, column, func, literal, not_, select, table, true
from sqlalchemy.sql import quoted_name

from reaper.model import TimestampFormat
from reaper.profile import Conditions, Delete, Profile, Related, RelatedCount, Update
from reaper.sql import expressions as sql
from reaper.sql.conditions import all_hold, is_one_of
from reaper.sql.expressions import Element


def split_name(name: str) -> tuple[str | None, str]:
    """The schema and the table of `schema.table`; the schema is None without a dot, where the search path decides."""
    schema, dot, bare = name.partition(".")
    return (schema, bare) if dot else (None, name)


def reserved_alias(part: str) -> str:
    """The alias of a part of a statement, with a prefix so that it never hides a table of the user."""
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
    """The tables that one profile names, each with the columns that the profile names."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._columns = profile.columns()  # by table
        self.jobs = self.table(profile.jobs.table)
        self.row_columns = tuple(sorted(profile.row_columns()))
        self._row_aliases = {column: f"row_{n}" for n, column in enumerate(self.row_columns)}

    def table(self, name: str) -> TableClause:
        return table_of(name, self._columns[name])

    def key(self, jobs: FromClause) -> list[Element]:
        """The key columns, in the profile's order."""
        return [jobs.c[name] for name in self.profile.jobs.key]

    def key_text(self, jobs: FromClause) -> list[Element]:
        """The key columns as text, which is how keys of any type reach Python."""
        return [sql.text_of(column) for column in self.key(jobs)]

    def row_alias(self, column: str) -> str:
        """The alias of a column of the job's row, by number: a long name with a prefix would be cut off."""
        return self._row_aliases[column]

    def key_in_batch(self, jobs: FromClause) -> ColumnElement[bool]:
        """The row's key is one of those that `reaper.sql.keys.key_parameters` binds."""
        return sql.key_in_batch(self.key(jobs))

    def is_job(self, jobs: FromClause) -> ColumnElement[bool]:
        """The row stands for a job: in a log, the first of the entries that start it; else every row of the table."""
        log = self.profile.jobs.log
        if log is None:
            return true()
        earlier = self.table(self.profile.jobs.table).alias(reserved_alias("earlier"))
        earlier_start = select(literal(1)).where(
            ProfileTables.keys_equal(self.key(earlier), self.key(jobs)),
            is_one_of(earlier.c[log.type], log.started),
            earlier.c[log.order] < jobs.c[log.order],
        )
        return and_(is_one_of(jobs.c[log.type], log.started), not_(earlier_start.correlate(jobs).exists()))

    def started(self, jobs: FromClause) -> Element:
        """The job's start: the first start column that is not NULL."""
        columns = [self.instant(self.profile.jobs.table, jobs.c[name]) for name in self.profile.jobs.started]
        return func.coalesce(*columns, type_=sql.INSTANT) if len(columns) > 1 else columns[0]

    def running(self, jobs: FromClause) -> ColumnElement[bool]:
        """The job claims to be running."""
        conditions = [self.running_by_own_row(jobs)]
        if (running := self.profile.jobs.running) is not None:
            conditions += [self.has_related_row(related, jobs) for related in running.exists]
            conditions += [not_(self.has_related_row(related, jobs)) for related in running.missing]
        return and_(*conditions)

    def running_by_own_row(self, jobs: FromClause) -> ColumnElement[bool]:
        """The part of `running` that the job's own row, or its log, decides: without rows of other tables."""
        if (running := self.profile.jobs.running) is not None:
            return self.conditions_hold(running.conditions, jobs, self.profile.jobs.table)
        return and_(self.is_job(jobs), not_(self._has_ended(jobs)))

    def _has_ended(self, jobs: FromClause) -> ColumnElement[bool]:
        log = self.profile.jobs.log
        if log is None:
            raise ValueError("only a log has entries that end a job")
        end = self.table(self.profile.jobs.table).alias(reserved_alias("end"))
        ended = select(literal(1)).where(
            ProfileTables.keys_equal(self.key(end), self.key(jobs)), is_one_of(end.c[log.type], log.ended)
        )
        return ended.correlate(jobs).exists()

    def conditions_hold(self, conditions: Conditions, row: FromClause, table: str) -> ColumnElement[bool]:
        """All of the conditions hold for a row of this table."""
        return all_hold(conditions, row, self.timestamp_format(table))

    def belongs_to_job(
        self, related: Related | Delete | Update, row: FromClause, jobs: FromClause
    ) -> ColumnElement[bool]:
        """A row of another table belongs to a job."""
        matching = [row.c[column] == jobs.c[job_column] for column, job_column in related.match.items()]
        return and_(*matching, self.conditions_hold(related.where, row, related.table))

    def has_related_row(self, related: Related, jobs: FromClause) -> ColumnElement[bool]:
        """A row of another table that belongs to the job exists."""
        row = self.table(related.table).alias(reserved_alias("related"))
        return select(literal(1)).where(self.belongs_to_job(related, row, jobs)).correlate(jobs).exists()

    def has_related_rows(self, related: RelatedCount, jobs: FromClause) -> ColumnElement[bool]:
        """At least `at_least` rows of another table belong to the job."""
        if related.at_least == 1:
            return self.has_related_row(related, jobs)
        row = self.table(related.table).alias(reserved_alias("related"))
        count = select(func.count()).select_from(row).where(self.belongs_to_job(related, row, jobs))
        return count.correlate(jobs).scalar_subquery() >= related.at_least

    def timestamp_format(self, table: str) -> TimestampFormat:
        """The format in which a table stores moments."""
        return self.profile.time_of(table)

    def instant(self, table: str, column: Element) -> Element:
        """The moment in a column of a table."""
        return sql.to_instant(column, self.timestamp_format(table))

    @staticmethod
    def keys_equal(left: Sequence[Element], right: Sequence[Element]) -> ColumnElement[bool]:
        """Two keys are equal, column by column."""
        return and_(*(a == b for a, b in zip(left, right, strict=True)))
