"""Asks MariaDB's catalogs whether a unique index keeps the rows of a table apart by some columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, TableClause, text

UNIQUE_INDEXES = """
SELECT index_name AS name, column_name AS `column` FROM information_schema.statistics
WHERE table_schema = coalesce(:schema, database()) AND table_name = :name AND non_unique = 0
"""


def has_unique_key(connection: Connection, table: TableClause, columns: Sequence[str]) -> bool:
    """Whether a unique index covers these columns, or some of them. Inside a transaction."""
    indexes = defaultdict[str, set[str]](set)
    for row in connection.execute(text(UNIQUE_INDEXES), {"schema": table.schema, "name": table.name}):
        indexes[row.name].add(row.column)
    return any(indexed <= set(columns) for indexed in indexes.values())
