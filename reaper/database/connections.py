"""Engines, cached connections, and transactions with time limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, RootTransaction, event, make_url
from sqlalchemy.exc import ArgumentError

from reaper.database.dialect import dialect_named, dialect_of
from reaper.database.timeouts import Timeouts
from reaper.errors import ConfigError
from reaper.model import ServerClock


def make_engine(url: str, source: str, timeouts: Timeouts) -> Engine:
    """An engine without a pool: a sweep a minute can afford a new connection, and none goes stale in between.

    Raises ConfigError for a URL that cannot be used, and when the driver is not installed.
    """
    try:
        return dialect_named(make_url(url).get_backend_name()).engine(url, source, timeouts)
    except ArgumentError as error:
        raise ConfigError([f"source {source}: database_url: {error}"]) from None
    except ModuleNotFoundError as error:
        hint = ": pip install 'job-reaper[mysql]'" if error.name == "pymysql" else ""
        raise ConfigError([f"source {source}: database_url: its driver {error.name} is not installed{hint}"]) from None


@contextmanager
def transaction(
    connection: Connection, timeouts: Timeouts, *, read_only: bool = False, lookup_schemas: Sequence[str] = ()
) -> Iterator[RootTransaction]:
    """One short transaction in UTC with its time limits set. It commits at the end, and rolls back on any error.

    On PostgreSQL names are looked up in `pg_catalog`, and then in `lookup_schemas`, alone.
    """
    with connection.begin() as new_transaction:
        dialect_of(connection).begin(connection, timeouts, read_only=read_only, lookup_schemas=lookup_schemas)
        yield new_transaction


def read_server_clock(connection: Connection) -> ServerClock:
    """The database's clock and the start of its server. Inside a transaction.

    Raises DatabaseUnavailable when the server takes no changes now: a standby, or a server set to read-only.
    """
    return dialect_of(connection).read_clock(connection)


# A connection that is kept for ever never notices a new address, a new password or a changed setting of its role.
_MAX_AGE_SECONDS = 600.0


class CachedConnection:
    """Keeps at most one idle connection."""

    def __init__(self, engine: Engine, answer_seconds: float) -> None:
        """A kept connection is used again only if its server answers within `answer_seconds`."""
        self._engine, self._answer_seconds = engine, answer_seconds
        self._idle: tuple[Connection, float] | None = None  # with the time of its making, on the monotonic clock
        self._lock = threading.Lock()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The kept connection when its server still answers, else a new one. After an error it is closed, not kept.

        Raises DBAPIError when no connection can be made.
        """
        connection, created_at = self._usable() or (self._engine.connect(), time.monotonic())
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            surplus, self._idle = self._idle, (connection, created_at)
        if surplus is not None:
            surplus[0].close()

    def close(self) -> None:
        """Close the idle connection. A connection in use is kept again after its use."""
        idle = self._take()
        if idle is not None:
            idle[0].close()

    def _usable(self) -> tuple[Connection, float] | None:
        idle = self._take()
        if idle is None:
            return None
        connection, created_at = idle
        young = time.monotonic() - created_at < _MAX_AGE_SECONDS
        if young and dialect_of(connection).is_alive(connection, self._answer_seconds):
            return idle
        connection.invalidate()
        connection.close()
        return None

    def _take(self) -> tuple[Connection, float] | None:
        with self._lock:
            idle, self._idle = self._idle, None
        return idle


class ActivityClock:
    """The time of an engine's last activity: `at`, on the monotonic clock. Every statement counts."""

    def __init__(self, engine: Engine) -> None:
        self.at = time.monotonic()
        event.listen(engine, "before_cursor_execute", self.touch)
        event.listen(engine, "after_cursor_execute", self.touch)

    def touch(self, *_: object) -> None:
        """Record activity. Takes the arguments of SQLAlchemy's events."""
        self.at = time.monotonic()
