"""The image's health check: whether the daemon's loop turns, asked where the configuration says that it listens.

Not whether the database is there: a restart brings no database back.
"""

from __future__ import annotations

import http.client
import os
import sys

from reaper.common.http_host import reachable_host
from reaper.config import load
from reaper.errors import ConfigError

_SECONDS = 4.0


def trouble() -> str | None:
    """What is wrong, in one line."""
    settings = load({}, os.environ)
    if settings.http_port == 0:
        return None  # HTTP is off: that the process runs has to be enough
    host = reachable_host(settings.http_host)
    connection = http.client.HTTPConnection(host, settings.http_port, timeout=_SECONDS)
    connection.request("GET", "/live")
    status = connection.getresponse().status
    return None if status == http.client.OK else f"/live on {host}:{settings.http_port} answers {status}"


if __name__ == "__main__":
    try:
        sys.exit(trouble())
    except (ConfigError, OSError, http.client.HTTPException) as error:
        sys.exit(f"{type(error).__name__}: {error}")
