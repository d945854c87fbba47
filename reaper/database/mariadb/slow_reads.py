"""What makes a read of some tables slow on MariaDB: an index that is missing.

It asks its indexes how many rows there are, and so depends little on statistics.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, TableClause, text

_WRITTEN = """
SELECT sum(CAST(variable_value AS UNSIGNED)) FROM information_schema.global_status
WHERE variable_name IN ('HANDLER_WRITE', 'HANDLER_UPDATE')
"""
_LEADING_COLUMNS = """
SELECT column_name FROM information_schema.statistics
WHERE table_schema = coalesce(:schema, database()) AND table_name = :name AND seq_in_index = 1
"""

# A view has no indexes.
_HAS_ROWS = """
SELECT 1 FROM information_schema.tables
WHERE table_schema = coalesce(:schema, database()) AND table_name = :name AND table_type <> 'VIEW'
"""


def rows_written(connection: Connection) -> int:
    """How many rows sessions have written, to all tables of the server."""
    return int(connection.execute(text(_WRITTEN)).scalar_one() or 0)


def what_slows_reads(connection: Connection, lookups: Collection[tuple[TableClause, Sequence[str]]]) -> list[str]:
    """What to mend, one sentence each. In each of the tables rows are looked up by these columns; () by none."""
    quote = connection.dialect.identifier_preparer.quote
    missing = []
    for table, columns in lookups:
        values = {"schema": table.schema, "name": table.name}
        leading = set(connection.execute(text(_LEADING_COLUMNS), values).scalars())
        if columns and leading.isdisjoint(columns) and connection.execute(text(_HAS_ROWS), values).first():
            name, listed = quote(table.name + ""), ", ".join(map(quote, columns))
            missing.append(f"no index of {name} begins with {listed}: run ALTER TABLE {name} ADD INDEX ({listed})")
    return missing
