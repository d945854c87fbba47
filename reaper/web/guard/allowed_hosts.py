"""Names that a request may call this server by, and origins that it may come from."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_PLACE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_PORTS = {"http": 80, "https": 443}


class Place(NamedTuple):
    """What stands in a Host header: a name in lower case or an address, and a port where there is one."""

    host: str
    port: int | None

    @classmethod
    def of(cls, text: str) -> Place | None:
        """None for what cannot be one."""
        found = _PLACE.fullmatch(text)
        if found is None:
            return None
        host, port = found["host"].casefold().strip("[]").rstrip("."), found["port"]
        if found["host"].startswith("[") and not (":" in host and _is_address(host)):
            return None
        return cls(host, int(port) if port else None)


class AllowedHosts:
    """The names that a Host header may bear. A web page that had its own name lead here cannot use one of them.

    An address is one always: the name of whoever rebinds it would stand in its place.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        given = (Place.of(name) for name in (*names, "localhost", socket.gethostname()))
        self._names = {place.host for place in given if place}

    def admits(self, headers: Sequence[str]) -> bool:
        """Whether these Host headers are one, and it bears one of the names."""
        place = Place.of(headers[0]) if len(headers) == 1 else None
        return place is not None and (_is_address(place.host) or place.host in self._names)


def same_origin(origin: str, host: str) -> bool:
    """Whether an Origin header names the same host and port as a Host header. `null` names none."""
    scheme, _, rest = origin.partition("://")
    default = _PORTS.get(scheme.casefold())
    ours, theirs = Place.of(host), Place.of(rest)
    if default is None or ours is None or theirs is None:
        return False
    return (ours.host, ours.port or default) == (theirs.host, theirs.port or default)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
