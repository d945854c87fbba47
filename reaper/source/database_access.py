"""Connections and transactions of one source, and the notice of a database that stands still."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from math import inf

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from reaper.database.connections import ActivityClock, CachedConnection, make_engine, transaction
from reaper.database.errors import short_message
from reaper.database.timeouts import Timeouts
from reaper.errors import DatabaseUnavailable
from reaper.staleness.downtime import DowntimeTracker

# Connecting, beginning and committing take no time: when one takes longer than this, the database stood still.
_STALL_SECONDS = 5.0
_CONNECTING_SECONDS = "reaper.connecting_seconds"


class DatabaseAccess:
    """Access to the database of one source."""

    def __init__(self, name: str, url: str, timeouts: Timeouts) -> None:
        self.name = name
        self.engine: Engine = make_engine(url, name, timeouts)
        self.activity = ActivityClock(self.engine)
        self.timeouts = timeouts
        self.lookup_schemas: Sequence[str] = ()
        """The schemas in which names are looked up, after `pg_catalog`: those of the user's own SQL, and of types."""
        self._cached = CachedConnection(self.engine, timeouts.connect)
        # When the source is dropped without `close`, its connection to the server is closed all the same.
        weakref.finalize(self, self._cached.close)
        self._downtime: DowntimeTracker | None = None
        self._stall_lock = threading.Lock()

    def connect(self, *, prepared: bool = True) -> AbstractContextManager[Connection]:
        """A new connection; without `prepared`, `connected` is not called. Raises DatabaseUnavailable."""
        return self._connected(self.engine.connect, prepared=prepared)

    def cached_connection(self) -> AbstractContextManager[Connection]:
        """The connection of the last sweep if it still works, else a new one. Raises DatabaseUnavailable."""
        return self._connected(self._cached.connection)

    def close(self) -> None:
        """Close the cached connection."""
        self._cached.close()

    @contextmanager
    def transaction(self, connection: Connection, *, read_only: bool = False, at_most: float = inf) -> Iterator[None]:
        """One short transaction with its time limits set; a statement may take no longer than `at_most` seconds."""
        started = time.monotonic()
        timeouts = replace(self.timeouts, statement=min(self.timeouts.statement, at_most))
        with transaction(connection, timeouts, read_only=read_only, lookup_schemas=self.lookup_schemas):
            self._record_stall_if_slow(connection, time.monotonic() - started)
            yield
            done = time.monotonic()
        self._record_stall_if_slow(connection, time.monotonic() - done)

    @contextmanager
    def _connected(
        self, connect: Callable[[], AbstractContextManager[Connection]], *, prepared: bool = True
    ) -> Iterator[Connection]:
        started = time.monotonic()
        self.activity.touch()
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(connect())
            except DBAPIError as error:
                raise DatabaseUnavailable(short_message(error)) from error
            connection.info[_CONNECTING_SECONDS] = time.monotonic() - started
            if prepared:
                self.connected(connection)
            yield connection

    def connected(self, connection: Connection) -> None:
        """Called with each connection before it is used."""

    def _record_stall_if_slow(self, connection: Connection, seconds: float) -> None:
        """Record downtime when beginning or committing took so long; the first time with the time for connecting."""
        seconds += connection.info.pop(_CONNECTING_SECONDS, 0.0)
        if self._downtime is not None and seconds > _STALL_SECONDS:
            with self._stall_lock:  # batches run on two threads
                self._downtime.record_stall(seconds)
