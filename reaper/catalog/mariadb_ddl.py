"""Reads MariaDB's catalog rows and SHOW CREATE TABLE into the structure of a table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Row, literal, literal_column

from reaper.catalog.mariadb_fix_statements import ColumnDefinition
from reaper.catalog.number_ranges import range_of
from reaper.catalog.tables import CheckConstraint, Column, Index

_FAMILIES = {
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), "text"),
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint"), "integer"),
    **dict.fromkeys(("decimal", "float", "double"), "number"),
    **{name: name for name in ("datetime", "enum", "uuid")},
    "timestamp": "datetime",
}
_NAME = r"`((?:[^`]|``)+)`"
_FOREIGN_KEY = re.compile(rf"FOREIGN KEY \(([^)]*)\) REFERENCES (?:{_NAME}\.)?{_NAME}")
_COLUMN_CHECK = re.compile(rf"^\s*{_NAME} .*? CHECK \((.*)\)(?: COMMENT .*)?,?$", re.MULTILINE)
_TABLE_CHECK = re.compile(rf"^\s*CONSTRAINT {_NAME} CHECK \((.*)\),?$", re.MULTILINE)
_READ_FROM = re.compile(rf"(?:from|join) \(*{_NAME}\.{_NAME}", re.IGNORECASE)
_COLUMN = re.compile(rf"^  {_NAME} ", re.MULTILINE)
_NEXT_VALUE = re.compile(rf"'(?:[^'\\]|\\.)*'|nextval\({_NAME}\.{_NAME}\)|{_NAME}", re.DOTALL)
"""Also matches whole texts and other names, so that what they contain is not read as a call of nextval."""
_LABEL = re.compile(r"'((?:[^']|'')*)'")


def family_of(type_: str) -> str:
    """tinyint(1) is "other": it may be a boolean or a small number."""
    if type_ in ("json", "tinyint(1)"):
        return "json" if type_ == "json" else "other"
    return _FAMILIES.get(re.split(r"[ (]", type_, maxsplit=1)[0], "other")


def kind_of(row: Row[Any]) -> str:
    if row.type == "VIEW":
        return "view"
    if row.engine != "InnoDB":
        return f"table of the engine {row.engine}"
    return "partitioned table" if row.partitioned else "table"


def column_of(row: Row[Any], *, is_json: bool) -> Column:
    type_ = "json" if is_json else row.type
    labels = tuple(label.replace("''", "'") for label in _LABEL.findall(row.type)) if row.base == "enum" else ()
    return Column(
        name=row.name,
        type=type_,
        family=family_of(type_),
        labels=labels,
        length=row.length if row.base in ("char", "varchar", "tinytext") else None,
        nullable=bool(row.nullable),
        has_default=row.value is not None or "auto_increment" in row.extra,
        generated=row.computed is not None,
        numbers=range_of(row.type),
        generated_from=frozenset(names_in(row.computed or "")),
        ignores_case=row.collation is not None and not row.collation.endswith(("_bin", "_cs")),
    )


def definition_of(row: Row[Any]) -> ColumnDefinition:
    return ColumnDefinition(row.type, bool(row.nullable), row.value, row.extra, row.comment, row.charset, row.collation)


def index_of(schema: str, name: str, parts: list[Row[Any]]) -> Index:
    first = parts[0]
    return Index(
        schema=schema,
        name=name,
        columns=tuple(part.column for part in parts),
        ordered=bool(first.ordered),
        unique=bool(first.unique) and all(part.sub_part is None for part in parts),
        valid=bool(first.valid),
        predicate=None,
    )


def check_constraints_in(ddl: str) -> Iterator[CheckConstraint]:
    for pattern in (_COLUMN_CHECK, _TABLE_CHECK):
        for name, expression in pattern.findall(ddl):
            yield CheckConstraint(unquoted(name), frozenset(names_in(expression)), expression)


def columns_in(ddl: str) -> set[str]:
    """The columns of a table, from SHOW CREATE TABLE."""
    return {unquoted(name) for name in _COLUMN.findall(ddl)}


def names_in(text: str) -> list[str]:
    return [unquoted(name) for name in re.findall(_NAME, text)]


def foreign_keys_in(ddl: str) -> Iterator[tuple[frozenset[str], str | None, str]]:
    """The columns of each foreign key, and the database (None: the same) and name of the table that it refers to."""
    for columns, schema, table in _FOREIGN_KEY.findall(ddl):
        yield frozenset(names_in(columns)), unquoted(schema) or None, unquoted(table)


def tables_read_by(view: str) -> set[tuple[str, str]]:
    """The tables that a view's definition names, each with its database."""
    return {(unquoted(schema), unquoted(table)) for schema, table in _READ_FROM.findall(view)}


def sequences_in(default: str) -> list[tuple[str, str]]:
    """The sequences that a default takes a value from, each with its database."""
    names = [(unquoted(match[1]), unquoted(match[2])) for match in _NEXT_VALUE.finditer(default) if match[1]]
    return list(dict.fromkeys(names))


def unquoted(quoted: str) -> str:
    return quoted.replace("``", "`")


def sample_value(type_: str, value: str | None) -> ColumnElement[Any]:
    if value is None:
        return literal_column("NULL")
    if family_of(type_) in ("integer", "number") and re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
        return literal_column(value)
    return literal(value)
