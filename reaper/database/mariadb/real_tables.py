"""Reads which tables and columns MariaDB has under some names, whatever their case, and which values they take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Row, TextClause, bindparam, text

from reaper.profile.real_tables import RealColumn, RealTable, listed_values

_TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext"})
_LABEL = re.compile(r"'((?:[^']|'')*)'")

# The server shows each user only what it has a privilege for. A table's own CHECKs and those of its columns are in the
# same catalog, without the columns that they are about.
_TABLES = text("""
SELECT c.table_schema AS `schema`, c.table_name AS `table`, c.table_schema = database() AS in_path,
       c.column_name AS `column`, c.data_type AS base, c.column_type AS type, c.collation_name AS collation,
       c.privileges,
       EXISTS (SELECT 1 FROM information_schema.statistics s
               WHERE s.table_schema = c.table_schema AND s.table_name = c.table_name AND s.column_name = c.column_name
                     AND s.seq_in_index = 1 AND s.index_type = 'BTREE' AND s.ignored = 'NO') AS leads_index
FROM information_schema.columns c
WHERE lower(c.table_name) IN :names AND (c.table_schema = database() OR lower(c.table_schema) IN :schemas)
ORDER BY c.table_schema, c.table_name, c.ordinal_position
""").bindparams(bindparam("names", expanding=True), bindparam("schemas", expanding=True))
_CHECKS = text("""
SELECT constraint_schema AS `schema`, table_name AS `table`, check_clause AS expression
FROM information_schema.check_constraints
WHERE lower(table_name) IN :names AND (constraint_schema = database() OR lower(constraint_schema) IN :schemas)
""").bindparams(bindparam("names", expanding=True), bindparam("schemas", expanding=True))


def real_tables(execute: Callable[[TextClause], Sequence[Row[Any]]], names: Iterable[str]) -> list[RealTable]:
    """The tables that these names would mean if the case of letters did not matter."""
    parts = [name.lower().rpartition(".") for name in names]
    places = {"names": [bare for _, _, bare in parts], "schemas": [schema for schema, _, _ in parts]}
    checks = execute(_CHECKS.bindparams(**places))
    columns = execute(_TABLES.bindparams(**places))
    return [
        _table(list(rows), [check.expression for check in checks if (check.schema, check.table) == place])
        for place, rows in groupby(columns, key=lambda row: (row.schema, row.table))
    ]


def _table(rows: Sequence[Row[Any]], checks: Sequence[str]) -> RealTable:
    first = rows[0]
    return RealTable(first.schema, first.table, bool(first.in_path), {row.column: _column(row, checks) for row in rows})


def _column(row: Row[Any], checks: Sequence[str]) -> RealColumn:
    granted = row.privileges.split(",")
    lists = (listed_values(check, row.column) for check in checks)
    labels = [label.replace("''", "'") for label in _LABEL.findall(row.type)] if row.base == "enum" else []
    return RealColumn(
        name=row.column,
        is_text=row.base in _TEXTS,
        allowed=tuple(labels) if labels else next((values for values in lists if values), None),
        ignores_case=row.collation is not None and not row.collation.endswith(("_bin", "_cs")),
        readable="select" in granted,
        insertable="insert" in granted,
        leads_index=bool(row.leads_index),
    )
