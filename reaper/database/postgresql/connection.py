"""A connection to PostgreSQL with a time limit for each answer.

The server's own time limits do not help when the server itself stands still: a paused machine, a stopped process, a
pooler that keeps the connection open. In each case the network still acknowledges every packet.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")


class TimedConnection(psycopg.Connection[Any]):
    """Closes itself when one answer takes longer than `limit_seconds`."""

    limit_seconds: ClassVar[float] = 3600.0
    _limit: float | None = None

    def responds(self, within_seconds: float) -> bool:
        """Whether the server answers in time; if it does not, the connection is closed. Outside a transaction."""
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
        """As psycopg, which waits here for everything except connecting. Raises OperationalError after the limit."""
        return super().wait(self._limited(gen), *args, **kwargs)

    def _limited(self, gen: PQGen[T]) -> PQGen[T]:
        limit = self.limit_seconds if self._limit is None else self._limit
        deadline = time.monotonic() + limit
        try:
            awaited = next(gen)
            while True:
                # psycopg resumes this at least every tenth of a second, then with nothing ready.
                ready = yield awaited
                if not ready and time.monotonic() > deadline:
                    # No further statement is possible, not even a rollback: the server rolls back by itself.
                    self.close()
                    raise psycopg.OperationalError(f"the database does not answer: hung up after {limit:.0f} s")
                awaited = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


def connection_class(limit_seconds: float) -> type[TimedConnection]:
    """A class of connections with this limit."""
    return type("LimitedConnection", (TimedConnection,), {"limit_seconds": limit_seconds})
