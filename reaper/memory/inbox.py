"""Takes rows out of the state file that other processes have put there, without a cost while there are none."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, Table, delete

from reaper.errors import StateUnavailable
from reaper.memory.state_file import StateFile

T = TypeVar("T")


class Taker:
    """Takes the rows of some sources out of one table. For one thread."""

    def __init__(self, state_file: StateFile, table: Table) -> None:
        self._file, self._table = state_file, table
        self._looked_at: tuple[object, ...] | None = None

    def take(self, sources: Collection[str], query: Select[Any], read: Callable[[Any], T]) -> list[T]:
        """What `query` finds of these sources, each row as `read` makes it; these rows are not kept any longer.

        A file that fails is reported once. Costs next to nothing while no process has written to the file.
        """
        look = (frozenset(sources), self._file.fingerprint())
        if look == self._looked_at:
            return []
        # Also where it fails: a file that another process holds is tried again when it has changed.
        self._looked_at = look
        mine = self._table.c.source.in_(sources)
        own = query.where(mine)

        def take(connection: Connection) -> list[T]:
            taken = [read(row) for row in connection.execute(own)]
            connection.execute(delete(self._table).where(mine))
            return taken

        try:
            # A look first: most of the time there is nothing, and a write waits for the disk.
            first = self._file.read(lambda connection: connection.execute(own.limit(1)).first(), default=None)
            return [] if first is None else self._file.write(take)
        except StateUnavailable as error:
            self._file.report_once(error)
            return []
