"""The fence: a trigger that keeps a reaped job reaped when its old worker writes late, and the SQL that installs it.

It is the only thing that the reaper installs in a database, and only on request. Limitation: it lets through a late
DELETE, what a late worker inserts into other tables, and a late write after the job has been started again, which looks
like a write of the new worker.
"""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection

from reaper.errors import NotFenceable
from reaper.fence.definition import fence_definition
from reaper.fence.mariadb import MariaDBFence
from reaper.fence.postgresql import PostgreSQLFence
from reaper.fence.state import FenceChange, FenceState, FenceStatus
from reaper.source import Source

__all__ = ["FenceBackend", "FenceChange", "FenceState", "FenceStatus", "NotFenceable", "fence_backend"]


class FenceBackend(Protocol):
    """The fence of one profile on one kind of server."""

    def status(self, connection: Connection) -> FenceStatus:
        """The fence in the database, read inside a transaction of the caller.

        Raises:
            ReaperError: there is no such table, it cannot have a fence, or the role may not see whether it has one.
            DBAPIError: the query failed.
        """


def fence_backend(source: Source) -> FenceBackend:
    """Raises NotFenceable for a profile whose reaped jobs cannot be distinguished from other jobs."""
    definition = fence_definition(source.profile)
    backend = PostgreSQLFence if source.engine.dialect.name == "postgresql" else MariaDBFence
    return backend(source.tables, definition)
