"""The elements of `reaper.sql.expressions`: expressions and conditions that each database writes differently.

`reaper.sql.postgresql` and `reaper.sql.mariadb` register, through SQLAlchemy's `@compiles`, how each is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    BinaryExpression,
    ClauseElement,
    ColumnClause,
    ColumnElement,
    Executable,
    FromClause,
    Integer,
    Numeric,
    String,
    TableClause,
    literal_column,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import DateTime, NullType

from reaper.model import TimestampFormat
from reaper.sql.types import DOCUMENT, FLOAT, INSTANT

Element = ColumnElement[Any]
Builder = Callable[..., Element]
"""Makes the expression of one database from an element's arguments."""


class DialectElement(FunctionElement[Any]):
    """An expression with one meaning, written for each database by a function that `compiled_on` registers."""

    def __init_subclass__(cls) -> None:
        # SQLAlchemy caches a compiled statement only if each class of its parts says so itself.
        cls.inherit_cache = True
        super().__init_subclass__()


class DialectCondition(DialectElement):
    """A condition. It has no type: MariaDB compares one of type Boolean with 1, and then uses no index."""

    type = NullType()


def compiled_on(*dialects: str) -> Callable[[type[DialectElement]], Callable[[Builder], Builder]]:
    """A decorator for functions that write elements for these dialects of SQLAlchemy; without any, for all others."""

    def for_element(element_class: type[DialectElement]) -> Callable[[Builder], Builder]:
        def register(build: Builder) -> Builder:
            @compiles(element_class, *dialects)
            def _compile(element: DialectElement, compiler: SQLCompiler, **options: Any) -> str:
                expression = build(*element.clauses)
                text = compiler.process(expression, **options)
                # SQLAlchemy takes the element for a function call, and puts no brackets around it.
                return f"({text})" if isinstance(expression, BinaryExpression) else text

            return build

        return register

    return for_element


# --- moments -------------------------------------------------------------------------------------------------------


class CurrentInstant(DialectElement):
    type = INSTANT


class BoundInstant(DialectElement):
    type = INSTANT


class NullInstant(DialectElement):
    type = INSTANT


class AddSeconds(DialectElement):
    type = INSTANT


class Newest(DialectElement):
    type = INSTANT


class SecondsBetween(DialectElement):
    type = Numeric()


class Epoch(DialectElement):
    type = FLOAT


class InstantAt(DialectElement):
    type = INSTANT


class IntervalSeconds(DialectElement):
    """The length of an interval; on MariaDB, of a time of day."""

    type = FLOAT


# --- moments as columns store them ---------------------------------------------------------------------------------


class FromTimestamptz(DialectElement):
    type = INSTANT


class FromNaive(DialectElement):
    """A moment without a zone, and the zone that it is in, as `zone_literal` writes it."""

    type = INSTANT


class FromIsoText(DialectElement):
    """A text of ISO 8601, and the zone of those that name none."""

    type = INSTANT


class FromEpochSeconds(DialectElement):
    type = INSTANT


class FromEpochMilliseconds(DialectElement):
    type = INSTANT


class ToNaive(DialectElement):
    type = DateTime()


class RealMoment(DialectElement):
    """NULL for a moment that means "none"."""

    type = INSTANT


class RealMomentSince1973(DialectElement):
    """The same of a stored number of milliseconds: see `can_only_be` in `reaper.sql.expressions`."""

    type = INSTANT


class ToEpochSeconds(DialectElement):
    type = Numeric()


class ToEpochMilliseconds(DialectElement):
    type = Numeric()


class ToIsoText(DialectElement):
    type = String()


FROM_STORED: Mapping[TimestampFormat, type[DialectElement]] = {
    TimestampFormat.TIMESTAMPTZ: FromTimestamptz,
    TimestampFormat.NAIVE: FromNaive,
    TimestampFormat.EPOCH_S: FromEpochSeconds,
    TimestampFormat.EPOCH_MS: FromEpochMilliseconds,
    TimestampFormat.ISO_TEXT: FromIsoText,
}
TO_STORED: Mapping[TimestampFormat, type[DialectElement]] = {
    TimestampFormat.NAIVE: ToNaive,
    TimestampFormat.EPOCH_S: ToEpochSeconds,
    TimestampFormat.EPOCH_MS: ToEpochMilliseconds,
    TimestampFormat.ISO_TEXT: ToIsoText,
}


def column_in_utc(moment: Element) -> ColumnClause[Any] | None:
    """The column of a moment that is stored as it is, or in UTC; None for any other moment."""
    if not isinstance(moment, FromTimestamptz | FromNaive):
        return None
    stored, *zone = moment.clauses
    return stored if isinstance(stored, ColumnClause) and all(zone_of(name) == "UTC" for name in zone) else None


def zone_literal(zone: str) -> ColumnClause[str]:
    """The name of a zone as a part of the statement's text: a statement is made for one zone."""
    return literal_column(f"'{zone}'", String)


def zone_of(zone: Element) -> str:
    """The name that `zone_literal` was given."""
    assert isinstance(zone, ColumnClause)
    return str(zone.name).strip("'")


# --- texts ---------------------------------------------------------------------------------------------------------


class TextOf(DialectElement):
    type = String()


class NullText(DialectElement):
    type = String()


class Concat(DialectElement):
    type = String()


class Hash(DialectElement):
    type = String()


class DurationText(DialectElement):
    type = String()


class UtcText(DialectElement):
    type = String()


# --- JSON and arrays -----------------------------------------------------------------------------------------------


class JsonObject(DialectElement):
    type = DOCUMENT


class JsonMember(DialectElement):
    type = DOCUMENT


class JsonTextMember(DialectElement):
    type = String()


class JsonAppend(DialectElement):
    type = DOCUMENT


class ArrayLength(DialectElement):
    type = Integer()


# --- numbers and counts --------------------------------------------------------------------------------------------


class LargestNumber(DialectElement):
    type = Numeric()


class RandomShare(DialectElement):
    type = FLOAT


class CountIf(DialectElement):
    type = Integer()


# --- conditions ----------------------------------------------------------------------------------------------------


class TextIn(DialectCondition):
    pass


class LikePattern(DialectCondition):
    pass


class EqualsTypedText(DialectCondition):
    pass


class NotBefore(DialectCondition):
    pass


class KeyInBatch(DialectCondition):
    pass


class KeyValue(DialectElement):
    pass


# --- values that are written -------------------------------------------------------------------------------------


class Assigned(DialectElement):
    """A value of SET or VALUES. SQLAlchemy calls a bare parameter there like the column that it is assigned to, and so
    perhaps like another parameter of the statement.
    """


@compiled_on()(Assigned)
def _assigned(value: Element) -> Element:
    return value


class OwnPathSet(DialectCondition):
    """Sets the role's own search path, and holds. PostgreSQL only."""


class TableNumber(ColumnElement[int]):
    """The number of the table that a name means when the statement runs; NULL for none. PostgreSQL only."""

    inherit_cache = False

    def __init__(self, table: TableClause) -> None:
        self.type = BigInteger()
        self.table = table


@compiles(TableNumber)
def _compile_table_number(element: TableNumber, compiler: SQLCompiler, **_: Any) -> str:
    # Percent signs are doubled for the driver already. A backslash is written as PostgreSQL's quote_literal does, which
    # means the same whatever standard_conforming_strings is.
    name = compiler.preparer.format_table(element.table).replace("'", "''")
    literal = "E'" + name.replace("\\", "\\\\") + "'" if "\\" in name else f"'{name}'"
    return f"pg_catalog.to_regclass({literal})::bigint"


class ViewDefinition(DialectElement):
    """A hash of the definition of the view with this number. PostgreSQL only."""

    type = BigInteger()


# --- raw SQL and locks ---------------------------------------------------------------------------------------------


class RawSql(ColumnElement[Any]):
    """Text that is written as it is, with expressions in between, in brackets."""

    _traverse_internals: ClassVar[list[tuple[str, InternalTraversal]]] = [  # type: ignore[misc]
        ("texts", InternalTraversal.dp_plain_obj),
        ("expressions", InternalTraversal.dp_clauseelement_list),
    ]

    def __init__(self, parts: Sequence[str | Element]) -> None:
        self.type = NullType()
        # None marks the place of an expression.
        self.texts = tuple(part if isinstance(part, str) else None for part in parts)
        self.expressions = [part for part in parts if not isinstance(part, str)]

    @property
    def _from_objects(self) -> list[FromClause]:
        return [table for expression in self.expressions for table in expression._from_objects]

    def self_group(self, against: Any = None) -> Any:  # noqa: ARG002  it has its brackets
        return self


@compiles(RawSql)
def _compile_raw_sql(element: RawSql, compiler: SQLCompiler, **options: Any) -> str:
    expressions = iter(element.expressions)
    write: Callable[[str], str] = compiler.post_process_text
    process: Callable[..., str] = compiler.process
    parts = [process(next(expressions), **options) if text is None else write(text) for text in element.texts]
    return f"({''.join(parts)})"


class LockTable(Executable, ClauseElement):
    """Keeps others from writing to the table until the transaction ends; they can read it. PostgreSQL only."""

    inherit_cache = False

    def __init__(self, table: TableClause) -> None:
        self.table = table


@compiles(LockTable)
def _compile_lock_table(element: LockTable, compiler: Any, **_: Any) -> str:
    return f"LOCK TABLE {compiler.preparer.format_table(element.table)} IN SHARE ROW EXCLUSIVE MODE"
