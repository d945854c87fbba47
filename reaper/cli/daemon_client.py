"""HTTP client for the commands that steer a running daemon. Connects directly: proxy variables are ignored."""

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
from pydantic import BaseModel, ConfigDict, SecretStr

from reaper.cli import exit_codes, output
from reaper.common.durations import format_duration
from reaper.common.http_host import reachable_host
from reaper.config import Settings, load
from reaper.config.token_file import read_tokens
from reaper.errors import ConfigError, DaemonUnreachable, ReaperError
from reaper.model import Outcome

_TIMEOUT_SECONDS = 30.0
_MOST_BYTES = 8 << 20
"""Of an answer: a daemon of thousands of sources needs less."""
_HOW_TO_AUTHENTICATE = (
    "name its file with --token-file PATH, REAPER_HTTP_TOKEN_FILE, or http_token_file in the configuration "
    "(scripts/manage.sh start keeps it in .data/http-token)"
)
_SCHEMES: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}

url_option = click.option(
    "--url", metavar="URL", help="Address of the daemon, such as http://127.0.0.1:9469. [default: as configured]"
)
token_option = click.option(
    "--token-file",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the daemon's HTTP token. [default: as configured]",
)


@dataclass(frozen=True, slots=True)
class DaemonClient:
    """Requests to one daemon. Changes need the token; the daemon serves requests with a token ahead of others."""

    url: SplitResult
    token: SecretStr | None = None

    def supervisor_state(self) -> dict[str, Any]:
        """The state of the supervisor.

        Raises:
            DaemonUnreachable: Nothing answers at the address.
            ReaperError: The daemon refused, with its message.
        """
        return self._request("GET", "/api/supervisor/state")

    def post_command(self, name: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Send `halt` or `restart`. Returns the state afterwards; raises as `supervisor_state` does."""
        return self._request("POST", f"/api/supervisor/{name}{f'?{urlencode(query)}' if query else ''}")

    def _request(self, method: str, path: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token.get_secret_value()}"} if self.token else {}
        address = f"{self.url.scheme}://{self.url.netloc}"
        connection = _SCHEMES[self.url.scheme](self.url.hostname or "", self.url.port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, self.url.path.rstrip("/") + path, headers=headers)
            with connection.getresponse() as response:
                # A byte more than allowed: it shows that the body is too long.
                status, body = response.status, response.read(_MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise DaemonUnreachable(f"no daemon answers at {address}: {reason}") from None
        finally:
            connection.close()
        if status == http.client.UNAUTHORIZED and self.token is None:
            raise ReaperError(f"the daemon at {address} needs a token for this: {_HOW_TO_AUTHENTICATE}")
        return _parse_response(address, status, body)


class _Received(BaseModel):
    """What an answer has at least; a newer daemon may say more."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _ReceivedHalt(_Received):
    by: str
    reason: str | None
    persistent: bool


class _ReceivedSource(_Received):
    name: str
    profile: str
    problems: list[str]
    sweeping: bool
    outcome: str | None
    succeeded_seconds_ago: float | None
    next_seconds: float | None


class _ReceivedState(_Received):
    state: str
    halted: _ReceivedHalt | None
    sources: list[_ReceivedSource]


class _ReceivedRefusal(_Received):
    detail: str


def _parse_response(address: str, status: int, body: bytes) -> dict[str, Any]:
    """Raises ReaperError with the daemon's refusal, or for a server that is not a reaper."""
    stranger = ReaperError(f"the server at {address} is not a reaper of this version (status {status})")
    # Every path that is asked for exists on a reaper.
    if len(body) > _MOST_BYTES or status == http.client.NOT_FOUND:
        raise stranger
    try:
        document = json.loads(body)
        if status >= http.client.BAD_REQUEST:
            raise ReaperError(_ReceivedRefusal.model_validate(document).detail)
        _ReceivedState.model_validate(document)
    except (ValueError, RecursionError):  # no JSON, or not that of a reaper
        raise stranger from None
    if status != http.client.OK:
        raise stranger
    return dict(document)


def make_client(
    ctx: click.Context, url: str | None, token_file: Path | None = None, *, changes: bool = False
) -> DaemonClient:
    """A client for --url, or for the configured daemon. `changes` says that the command needs a token.

    The configuration needs no database here: the daemon may be on another machine.

    Raises:
        ConfigError: The configuration or the token file is wrong, or the configured HTTP port is 0.
        UsageError: --url is not a URL of a daemon.
    """
    settings = load({"config": ctx.obj}, os.environ) if url is None or (changes and token_file is None) else None
    address = _parse_url(url) if url is not None else _configured_url(settings or Settings())
    if not changes:
        return DaemonClient(address, _optional_token(settings))
    tokens = read_tokens(token_file, "--token-file") if token_file else (settings or Settings()).http_tokens
    return DaemonClient(address, next(iter(tokens.values()), None))


def with_exit_status(ctx: click.Context, request: Callable[[], int]) -> int:
    """The result of `request`; exit status 75 when no daemon answers."""
    try:
        return request()
    except DaemonUnreachable as error:
        return output.report_error(ctx, error, [f"reaper: {error}"], exit_codes.AWAY)


def _optional_token(settings: Settings | None) -> SecretStr | None:
    """The configured token, if it can be read: reading the state works without one."""
    try:
        return next(iter(settings.http_tokens.values()), None) if settings else None
    except ConfigError:
        return None


def _configured_url(settings: Settings) -> SplitResult:
    if settings.http_port == 0:
        raise ConfigError([f"{settings.origins.get('http_port', 'default')}: the daemon's HTTP port is switched off"])
    host = reachable_host(settings.http_host)
    return urlsplit(f"http://{f'[{host}]' if ':' in host else host}:{settings.http_port}")


def _parse_url(url: str) -> SplitResult:
    try:
        parsed = urlsplit(url)
        invalid = parsed.scheme not in _SCHEMES or not parsed.hostname or parsed.port == 0
    except ValueError:
        invalid = True
    if (
        invalid
        or parsed.query
        or parsed.fragment
        or parsed.username is not None
        or not url.isascii()
        or not url.isprintable()
    ):
        raise click.BadParameter("expected a URL such as http://127.0.0.1:9469", param_hint="--url")
    return parsed


def state_lines(state: dict[str, Any]) -> Iterator[str]:
    """The supervisor's state, who halted it and why, and the state of each source."""
    halted = state["halted"]
    yield state["state"] if halted is None else f"{state['state']} by {_describe_halt(halted)}"
    for source in state["sources"]:
        yield f"Source {source['name']} ({source['profile']}): {', '.join(_describe_source(source))}"
        yield from (f"  {problem}" for problem in source["problems"])


def standby_sources(state: dict[str, Any]) -> list[str]:
    """Names of the sources that another replica sweeps, as of their last sweep here."""
    return [source["name"] for source in state["sources"] if source["outcome"] == Outcome.STANDBY]


def _describe_halt(halted: dict[str, Any]) -> str:
    persistence = ", also after a restart of the daemon" if halted["persistent"] else ""
    reason = f": {halted['reason']}" if halted["reason"] else ""
    return f"{halted['by']}{persistence}{reason}"


def _describe_source(source: dict[str, Any]) -> Iterator[str]:
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
