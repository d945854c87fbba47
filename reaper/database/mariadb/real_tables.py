"""Reads which tables and columns MariaDB has under some names, whatever their case, and which values they take.

Each query names one database, and where it can one table: otherwise the server opens every table that it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, TextClause, text

from reaper.profile.real_tables import ColumnKind, RealColumn, RealTable, listed_values

_TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
_BYTES = frozenset({"binary", "varbinary"})
_KINDS: Mapping[str, ColumnKind] = {"timestamp": "zoned", "datetime": "naive", "time": "time"}
_LABEL = re.compile(r"'((?:[^']|'')*)'")

_OWN_SCHEMA = "SELECT database()"
_SCHEMAS = "SELECT schema_name FROM information_schema.schemata"
_NAMES = "SELECT table_name FROM information_schema.tables WHERE table_schema = :schema"
# The server shows each user only what it has a privilege for.
_COLUMNS = """
SELECT column_name AS name, data_type AS base, column_type AS type, collation_name AS collation, privileges,
       character_octet_length AS octets
FROM information_schema.columns WHERE table_schema = :schema AND table_name = :name ORDER BY ordinal_position
"""
_LEADING = """
SELECT column_name FROM information_schema.statistics
WHERE table_schema = :schema AND table_name = :name AND seq_in_index = 1 AND index_type = 'BTREE' AND ignored = 'NO'
"""
# A table's own constraints and those of its columns, without the columns that they are about.
_CHECKS = """
SELECT check_clause FROM information_schema.check_constraints
WHERE constraint_schema = :schema AND table_name = :name
"""

Execute = Callable[[TextClause], Sequence[Row[Any]]]


def real_tables(execute: Execute, names: Iterable[str]) -> list[RealTable]:
    """The tables that these names would mean if the case of letters did not matter."""
    return list(_found(execute, [name.rpartition(".") for name in names]))


def _found(execute: Execute, names: Sequence[tuple[str, str, str]]) -> Iterator[RealTable]:
    [[own_schema]] = execute(text(_OWN_SCHEMA))
    named_schemas = {schema.casefold() for schema, _, _ in names if schema}
    others = [row[0] for row in execute(text(_SCHEMAS)) if row[0].casefold() in named_schemas] if named_schemas else []
    tables = {bare.casefold() for _, _, bare in names}
    for schema in dict.fromkeys((own_schema, *others)):
        for (name,) in execute(text(_NAMES).bindparams(schema=schema)):
            if name.casefold() in tables:
                yield _table(execute, schema, name, in_path=schema == own_schema)


def _table(execute: Execute, schema: str, name: str, *, in_path: bool) -> RealTable:
    def rows(query: str) -> Sequence[Row[Any]]:
        return execute(text(query).bindparams(schema=schema, name=name))

    leading = {row[0] for row in rows(_LEADING)}
    checks = [row[0] for row in rows(_CHECKS)]
    columns = {row.name: _column(row, checks, leads_index=row.name in leading) for row in rows(_COLUMNS)}
    return RealTable(schema, name, in_path, columns)


def _column(row: Row[Any], checks: Sequence[str], *, leads_index: bool) -> RealColumn:
    granted = row.privileges.split(",")
    lists = (listed_values(check, row.name) for check in checks)
    labels = [label.replace("''", "'") for label in _LABEL.findall(row.type)] if row.base == "enum" else []
    return RealColumn(
        name=row.name,
        is_text=row.base in _TEXTS,
        allowed=tuple(labels) if labels else next((values for values in lists if values), None),
        ignores_case=row.collation is not None and not row.collation.endswith(("_bin", "_cs")),
        readable="select" in granted,
        insertable="insert" in granted,
        leads_index=leads_index,
        most_bytes=row.octets if row.base in _BYTES else None,
        kind=_KINDS.get(row.base),
    )
