"""Who holds the row of a job."""

from __future__ import annotations

from sqlalchemy import Connection

from reaper.database.dialect import dialect_of
from reaper.model import Key, LockHolder
from reaper.sql.tables import ProfileTables


def holder_of(connection: Connection, schema: ProfileTables, key: Key) -> LockHolder | None:
    """The one who has held the row longest, or None when nobody (any more) does or it cannot be told."""
    return dialect_of(connection).lock_holder(connection, schema, key)
