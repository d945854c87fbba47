"""uvicorn in a thread of the daemon's process."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import threading
from typing import Any

import structlog
import uvicorn
from anyio import to_thread
from starlette.types import ASGIApp

from reaper.errors import ReaperError
from reaper.web.guard.admission import TokenBucket
from reaper.web.guard.slow_clients import RateLimitFilter, TimeoutProtocol

_BACKLOG = 128
_THREADS = 12
"""For endpoints that wait for a database or for a sweep: each thread costs memory, which is not given back."""
_MOST_CONNECTIONS = 400
_CONNECTIONS_PER_SECOND = 150
_CONNECTIONS_AT_ONCE = 50
_HEAD_BYTES = 16 * 1024
_TICK_SECONDS = 0.4
_TICKS_PER_HEADER = 10
_FULL_SECONDS = 0.05
_NO_ACCEPT_SECONDS = 1.0

_log = structlog.get_logger("reaper")
_seldom = RateLimitFilter()


class _PacedServer(uvicorn.Server):
    """Takes connections at a pace, and looks less often than uvicorn whether it is to end.

    Most of what an idle daemon does was that. Those who are not let in yet wait with the kernel, at no cost.
    """

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        [listener] = sockets or []
        await self.lifespan.startup()
        self.servers = []
        to_thread.current_default_thread_limiter().total_tokens = _THREADS
        self._idle: dict[TimeoutProtocol, None] = {}
        self._most = min(_MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._accepting = asyncio.create_task(self._accept(listener))
        self.started = True

    async def main_loop(self) -> None:
        # The number means something to uvicorn: at every tenth it renews the date that answers bear.
        while not await self.on_tick(_TICKS_PER_HEADER):
            await asyncio.sleep(_TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        await super().shutdown(sockets)

    async def _accept(self, listener: socket.socket) -> None:
        loop, pace, told = asyncio.get_running_loop(), TokenBucket(_CONNECTIONS_PER_SECOND, _CONNECTIONS_AT_ONCE), False
        while True:
            await asyncio.sleep(pace.wait_seconds)
            try:
                connection, _ = await loop.sock_accept(listener)
                await self._let_in(connection)
            except OSError as error:  # no descriptor left, or a client that was gone before we came to it
                if not told:
                    _log.error("Reaper cannot take an HTTP connection.", error=str(error))
                told = True
                await asyncio.sleep(_NO_ACCEPT_SECONDS)
            pace.spend(1)

    async def _let_in(self, connection: socket.socket) -> None:
        # Only now: nobody has to go before there is somebody to go for.
        try:
            await self._have_room()
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except BaseException:
            connection.close()
            raise

    async def _have_room(self) -> None:
        """When there are too many, who has asked nothing for longest has to go."""
        while len(self.server_state.connections) >= self._most:
            if self._idle:
                oldest = next(iter(self._idle))
                del self._idle[oldest]
                oldest.transport.abort()
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(_FULL_SECONDS)

    def _protocol(self) -> TimeoutProtocol:
        return TimeoutProtocol(self.config, self.server_state, self.lifespan.state, self._idle)


class Server:
    """Serves an application on a port that is bound before anything else starts."""

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """Raises ReaperError when the port cannot be had."""
        self._socket = _bind(host, port)
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            lifespan="off",
            loop="asyncio",
            ws="none",
            interface="asgi3",
            # Whoever connects from this machine could say that he is somebody else.
            proxy_headers=False,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            server_header=False,
        )
        logging.getLogger("uvicorn.error").addFilter(_seldom)
        self._server = _PacedServer(config)
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
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound
