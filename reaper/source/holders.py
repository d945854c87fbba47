"""Who holds the row of a job."""

from __future__ import annotations

from sqlalchemy import Connection

from reaper.model import Holder, Key
from reaper.schema import Schema
from reaper.source.dialect import dialect_of


def holder_of(connection: Connection, schema: Schema, key: Key) -> Holder | None:
    """The one who has held the row longest, or None when nobody (any more) does or it cannot be told."""
    return dialect_of(connection).holder(connection, schema, key)
