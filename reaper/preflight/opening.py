"""A database's catalogs, looked at inside a transaction of which nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from reaper.model import DatabaseAway
from reaper.preflight.catalog import Catalog
from reaper.preflight.finding import Finding
from reaper.preflight.mariadb import LONGEST_SECONDS, MariaDB
from reaper.preflight.mariadb_checks import unsupported
from reaper.preflight.postgresql import PostgreSQL
from reaper.preflight.server import too_old
from reaper.profile import Profile
from reaper.source import Patience
from reaper.source.session import transaction
from reaper.source.trouble import Trouble, in_one_line, trouble


class Unsuitable(Exception):
    """A server on which this profile cannot be used at all, which the finding tells."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.message)


@contextmanager
def opened(connection: Connection, profile: Profile, patience_seconds: float) -> Iterator[Catalog]:
    """Each question about rows is cut off after `patience_seconds`. MariaDB wants a session with no transaction.

    Raises Unsuitable, and DatabaseAway when the database cannot be asked.
    """
    try:
        if connection.dialect.name == "postgresql":
            if (old := too_old(connection.dialect.server_version_info)) is not None:
                raise Unsuitable(old)
            with _nothing_kept(connection):
                yield PostgreSQL(connection, patience_seconds)
        else:
            if (why := unsupported(connection, profile)) is not None:
                raise Unsuitable(why)
            with transaction(connection, Patience(LONGEST_SECONDS, patience_seconds), read_only=True):
                yield MariaDB(connection, patience_seconds)
    except DBAPIError as failed:
        if trouble(failed) is Trouble.AWAY:
            raise DatabaseAway(in_one_line(failed)) from None
        raise


@contextmanager
def _nothing_kept(connection: Connection) -> Iterator[None]:
    begin = connection.begin_nested if connection.in_transaction() else connection.begin
    with begin() as begun:
        connection.execute(text("SET LOCAL transaction_read_only = on"))
        yield
        begun.rollback()
