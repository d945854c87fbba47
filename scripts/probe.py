"""Helper of manage.sh: reads the settings in force and queries the daemon over HTTP.

probe.py settings DATA      print database=, extras=, http=, page=, log_file=, token_file= and state_dir=, one per line;
                            exit status 78 when the configuration is wrong. DATA is the directory of the private
                            PostgreSQL
probe.py free HOST:PORT     exit status 0 if the daemon could listen on this address
probe.py live HOST:PORT     exit status 0 if the daemon answers on /live
probe.py status HOST:PORT   print the daemon's state, when each source was last swept successfully, and then a line for
                            each thing worth knowing; exit status 3 if the daemon cannot do its work, 1 if it does not
                            answer
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reaper.common.http_host import reachable_host

if TYPE_CHECKING:
    from reaper.config import Settings, SourceSettings
    from reaper.dev.postgres import PrivatePostgreSQL

_LAST_SUCCESS = re.compile(
    r'^reaper_last_success_timestamp_seconds\{source="(?P<source>[^"]*)"\} (?P<at>\S+)$', re.MULTILINE
)
_STANDBY = re.compile(
    r'^reaper_sweeps_total\{outcome="standby",source="(?P<source>[^"]*)"\} (?!0\.0$)\S+$', re.MULTILINE
)
_DATABASE_UP = re.compile(r'^reaper_database_up\{source="(?P<source>[^"]*)"\} (?P<value>\S+)$', re.MULTILINE)
_BREAKER_OPEN = re.compile(r'^reaper_breaker_open\{source="(?P<source>[^"]*)"\} (?P<value>\S+)$', re.MULTILINE)
_NEGATIVE = 3
_MOST_LISTED = 10
# What a source that has just been started says, and a halt, are no trouble.
_NO_TROUBLE = ("no sweep has ended yet", "no sweep has succeeded yet", "halted by ")
_HALTED_BY = "halted by "


def settings(data: str) -> int:
    # Imported here, because the other commands run often and do not need it.
    from reaper.config import load
    from reaper.dev.postgres import PrivatePostgreSQL
    from reaper.errors import ConfigError

    try:
        config = load()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 78
    print(f"database={_database(config, PrivatePostgreSQL(Path(data)))}")
    print(f"extras={','.join(_extras(config.sources.values()))}")
    print(f"http={f'{config.http_host}:{config.http_port}' if config.http_port else ''}")
    print(f"page={_page(config.http_host, config.http_port) if config.http_port else ''}")
    for name, path in (
        ("log_file", config.log_file),
        ("token_file", config.http_token_file),
        ("state_dir", config.state_dir),
    ):
        print(f"{name}={path.absolute() if path else ''}")
    return 0


def _database(config: Settings, private: PrivatePostgreSQL) -> str:
    """Whose databases the daemon uses. No source at all may be meant: then it is configured, too."""
    if not config.sources:
        return "configured" if config.without_sources else "none"
    urls = [source.database_url.get_secret_value() for source in config.sources.values()]
    return "private" if any(map(private.serves, urls)) else "configured"


def _extras(sources: Iterable[SourceSettings]) -> list[str]:
    """The optional parts of the distribution that these sources need."""
    from reaper.config.urls import MARIADB

    sources = list(sources)
    mariadb = any(source.database_url.get_secret_value().startswith(MARIADB) for source in sources)
    celery = any(source.broker is not None and source.profile.needs_broker for source in sources)
    return [*(["celery"] if celery else []), *(["mysql"] if mariadb else [])]


def free(address: str) -> int:
    host, port = _split(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            print(f"the daemon cannot listen on {address}: {error.strerror}; see REAPER_HTTP_PORT", file=sys.stderr)
            return 1
    return 0


def live(address: str) -> int:
    return 0 if _get(address, "/live") is not None else 1


def status(address: str) -> int:
    answer, metrics = _get(address, "/api/health"), _get(address, "/metrics")
    if answer is None or metrics is None:
        return 1
    health = json.loads(answer)
    troubles = dict(_troubles(health))
    print(_state(health, troubles))
    print(_last_sweeps(metrics))
    for line in _details(health, metrics, troubles):
        print(line)
    return _NEGATIVE if troubles or health["state"] not in ("RUNNING", "HALTED") else 0


def _troubles(health: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The sources that are not swept as they should be, and why."""
    for name, source in health["sources"].items():
        troubles = [problem for problem in source["problems"] if not problem.startswith(_NO_TROUBLE)]
        if troubles:
            yield name, troubles


def _state(health: Mapping[str, Any], troubles: Mapping[str, list[str]]) -> str:
    state = str(health["state"] or "no schedule").lower()
    return "failing" if state == "running" and troubles else state


def _last_sweeps(metrics: str) -> str:
    last_success = {match["source"]: float(match["at"]) for match in _LAST_SUCCESS.finditer(metrics)}
    standby = dict.fromkeys((match["source"] for match in _STANDBY.finditer(metrics)), "stands by")
    texts = {
        source: f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC" if at else standby.get(source, "never")
        for source, at in last_success.items()
    }
    if len(texts) > 1:
        return ", ".join(f"{source}: {at}" for source, at in texts.items())
    return next(iter(texts.values()), "never")


def _details(health: Mapping[str, Any], metrics: str, troubles: Mapping[str, list[str]]) -> Iterator[str]:
    """The halt; each source in trouble, and why; of the other sources their database and breaker."""
    problems = [problem for source in health["sources"].values() for problem in source["problems"]]
    halted = next((problem for problem in problems if problem.startswith(_HALTED_BY)), None)
    if halted is not None:
        yield f"halt: {halted}; no job is ended until `reaper restart`"
    for name, listed in troubles.items():
        yield f"{name}: {'; '.join(listed)}"
    up = {match["source"]: float(match["value"]) for match in _DATABASE_UP.finditer(metrics)}
    opened = {match["source"]: float(match["value"]) for match in _BREAKER_OPEN.finditer(metrics)}
    others = [name for name in health["sources"] if name not in troubles]
    for name in others[:_MOST_LISTED]:
        # NaN, and so neither, before the first sweep.
        database = {1.0: "up", 0.0: "away"}.get(up.get(name, -1.0), "not reached yet")
        yield f"{name}: database {database}, breaker {'open' if opened.get(name) else 'closed'}"
    if len(others) > _MOST_LISTED:
        yield f"... and {len(others) - _MOST_LISTED} more sources without trouble"
    for problem in health["refused_configuration"]:
        yield f"the configuration of the last reload was refused: {problem}"


def _page(host: str, port: int) -> str:
    reached = reachable_host(host)
    return f"http://{f'[{reached}]' if ':' in reached else reached}:{port}/"


def _get(address: str, path: str) -> str | None:
    """The body of a response with status 200, else None. Connects directly: proxies of the environment are ignored."""
    host, port = _split(address)
    connection = http.client.HTTPConnection(reachable_host(host), port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if response.status == http.client.OK else None


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


_COMMANDS: dict[str, Callable[..., int]] = {
    "settings": settings,
    "free": free,
    "live": live,
    "status": status,
}

if __name__ == "__main__":
    sys.exit(_COMMANDS[sys.argv[1]](*sys.argv[2:]))
