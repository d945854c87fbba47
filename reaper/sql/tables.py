"""The tables of a profile as SQLAlchemy tables: names are always quoted, types are left to the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    TableClause,
    and_,
    column,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    table,
    true,
    tuple_,
)
from sqlalchemy.sql import quoted_name

from reaper.model import StoredTime, TimestampFormat
from reaper.profile import (
    Conditions,
    Delete,
    FromColumn,
    Insert,
    Profile,
    Related,
    RelatedCount,
    Scalar,
    StartLostLog,
    Step,
    Update,
)
from reaper.profile.audit_events import constant_values
from reaper.profile.real_tables import TableIdentity
from reaper.sql import expressions as sql
from reaper.sql.conditions import Columns, all_hold, is_one_of
from reaper.sql.expressions import Element
from reaper.sql.types import Bytes


def split_name(name: str) -> tuple[str | None, str]:
    """The schema and the table of `schema.table`; the schema is None without a dot, where the search path decides."""
    schema, dot, bare = name.partition(".")
    return (schema, bare) if dot else (None, name)


def reserved_alias(part: str) -> str:
    """The alias of a part of a statement, with a prefix so that it never hides a table of the user."""
    return f"reaper_{part}"


def table_of(
    name: str,
    columns: Iterable[str],
    schema: str | None = None,
    byte_columns: Mapping[str, int] = MappingProxyType({}),
) -> TableClause:
    """A table with these columns. `schema` is that of a bare name; `byte_columns`, with their length, have bytes."""
    schema, bare = (schema, name) if schema else split_name(name)
    return table(
        quoted_name(bare, quote=True),
        *(
            column(quoted_name(c, quote=True), Bytes(byte_columns[c]) if c in byte_columns else None)
            for c in sorted(columns)
        ),
        schema=quoted_name(schema, quote=True) if schema else None,
    )


class _JobRow:
    """A job's row, together with the rows beside it."""

    def __init__(self, tables: ProfileTables, jobs: FromClause) -> None:
        self._tables, self._jobs = tables, jobs

    @property
    def c(self) -> _JobRow:
        return self

    def __getitem__(self, name: str) -> Element:
        return self._tables.job_column(self._jobs, name)


_NUMBER, _DEFINITION = "reaper_table_{}", "reaper_view_{}"


def identity_values(identities: Mapping[str, TableIdentity]) -> dict[str, int]:
    """The values of the parameters of `ProfileTables.are_the_same`."""
    known = list(enumerate(identity for _, identity in sorted(identities.items())))
    numbers = {_NUMBER.format(n): identity.number for n, identity in known}
    return numbers | {_DEFINITION.format(n): it.definition for n, it in known if it.definition is not None}


class ProfileTables:
    """The tables that one profile names, each with the columns that the profile names.

    `schemas` has the schema of each bare name, `identities` the identity of each table, as far as they are known (see
    `reaper.profile.name_spelling.Spelling`).
    """

    def __init__(
        self,
        profile: Profile,
        schemas: Mapping[str, str] = MappingProxyType({}),
        identities: Mapping[str, TableIdentity] = MappingProxyType({}),
    ) -> None:
        self.profile, self.schemas, self.identities = profile, schemas, identities
        self._columns = profile.columns()  # by table
        self.jobs = self.table(profile.jobs.table)
        self.row_columns = tuple(sorted(profile.row_columns()))
        self._row_aliases = {column: f"row_{n}" for n, column in enumerate(self.row_columns)}

    def table(self, name: str) -> TableClause:
        byte_columns = self.profile.byte_columns.get(name, {})
        return table_of(name, self._columns[name], self.schemas.get(name), byte_columns)

    def are_the_same(self) -> ColumnElement[bool]:
        """Each name still means the table that it meant when it was looked up: for the statement that locks jobs.

        From then on the name cannot mean another one before the transaction ends.
        """
        known = enumerate(sorted(self.identities.items()))
        return and_(true(), *(self._is_same(name, identity, n) for n, (name, identity) in known))

    def _is_same(self, name: str, identity: TableIdentity, n: int) -> ColumnElement[bool]:
        number = sql.parameter(_NUMBER.format(n), BigInteger())
        same: ColumnElement[bool] = sql.table_number(self.table(name)) == number
        if identity.definition is None:
            return same
        return and_(same, sql.view_definition(number) == sql.parameter(_DEFINITION.format(n), BigInteger()))

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
        """The row stands for a job: in a log, the first of the entries that start it; else every row of the table.

        For jobs whose start was lost it is the first entry of any type, where no entry starts the job.
        """
        log = self.profile.jobs.log
        if log is None:
            return true()
        earlier = self._entry("earlier")
        is_earlier = earlier.c[log.order] < jobs.c[log.order]
        if isinstance(log, StartLostLog):
            return and_(
                not_(self._has_entry(self._entry("start"), jobs, log.type, log.started)),
                not_(self._same_job_has(earlier, jobs, is_earlier)),
            )
        earlier_start = self._same_job_has(earlier, jobs, is_one_of(earlier.c[log.type], log.started), is_earlier)
        return and_(is_one_of(jobs.c[log.type], log.started), not_(earlier_start))

    def started(self, jobs: FromClause) -> Element:
        """The job's start: the first start column that has a moment; NULL where none has."""
        columns = [self.start(jobs, name) for name in self.profile.jobs.started]
        return func.coalesce(*columns, type_=sql.INSTANT) if len(columns) > 1 else columns[0]

    def start(self, jobs: FromClause, column: str) -> Element:
        """The moment in one of the start columns; NULL for one that means "none"."""
        start = self.instant(self.profile.jobs.table, jobs, column)
        if self.stored_time(self.profile.jobs.table, column).format is not TimestampFormat.ISO_TEXT:
            return start
        # A text that is no moment: as a start, it would keep the job young for ever.
        return func.nullif(start, sql.infinity(), type_=sql.INSTANT)

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
        log = self.profile.jobs.log
        if log is None:
            raise ValueError("the profile does not say what running means")
        not_ended = not_(self._has_entry(self._entry("end"), jobs, log.type, log.ended))
        if isinstance(log, StartLostLog):
            recent = self._entry("recent")
            return and_(self._same_job_has(recent, jobs, self._is_recent(recent, log)), self.is_job(jobs), not_ended)
        return and_(self.is_job(jobs), not_ended)

    def running_depends_on(self, steps: Iterable[Step]) -> bool:
        """Whether one of the steps changes another table that says whether a job runs."""
        running = self.profile.jobs.running
        related = {part.table for part in running.related} if running else set()
        related |= {beside.table for beside in self.profile.jobs.beside.values()}
        return any(step.table in related for step in steps)

    @property
    def start_lost(self) -> bool:
        """Whether the jobs are those of a log whose start was lost."""
        return isinstance(self.profile.jobs.log, StartLostLog)

    def end_entry(self, jobs: FromClause) -> dict[str, Element]:
        """Of the first entry that ended a job, its type `ended_by` and its moment `ended_at`; empty without a log."""
        log = self.profile.jobs.log
        if log is None:
            return {}
        end = self._entry("ending")
        ends = and_(ProfileTables.keys_equal(self.key(end), self.key(jobs)), is_one_of(end.c[log.type], log.ended))

        def of_first(element: Element) -> Element:
            first = select(element).where(ends).order_by(end.c[log.order]).limit(1)
            return first.correlate(jobs).scalar_subquery()

        return {"ended_by": of_first(sql.text_of(end.c[log.type])), "ended_at": of_first(self.started(end))}

    def search_condition(self, jobs: FromClause) -> ColumnElement[bool]:
        """Holds for every running job, and keeps a statement that looks for them from reading the whole table.

        A profile with a start needs none. Jobs whose start was lost are among those with recent entries, of which most
        have an entry that starts or ends them: read once, these leave a few jobs, and only theirs are looked up.
        """
        log = self.profile.jobs.log
        if not isinstance(log, StartLostLog):
            return true()
        recent = self._entry("window")
        is_start_or_end = is_one_of(recent.c[log.type], (*log.started, *log.ended))
        without_either = (
            select(*self.key(recent))
            .where(self._is_recent(recent, log))
            .group_by(*self.key(recent))
            .having(sql.count_if(is_start_or_end) == 0)
        )
        return tuple_(*self.key(jobs)).in_(without_either)

    # --- entries of a log ------------------------------------------------------------------------------------

    def _entry(self, part: str) -> FromClause:
        return self.table(self.profile.jobs.table).alias(reserved_alias(part))

    def _same_job_has(
        self, entry: FromClause, jobs: FromClause, *conditions: ColumnElement[bool]
    ) -> ColumnElement[bool]:
        """The job has an entry that meets the conditions."""
        same_job = ProfileTables.keys_equal(self.key(entry), self.key(jobs))
        return select(literal(1)).select_from(entry).where(same_job, *conditions).correlate(jobs).exists()

    def _has_entry(
        self, entry: FromClause, jobs: FromClause, type_column: str, types: Sequence[Scalar]
    ) -> ColumnElement[bool]:
        return self._same_job_has(entry, jobs, is_one_of(entry.c[type_column], types))

    def _is_recent(self, entry: FromClause, log: StartLostLog) -> ColumnElement[bool]:
        """The entry is not older than `since`, which an index on the start column answers."""
        since_moment = sql.add_seconds(sql.now(), -log.since_seconds)
        return or_(
            *(
                entry.c[name] >= sql.from_instant(since_moment, self.stored_time(self.profile.jobs.table, name))
                for name in self.profile.jobs.started
            )
        )

    def conditions_hold(self, conditions: Conditions, row: FromClause, table: str) -> ColumnElement[bool]:
        """All of the conditions hold for a row of this table."""
        return all_hold(conditions, self._row(table, row), lambda column: self.stored_time(table, column))

    def belongs_to_job(
        self, related: Related | Delete | Update, row: FromClause, jobs: FromClause
    ) -> ColumnElement[bool]:
        """A row of another table belongs to a job."""
        matching = [row.c[column] == self.job_column(jobs, job_column) for column, job_column in related.match.items()]
        return and_(*matching, self.conditions_hold(related.where, row, related.table))

    def inserted_for_job(self, insert: Insert, row: FromClause, jobs: FromClause) -> list[ColumnElement[bool]]:
        """A row has what this insert always writes for a job."""
        return [
            row.c[name]
            == (self.job_column(jobs, value.column) if isinstance(value, FromColumn) else sql.untyped(value))
            for name, value in constant_values(insert).items()
        ]

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

    def stored_time(self, table: str, column: str) -> StoredTime:
        """How a column stores moments."""
        return self.profile.time_of(table, column)

    def instant(self, table: str, rows: FromClause, column: str) -> Element:
        """The moment in a column of these rows of a table; NULL for one that means "none"."""
        return sql.to_instant(self._row(table, rows).c[column], self.stored_time(table, column))

    # --- rows beside the job ---------------------------------------------------------------------------------

    def job_column(self, jobs: FromClause, name: str) -> Element:
        """A column of the job's own row, or of a row beside it: NULL where there is none.

        Each statement reads it again: the second look under the lock sees the row as it is then.
        """
        beside, column = self.profile.jobs.place_of(name)
        if beside is None:
            own: Element = jobs.c[column]
            return own
        row, rows = self._rows_beside(beside, jobs)
        value = rows.with_only_columns(row.c[column])
        if (newest := self.profile.jobs.beside[beside].newest) is not None:
            value = value.where(row.c[newest].is_not(None)).order_by(row.c[newest].desc())
        return value.limit(literal_column("1")).scalar_subquery()

    def job_row(self, jobs: FromClause) -> Columns:
        """The job's own columns, and those of the rows beside it, by their names in the profile."""
        return _JobRow(self, jobs) if self.profile.jobs.beside else jobs

    def rows_beside_that_are_several(self, jobs: FromClause) -> Iterator[tuple[str, ColumnElement[bool]]]:
        """By the name of each row beside the job of which there may be one at most: whether the job has several."""
        for name, beside in self.profile.jobs.beside.items():
            if beside.newest is None:
                _, rows = self._rows_beside(name, jobs)
                yield name, rows.with_only_columns(func.count()).scalar_subquery() > 1

    def _rows_beside(self, name: str, jobs: FromClause) -> tuple[FromClause, Select[Any]]:
        beside = self.profile.jobs.beside[name]
        row = self.table(beside.table).alias(reserved_alias(f"beside_{name}"))
        return row, select(literal(1)).select_from(row).where(self.belongs_to_job(beside, row, jobs)).correlate(jobs)

    def _row(self, table: str, row: FromClause) -> Columns:
        return self.job_row(row) if table == self.profile.jobs.table else row

    @staticmethod
    def keys_equal(left: Sequence[Element], right: Sequence[Element]) -> ColumnElement[bool]:
        """Two keys are equal, column by column."""
        return and_(*(a == b for a, b in zip(left, right, strict=True)))
