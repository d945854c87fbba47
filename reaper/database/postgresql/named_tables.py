"""Reads which tables of PostgreSQL some names mean now, in single schemas and along the role's own path."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, text

from reaper.database.postgresql.search_path import names_in, own_path
from reaper.profile.real_tables import TableIdentity

NAMED_TABLES = """
SELECT n.nspname::text AS schema, c.relname::text AS name,
       array_position(array_replace(CAST(:path AS text[]), '$user', current_user::text), n.nspname::text) AS place,
       (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) AS database,
       c.oid AS number, pg_get_userbyid(c.relowner)::text AS owner,
       (SELECT hashtextextended(w.ev_action::text, 0) FROM pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type = '1')
           AS definition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname = ANY (CAST(:names AS text[]))
      AND (n.nspname = ANY (CAST(:schemas AS text[]))
           OR n.nspname = ANY (array_replace(CAST(:path AS text[]), '$user', current_user::text)))
      AND has_schema_privilege(n.oid, 'USAGE')
ORDER BY 3, 1
"""
_NAME = """
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = CAST(:number AS oid)
"""


class NamedTable(NamedTuple):
    """A table under one name. `place` is that of its schema on the role's own path; None: it is not on the path."""

    schema: str
    name: str
    place: int | None
    identity: TableIdentity


def named_tables(connection: Connection, names: Collection[str], schemas: Collection[str]) -> list[NamedTable]:
    """The tables of these names, in these schemas and in those of the role's own path, whose order they have."""
    values = {"names": list(names), "schemas": list(schemas), "path": names_in(own_path(connection))}
    return [
        NamedTable(row.schema, row.name, row.place, TableIdentity(row.database, row.number, row.owner, row.definition))
        for row in connection.execute(text(NAMED_TABLES), values)
    ]


def name_of_table(connection: Connection, number: int) -> tuple[str, str] | None:
    """The schema and the name that the table with this number has now; None when it is gone."""
    row = connection.execute(text(_NAME), {"number": number}).one_or_none()
    return None if row is None else (row[0], row[1])
