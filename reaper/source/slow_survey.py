"""A survey that the statement timeout has cancelled: what to mend, and whether others could write meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, TableClause

from reaper.database.dialect import dialect_of
from reaper.sql.tables import ProfileTables


def rows_written(connection: Connection, tables: ProfileTables) -> int:
    """How many rows sessions have written to the tables with jobs and signs of life. Inside a transaction."""
    return dialect_of(connection).rows_written(
        connection, {table.fullname: table for table, _ in _lookups(tables)}.values()
    )


def what_slows_survey(connection: Connection, tables: ProfileTables) -> Sequence[str]:
    """What to mend, one sentence each. Inside a transaction. Raises DBAPIError."""
    return dialect_of(connection).what_slows_reads(connection, _lookups(tables))


def _lookups(tables: ProfileTables) -> Collection[tuple[TableClause, Sequence[str]]]:
    """The tables that a survey reads, each with the columns by which it looks up the rows of one job."""
    profile = tables.profile
    lookups: list[tuple[TableClause, Sequence[str]]] = [(tables.jobs, ())]
    for witness in profile.alive:
        if witness.rows:
            lookups.append((tables.table(witness.rows.table), tuple(witness.rows.matching(profile.jobs.key))))
        if witness.children:
            lookups.append((tables.jobs, tuple(witness.children.parent)))
    return lookups
