"""A database's catalogs, looked at inside a transaction of which nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from reaper.catalog import Catalog
from reaper.catalog.mariadb import LONGEST_SECONDS, MariaDB
from reaper.catalog.postgresql import OLDEST as OLDEST_POSTGRESQL
from reaper.catalog.postgresql import PostgreSQL
from reaper.database.connections import transaction
from reaper.database.errors import ErrorKind, classify, short_message
from reaper.database.mariadb import OLDEST_VERSION as OLDEST_MARIADB
from reaper.database.timeouts import Timeouts
from reaper.errors import DatabaseUnavailable
from reaper.profile import Profile


class Unsuitable(Exception):
    """The profile cannot be used on this server. `subject` is what the message is about: `server`, or a table."""

    def __init__(self, subject: str, message: str) -> None:
        self.subject = subject
        super().__init__(message)


@contextmanager
def opened(connection: Connection, profile: Profile, patience_seconds: float) -> Iterator[Catalog]:
    """Each question about rows is cut off after `patience_seconds`. MariaDB wants a session with no transaction.

    Raises Unsuitable, and DatabaseAway when the database cannot be asked.
    """
    try:
        if connection.dialect.name == "postgresql":
            check_postgresql_version(connection.dialect.server_version_info)
            with _nothing_kept(connection):
                yield PostgreSQL(connection, patience_seconds)
        else:
            check_mariadb_version(connection, profile)
            with transaction(connection, Timeouts(LONGEST_SECONDS, patience_seconds), read_only=True):
                yield MariaDB(connection, patience_seconds)
    except DBAPIError as failed:
        if classify(failed) is ErrorKind.UNAVAILABLE:
            raise DatabaseUnavailable(short_message(failed)) from None
        raise


@contextmanager
def _nothing_kept(connection: Connection) -> Iterator[None]:
    begin = connection.begin_nested if connection.in_transaction() else connection.begin
    with begin() as begun:
        connection.execute(text("SET LOCAL transaction_read_only = on"))
        yield
        begun.rollback()


def check_postgresql_version(version: tuple[int | str, ...] | None) -> None:
    """The catalogs of an older server lack what the checks ask for. Raises Unsuitable."""
    if version is not None and int(version[0]) < OLDEST_POSTGRESQL:
        shown = ".".join(map(str, version))
        raise Unsuitable(
            "server",
            f"PostgreSQL {shown} is too old: {OLDEST_POSTGRESQL} or newer is supported; nothing else was examined",
        )


def check_mariadb_version(connection: Connection, profile: Profile) -> None:
    """Raises Unsuitable. Leaves the connection without a transaction."""
    version = str(connection.execute(text("SELECT version()")).scalar_one())
    connection.rollback()
    known = connection.dialect.server_version_info or ()
    if "mariadb" not in version.casefold() or tuple(known[:2]) < OLDEST_MARIADB:
        oldest = ".".join(map(str, OLDEST_MARIADB))
        raise Unsuitable("server", f"is {version}: MariaDB {oldest} or later is needed; nothing else was examined")
    if profile.jobs.log is not None:
        raise Unsuitable(
            profile.jobs.table,
            f"profile {profile.name!r}: jobs that exist only as a log need PostgreSQL: no lock of MariaDB's keeps "
            "entries from being written until a commit",
        )
