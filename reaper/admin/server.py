"""uvicorn in a thread of the daemon's process."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import uvicorn
from fastapi import FastAPI

from reaper.model import ReaperError

_BACKLOG = 128
_CLIENTS = 200
_TICK_SECONDS = 0.4
_TICKS_PER_HEADER = 10


class _Quiet(uvicorn.Server):
    """Looks less often than uvicorn whether it is to end: most of what an idle daemon does was that."""

    async def main_loop(self) -> None:
        # The number means something to uvicorn: at every tenth it renews the date that answers bear.
        while not await self.on_tick(_TICKS_PER_HEADER):
            await asyncio.sleep(_TICK_SECONDS)


class Server:
    """Serves an application on a port that is bound before anything else starts."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        """Raises ReaperError when the port cannot be had."""
        self._socket = _bind(host, port)
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            lifespan="off",
            limit_concurrency=_CLIENTS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        self._server = _Quiet(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience_seconds: float) -> None:
        self._server.should_exit = True
        self._thread.join(patience_seconds)
        self._socket.close()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _listen(socket.socket(family, kind, protocol), address)
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a host's name at all
        raise ReaperError(
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}; "
            "REAPER_HTTP_PORT takes another port, 0 switches HTTP off"
        ) from error


def _listen(bound: socket.socket, address: Any) -> socket.socket:
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound
