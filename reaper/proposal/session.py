"""Opens the catalogs of a database that no source is configured for yet, in a transaction that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.catalog import QUERY_SECONDS, Catalog
from reaper.catalog.session import Unsuitable, open_catalog
from reaper.config import DatabaseSettings
from reaper.database.connections import make_engine
from reaper.database.errors import ErrorKind, classify, short_message
from reaper.database.timeouts import Timeouts
from reaper.errors import DatabaseUnavailable, ReaperError


class Look(NamedTuple):
    """The catalogs, and the connection to read rows with, within one transaction."""

    catalog: Catalog
    connection: Connection


@contextmanager
def looking_at(database: DatabaseSettings) -> Iterator[Look]:
    """Each query that reads rows is cut off after a few seconds.

    Raises DatabaseUnavailable, and ReaperError for a server that is too old or that refuses.
    """
    timeouts = Timeouts(QUERY_SECONDS, database.connect_timeout_seconds)
    engine = make_engine(database.url.get_secret_value(), "init", timeouts)
    try:
        with engine.connect() as connection, open_catalog(connection, None, QUERY_SECONDS) as catalog:
            yield Look(catalog, connection)
    except Unsuitable as unsuitable:
        raise ReaperError(f"the server {unsuitable}") from None
    except DBAPIError as error:
        line = f"the database that {database.origin} gives: {short_message(error)}"
        raise (DatabaseUnavailable if classify(error) is ErrorKind.UNAVAILABLE else ReaperError)(line) from None
