"""A real table, as the checks see it. Each database fills these in from its own catalogs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects.postgresql import DOMAIN
from sqlalchemy.types import TypeEngine


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `words` is its type as the database spells it."""

    name: str
    type: TypeEngine[Any]
    words: str
    nullable: bool
    filled: bool  # gets a value when an insert leaves it out
    computed: bool  # refuses any value of ours

    @property
    def family(self) -> str:
        """The types that take the same values; "other" for those that nobody judges here."""
        return _family(self._plain)

    @property
    def labels(self) -> tuple[str, ...]:
        """The values of an enum."""
        plain = self._plain
        return tuple(plain.enums) if isinstance(plain, types.Enum) else ()

    @property
    def length(self) -> int | None:
        """How many characters fit, when there is a limit."""
        plain = self._plain
        return plain.length if isinstance(plain, types.String) and not self.labels else None

    @property
    def _plain(self) -> TypeEngine[Any]:
        return self.type.data_type if isinstance(self.type, DOMAIN) else self.type


def _family(kind: TypeEngine[Any]) -> str:
    if isinstance(kind, types.DateTime):
        return "timestamptz" if kind.timezone else "timestamp"
    families: Sequence[tuple[tuple[type[TypeEngine[Any]], ...], str]] = (
        ((types.Enum,), "enum"),  # before String, which it is one of
        ((types.String,), "text"),
        ((types.Boolean,), "boolean"),
        ((types.Integer,), "integer"),
        ((types.Numeric, types.Float), "number"),
        ((types.JSON,), "json"),
        ((types.Uuid,), "uuid"),
    )
    return next((name for kinds, name in families if isinstance(kind, kinds)), "other")


@dataclass(frozen=True, slots=True)
class Index:
    """An index. An expression among its columns is None."""

    schema: str
    name: str
    columns: tuple[str | None, ...]
    ordered: bool  # can be searched by a prefix of its columns
    unique: bool
    valid: bool
    predicate: str | None

    def leads_with(self, columns: Iterable[str]) -> bool:
        """Its first columns are these, in any order."""
        wanted = set(columns)
        return self.ordered and self.valid and set(self.columns[: len(wanted)]) == wanted


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
    """A trigger on UPDATE. Without columns it fires on each."""

    name: str
    columns: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rights:
    """What the connected role may do. `sequences` are those whose next value it may not take, by column."""

    usage: bool
    select: frozenset[str]
    update: frozenset[str]
    insert: frozenset[str]
    sequences: Mapping[str, tuple[str, str]]
    row_security: bool


@dataclass(frozen=True, slots=True)
class Table:
    """A table, a view, or a foreign table. `rows` is the planner's estimate."""

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
    rights: Rights

    @property
    def real(self) -> bool:
        """Has rows of its own, which can be locked."""
        return self.kind in ("table", "partitioned table")

    def readable(self, columns: Iterable[str]) -> bool:
        return self.rights.usage and set(columns) <= self.rights.select
