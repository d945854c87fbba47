"""Connections of HTTP clients: time limits for slow ones, and a limit on their number.

ASGI shows a request only when its head is complete, so these limits stand one layer below: between the socket and
uvicorn's protocol, which is wrapped and not changed. Both sides are spoken to through asyncio's documented interfaces
of transports and protocols.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from reaper.web.guard.headers import NO_STORE, SECURITY_HEADERS

REQUEST_SECONDS = 10.0
"""From the moment when a request is waited for until its head is complete."""
ANSWER_SECONDS = 20.0
"""For a client that reads slowly or not at all: until it has taken what was written."""
LINGER_SECONDS = 1.0
"""For a client that still sends a body which is not read: until the answer has reached it."""
CONNECTION = "reaper.connection"
"""Where the state of a request's ASGI scope has its ClientConnection."""

_READ_BYTES = 4096
"""What was read is parsed at one go, and a body may consist of thousands of tiny chunks: asyncio would read 256 KiB."""
_FULL_SECONDS = 0.05

MakeProtocol = Callable[[dict[str, Any]], asyncio.Protocol]
"""uvicorn's protocol for one connection. Its argument becomes the `state` of the ASGI scopes of its requests."""


class OpenConnections:
    """The connections that are open, at most `limit`. Lives in one event loop."""

    def __init__(self, limit: int) -> None:
        self.limit, self.closing = limit, False
        self.open: set[ClientConnection] = set()
        # Those without a request under work, the one that has waited longest first.
        self.idle: dict[ClientConnection, None] = {}
        # Shared: what is read into it is passed on before anything else is read.
        self.buffer = bytearray(_READ_BYTES)

    async def close(self, grace_seconds: float) -> None:
        """Close those without a request at once, the others when they are answered, and cut those that are left."""
        self.closing = True
        for connection in tuple(self.idle):
            connection.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                while self.open:
                    await asyncio.sleep(_FULL_SECONDS)
        for connection in tuple(self.open):
            connection.abort()
        await asyncio.sleep(0)  # asyncio calls `connection_lost` in the next turn of its loop

    async def make_room(self) -> None:
        """Wait until one more may be opened. An idle connection is closed for it; without any, one has to end."""
        while len(self.open) >= self.limit:
            if self.idle:
                next(iter(self.idle)).abort()
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(_FULL_SECONDS)


class ClientConnection(asyncio.BufferedProtocol):
    """One connection. It is cut when its client keeps the server waiting for a request, or for room for the answer.

    While the application works on an answer, the client is the one who waits, and no limit runs.
    """

    def __init__(self, connections: OpenConnections, make_protocol: MakeProtocol) -> None:
        self._connections = connections
        self._http = make_protocol({CONNECTION: self})
        self._timer: asyncio.TimerHandle | None = None
        self._write_paused = self._parsing = self._malformed = self._lingering = False
        self.working = False
        """A request has come in, and its answer is not complete."""
        self.body_unread = False
        """The client may still send a body that the application has not taken."""

    # --- what asyncio calls ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.open.add(self)
        self._connections.idle[self] = None
        self._cut_in(REQUEST_SECONDS)
        self._http.connection_made(_Outgoing(transport, self))  # type: ignore[arg-type]

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        return self._connections.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._parsing = True
        try:
            self._http.data_received(bytes(self._connections.buffer[:nbytes]))
        finally:
            self._parsing = False
        if self._malformed:
            self._cut_in(ANSWER_SECONDS)
            self._transport.write(_BAD_REQUEST)
            self._transport.close()

    def eof_received(self) -> bool | None:
        return self._http.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cut_in(None)
        self._connections.open.discard(self)
        self._connections.idle.pop(self, None)
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        self._write_paused = True
        self._cut_in(ANSWER_SECONDS)
        self._http.pause_writing()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self.working:
            self._cut_in(None)
        self._http.resume_writing()

    # --- what the middleware calls ---------------------------------------------------------------------------

    def request_began(self, *, has_body: bool) -> None:
        self.working, self.body_unread = True, has_body
        self._connections.idle.pop(self, None)
        if not self._write_paused:  # else the answer before this one has not been taken yet
            self._cut_in(None)
        if has_body:
            self.pause_reading()

    def pause_reading(self) -> None:
        """A body that the application does not ask for is not even parsed."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.closing:
            self._transport.resume_reading()

    def answer_sent(self) -> None:
        self.working = False
        if self._lingering:
            return
        if self.body_unread:
            self._linger()
            return
        if self._connections.closing:
            self._transport.close()
        unsent = self._transport.is_closing() or self._transport.get_write_buffer_size() > 0
        self._cut_in(ANSWER_SECONDS if unsent else REQUEST_SECONDS)
        if not self.closing:
            self._connections.idle[self] = None

    @property
    def closing(self) -> bool:
        """The client has gone, or nothing more is read from it."""
        return self._lingering or self._transport.is_closing()

    def abort(self) -> None:
        self._connections.idle.pop(self, None)
        self._transport.abort()

    # --- what uvicorn's protocol does to its transport -------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Answers are written by tasks. What is written while input is parsed is uvicorn's own answer to nonsense."""
        if self._parsing:
            self._malformed = True
        elif not self._lingering:
            self._transport.write(data)

    def close(self) -> None:
        if self._parsing:
            return
        if self.working and self.body_unread:
            self._linger()
        else:
            self._transport.close()

    def _linger(self) -> None:
        """A connection that is closed with something unread is reset, and the answer is lost on its way."""
        if not self.closing:
            self._lingering = True
            self._cut_in(LINGER_SECONDS)
            self._transport.pause_reading()
            self._transport.write_eof()

    def _cut_in(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(seconds, self.abort) if seconds is not None else None


class _Outgoing:
    """The transport as uvicorn's protocol sees it."""

    def __init__(self, transport: asyncio.Transport, connection: ClientConnection) -> None:
        self._transport, self.write, self.close = transport, connection.write, connection.close
        self._connection = connection

    def is_closing(self) -> bool:
        return self._connection.closing

    def resume_reading(self) -> None:
        self._connection.resume_reading()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _bad_request() -> bytes:
    """The answer to what is not HTTP, in the form of every other error. No application sees such a request."""
    body = json.dumps({"detail": "Invalid HTTP request received."}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        NO_STORE,
        *SECURITY_HEADERS,
    ]
    lines = [b"HTTP/1.1 400 Bad Request", *(b"%b: %b" % header for header in headers), b"", body]
    return b"\r\n".join(lines)


_BAD_REQUEST = _bad_request()
