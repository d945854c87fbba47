"""Reads in which zone PostgreSQL's clock reaches columns without a zone, and which columns it fills."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from sqlalchemy import Connection, TableClause, text

from reaper.database.server_zone import ServerZone

# The settings of the role that asks are in the reset value as well as those of the database and the server.
_ZONES = """
SELECT (SELECT s.reset_val FROM pg_settings s WHERE s.name = 'TimeZone') AS own,
       coalesce(r.rolname, '')::text AS role, substr(c.setting, length('TimeZone=') + 1) AS zone
FROM (SELECT 1) AS one
LEFT JOIN pg_db_role_setting z
     ON z.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
LEFT JOIN LATERAL unnest(z.setconfig) AS c (setting) ON true
LEFT JOIN pg_roles r ON r.oid = z.setrole
WHERE c.setting IS NULL OR c.setting ILIKE 'TimeZone=%'
"""
_DEFAULTS = """
SELECT a.attname::text AS name, pg_get_expr(d.adbin, d.adrelid) AS expression
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relname = :table AND n.nspname = :schema AND a.attname = ANY (CAST(:columns AS text[]))
"""
_CLOCK = re.compile(
    r"\b(now|statement_timestamp|clock_timestamp|transaction_timestamp)\(\)|\bCURRENT_TIMESTAMP\b|\bLOCALTIMESTAMP\b"
    r"|'now'",
    re.IGNORECASE,
)
_OF_A_ZONE = re.compile(r"\btimezone\(|\bAT TIME ZONE\b", re.IGNORECASE)


def server_zone(connection: Connection) -> ServerZone:
    """The zone of the database, else that of the server."""
    rows = connection.execute(text(_ZONES)).all()
    own = next((row.own for row in rows if row.own), "UTC")
    of_database = next((row.zone for row in rows if row.zone and not row.role), None)
    others = tuple(sorted({f"role {row.role}: {row.zone}" for row in rows if row.zone and row.role}))
    if of_database is not None:
        return ServerZone(of_database, "the database", others)
    return ServerZone(own, "the server", others)


def filled_by_clock(connection: Connection, table: TableClause, columns: Collection[str]) -> Mapping[str, str]:
    """Those of the columns whose default is the clock in the zone of the session, each with its default."""
    values = {"table": table.name, "schema": table.schema or "public", "columns": list(columns)}
    rows = connection.execute(text(_DEFAULTS), values)
    return {
        row.name: f"DEFAULT {row.expression}"
        for row in rows
        if _CLOCK.search(row.expression) and not _OF_A_ZONE.search(row.expression)
    }
