"""A real table, as the checks see it. Each database fills these in from its own catalogs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from reaper.database.postgresql.row_security import RowRestriction
from reaper.profile import Profile


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `words` is its type as the database spells it.

    `family` names the types that take the same values: timestamptz, timestamp, text, enum, boolean, integer, number,
    json, uuid, or "other" for those that nobody judges here. `length` is in characters.
    """

    name: str
    words: str
    family: str
    labels: tuple[str, ...]
    length: int | None
    nullable: bool
    filled: bool  # gets a value when an insert leaves it out
    computed: bool  # refuses any value of ours
    loose: bool = False  # takes texts for equal that differ in case

    def has_label(self, value: object) -> bool:
        if self.loose and isinstance(value, str):
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
class Check:
    """A CHECK constraint: an expression of the database's own over these columns."""

    name: str
    columns: frozenset[str]
    expression: str


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Columns that refer to another table, which is named by its identity in the catalogs."""

    columns: frozenset[str]
    refers_to: int


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger on INSERT, UPDATE or DELETE; on UPDATE without columns it fires on each.

    `calls` is a function that works with the rights of whoever fires it; None where it has rights of its own. `on` is
    the partition, or the like, whose own it is.
    """

    name: str
    columns: frozenset[str]
    event: str
    calls: str | None = None
    on: str | None = None

    def __str__(self) -> str:
        return f"{self.name} on {self.on}" if self.on else self.name


class Rule(NamedTuple):
    """A rule that rewrites an INSERT, UPDATE or DELETE. `taken`: in such a way that sweeps can still be carried out."""

    name: str
    event: str
    taken: bool


class Call(NamedTuple):
    """When the server calls a function for a row that is written.

    At an INSERT: at each, or where a value is given for the column; with `left_out`, where none is. At an UPDATE: at
    each, or where one of the columns is set. At a DELETE: at each.
    """

    event: str
    columns: frozenset[str]
    left_out: bool


@dataclass(frozen=True, slots=True)
class Privileges:
    """What the connected role may do. `sequences` are those whose next value it may not take, by column;
    `eager`: they are asked for even where an insert gives the column a value.

    `functions` are those that it may not execute, though the server does so for a row that is written: each with when.
    `close`: lock the whole table against writers; `lock`: lock single rows; `holder`: ask a row who holds it; `shape`:
    see all its columns and keys.
    """

    usage: bool
    select: frozenset[str]
    update: frozenset[str]
    insert: frozenset[str]
    delete: bool
    close: bool
    sequences: Mapping[str, Sequence[tuple[str, str]]]
    lock: bool
    holder: bool = True
    shape: bool = True
    functions: Mapping[str, Sequence[Call]] = field(default_factory=dict)
    eager: bool = False


NOTHING = Privileges(
    usage=False,
    select=frozenset(),
    update=frozenset(),
    insert=frozenset(),
    delete=False,
    close=False,
    sequences={},
    lock=False,
    holder=False,
)
"""Nothing at all, where there are no sequences and no functions."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table, a view, or a foreign table. `rows` is the planner's estimate.

    `nobody` are the rights of a role that has been granted nothing. `hiding`: row-level security that may keep rows
    from the role. `makers` are functions behind defaults, by column, that work with the rights of whoever inserts.
    `rules` rewrite what is written. `behind`: what else it may take to read a view, in words.
    """

    identity: int
    schema: str
    name: str
    kind: str
    rows: int
    columns: Mapping[str, Column]
    indexes: Sequence[Index]
    checks: Sequence[Check]
    foreign_keys: Sequence[ForeignKey]
    triggers: Sequence[Trigger]
    rights: Privileges
    nobody: Privileges
    hiding: Sequence[RowRestriction] = ()
    makers: Mapping[str, str] = field(default_factory=dict)
    rules: Sequence[Rule] = ()
    behind: Sequence[str] = ()

    @property
    def real(self) -> bool:
        """Has rows of its own, which can be locked."""
        return self.kind in ("table", "partitioned table")

    def readable(self, columns: Iterable[str]) -> bool:
        return self.rights.usage and set(columns) <= self.rights.select


def assumed(profile: Profile, name: str, rights: Privileges, place: tuple[str, str]) -> Table:
    """A table that cannot be looked at, as a profile has it. `place` is its schema, or "", and its own name."""
    columns = {
        column: Column(column, "", "other", (), None, nullable=True, filled=True, computed=False)
        for column in profile.columns()[name]
    }
    return Table(0, *place, "table", 0, columns, (), (), (), (), rights, rights)
