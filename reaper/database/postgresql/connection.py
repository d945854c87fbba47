"""A connection that does not wait for ever.

The server's own time limits are of no use when it is the server that stands still: a machine that was paused, a
process that was stopped, a pooler that keeps the line open. All of that acknowledges whatever the network sends.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")


class TimedConnection(psycopg.Connection[Any]):
    """Hangs up when one answer takes longer than `limit_seconds`."""

    limit_seconds: ClassVar[float] = 3600.0
    _limit: float | None = None

    def responds(self, within_seconds: float) -> bool:
        """Whether the server is still there. Outside a transaction; one that keeps us waiting is hung up on."""
        self._limit = within_seconds
        try:
            self.autocommit = True
            self.execute("SELECT 1")
            self.autocommit = False
        except psycopg.Error:
            return False
        finally:
            self._limit = None
        return True

    def wait(self, gen: PQGen[T], *args: Any, **kwargs: Any) -> T:
        """As psycopg waits, everywhere but while it connects. Raises OperationalError after the limit."""
        return super().wait(self._limited(gen), *args, **kwargs)

    def _limited(self, gen: PQGen[T]) -> PQGen[T]:
        limit = self.limit_seconds if self._limit is None else self._limit
        deadline = time.monotonic() + limit
        try:
            wanted = next(gen)
            while True:
                # Nothing is ready each time that psycopg's own interval, a tenth of a second, is over.
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    # Nothing more can be asked on it, not even a rollback: the server rolls back what hangs.
                    self.close()
                    raise psycopg.OperationalError(f"the database does not answer: hung up after {limit:.0f} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


def connection_class(limit_seconds: float) -> type[TimedConnection]:
    """Connections with this limit."""
    return type("Line", (TimedConnection,), {"limit_seconds": limit_seconds})
