"""Access control: which requests are let in, by their Host, Origin, token and length. Reads only a request's head."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from reaper.config import Settings
from reaper.web.guard.tokens import WHERE_FROM, Caller, Tokens

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing. Every other one needs a token, whatever it asks for."""
DRY_RUNS = frozenset({"/api/sweeps", "/api/executions/cleanup", "/api/admin/clear-stuck-jobs"})
"""Paths to which a POST may be a dry run, which only reads. Its body says so: see `reaper.web.api.dry_run_route`."""
BODY_BYTES = 64 * 1024
ACCESS_CONTROL = "reaper.access_control"
"""Where a request's scope has the AccessControl in force."""

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_PORTS = {"http": 80, "https": 443}


class HostPort(NamedTuple):
    """A Host header, parsed: a name in lower case or an address, and a port where there is one."""

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> HostPort | None:
        """None for a text that cannot be a Host header."""
        match = _HOST.fullmatch(text)
        if match is None:
            return None
        host, port = match["host"].casefold().strip("[]").rstrip("."), match["port"]
        if match["host"].startswith("[") and not (":" in host and _is_address(host)):
            return None
        return cls(host, int(port) if port else None)


class AllowedHosts:
    """The names that a Host header may bear. They keep out DNS rebinding: a web page whose own name leads here.

    An address is always allowed: a rebinding page's requests bear the page's name instead.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        parsed = (HostPort.parse(name) for name in (*names, "localhost", socket.gethostname()))
        self._names = {name.host for name in parsed if name}

    def admits(self, headers: Sequence[str]) -> bool:
        """Whether there is exactly one Host header, and it bears an address or one of the names."""
        parsed = HostPort.parse(headers[0]) if len(headers) == 1 else None
        return parsed is not None and (_is_address(parsed.host) or parsed.host in self._names)


class AccessControl:
    """The tokens and host names in force. `configure` may be called at any time, from any thread."""

    def __init__(self, tokens: Tokens | None = None, hosts: AllowedHosts | None = None) -> None:
        self.tokens, self.hosts = tokens or Tokens(), hosts or AllowedHosts()

    def configure(self, settings: Settings) -> None:
        """Put these settings into force. Raises ConfigError when the tokens cannot be read."""
        self.tokens.replace(settings.http_tokens)
        self.hosts = AllowedHosts((settings.http_host, *settings.http_allowed_hosts))

    def check(self, scope: Scope) -> None:
        """Raises HTTPException for a request that must not reach the application."""
        headers = Headers(scope=scope)
        _check_framing(headers)
        self._check_host(headers)
        if scope["method"] not in READING:
            _check_origin(headers)
            if not may_be_dry_run(scope):
                self.caller(scope)
        _check_length(headers)

    def allows(self, scope: Scope) -> bool:
        """Whether `check` raises nothing."""
        try:
            self.check(scope)
        except HTTPException:
            return False
        return True

    def token_name(self, scope: Scope) -> str | None:
        """The name of the request's token, whatever else is wrong with the request; None without a right token."""
        return self.tokens.name_of(_authorization(Headers(scope=scope)))

    def caller(self, scope: Scope) -> Caller:
        """The bearer of the request's token. Raises HTTPException: 403 when no token is configured, 401 without a
        right one.
        """
        if not self.tokens:
            raise HTTPException(403, f"this reaper is read-only: {self.tokens.absence}")
        authorization = _authorization(Headers(scope=scope))
        name = self.tokens.name_of(authorization)
        if name is None:
            problem = "this is not its token" if authorization else "there is none in the request"
            detail = f"a bearer token is needed to change anything, and {problem} ({WHERE_FROM})"
            raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
        return Caller(name, remote(scope))

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if not self.hosts.admits(hosts):
            problem = f"the Host {hosts[0][:100]!r} is not" if len(hosts) == 1 else "a missing or repeated Host is not"
            raise HTTPException(
                421, f"{problem} a name of this reaper; REAPER_HTTP_ALLOWED_HOSTS lists more names for it"
            )


class _TokenForChanges(SecurityBase):
    """FastAPI's description of an endpoint that needs the token unless a dry run is asked for. It checks nothing."""

    scheme_name = "token"
    model = HTTPBearer(description="A token of the file that REAPER_HTTP_TOKEN_FILE names. Without any: read-only.")

    async def __call__(self) -> None:
        return None


token_for_changes = _TokenForChanges()
"""For the description alone: `reaper.web.api.dry_run_route` checks the token."""


class _TokenRequired(SecurityBase):
    """FastAPI's dependency of every endpoint that changes something: the caller, from the request's token."""

    scheme_name = "token"
    model = HTTPBearer(description="A token of the file that REAPER_HTTP_TOKEN_FILE names. Without any: read-only.")

    async def __call__(self, request: Request) -> Caller:
        access_control: AccessControl = request.scope[ACCESS_CONTROL]
        return access_control.caller(request.scope)


token_required = _TokenRequired()
"""Use it as `who: Annotated[Caller, Security(token_required)]`. Raises HTTPException 401 and 403."""


def may_be_dry_run(scope: Scope) -> bool:
    """Whether the request may only read although it is a POST: its body decides."""
    return scope["method"] == "POST" and scope["path"] in DRY_RUNS


def remote(scope: Scope) -> str:
    """The address and port that a request came from."""
    host, port = scope.get("client") or ("unknown", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def same_origin(origin: str, host: str) -> bool:
    """Whether an Origin header names the same host and port as a Host header. The origin `null` names none."""
    scheme, _, rest = origin.partition("://")
    default = _PORTS.get(scheme.casefold())
    ours, theirs = HostPort.parse(host), HostPort.parse(rest)
    if default is None or ours is None or theirs is None:
        return False
    return (ours.host, ours.port or default) == (theirs.host, theirs.port or default)


def _authorization(headers: Headers) -> str | None:
    """The one Authorization header; of two, neither counts."""
    given = headers.getlist("authorization")
    return given[0] if len(given) == 1 else None


def _check_framing(headers: Headers) -> None:
    """A proxy may take the one, we the other: what one of them reads as a body, the other reads as the next request."""
    if "content-length" in headers and "transfer-encoding" in headers:
        raise HTTPException(400, "a request must not have both Content-Length and Transfer-Encoding")


def _check_origin(headers: Headers) -> None:
    """A browser names the site whose page sends the request; other clients send no such header."""
    sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
    foreign = any(site not in {"same-origin", "none"} for site in sites)
    if foreign or not all(same_origin(origin, headers["host"]) for origin in origins):
        raise HTTPException(403, "only this reaper's own page may change something from within a browser")


def _check_length(headers: Headers) -> None:
    length = headers.get("content-length", "0")
    # h11 has made sure that there is one at most, and that it is a number.
    if int(length) > BODY_BYTES:
        raise HTTPException(413, f"a request's body must not be longer than {BODY_BYTES} bytes")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
