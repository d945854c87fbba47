"""Database URLs: brought to one form, compared, and shown without their secrets.

No message repeats any part of a URL except a plain scheme: what cannot be parsed cannot be masked either.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

from reaper.config import mariadb_parameters, postgresql_parameters

SCHEME, MARIADB = "postgresql+psycopg", "mariadb+pymysql"
_ACCEPTED = {
    **dict.fromkeys(("postgresql", "postgres", SCHEME), SCHEME),
    **dict.fromkeys(("mariadb", "mysql", MARIADB, "mysql+pymysql"), MARIADB),
}
_PORTS = {SCHEME: "5432", MARIADB: "3306"}
_PLAIN_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}", re.IGNORECASE)
_EXAMPLE = "postgresql://user:password@host:5432/database"

# SQLAlchemy's own grammar, minus what it would read differently from what was meant.
_REST = re.compile(
    r"""
    (?: (?P<user>[^:/?@]*) (?: :(?P<password>[^@]*) )? @ )?
    (?: \[(?P<ipv6>[^/?@\]]+)\] | (?P<host>[^/:?@\[\]]+) )?
    (?: :(?P<port>[^/?@]*) )?
    (?: /(?P<database>[^?@]*) )?
    (?: \?(?P<query>[^@]*) )?
    """,
    re.VERBOSE,
)
# Those parameters that say where the database is.
_PLACING = frozenset({"host", "hostaddr", "port", "dbname", "service", "unix_socket"})
_SECRET_PARAMETER = re.compile(r"(?P<name>(?:^|&)[^=&]*(?:password|secret|token)[^=&]*=)[^&]*", re.IGNORECASE)


def normalise_database_url(text: str) -> str:
    """The URL as `postgresql+psycopg://…` or `mariadb+pymysql://…`.

    Raises ValueError, without a secret in it, for anything else.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        raise ValueError(f"expected a URL such as {_EXAMPLE}")
    wanted = _ACCEPTED.get(scheme.casefold())
    if wanted is None:
        given = f", not {scheme}://" if _PLAIN_SCHEME.fullmatch(scheme) else ""
        raise ValueError(f"expected postgresql://, postgres://, {SCHEME}://, mariadb:// or mysql://{given}")
    if re.search(r"[\s\x00-\x1f\x7f]", rest):
        raise ValueError("the URL holds a blank or a control character; write a blank as %20")
    if rest.count("@") > 1:
        raise ValueError("the URL holds more than one @; in a user name or password write it as %40")
    parts = _REST.fullmatch(rest)
    if parts is None:
        raise ValueError(f"the URL cannot be read; expected {_EXAMPLE}, with @ : / ? in a password as %40 %3A %2F %3F")
    _check_port(parts["port"])
    if wanted == MARIADB and not parts["database"]:
        raise ValueError("the URL names no database; expected mariadb://user:password@host:3306/database")
    check = (
        mariadb_parameters.check_mariadb_parameters
        if wanted == MARIADB
        else postgresql_parameters.check_postgresql_parameters
    )
    check(parts["query"] or "")
    return f"{wanted}://{rest}"


def _check_port(port: str | None) -> None:
    if port is not None and not postgresql_parameters.is_port(port):
        raise ValueError(
            "the port in the URL is not a number from 1 to 65535 "
            "(several hosts are written ?host=first:5432&host=second:5432)"
        )


def mask_database_url(url: str) -> str:
    """A normalised URL without its secrets, for people to read."""
    scheme, _, rest = url.partition("://")
    parts = _REST.fullmatch(rest)
    if parts is None:
        return f"{scheme}://***"
    if parts["password"] is not None:
        rest = f"{rest[: parts.start('password')]}***{rest[parts.end('password') :]}"
    address, mark, query = rest.partition("?")
    return f"{scheme}://{address}{mark}{_SECRET_PARAMETER.sub(_hide, query)}"


def _hide(parameter: re.Match[str]) -> str:
    return f"{parameter['name']}***"


def connection_identity(url: str) -> tuple[str, str, str, str, tuple[tuple[str, str], ...]]:
    """Equal for two normalised URLs that lead to the same place; the password does not matter.

    The user and the parameters do: each may select a schema, and one database with a schema per tenant is
    several sources.
    """
    scheme, _, rest = url.partition("://")
    parts = _REST.fullmatch(rest)
    if parts is None:
        raise ValueError("not a normalised URL")
    return (
        unquote(parts["user"] or ""),
        (parts["ipv6"] or parts["host"] or "").casefold(),
        parts["port"] or _PORTS[scheme],
        unquote(parts["database"] or ""),
        tuple(sorted(parse_qsl(parts["query"] or ""))),
    )


def database_location(url: str) -> tuple[object, ...]:
    """Equal for two normalised URLs that lead to the same database, whoever asks there and however."""
    user, host, port, database, parameters = connection_identity(url)
    placing = tuple(pair for pair in parameters if pair[0] in _PLACING)
    # Without a name the database is the one called like the user.
    return (host, port, database or user, placing)
