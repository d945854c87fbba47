"""What may follow the ? of a database URL: the words that PostgreSQL's client library takes, with values it takes.

One that it does not take would be found out only with the first connection, as a database that is away for ever.
No message repeats a part of the URL: a name is told by its position, a value by what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from urllib.parse import parse_qsl

from reaper.common.suggestions import nearest

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
_METHODS = ("password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none")
_NUMBERS = frozenset(
    {"connect_timeout", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"}
)
# Such a connection takes no ordinary statements.
_REFUSED = frozenset({"replication"})
_LISTS = frozenset({"host", "port"})


@cache
def _known() -> frozenset[str]:
    # Only where there is a URL, and with it a use for the driver: help and the like are quick without.
    from psycopg.pq import Conninfo

    return frozenset(option.keyword.decode() for option in Conninfo.get_defaults()) - _REFUSED


def check_postgresql_parameters(query: str) -> None:
    """Raises ValueError for what the client library would refuse, or take for something else than was meant."""
    given: dict[str, list[str]] = {}
    for position, (name, value) in enumerate(pairs_of(query), start=1):
        _check_name(position, name)
        if value:  # an empty one counts as none
            given.setdefault(name, []).append(value)
    for name, values in given.items():
        if len(values) > 1 and name not in _LISTS:
            raise ValueError(f"{name} is given more than once after the ? of the URL")
        _check_value(name, values[0])
    _check_hosts(given.get("host", []), given.get("port", []))


def pairs_of(query: str) -> list[tuple[str, str]]:
    """Names and values. Raises ValueError where there are none to be seen."""
    try:
        return parse_qsl(query, strict_parsing=bool(query), keep_blank_values=True)
    except ValueError:
        raise ValueError("what follows the ? of the URL must be name=value, joined by &") from None


def _check_name(position: int, name: str) -> None:
    if name not in _known():
        near = nearest(name, _known())
        hint = (
            f"; did you mean {near!r}?" if near else "; expected one such as sslmode, options or target_session_attrs"
        )
        raise ValueError(f"parameter {position} after the ? of the URL is not known to PostgreSQL's client{hint}")


def _check_value(name: str, value: str) -> None:
    if name in _NUMBERS and not re.fullmatch(r"[0-9]{1,9}", value):
        raise ValueError(f"{name} in the URL: expected a whole number")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise ValueError(f"{name} in the URL: expected one of: {', '.join(_CHOICES[name])}")
    if name == "require_auth" and not {method.removeprefix("!") for method in value.split(",")} <= {*_METHODS}:
        raise ValueError(f"{name} in the URL: expected one or more, joined by commas, of: {', '.join(_METHODS)}")


def _check_hosts(hosts: Sequence[str], ports: Sequence[str]) -> None:
    """host=a&host=b:5433, or host=a,b&port=5432,5433: one of the two ways, with a port for each or one for all."""
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


def is_port(text: str) -> bool:
    return re.fullmatch(r"0*[1-9][0-9]{0,4}", text) is not None and int(text) <= 65535
