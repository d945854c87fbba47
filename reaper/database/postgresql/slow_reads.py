"""What makes a read of some tables slow on PostgreSQL: statistics older than the rows, or an index that is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import Connection, TableClause, text

# A partitioned table has no rows of its own.
_COUNTS = """
SELECT coalesce(sum(n_live_tup), 0)::bigint AS rows, coalesce(sum(n_mod_since_analyze), 0)::bigint AS changed,
       coalesce(sum(n_tup_ins + n_tup_upd), 0)::bigint AS written,
       coalesce(bool_or(last_analyze IS NULL AND last_autoanalyze IS NULL AND n_live_tup > 0), false) AS never
FROM pg_stat_all_tables
WHERE relid = to_regclass(:name) OR relid IN (SELECT relid FROM pg_partition_tree(to_regclass(:name)))
"""
_IS_LEADING = """
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = to_regclass(:name) AND i.indisvalid AND i.indpred IS NULL
          AND a.attname = ANY (CAST(:columns AS text[])))
    OR EXISTS (SELECT FROM pg_class c WHERE c.oid = to_regclass(:name) AND c.relkind IN ('v', 'f'))
"""
_MANY_CHANGES, _FEW_ROWS = 0.05, 1_000
"""Statistics are old when so much of a table has changed, and more than a few rows. Autovacuum waits for a tenth."""


def rows_written(connection: Connection, tables: Collection[TableClause]) -> int:
    """How many rows sessions have written to these tables and committed, since the server counts them."""
    return sum(
        int(connection.execute(text(_COUNTS), {"name": _name(connection, table)}).one().written) for table in tables
    )


def what_slows_reads(connection: Connection, lookups: Collection[tuple[TableClause, Sequence[str]]]) -> list[str]:
    """What to mend, one sentence each. In each of the tables rows are looked up by these columns; () by none."""
    tables = {_name(connection, table): table for table, _ in lookups}
    old = [sentence for name in tables for sentence in _old_statistics(connection, name)]
    return [*old, *(sentence for table, columns in lookups for sentence in _no_index(connection, table, columns))]


def _old_statistics(connection: Connection, name: str) -> Iterator[str]:
    counts = connection.execute(text(_COUNTS), {"name": name}).one()
    if counts.never:
        yield f"{name} has no statistics: run ANALYZE {name}"
    elif counts.changed > max(_FEW_ROWS, counts.rows * _MANY_CHANGES):
        yield (
            f"{counts.changed:,} rows of {name} (of {counts.rows:,}) have changed since its statistics were made: "
            f"run ANALYZE {name}"
        )


def _no_index(connection: Connection, table: TableClause, columns: Sequence[str]) -> Iterator[str]:
    name = _name(connection, table)
    values = {"name": name, "columns": list(columns)}
    if columns and not connection.execute(text(_IS_LEADING), values).scalar_one():
        listed = ", ".join(map(connection.dialect.identifier_preparer.quote, columns))
        yield f"no index of {name} begins with {listed}: run CREATE INDEX CONCURRENTLY ON {name} ({listed})"


def _name(connection: Connection, table: TableClause) -> str:
    """As people write it: in quotes only where it needs them."""
    parts = [part + "" for part in (table.schema, table.name) if part]
    return ".".join(map(connection.dialect.identifier_preparer.quote, parts))
