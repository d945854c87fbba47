"""Reads in which zone MariaDB's clock reaches columns without a zone, and which columns it fills."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, TableClause, text

from reaper.database.server_zone import ServerZone

_ZONE = "SELECT @@global.time_zone AS zone, @@system_time_zone AS host"
_DEFAULTS = """
SELECT column_name AS name, column_default AS default_value, extra FROM information_schema.columns
WHERE table_schema = coalesce(:schema, database()) AND table_name = :table
"""
_CLOCK = "current_timestamp"


def server_zone(connection: Connection) -> ServerZone:
    """The zone of sessions that set none: that of the host as abbreviated there, where the server has none."""
    row = connection.execute(text(_ZONE)).one()
    if row.zone.upper() != "SYSTEM":
        return ServerZone(row.zone, "the server")
    return ServerZone(row.host, "the server's host")


def filled_by_clock(connection: Connection, table: TableClause, columns: Collection[str]) -> Mapping[str, str]:
    """Those of the columns that the server fills with its clock, each with how it does."""
    wanted = {name.casefold(): name for name in columns}
    filled = dict[str, str]()
    for row in connection.execute(text(_DEFAULTS), {"schema": table.schema, "table": table.name}):
        if (name := wanted.get(row.name.casefold())) is None:
            continue
        if _CLOCK in (row.default_value or "").casefold():
            filled[name] = f"DEFAULT {row.default_value}"
        elif _CLOCK in row.extra.casefold():
            filled[name] = "ON UPDATE current_timestamp()"
    return filled
