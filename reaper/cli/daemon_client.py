"""The daemon, asked over its HTTP port: straight there, whatever proxies the environment names."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

import click
from pydantic import SecretStr

from reaper.cli import exit_codes, output
from reaper.common.durations import format_duration
from reaper.config import Settings, load, reachable_host
from reaper.config.secrets import read_tokens
from reaper.errors import ConfigError, DaemonUnreachable, ReaperError
from reaper.model import Outcome

_SECONDS = 30.0
_WHERE_FROM = (
    "name its file with --token-file PATH, REAPER_HTTP_TOKEN_FILE, or http_token_file in the configuration "
    "(scripts/manage.sh start keeps it in .data/http-token)"
)
_SCHEMES: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}

url_option = click.option("--url", metavar="URL", help="Where the daemon listens. [default: as configured]")
token_option = click.option(
    "--token-file",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file with the token for it. [default: as configured]",
)


@dataclass(frozen=True, slots=True)
class Remote:
    """One daemon, and the token that it wants for a change. Whoever bears one does not wait with those who look."""

    url: SplitResult
    token: SecretStr | None = None

    def state(self) -> dict[str, Any]:
        """The supervisor's. Raises NobodyAnswers, and ReaperError with the daemon's own words when it refuses."""
        return self._ask("GET", "/api/supervisor/state")

    def order(self, what: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Have the supervisor do it. Returns its state, and raises as `state` does."""
        return self._ask("POST", f"/api/supervisor/{what}{f'?{urlencode(query)}' if query else ''}")

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token.get_secret_value()}"} if self.token else {}
        place = f"{self.url.scheme}://{self.url.netloc}"
        connection = _SCHEMES[self.url.scheme](self.url.hostname or "", self.url.port, timeout=_SECONDS)
        try:
            connection.request(method, self.url.path.rstrip("/") + path, headers=headers)
            answer = connection.getresponse()
            status, body = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DaemonUnreachable(f"no daemon answers on {place}: {why}") from None
        finally:
            connection.close()
        if status == http.client.UNAUTHORIZED and self.token is None:
            raise ReaperError(f"the daemon on {place} wants a token for that: {_WHERE_FROM}")
        return _document(place, status, body)


def _document(place: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    members = found.keys() if isinstance(found, dict) else frozenset[str]()
    if status >= http.client.BAD_REQUEST and "detail" in members:
        raise ReaperError(str(found["detail"]))
    if status != http.client.OK or not members >= {"state", "halted", "sources"}:
        raise ReaperError(f"what answers on {place} is no reaper of this version (status {status})")
    return dict(found)


def connect(ctx: click.Context, url: str | None, token_file: Path | None = None, *, changes: bool = False) -> Remote:
    """The daemon that is meant. Raises ConfigError, and UsageError for an URL that cannot be one.

    It needs no database: the daemon may be on another machine.
    """
    settings = load({"config": ctx.obj}, os.environ) if url is None or (changes and token_file is None) else None
    place = _checked(url) if url is not None else _configured(settings or Settings())
    if not changes:
        return Remote(place, _token_at_hand(settings))
    tokens = read_tokens(token_file, "--token-file") if token_file else (settings or Settings()).http_tokens
    return Remote(place, next(iter(tokens.values()), None))


def with_exit_status(ctx: click.Context, ask: Callable[[], int]) -> int:
    """What it returns; the exit status that says so when nobody answers."""
    try:
        return ask()
    except DaemonUnreachable as error:
        return output.refuse(ctx, error, [f"reaper: {error}"], exit_codes.AWAY)


def _token_at_hand(settings: Settings | None) -> SecretStr | None:
    """Of the daemon that is configured, when there is one that can be read: nobody needs it to look."""
    try:
        return next(iter(settings.http_tokens.values()), None) if settings else None
    except ConfigError:
        return None


def _configured(settings: Settings) -> SplitResult:
    if settings.http_port == 0:
        raise ConfigError([f"{settings.origins.get('http_port', 'default')}: the daemon's HTTP port is switched off"])
    host = reachable_host(settings.http_host)
    return urlsplit(f"http://{f'[{host}]' if ':' in host else host}:{settings.http_port}")


def _checked(url: str) -> SplitResult:
    try:
        found = urlsplit(url)
        wrong = found.scheme not in _SCHEMES or not found.hostname or found.port == 0
    except ValueError:
        wrong = True
    if (
        wrong
        or found.query
        or found.fragment
        or found.username is not None
        or not url.isascii()
        or not url.isprintable()
    ):
        raise click.BadParameter("expected something like http://127.0.0.1:9469", param_hint="--url")
    return found


def state_lines(told: dict[str, Any]) -> Iterator[str]:
    """The state, who halted it and why, and how each source stands."""
    halted = told["halted"]
    yield told["state"] if halted is None else f"{told['state']} by {_halted(halted)}"
    for source in told["sources"]:
        yield f"Source {source['name']} ({source['profile']}): {', '.join(_standing(source))}"
        yield from (f"  {problem}" for problem in source["problems"])


def swept_elsewhere(told: dict[str, Any]) -> list[str]:
    """The sources that another replica holds the lease of, as the last sweep found it."""
    return [source["name"] for source in told["sources"] if source["outcome"] == Outcome.STANDBY]


def _halted(halted: dict[str, Any]) -> str:
    lasts = ", also after a restart of the daemon" if halted["persistent"] else ""
    why = f": {halted['reason']}" if halted["reason"] else ""
    return f"{halted['by']}{lasts}{why}"


def _standing(source: dict[str, Any]) -> Iterator[str]:
    if source["sweeping"]:
        yield "being swept"
    if source["outcome"] is None:
        yield "not swept yet"
    else:
        yield f"last sweep {source['outcome']}"
    if (ago := source["succeeded_seconds_ago"]) is not None:
        yield f"last success {format_duration(round(ago))} ago"
    if (due := source["next_seconds"]) is not None and not source["sweeping"]:
        yield f"next in {format_duration(round(due))}" if due > 0 else "next is due"
