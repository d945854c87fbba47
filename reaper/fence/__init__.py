"""The fence: what stands in a database to keep a reaped job reaped, and the statements that put it there.

It is the one thing that the reaper installs, and only when it is asked to. A late DELETE, and what a late worker
inserts elsewhere, it lets through; so it does a late write after the job has been started anew, which cannot be told
from those of the new worker.
"""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection

from reaper.errors import NotFenceable
from reaper.fence.definition import definition
from reaper.fence.mariadb import MariaDB
from reaper.fence.postgresql import PostgreSQL
from reaper.fence.state import FenceChange, FenceStatus, State
from reaper.source import Source

__all__ = ["FenceChange", "FenceStatus", "Fences", "NotFenceable", "State", "fences"]


class Fences(Protocol):
    """How one kind of server is given a fence."""

    def look(self, connection: Connection) -> FenceStatus:
        """What stands there, inside a transaction of the caller's.

        Raises ReaperError when there is no table that could have a fence, DBAPIError.
        """


def fences(source: Source) -> Fences:
    """Raises NotFenceable for a profile whose reaped jobs cannot be told from others."""
    wanted = definition(source.profile)
    kind = PostgreSQL if source.engine.dialect.name == "postgresql" else MariaDB
    return kind(source.rule.tables, wanted)
