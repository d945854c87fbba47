"""Asks PostgreSQL's catalogs whether a unique index keeps the rows of a table apart by some columns."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, TableClause, text

# A unique index of a table does not hold for the rows of tables that inherit from it; that of a partitioned one does.
UNIQUE_KEY = """
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = :name AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
          AND NOT (c.relkind = 'r' AND c.relhassubclass)
          AND NOT EXISTS (
              SELECT FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
              LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
              WHERE k.place <= i.indnkeyatts AND (a.attname = ANY (CAST(:columns AS text[]))) IS NOT TRUE))
"""


def has_unique_key(connection: Connection, table: TableClause, columns: Sequence[str]) -> bool:
    """Whether a unique index covers these columns, or some of them. In a transaction of ours."""
    values = {"schema": table.schema, "name": table.name, "columns": list(columns)}
    return bool(connection.execute(text(UNIQUE_KEY), values).scalar_one())
