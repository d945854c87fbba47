"""Reads which tables and columns PostgreSQL has under some names, whatever their case, and which values they take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Row, TextClause, text

from reaper.profile.real_tables import ColumnKind, RealColumn, RealTable, TableIdentity, listed_values

_TEXTS = frozenset({"text", "varchar", "bpchar", "citext", "name"})
_KINDS: Mapping[str, ColumnKind] = {"timestamptz": "zoned", "timestamp": "naive", "interval": "interval"}

# Expressions of CHECK constraints are printed for columns without labels only: printing one waits for a session that
# has the table locked exclusively. A domain counts as the type that it restricts.
_TABLES = """
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS table, pg_get_userbyid(c.relowner)::text AS owner,
       (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) AS database,
       (SELECT hashtextextended(w.ev_action::text, 0) FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type = '1')
           AS definition,
       array_position(CAST(:path AS text[]), n.nspname::text) AS place,
       a.attname::text AS column, b.typname::text AS base, labels,
       CASE WHEN b.typtype = 'b' AND b.typelem = 0 AND s.nspname <> 'pg_catalog'
            THEN s.nspname::text END AS type_schema,
       t.typcategory = 'A' AS is_array,
       CASE WHEN labels IS NULL THEN ARRAY(
           SELECT pg_get_expr(k.conbin, k.conrelid) FROM pg_constraint k
           WHERE k.conrelid = c.oid AND k.conkey = ARRAY[a.attnum] AND k.contype = 'c'
           UNION ALL
           SELECT pg_get_expr(k.conbin, 0) FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'
       ) END AS checks,
       has_column_privilege(c.oid, a.attnum, 'SELECT') AS readable,
       has_column_privilege(c.oid, a.attnum, 'INSERT') AS insertable,
       coalesce((SELECT bool_and(has_sequence_privilege(s.oid, 'USAGE')) FROM pg_attrdef ad
                 JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = ad.oid
                 JOIN pg_class s ON d.refclassid = 'pg_class'::regclass AND s.oid = d.refobjid AND s.relkind = 'S'
                 WHERE ad.adrelid = c.oid AND ad.adnum = a.attnum), true) AS omittable,
       EXISTS (SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
               WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL
                     AND m.amname = 'btree') AS leads_index
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
JOIN pg_namespace s ON s.oid = b.typnamespace
LEFT JOIN LATERAL (
    SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) AS labels FROM pg_enum e WHERE e.enumtypid = b.oid
) AS enum ON true
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND lower(c.relname) = ANY (CAST(:names AS text[]))
      AND (n.nspname = ANY (CAST(:path AS text[])) OR lower(n.nspname) = ANY (CAST(:schemas AS text[])))
ORDER BY c.oid, a.attnum
"""


def real_tables(
    execute: Callable[[TextClause], Sequence[Row[Any]]], names: Iterable[str], path: Sequence[str]
) -> list[RealTable]:
    """The tables that these names would mean if the case of letters did not matter.

    A bare name means the first table of that name in the schemas of `path`.
    """
    parts = [name.lower().rpartition(".") for name in names]
    query = text(_TABLES).bindparams(
        names=[bare for _, _, bare in parts], schemas=[schema for schema, _, _ in parts], path=list(path)
    )
    tables = [list(rows) for _, rows in groupby(execute(query), key=lambda row: row.oid)]
    first_places = dict[str, int]()
    for [row, *_] in tables:
        if row.place is not None:
            first_places[row.table] = min(row.place, first_places.get(row.table, row.place))
    return [_table(rows, first_places.get(rows[0].table)) for rows in tables]


def _table(rows: Sequence[Row[Any]], first_place: int | None) -> RealTable:
    first = rows[0]
    in_path = first.place is not None and first.place == first_place
    columns = {row.column: _column(row) for row in rows}
    identity = TableIdentity(first.database, first.oid, first.owner, first.definition)
    return RealTable(first.schema, first.table, in_path, columns, has_path=True, identity=identity)


def _column(row: Row[Any]) -> RealColumn:
    lists = (listed_values(check, row.column) for check in row.checks or ())
    return RealColumn(
        name=row.column,
        is_text=row.base in _TEXTS,
        allowed=tuple(row.labels) if row.labels else next((values for values in lists if values), None),
        ignores_case=row.base == "citext",
        readable=row.readable,
        insertable=row.insertable,
        omittable=row.omittable,
        leads_index=row.leads_index,
        is_array=row.is_array,
        operators_in=row.type_schema,
        kind=_KINDS.get(row.base),
    )
