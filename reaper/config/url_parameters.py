"""Parameters after the ? of a database URL: which names and values the client library of the database accepts.

A parameter that the library refuses would otherwise show only at the first connection, as a database that cannot be
reached. No message repeats a part of the URL: it gives the position of a wrong name, and what a value should have been.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from urllib.parse import parse_qsl

from reaper.common.suggestions import nearest

# --- PostgreSQL (libpq) --------------------------------------------------------------------------------------------

_SWITCH = ("0", "1")
_TLS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_PROTOCOL = ("3.0", "3.2", "latest")
_CHOICES: Mapping[str, Sequence[str]] = {
    "channel_binding": ("disable", "prefer", "require"),
    "gssdelegation": _SWITCH,
    "gssencmode": ("disable", "prefer", "require"),
    "gsslib": ("gssapi", "sspi"),
    "keepalives": _SWITCH,
    "load_balance_hosts": ("disable", "random"),
    "max_protocol_version": _PROTOCOL,
    "min_protocol_version": _PROTOCOL,
    "ssl_max_protocol_version": _TLS,
    "ssl_min_protocol_version": _TLS,
    "sslcertmode": ("disable", "allow", "require"),
    "sslcompression": _SWITCH,
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "sslsni": _SWITCH,
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
_AUTH_METHODS = ("password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none")
_WHOLE_NUMBERS = frozenset(
    {"connect_timeout", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"}
)
# A replication connection accepts no ordinary statements.
_UNSUPPORTED = frozenset({"replication"})
_REPEATABLE = frozenset({"host", "port"})


@cache
def _libpq_keywords() -> frozenset[str]:
    # Imported late: loading the driver is slow, and commands such as --help need neither it nor a URL.
    from psycopg.pq import Conninfo

    return frozenset(option.keyword.decode() for option in Conninfo.get_defaults()) - _UNSUPPORTED


def check_postgresql_parameters(query: str) -> None:
    """Raises ValueError for what libpq would refuse, or would take for something else than was meant."""
    given: dict[str, list[str]] = {}
    for position, (name, value) in enumerate(_pairs(query), start=1):
        _check_postgresql_name(position, name)
        if value:  # libpq ignores an empty value
            given.setdefault(name, []).append(value)
    for name, values in given.items():
        if len(values) > 1 and name not in _REPEATABLE:
            raise ValueError(f"{name} is given more than once after the ? of the URL")
        _check_postgresql_value(name, values[0])
    _check_postgresql_hosts(given.get("host", []), given.get("port", []))


def _check_postgresql_name(position: int, name: str) -> None:
    if name not in _libpq_keywords():
        near = nearest(name, _libpq_keywords())
        hint = (
            f"; did you mean {near!r}?" if near else "; expected one such as sslmode, options or target_session_attrs"
        )
        raise ValueError(f"parameter {position} after the ? of the URL is not known to PostgreSQL's client{hint}")


def _check_postgresql_value(name: str, value: str) -> None:
    if name in _WHOLE_NUMBERS and not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError(f"{name} in the URL: expected a whole number")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ValueError(f"{name} in the URL: expected one of: {', '.join(_CHOICES[name])}")
    if name == "require_auth" and not {method.removeprefix("!") for method in value.split(",")} <= {*_AUTH_METHODS}:
        raise ValueError(f"{name} in the URL: expected one or more, joined by commas, of: {', '.join(_AUTH_METHODS)}")


def _check_postgresql_hosts(hosts: Sequence[str], ports: Sequence[str]) -> None:
    """Several hosts are host=a&host=b:5433 or host=a,b&port=5432,5433, with a port for each host or one for all."""
    if len(hosts) > 1:
        if ports or any(host.count(":") > 1 for host in hosts):
            raise ValueError("several hosts are written ?host=first:5432&host=second:5432, without another port")
        names, numbers = list(hosts), [host.partition(":")[2] for host in hosts]
    else:
        names = [name for host in hosts for name in host.split(",")]
        numbers = list(ports) if len(ports) > 1 else [number for port in ports for number in port.split(",")]
        if not ports and len(names) == 1 and re.fullmatch(r"[A-Za-z0-9.-]*:[0-9]*", names[0]):
            numbers = [names[0].partition(":")[2]]
    if not all(number == "" or is_port(number) for number in numbers):
        raise ValueError("a port after the ? of the URL is not a number from 1 to 65535")
    if len(numbers) not in (0, 1, len(names)):
        raise ValueError("after the ? of the URL there are not as many ports as hosts")
    if len(numbers) == 1 < len(names):
        raise ValueError("after the ? of the URL there is one port for several hosts; write one for each")


# --- MariaDB (pymysql, as SQLAlchemy calls it) ---------------------------------------------------------------------

# The socket and TLS. Other options of the driver (time limits, character set, SQL mode) are set by the reaper itself.
_MARIADB_SWITCHES = frozenset({"ssl_check_hostname"})
_MARIADB_NAMES = (
    frozenset({"unix_socket", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_cipher", "ssl_key"}) | _MARIADB_SWITCHES
)


def check_mariadb_parameters(query: str) -> None:
    """Raises ValueError for what pymysql would refuse, or would take for something else than was meant."""
    seen = set[str]()
    for position, (name, value) in enumerate(_pairs(query), start=1):
        if name not in _MARIADB_NAMES:
            near = nearest(name, _MARIADB_NAMES)
            hint = f"; did you mean {near!r}?" if near else f"; expected one of: {', '.join(sorted(_MARIADB_NAMES))}"
            raise ValueError(f"parameter {position} after the ? of the URL is not known for MariaDB{hint}")
        if name in seen:
            raise ValueError(f"{name} is given more than once after the ? of the URL")
        seen.add(name)
        if name in _MARIADB_SWITCHES and value not in ("true", "false"):
            raise ValueError(f"{name} in the URL: expected one of: true, false")
        if not value:
            raise ValueError(f"{name} in the URL: expected a value")


# --- both ----------------------------------------------------------------------------------------------------------


def _pairs(query: str) -> list[tuple[str, str]]:
    """Names and values. Raises ValueError where the query is not made of name=value."""
    try:
        return parse_qsl(query, strict_parsing=bool(query), keep_blank_values=True)
    except ValueError:
        raise ValueError("what follows the ? of the URL must be name=value, joined by &") from None


def is_port(text: str) -> bool:
    """Whether the text is a number from 1 to 65535."""
    return re.fullmatch(r"0*[1-9][0-9]{0,4}", text) is not None and int(text) <= 65535
