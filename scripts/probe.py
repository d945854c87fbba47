"""Helper of manage.sh: reads the settings in force and queries the daemon over HTTP.

probe.py settings               print database=, http=, log_file=, token_file= and state_dir=, one per line; exit
                                status 78 when the configuration is wrong
probe.py free HOST:PORT         exit status 0 if the daemon could listen on this address
probe.py live HOST:PORT         exit status 0 if the daemon answers on /live
probe.py last-sweep HOST:PORT   print when each source was last swept successfully
probe.py supervisor HOST:PORT   print running, halted or finished; exit status 1 if the daemon does not answer
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

_LAST_SUCCESS = re.compile(
    r'^reaper_last_success_timestamp_seconds\{source="(?P<source>[^"]*)"\} (?P<at>\S+)$', re.MULTILINE
)
_STANDBY = re.compile(
    r'^reaper_sweeps_total\{outcome="standby",source="(?P<source>[^"]*)"\} (?!0\.0$)\S+$', re.MULTILINE
)


def settings() -> int:
    # Imported here, because the other commands run often and do not need it.
    from reaper.config import load
    from reaper.errors import ConfigError

    try:
        config = load()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 78
    print(f"database={'configured' if config.sources else 'embedded'}")
    print(f"http={f'{config.http_host}:{config.http_port}' if config.http_port else ''}")
    for name, path in (
        ("log_file", config.log_file),
        ("token_file", config.http_token_file),
        ("state_dir", config.state_dir),
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
    last_success = {match["source"]: float(match["at"]) for match in _LAST_SUCCESS.finditer(metrics)}
    standby = dict.fromkeys((match["source"] for match in _STANDBY.finditer(metrics)), "stands by")
    texts = {
        source: f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC" if at else standby.get(source, "never")
        for source, at in last_success.items()
    }
    print(
        ", ".join(texts.values() if len(texts) == 1 else (f"{source}: {at}" for source, at in texts.items())) or "never"
    )
    return 0


def supervisor(address: str) -> int:
    state = _get(address, "/api/supervisor/state")
    if state is None:
        return 1
    print(json.loads(state)["state"].lower())
    return 0


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
    "last-sweep": last_sweep,
    "supervisor": supervisor,
}

if __name__ == "__main__":
    sys.exit(_COMMANDS[sys.argv[1]](*sys.argv[2:]))
