"""A connection that stays open from one sweep to the next.

On a new one the server's process first has to map what it reads, and a survey of a large table takes a tenth longer.
Whether the database can be reached and written to is asked on a new one all the same (`Source.meet`): that is how a
worker would find it who comes now.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from reaper.source.dialect import dialect_of

# One that lives for ever never learns of a new address, a new password or a changed setting of its role.
_KEPT_SECONDS = 600.0


class Kept:
    """At most one idle connection."""

    def __init__(self, engine: Engine, answer_seconds: float) -> None:
        self._engine, self._answer = engine, answer_seconds
        self._idle: tuple[Connection, float] | None = None
        self._taking = threading.Lock()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The kept one when it still answers, else a new one; closed, not kept, after any error.

        Raises DBAPIError when there is none to be had.
        """
        connection, made = self._living() or (self._engine.connect(), time.monotonic())
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._taking:
            surplus, self._idle = self._idle, (connection, made)
        if surplus is not None:
            surplus[0].close()

    def close(self) -> None:
        """Hang up. One that is in use is kept again after that."""
        idle = self._take()
        if idle is not None:
            idle[0].close()

    def _living(self) -> tuple[Connection, float] | None:
        idle = self._take()
        if idle is None:
            return None
        connection, made = idle
        young = time.monotonic() - made < _KEPT_SECONDS
        if young and dialect_of(connection).answers(connection, self._answer):
            return idle
        connection.invalidate()
        connection.close()
        return None

    def _take(self) -> tuple[Connection, float] | None:
        with self._taking:
            idle, self._idle = self._idle, None
        return idle
