"""The fence: what stands in a database to keep a reaped job reaped, and the statements that put it there.

It is the one thing that the reaper installs, and only when it is asked to. A late DELETE, and what a late worker
inserts elsewhere, it lets through; so it does a late write after the job has been started anew, which cannot be told
from those of the new worker.
"""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection

from reaper.source import Source
from reaper.source.fence.definition import NotFenceable, definition
from reaper.source.fence.mariadb import MariaDB
from reaper.source.fence.postgresql import PostgreSQL
from reaper.source.fence.standing import Change, Standing, State

__all__ = ["Change", "Fences", "NotFenceable", "Standing", "State", "fences"]


class Fences(Protocol):
    """How one kind of server is given a fence."""

    def look(self, connection: Connection) -> Standing:
        """What stands there, inside a transaction of the caller's.

        Raises ReaperError when there is no table that could have a fence, DBAPIError.
        """


def fences(source: Source) -> Fences:
    """Raises NotFenceable for a profile whose reaped jobs cannot be told from others."""
    wanted = definition(source.profile)
    kind = PostgreSQL if source.engine.dialect.name == "postgresql" else MariaDB
    return kind(source.rule.schema, wanted)
