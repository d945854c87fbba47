"""The HTTP server: a thread that accepts connections, and uvicorn's protocol on each of them."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from email.utils import formatdate
from typing import Any, cast

import structlog
import uvicorn
from anyio import to_thread
from starlette.types import ASGIApp

from reaper.errors import ReaperError
from reaper.web.guard.connection_limits import ClientConnection, OpenConnections

_BACKLOG = 128
_THREADS = 12
"""For endpoints that wait for a database or for a sweep: each thread costs memory, which is not given back."""
_MOST_CONNECTIONS = 400
_ACCEPT_SECONDS = 0.005
"""Between two connections: a client that only connects and leaves costs processor time too."""
_ACCEPT_RETRY_SECONDS = 1.0
_HEAD_BYTES = 16 * 1024
_TICK_SECONDS = 0.4
"""Between two looks at the clock, and whether to stop: uvicorn.Server looks four times as often, and an idle daemon did
little else.
"""
_GRACE_SECONDS = 1.0
"""For the requests that are worked on when the server stops."""

_log = structlog.get_logger("reaper")


class HttpServer:
    """Serves an application on a port that is bound before anything else starts.

    Connections are accepted here, and wait with the kernel while there is no room for them.
    """

    def __init__(self, app: ASGIApp, host: str, port: int) -> None:
        """Raises ReaperError when the port cannot be bound."""
        self._socket = _bind(host, port)
        self._connections = OpenConnections(min(_MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            interface="asgi3",
            lifespan="off",
            # The guard logs defects and rejections, and no more of them than a log can take.
            log_config=None,
            log_level="critical",
            access_log=False,
            # Any client on this machine could claim another address with these headers.
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            timeout_keep_alive=5,
        )
        config.load()
        # The server itself is not run: connections are accepted here.
        self._config, self._state, self._stopping = config, uvicorn.Server(config).server_state, False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="http", daemon=True)

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def connections(self) -> OpenConnections:
        return self._connections

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        self._stopping = True

    def stop(self, patience_seconds: float) -> None:
        self.ask_to_stop()
        self._thread.join(patience_seconds)
        self._socket.close()

    async def _serve(self) -> None:
        to_thread.current_default_thread_limiter().total_tokens = _THREADS
        accepting = asyncio.create_task(self._accept())
        while not self._stopping:
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            await asyncio.sleep(_TICK_SECONDS)
        accepting.cancel()
        await asyncio.wait([accepting])
        await self._connections.close(_GRACE_SECONDS)

    async def _accept(self) -> None:
        loop, logged = asyncio.get_running_loop(), False
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
                await self._open(connection)
            except OSError as error:  # no descriptor is left, or the client has gone already
                if not logged:
                    _log.error("Reaper cannot take an HTTP connection.", error=str(error))
                logged = True
                await asyncio.sleep(_ACCEPT_RETRY_SECONDS)
            await asyncio.sleep(_ACCEPT_SECONDS)

    async def _open(self, connection: socket.socket) -> None:
        try:
            # Only now: an idle connection is closed when a new one is waiting, and not before.
            await self._connections.make_room()
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except BaseException:
            connection.close()
            raise

    def _protocol(self) -> ClientConnection:
        return ClientConnection(self._connections, self._uvicorn_protocol)

    def _uvicorn_protocol(self, state: dict[str, Any]) -> asyncio.Protocol:
        """As uvicorn.Server makes it for a connection."""
        make = cast(Any, self._config.http_protocol_class)
        protocol: asyncio.Protocol = make(config=self._config, server_state=self._state, app_state=state)
        return protocol


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
