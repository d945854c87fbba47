"""What MariaDB says of a table, as the checks see it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Row, literal, literal_column

from reaper.catalog.mariadb_fixes import Definition
from reaper.catalog.tables import Check, Column, Index

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
_SHOWN_COLUMN = re.compile(rf"^  {_NAME} ", re.MULTILINE)
_DRAWN = re.compile(rf"'(?:[^'\\]|\\.)*'|nextval\({_NAME}\.{_NAME}\)|{_NAME}", re.DOTALL)
"""Texts and other names are passed over as wholes: they may hold what looks like it."""
_LABEL = re.compile(r"'((?:[^']|'')*)'")


def family_of(words: str) -> str:
    """A boolean is a small number here, and nobody judges which was meant."""
    if words in ("json", "tinyint(1)"):
        return "json" if words == "json" else "other"
    return _FAMILIES.get(re.split(r"[ (]", words, maxsplit=1)[0], "other")


def kind_of(row: Row[Any]) -> str:
    if row.type == "VIEW":
        return "view"
    if row.engine != "InnoDB":
        return f"table of the engine {row.engine}"
    return "partitioned table" if row.partitioned else "table"


def column_of(row: Row[Any], *, document: bool) -> Column:
    words = "json" if document else row.type
    labels = tuple(label.replace("''", "'") for label in _LABEL.findall(row.type)) if row.base == "enum" else ()
    return Column(
        name=row.name,
        words=words,
        family=family_of(words),
        labels=labels,
        length=row.length if row.base in ("char", "varchar", "tinytext") else None,
        nullable=bool(row.nullable),
        filled=row.value is not None or "auto_increment" in row.extra,
        computed=bool(row.computed),
        loose=row.collation is not None and not row.collation.endswith(("_bin", "_cs")),
    )


def definition_of(row: Row[Any]) -> Definition:
    return Definition(row.type, bool(row.nullable), row.value, row.extra, row.comment, row.charset, row.collation)


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


def checks_in(shown: str) -> Iterator[Check]:
    for pattern in (_COLUMN_CHECK, _TABLE_CHECK):
        for name, expression in pattern.findall(shown):
            yield Check(unquoted(name), frozenset(names_in(expression)), expression)


def columns_in(shown: str) -> set[str]:
    """The columns of a table, as SHOW CREATE TABLE tells them."""
    return {unquoted(name) for name in _SHOWN_COLUMN.findall(shown)}


def names_in(text: str) -> list[str]:
    return [unquoted(name) for name in re.findall(_NAME, text)]


def foreign_keys_in(shown: str) -> Iterator[tuple[frozenset[str], str | None, str]]:
    """The columns of each, and the table that they refer to; without a database it is in the same one."""
    for columns, schema, table in _FOREIGN_KEY.findall(shown):
        yield frozenset(names_in(columns)), unquoted(schema) or None, unquoted(table)


def read_by(view: str) -> set[tuple[str, str]]:
    """The tables, with their databases, that a view's definition names."""
    return {(unquoted(schema), unquoted(table)) for schema, table in _READ_FROM.findall(view)}


def sequences_in(default: str) -> list[tuple[str, str]]:
    """The sequences that a default takes a value from, with their databases."""
    found = [(unquoted(match[1]), unquoted(match[2])) for match in _DRAWN.finditer(default) if match[1]]
    return list(dict.fromkeys(found))


def unquoted(quoted: str) -> str:
    return quoted.replace("``", "`")


def sample(words: str, value: str | None) -> ColumnElement[Any]:
    if value is None:
        return literal_column("NULL")
    if family_of(words) in ("integer", "number") and re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
        return literal_column(value)
    return literal(value)
