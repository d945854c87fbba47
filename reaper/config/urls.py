"""Database and broker URLs: brought to one form, checked, compared, and shown without their secrets.

No message repeats a part of a URL, except a plain scheme: a URL that cannot be parsed cannot be masked either.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

from reaper.common.suggestions import did_you_mean
from reaper.config.url_masking import MASK, mask_url
from reaper.config.url_parameters import check_mariadb_parameters, check_postgresql_parameters, is_port

POSTGRESQL, MARIADB = "postgresql+psycopg", "mariadb+pymysql"
"""The schemes of normalised database URLs, as SQLAlchemy has them."""

BROKERS = frozenset({"amqp", "amqps", "pyamqp", "redis", "rediss", "redis+socket", "sentinel"})
"""The schemes of brokers.

Those of kombu's transports (`kombu.transport.TRANSPORT_ALIASES`, kombu 5.7) that carry remote control, which is how
Celery's workers are inspected; and Redis behind a socket, which kombu supports without listing it.
"""

DATABASES = {
    **dict.fromkeys(("postgresql", "postgres", POSTGRESQL), POSTGRESQL),
    **dict.fromkeys(("mariadb", "mysql", MARIADB, "mysql+pymysql"), MARIADB),
}
_DEFAULT_PORTS = {POSTGRESQL: "5432", MARIADB: "3306"}
_REDIS = ("redis", "sentinel")
_DATABASE_EXAMPLE = "postgresql://user:password@host:5432/database"
_BROKER_EXAMPLES = "redis://:password@host:6379/0 or amqp://user:password@host:5672/vhost"

_PLAIN_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}", re.IGNORECASE)
_FORBIDDEN_CHARACTER = re.compile(r"[\s\x00-\x1f\x7f]")
# SQLAlchemy's own grammar, without what SQLAlchemy would read differently from what was meant.
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
_LOCATION_PARAMETERS = frozenset({"host", "hostaddr", "port", "dbname", "service", "unix_socket"})


# --- databases -----------------------------------------------------------------------------------------------------


def normalise_database_url(text: str) -> str:
    """The URL as `postgresql+psycopg://…` or `mariadb+pymysql://…`.

    Raises ValueError, without a secret in its text, for anything else.
    """
    given, separator, rest = text.strip().partition("://")
    if not separator:
        raise ValueError(f"expected a URL such as {_DATABASE_EXAMPLE}")
    scheme = DATABASES.get(given.casefold())
    if scheme is None:
        shown = f", not {given}://" if _PLAIN_SCHEME.fullmatch(given) else ""
        raise ValueError(f"expected postgresql://, postgres://, {POSTGRESQL}://, mariadb:// or mysql://{shown}")
    _check_characters(rest)
    if rest.count("@") > 1:
        raise ValueError("the URL contains more than one @; in a user name or password write it as %40")
    parts = _REST.fullmatch(rest)
    if parts is None:
        raise ValueError(
            f"the URL cannot be parsed; expected {_DATABASE_EXAMPLE}, with @ : / ? in a password as %40 %3A %2F %3F"
        )
    if parts["port"] is not None and not is_port(parts["port"]):
        raise ValueError(
            "the port in the URL is not a number from 1 to 65535 "
            "(several hosts are written ?host=first:5432&host=second:5432)"
        )
    if scheme == MARIADB:
        if not parts["database"]:
            raise ValueError("the URL names no database; expected mariadb://user:password@host:3306/database")
        check_mariadb_parameters(parts["query"] or "")
    else:
        check_postgresql_parameters(parts["query"] or "")
    return f"{scheme}://{rest}"


def mask_database_url(url: str) -> str:
    """A normalised URL with `***` for what may be secret, for people to read."""
    return mask_url(url)


def connection_identity(url: str) -> tuple[str, str, str, str, tuple[tuple[str, str], ...]]:
    """Equal for two normalised URLs that reach the same tables. The password does not count.

    The user and the parameters count: each may select a schema, and a database with a schema per tenant is several
    sources.
    """
    scheme, _, rest = url.partition("://")
    parts = _REST.fullmatch(rest)
    if parts is None:
        raise ValueError("not a normalised URL")
    return (
        unquote(parts["user"] or ""),
        (parts["ipv6"] or parts["host"] or "").casefold(),
        parts["port"] or _DEFAULT_PORTS[scheme],
        unquote(parts["database"] or ""),
        tuple(sorted(parse_qsl(parts["query"] or ""))),
    )


def database_location(url: str) -> tuple[object, ...]:
    """Equal for two normalised URLs that lead to the same database, whatever the user and the options."""
    user, host, port, database, parameters = connection_identity(url)
    location = tuple(pair for pair in parameters if pair[0] in _LOCATION_PARAMETERS)
    # PostgreSQL's client takes the user's name for the database where none is given.
    return (host, port, database or user, location)


# --- brokers -------------------------------------------------------------------------------------------------------


def normalise_broker_url(text: str) -> str:
    """The URL with its scheme in small letters. Several URLs joined by `;` are one broker that fails over.

    Raises ValueError, without a secret in its text, for anything else.
    """
    return ";".join(_normalise_one_broker_url(part.strip()) for part in text.split(";"))


def _normalise_one_broker_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"expected a URL such as {_BROKER_EXAMPLES}")
    if not _PLAIN_SCHEME.fullmatch(scheme):
        raise ValueError(f"the URL's scheme cannot be parsed{did_you_mean('', BROKERS)}")
    if scheme.casefold() not in BROKERS:
        raise ValueError(f"{scheme}:// is not a supported broker{did_you_mean(scheme, BROKERS)}")
    _check_characters(rest)
    if not _splits_cleanly(f"{scheme}://{rest}"):
        raise ValueError(
            f"the URL cannot be parsed; expected {_BROKER_EXAMPLES}, "
            "with @ : / ? # ; in a user name or password as %40 %3A %2F %3F %23 %3B"
        )
    return f"{scheme.casefold()}://{rest}"


def _splits_cleanly(url: str) -> bool:
    """Whether the URL can be split into its parts, and no piece of a password ended up in another part."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return port != 0 and parts.netloc.count("@") <= 1 and not {"@", "#"} & set(url.replace(parts.netloc, "", 1))


def mask_broker_url(url: str) -> str:
    """A normalised URL with `***` for what may be secret, for people to read."""
    return ";".join(map(_mask_one_broker_url, url.split(";")))


def _mask_one_broker_url(url: str) -> str:
    """`something` in `redis://something@host` is meant as a password: Redis ignores a user's name without one."""
    scheme, _, rest = url.partition("://")
    user, _, password = rest.rpartition("@")[0].partition(":")
    if user and not password and scheme.startswith(_REDIS):
        return mask_url(f"{scheme}://{MASK}@{rest.rpartition('@')[2]}")
    return mask_url(url)


def _check_characters(rest: str) -> None:
    if _FORBIDDEN_CHARACTER.search(rest):
        raise ValueError("the URL contains a blank or a control character; write a blank as %20")
