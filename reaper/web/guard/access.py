"""Who is let in: the checks of one request's head. They read headers, and nothing else."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Scope

from reaper.config import Settings
from reaper.web.guard.allowed_hosts import AllowedHosts, same_origin
from reaper.web.guard.tokens import HOW_TO_SET, Caller, Tokens

READING = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing. Every other one needs a token, whatever it asks for."""
BODY_BYTES = 64 * 1024


class AccessControl:
    """The tokens and names in force. `configure` may be called at any time, from any thread."""

    def __init__(self, tokens: Tokens | None = None, hosts: AllowedHosts | None = None) -> None:
        self.tokens, self.hosts = tokens or Tokens(), hosts or AllowedHosts()

    def configure(self, settings: Settings) -> None:
        """From now on what these settings say. Raises ConfigError when the tokens cannot be read."""
        self.tokens.replace(settings.http_tokens)
        self.hosts = AllowedHosts((settings.http_host, *settings.http_allowed_hosts))

    def check(self, scope: Scope) -> None:
        """Raises HTTPException for a request that is not to be looked at any further."""
        headers = Headers(scope=scope)
        self._check_host(headers)
        if scope["method"] not in READING:
            _check_origin(headers)
            self.caller(scope)
        _check_length(headers)

    def allows(self, scope: Scope) -> bool:
        """Whether `check` has nothing against it."""
        try:
            self.check(scope)
        except HTTPException:
            return False
        return True

    def token_name(self, scope: Scope) -> str | None:
        """The name of the token that it bears, whatever else is wrong with it; None without a right one."""
        return self.tokens.who(_authorization(Headers(scope=scope)))

    def caller(self, scope: Scope) -> Caller:
        """Whose token it bears. Raises HTTPException 403 when there are no tokens at all, 401 when it is none."""
        if not self.tokens:
            raise HTTPException(403, f"this reaper is read-only: it has no token for HTTP ({HOW_TO_SET})")
        authorization = _authorization(Headers(scope=scope))
        name = self.tokens.who(authorization)
        if name is None:
            problem = "this is not its token" if authorization else "there is none in the request"
            raise HTTPException(
                401, f"a bearer token is needed to change anything, and {problem}", {"WWW-Authenticate": "Bearer"}
            )
        return Caller(name, remote(scope))

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if not self.hosts.admits(hosts):
            named = f"the Host {hosts[0][:100]!r} is none" if len(hosts) == 1 else "there is no single Host"
            raise HTTPException(
                421, f"{named} that this reaper goes by; REAPER_HTTP_ALLOWED_HOSTS lists more names for it"
            )


def remote(scope: Scope) -> str:
    """Where a request came from."""
    host, port = scope.get("client") or ("unknown", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _authorization(headers: Headers) -> str | None:
    """The one Authorization header; of two, neither counts."""
    given = headers.getlist("authorization")
    return given[0] if len(given) == 1 else None


def _check_origin(headers: Headers) -> None:
    """A browser says on whose behalf it asks; other clients say nothing, and are no page's tool."""
    site, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
    foreign = any(each not in {"same-origin", "none"} for each in site)
    if foreign or not all(same_origin(origin, headers["host"]) for origin in origins):
        raise HTTPException(403, "only this reaper's own page may change something from within a browser")


def _check_length(headers: Headers) -> None:
    length = headers.get("content-length", "0")
    # h11 has seen to it that there is one at most, and that it is a number.
    if int(length) > BODY_BYTES:
        raise HTTPException(413, f"a request's body must not be longer than {BODY_BYTES} bytes")
