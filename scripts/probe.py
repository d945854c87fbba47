"""What manage.sh cannot see by itself: the settings in force, and the daemon's HTTP port.

probe.py settings               database=, http=, log_file=, token_file= and state_dir=, a line each; 78 when the
                                configuration is wrong
probe.py free HOST:PORT         whether the daemon could listen there
probe.py live HOST:PORT         whether it says that it lives
probe.py last-sweep HOST:PORT   when each source was last swept with success
probe.py supervisor HOST:PORT   running, halted or finished; nothing when it does not say
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime

from reaper.config import reachable_host

_SWEPT = re.compile(r'^reaper_last_success_timestamp_seconds\{source="(?P<source>[^"]*)"\} (?P<at>\S+)$', re.MULTILINE)
_STANDBY = re.compile(
    r'^reaper_sweeps_total\{outcome="standby",source="(?P<source>[^"]*)"\} (?!0\.0$)\S+$', re.MULTILINE
)


def settings() -> int:
    # Only here: the other commands are asked often, and need none of it.
    from reaper.config import load
    from reaper.errors import ConfigError

    try:
        found = load()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 78
    print(f"database={'configured' if found.sources else 'embedded'}")
    print(f"http={f'{found.http_host}:{found.http_port}' if found.http_port else ''}")
    for name, path in (
        ("log_file", found.log_file),
        ("token_file", found.http_token_file),
        ("state_dir", found.state_dir),
    ):
        print(f"{name}={path.absolute() if path else ''}")
    return 0


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


def last_sweep(address: str) -> int:
    metrics = _get(address, "/metrics")
    if metrics is None:
        return 1
    swept = {match["source"]: float(match["at"]) for match in _SWEPT.finditer(metrics)}
    waiting = dict.fromkeys((match["source"] for match in _STANDBY.finditer(metrics)), "stands by")
    told = {
        source: f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC" if at else waiting.get(source, "never")
        for source, at in swept.items()
    }
    print(", ".join(told.values() if len(told) == 1 else (f"{source}: {at}" for source, at in told.items())) or "never")
    return 0


def supervisor(address: str) -> int:
    state = _get(address, "/api/supervisor/state")
    if state is None:
        return 1
    print(json.loads(state)["state"].lower())
    return 0


def _get(address: str, path: str) -> str | None:
    """The body of a good answer. Straight to the address, whatever proxies the environment names."""
    host, port = _split(address)
    connection = http.client.HTTPConnection(reachable_host(host), port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == http.client.OK else None


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


_COMMANDS: dict[str, Callable[..., int]] = {
    "settings": settings,
    "free": free,
    "live": live,
    "last-sweep": last_sweep,
    "supervisor": supervisor,
}

if __name__ == "__main__":
    sys.exit(_COMMANDS[sys.argv[1]](*sys.argv[2:]))
