"""The daemon that a command steers: its address and token, and its state in words."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import click
from pydantic import SecretStr

from reaper.cli import exit_codes, output
from reaper.common.durations import format_duration
from reaper.config import Settings, load
from reaper.config.token_file import read_tokens
from reaper.errors import ConfigError, DaemonUnreachable
from reaper.model import Outcome
from reaper.operations.daemon_client import SCHEMES, DaemonClient, configured_url

url_option = click.option(
    "--url", metavar="URL", help="Address of the daemon, such as http://127.0.0.1:9469. [default: as configured]"
)
token_option = click.option(
    "--token-file",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the daemon's HTTP token. [default: as configured]",
)


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
    address = _parse_url(url) if url is not None else configured_url(settings or Settings())
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


def _parse_url(url: str) -> SplitResult:
    try:
        parsed = urlsplit(url)
        invalid = parsed.scheme not in SCHEMES or not parsed.hostname or parsed.port == 0
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
