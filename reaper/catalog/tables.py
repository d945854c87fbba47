"""The structure of a real table: columns, indexes, constraints, triggers and privileges, whatever the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from reaper.database.postgresql.row_security import RowRestriction
from reaper.profile import Profile


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `type` is spelled as the database spells it.

    `family` groups types that take the same values: timestamptz, timestamp, datetime, text, enum, boolean, integer,
    number, json, uuid, or "other" for types that no check judges. `length` is in characters.
    """

    name: str
    type: str
    family: str
    labels: tuple[str, ...]
    length: int | None
    nullable: bool
    has_default: bool  # gets a value when an insert omits it
    generated: bool  # refuses every value
    ignores_case: bool = False  # texts that differ only in case are equal here
    generated_from: frozenset[str] = frozenset()  # the columns that a generated one is computed from
    stored: bool = True  # no virtual generated column
    numbers: tuple[float, float] | None = None  # the smallest and the largest, where the type limits them

    def has_label(self, value: object) -> bool:
        if self.ignores_case and isinstance(value, str):
            return value.casefold() in {label.casefold() for label in self.labels}
        return value in self.labels


@dataclass(frozen=True, slots=True)
class Index:
    """An index. An expression among its columns is None."""

    schema: str
    name: str
    columns: tuple[str | None, ...]
    ordered: bool  # can be searched by its first columns alone
    unique: bool
    valid: bool
    predicate: str | None


@dataclass(frozen=True, slots=True)
class CheckConstraint:
    """A CHECK constraint: an SQL expression over these columns."""

    name: str
    columns: frozenset[str]
    expression: str


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that refer to another table, which is given by its identity in the catalogs."""

    columns: frozenset[str]
    refers_to: int


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger on INSERT, UPDATE or DELETE. One on UPDATE without columns fires at every UPDATE.

    `function_as_role` is its function where that runs with the privileges of the role that fires it, None where it has
    privileges of its own. `partition` is set for a trigger that only a partition (or an inheriting table) has.
    `for_each_statement`: it fires also where the statement changes no row. `before_statement_without_path` is the
    function of a trigger BEFORE ... FOR EACH STATEMENT, where the function sets no search path itself.
    """

    name: str
    columns: frozenset[str]
    event: str
    function_as_role: str | None = None
    partition: str | None = None
    before_statement_without_path: str | None = None
    for_each_statement: bool = False

    def __str__(self) -> str:
        return f"{self.name} on {self.partition}" if self.partition else self.name


class RewriteRule(NamedTuple):
    """A rule that rewrites INSERT, UPDATE or DELETE.

    `allowed_in_with`: PostgreSQL accepts it for a statement within WITH, as sweeps need.
    """

    name: str
    event: str
    allowed_in_with: bool


class FunctionCall(NamedTuple):
    """When the server calls a function for a written row.

    INSERT: at every one, or where a value is given for one of the columns; with `when_omitted`, where none is given.
    UPDATE: at every one, or where one of the columns is set. DELETE: at every one.
    """

    event: str
    columns: frozenset[str]
    when_omitted: bool


@dataclass(frozen=True, slots=True)
class Privileges:
    """What a role may do with a table. `select`, `update` and `insert` are columns.

    `denied_sequences` are, by column, the sequences of defaults that the role may not use;
    `sequences_always_needed`: also for an insert that gives the column a value. `denied_functions` are the functions
    that the server calls for written rows and that the role may not execute, each with when.

    `lock_rows`: FOR UPDATE. `lock_table`: lock the whole table against writers. `read_row_holder`: read which
    transaction holds a row. `see_structure`: see all columns and keys of the table in the catalogs.
    """

    use_schema: bool
    select: frozenset[str]
    update: frozenset[str]
    insert: frozenset[str]
    delete: bool
    lock_table: bool
    denied_sequences: Mapping[str, Sequence[tuple[str, str]]]
    lock_rows: bool
    read_row_holder: bool = True
    see_structure: bool = True
    denied_functions: Mapping[str, Sequence[FunctionCall]] = field(default_factory=dict)
    sequences_always_needed: bool = False


NO_PRIVILEGES = Privileges(
    use_schema=False,
    select=frozenset(),
    update=frozenset(),
    insert=frozenset(),
    delete=False,
    lock_table=False,
    denied_sequences={},
    lock_rows=False,
    read_row_holder=False,
)
"""The privileges of a new role on PostgreSQL, on a table without sequences and functions."""

NO_PRIVILEGES_MARIADB = replace(
    NO_PRIVILEGES,
    use_schema=True,
    lock_rows=True,
    read_row_holder=True,
    see_structure=False,
    sequences_always_needed=True,
)
"""The same on MariaDB, where SELECT is enough to lock rows, and the keys of a table are not shown to every user."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, view or foreign table. `estimated_rows` is the planner's estimate.

    `privileges` are those of the connected role, `privileges_of_new_role` those of a role without any grants.
    `row_restrictions`: row-level security that may hide rows from the role. `default_functions` are, by column,
    functions behind defaults that run with the privileges of the inserting role; `early_defaults`, those in SQL whose
    text is read when the statement is planned, and that set no search path. `view_requirements` are, in words, further
    privileges that reading a view may need. `reading_calls_others`: to read from it is to call functions that are not
    the server's own. `updatable_view`: a view whose rows are those of one table, which the server changes and locks.
    `partitioned_by` are the columns that every unique key of the table has to include.
    """

    identity: int
    schema: str
    name: str
    kind: str
    estimated_rows: int
    columns: Mapping[str, Column]
    indexes: Sequence[Index]
    checks: Sequence[CheckConstraint]
    foreign_keys: Sequence[ForeignKey]
    triggers: Sequence[Trigger]
    privileges: Privileges
    privileges_of_new_role: Privileges
    row_restrictions: Sequence[RowRestriction] = ()
    default_functions: Mapping[str, str] = field(default_factory=dict)
    early_defaults: Mapping[str, str] = field(default_factory=dict)
    rules: Sequence[RewriteRule] = ()
    view_requirements: Sequence[str] = ()
    reading_calls_others: bool = False
    updatable_view: bool = False
    partitioned_by: frozenset[str] = frozenset()

    @property
    def has_own_rows(self) -> bool:
        """Whether the table stores rows itself, so that they can be locked."""
        return self.kind in ("table", "partitioned table")

    @property
    def has_lockable_rows(self) -> bool:
        """Whether rows can be locked and changed through it: in a view, they are those of the one table behind it."""
        return self.has_own_rows or self.updatable_view

    def readable(self, columns: Iterable[str]) -> bool:
        """Whether the connected role may read all of these columns."""
        return self.privileges.use_schema and set(columns) <= self.privileges.select


def table_from_profile(profile: Profile, name: str, privileges: Privileges, place: tuple[str, str]) -> Table:
    """A table that cannot be looked up, as the profile describes it. `place` is its schema (or "") and its own name."""
    columns = {
        column: Column(column, "", "other", (), None, nullable=True, has_default=True, generated=False)
        for column in profile.columns()[name]
    }
    return Table(0, *place, "table", 0, columns, (), (), (), (), privileges, privileges)
