"""Small relations: rows that a statement is given as parameters, to be joined like a table, or to look up a value.

The text of a statement is the same however many rows there are, and the server finds a row by its key at once. On
PostgreSQL each column is one array; MariaDB, which has no arrays, gets all rows as one JSON array.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Dialect,
    Float,
    FromClause,
    String,
    Text,
    bindparam,
    cast,
    column,
    func,
    literal_column,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import DateTime, Double, NullType, TypeDecorator, TypeEngine

from reaper.model import DISTANT_PAST
from reaper.sql import expressions as sql
from reaper.sql.keys import UntypedArray
from reaper.sql.types import EXACT_COLLATION, INSTANT, MINUS_INFINITY, is_instant

_LONGEST_TEXT = 255
"""Of texts that are parameters; so many bytes at most have no other length."""
_FIRST_DATE = "0001-01-01 00:00:00.000000"

_ROWS, _COLUMN = "{}_rows", "{}_{}"
_ARRAY_TYPES: Mapping[type[TypeEngine[Any]], TypeEngine[Any]] = {
    String: Text(),
    Float: Double(),
    type(INSTANT): DateTime(timezone=True),
}


class _ColumnValues(UntypedArray):
    """The values of one column as an array."""

    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        texts = [None if item is None else str(_stored(item, MINUS_INFINITY)) for item in value]
        return super().process_bind_param(texts, dialect)


class _Rows(TypeDecorator[Any]):
    """All rows as a JSON array of arrays."""

    impl = NullType
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        return json.dumps([[_stored(item, _FIRST_DATE) for item in row] for row in value])


def _stored(value: Any, distant_past: str) -> Any:
    """A moment as a text in UTC that both servers read; other values as they are."""
    if not isinstance(value, datetime):
        return value
    return distant_past if value == DISTANT_PAST else value.astimezone(UTC).replace(tzinfo=None).isoformat(" ")


class SmallRelation(FunctionElement[Any]):
    """A relation, whose parameters have its name, with columns of these types: texts, moments and floats.

    The first column is the key. `rows` are those that it has in each run of the statement; without them, they are
    parameters.
    """

    inherit_cache = False
    type = NullType()

    def __init__(
        self, name: str, columns: Mapping[str, TypeEngine[Any]], rows: Sequence[Sequence[Any]] | None = None
    ) -> None:
        self.name, self.column_types = name, dict(columns)
        self.constants = {} if rows is None else relation_values(name, columns, rows)
        super().__init__()

    @property
    def text_length(self) -> int:
        """The length of the longest text."""
        texts = (value for row in self.constants.get(_ROWS.format(self.name), ()) for value in row)
        return max((len(text) for text in texts if isinstance(text, str)), default=_LONGEST_TEXT)

    def parameter(self, name: str, kind: TypeEngine[Any]) -> BindParameter[Any]:
        """One of its parameters."""
        if name in self.constants:
            return bindparam(name, self.constants[name], type_=kind)
        return bindparam(name, type_=kind)

    def rows(self, alias: str) -> FromClause:
        """The rows under this alias, to be joined."""
        columns: list[Any] = [column(name, kind) for name, kind in self.column_types.items()]
        return self.table_valued(*columns, name=alias)


class LookedUp(FunctionElement[str]):
    """The text beside a key in a parameter, which is a mapping of texts; NULL without that key.

    The server finds it by an index: PostgreSQL in a JSON object, MariaDB, which would read that from its beginning for
    each row, in a relation.
    """

    inherit_cache = False
    type = String()

    def __init__(self, name: str, key: ColumnElement[str]) -> None:
        self.name = name
        super().__init__(key)


class _Entries(TypeDecorator[Any]):
    """A mapping as a JSON array of pairs. Its keys may be long: their hashes stand for them."""

    impl = NullType
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        return json.dumps([[sha256(key.encode()).hexdigest(), text] for key, text in value.items()])


def relation_values(name: str, columns: Iterable[str], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The values of the parameters of a relation with these rows."""
    by_column = {_COLUMN.format(name, column): [row[n] for row in rows] for n, column in enumerate(columns)}
    return {**by_column, _ROWS.format(name): rows}


def relation_parameters(name: str, columns: Iterable[str]) -> list[str]:
    """The names of those parameters."""
    return list(relation_values(name, columns, ()))


@compiles(SmallRelation, "postgresql")
def _postgresql(element: SmallRelation, compiler: SQLCompiler, **_: Any) -> str:
    # The key is made distinct for the planner, which then knows that the join gives one row for each job.
    columns = []
    for name, kind in element.column_types.items():
        values = element.parameter(_COLUMN.format(element.name, name), _ColumnValues())
        array_type = next(array for known, array in _ARRAY_TYPES.items() if isinstance(kind, known))
        columns.append(f"{compiler.process(func.unnest(cast(values, ARRAY(array_type))))} AS {name}")
    return f"(SELECT DISTINCT ON ({next(iter(element.column_types))}) {', '.join(columns)})"


@compiles(SmallRelation)
def _mariadb(element: SmallRelation, compiler: SQLCompiler, **_: Any) -> str:
    """A subquery, which MariaDB keeps with an index for the join; a table function has none."""
    rows = compiler.process(element.parameter(_ROWS.format(element.name), _Rows()))
    text = _text_type(element.text_length)
    types = [_mariadb_type(kind, text) for kind in element.column_types.values()]
    columns = [
        f"{name} {kind} PATH '$[{n}]'" for n, (name, kind) in enumerate(zip(element.column_types, types, strict=True))
    ]
    return f"(SELECT * FROM JSON_TABLE({rows}, '$[*]' COLUMNS ({', '.join(columns)})) {element.name}_json)"  # noqa: S608


def _mariadb_type(kind: TypeEngine[Any], text: str) -> str:
    if is_instant(kind):
        return "DATETIME(6)"
    return "DOUBLE" if isinstance(kind, Float) else text


@compiles(LookedUp, "postgresql")
def _postgresql_lookup(element: LookedUp, compiler: SQLCompiler, **options: Any) -> str:
    [key] = element.clauses
    return compiler.process(sql.json_text_member(sql.parameter(element.name, sql.DOCUMENT), key), **options)


@compiles(LookedUp)
def _mariadb_lookup(element: LookedUp, compiler: SQLCompiler, **options: Any) -> str:
    """MariaDB keeps the rows with an index, as they are distinct."""
    [key] = element.clauses
    entries = compiler.process(bindparam(element.name, type_=_Entries()))
    hashed = compiler.process(func.sha2(key, literal_column("256")), **options)
    # No longer: an index of rows in memory has at most 1,000 bytes for each.
    columns = f"name {_text_type(64)} PATH '$[0]', value {_text_type(_LONGEST_TEXT)} PATH '$[1]'"
    rows = f"SELECT DISTINCT name, value FROM JSON_TABLE({entries}, '$[*]' COLUMNS ({columns})) reaper_entries"  # noqa: S608
    return f"(SELECT reaper_entry.value FROM ({rows}) reaper_entry WHERE reaper_entry.name = {hashed})"  # noqa: S608


def _text_type(length: int) -> str:
    # Not TEXT: with such a column, MariaDB keeps the rows on disk.
    return f"VARCHAR({length}) CHARACTER SET utf8mb4 COLLATE {EXACT_COLLATION}"
