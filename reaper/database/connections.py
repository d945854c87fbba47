"""Engines, and transactions that say at their start how they want to be treated."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, RootTransaction, event, make_url
from sqlalchemy.exc import ArgumentError

from reaper.database.dialect import dialect_named, dialect_of
from reaper.database.timeouts import Timeouts
from reaper.errors import ConfigError
from reaper.model import ServerClock


def make_engine(url: str, source: str, timeouts: Timeouts) -> Engine:
    """An engine without a pool: a sweep a minute can afford a connection, and none goes stale in between.

    Raises ConfigError for a URL that it cannot use.
    """
    try:
        return dialect_named(make_url(url).get_backend_name()).engine(url, source, timeouts)
    except ArgumentError as error:
        raise ConfigError([f"source {source}: database_url: {error}"]) from None
    except ModuleNotFoundError as error:
        hint = ": pip install 'job-reaper[mysql]'" if error.name == "pymysql" else ""
        raise ConfigError([f"source {source}: database_url: its driver {error.name} is not installed{hint}"]) from None


@contextmanager
def transaction(connection: Connection, timeouts: Timeouts, *, read_only: bool = False) -> Iterator[RootTransaction]:
    """One short transaction in UTC, with its time limits set; commits at the end, rolls back on any error."""
    with connection.begin() as begun:
        dialect_of(connection).begin(connection, timeouts, read_only=read_only)
        yield begun


def read_server_clock(connection: Connection) -> ServerClock:
    """Ask for the database's clock and its server's start, inside a transaction.

    Raises DatabaseAway when nobody could write there now: a standby, or a server set to read only.
    """
    return dialect_of(connection).read_clock(connection)


# One that lives for ever never learns of a new address, a new password or a changed setting of its role.
_KEPT_SECONDS = 600.0


class CachedConnection:
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
        if young and dialect_of(connection).is_alive(connection, self._answer):
            return idle
        connection.invalidate()
        connection.close()
        return None

    def _take(self) -> tuple[Connection, float] | None:
        with self._taking:
            idle, self._idle = self._idle, None
        return idle


class ActivityClock:
    """Beats with every statement of an engine. `at` is the last beat, on the monotonic clock."""

    def __init__(self, engine: Engine) -> None:
        self.at = time.monotonic()
        event.listen(engine, "before_cursor_execute", self.touch)
        event.listen(engine, "after_cursor_execute", self.touch)

    def touch(self, *_: object) -> None:
        """Something moves. Takes whatever SQLAlchemy tells with it."""
        self.at = time.monotonic()
