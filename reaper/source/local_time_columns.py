"""Finds columns without a zone that the server fills with its clock in a zone that is not UTC, by the catalog alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection

from reaper.database.dialect import dialect_of
from reaper.database.server_zone import ServerZone
from reaper.profile.columns import TableColumn
from reaper.sql.tables import ProfileTables


class LocalColumn(NamedTuple):
    """A column whose moments are those of the server's clock, or may be, in a zone that is not UTC.

    `filled_by` is its default; None where a program fills it. `certain`: no role has another zone.
    """

    zone: ServerZone
    filled_by: str | None

    @property
    def certain(self) -> bool:
        return self.filled_by is not None and not self.zone.others

    def describe(self, column: TableColumn) -> str:
        """Why its moments are not UTC, for a column that is `certain`."""
        return (
            f"{'.'.join(column)} has no time zone, and the server fills it ({self.filled_by}) in {self.zone.zone}, the "
            f"zone of {self.zone.whose}: its moments are unknown until its zone is said"
        )


def local_columns(
    connection: Connection, tables: ProfileTables, columns: Collection[TableColumn]
) -> dict[TableColumn, LocalColumn]:
    """Those of these columns, which have no zone. In a transaction of ours. Empty where the server's zone is UTC."""
    if not columns or (zone := dialect_of(connection).server_zone(connection)).is_utc:
        return {}
    found = dict[TableColumn, LocalColumn]()
    for table in dict.fromkeys(name for name, _ in columns):
        names = [column for name, column in columns if name == table]
        filled = dialect_of(connection).filled_by_clock(connection, tables.table(table), names)
        found |= {(table, name): LocalColumn(zone, filled.get(name)) for name in names}
    return found
