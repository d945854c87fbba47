"""Opens a database's catalogs, inside a transaction that changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from reaper.catalog import Catalog
from reaper.catalog.mariadb import CATALOG_QUERY_SECONDS, MariaDBCatalog
from reaper.catalog.postgresql import OLDEST as OLDEST_POSTGRESQL
from reaper.catalog.postgresql import PostgreSQLCatalog
from reaper.database.connections import transaction
from reaper.database.errors import ErrorKind, classify, short_message
from reaper.database.mariadb import OLDEST_VERSION as OLDEST_MARIADB
from reaper.database.postgresql.search_path import pinned
from reaper.database.postgresql.settings import NOTATION, set_for_transaction
from reaper.database.timeouts import Timeouts
from reaper.errors import DatabaseUnavailable
from reaper.profile import Profile

# The role's own limits are for its own work. Those of `reaper.database.postgresql` are for short transactions: here one
# transaction has many queries, and each query of rows has a limit of its own.
_SETTINGS = "SELECT " + set_for_transaction(
    {
        **NOTATION,
        "statement_timeout": f"'{CATALOG_QUERY_SECONDS:g}s'",
        "lock_timeout": "'0'",
        "idle_in_transaction_session_timeout": f"'{CATALOG_QUERY_SECONDS:g}s'",
        "transaction_read_only": "'on'",
    }
)


class Unsuitable(Exception):
    """The profile cannot be used on this server. `subject` is what is unsuitable: "server", or a table."""

    def __init__(self, subject: str, message: str) -> None:
        self.subject = subject
        super().__init__(message)


@contextmanager
def open_catalog(connection: Connection, profile: Profile | None, query_seconds: float) -> Iterator[Catalog]:
    """Each query that reads rows is cut off after `query_seconds`. On MariaDB no transaction may be open.

    `profile` is the one that the database is looked at for; None where it is looked at for what it has.

    Raises:
        Unsuitable: the server is too old, or the profile needs another kind of server.
        DatabaseUnavailable: the database does not answer.
    """
    try:
        if connection.dialect.name == "postgresql":
            check_postgresql_version(connection.dialect.server_version_info)
            with _rolled_back(connection):
                yield PostgreSQLCatalog(connection, query_seconds)
        else:
            check_mariadb_version(connection)
            if profile is not None:
                check_mariadb_profile(profile)
            with transaction(connection, Timeouts(CATALOG_QUERY_SECONDS, query_seconds), read_only=True):
                yield MariaDBCatalog(connection, query_seconds)
    except DBAPIError as error:
        if classify(error) is ErrorKind.UNAVAILABLE:
            raise DatabaseUnavailable(short_message(error)) from None
        raise


@contextmanager
def _rolled_back(connection: Connection) -> Iterator[None]:
    begin = connection.begin_nested if connection.in_transaction() else connection.begin
    with begin() as begun, pinned(connection):
        connection.execute(text(_SETTINGS))
        yield
        begun.rollback()


def check_postgresql_version(version: tuple[int | str, ...] | None) -> None:
    """Raises Unsuitable for a server whose catalogs lack what the checks read."""
    if version is not None and int(version[0]) < OLDEST_POSTGRESQL:
        raise _too_old(f"PostgreSQL {'.'.join(map(str, version))}", f"PostgreSQL {OLDEST_POSTGRESQL}")


def check_mariadb_version(connection: Connection) -> None:
    """Raises Unsuitable for MySQL, and for a MariaDB that is too old. Ends the connection's transaction."""
    version = str(connection.execute(text("SELECT version()")).scalar_one())
    connection.rollback()
    numbers = tuple(connection.dialect.server_version_info or ())[:2]
    if "mariadb" not in version.casefold() or numbers < OLDEST_MARIADB:
        raise _too_old(version, f"MariaDB {'.'.join(map(str, OLDEST_MARIADB))}")


def check_mariadb_profile(profile: Profile) -> None:
    """Raises Unsuitable for a profile whose jobs exist only as a log."""
    if profile.jobs.log is not None:
        raise Unsuitable(
            profile.jobs.table,
            f"profile {profile.name!r}: jobs that exist only as a log need PostgreSQL, as no lock of MariaDB keeps new "
            "entries out of a table until a commit",
        )


def _too_old(server: str, oldest: str) -> Unsuitable:
    return Unsuitable("server", f"is {server}; {oldest} or later is needed, so nothing else was checked")
