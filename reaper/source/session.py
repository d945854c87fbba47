"""Engines, and transactions that say at their start how they want to be treated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, RootTransaction, make_url
from sqlalchemy.exc import ArgumentError

from reaper.hearing import Contact
from reaper.model import ConfigError
from reaper.source.dialect import dialect_named, dialect_of
from reaper.source.patience import Patience


def make_engine(url: str, source: str, patience: Patience) -> Engine:
    """An engine without a pool: a sweep a minute can afford a connection, and none goes stale in between.

    Raises ConfigError for a URL that it cannot use.
    """
    try:
        return dialect_named(make_url(url).get_backend_name()).engine(url, source, patience)
    except ArgumentError as error:
        raise ConfigError([f"source {source}: database_url: {error}"]) from None
    except ModuleNotFoundError as error:
        hint = ": pip install 'job-reaper[mysql]'" if error.name == "pymysql" else ""
        raise ConfigError([f"source {source}: database_url: its driver {error.name} is not installed{hint}"]) from None


@contextmanager
def transaction(connection: Connection, patience: Patience, *, read_only: bool = False) -> Iterator[RootTransaction]:
    """One short transaction in UTC, with its time limits set; commits at the end, rolls back on any error."""
    with connection.begin() as begun:
        dialect_of(connection).begin(connection, patience, read_only=read_only)
        yield begun


def look(connection: Connection) -> Contact:
    """Ask for the database's clock and its server's start, inside a transaction.

    Raises DatabaseAway when nobody could write there now: a standby, or a server set to read only.
    """
    return dialect_of(connection).look(connection)
