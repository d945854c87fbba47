"""HTTP/1.1 that waits for no client for ever."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any, cast

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from reaper.web.guard.middleware import GONE, NOT_KEPT, SECURITY_HEADERS

REQUEST_SECONDS = 10.0
"""From when we begin to wait for a request until its head has come in."""
ANSWER_SECONDS = 20.0
"""For a client that reads slowly or not at all: until it has taken what was written."""
LINGER_SECONDS = 1.0
"""For a client that still sends what nobody reads: until it has seen the answer."""
_READ_BYTES = 4096
_WINDOW_SECONDS = 10.0


class RateLimitFilter(logging.Filter):
    """What uvicorn says of single requests passes once in ten seconds, and what it says of those it cut at its end not.

    Whoever sends nonsense could otherwise fill the log with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
            return False
        now, message = time.monotonic(), str(record.msg)
        if now - self._said.get(message, -_WINDOW_SECONDS) < _WINDOW_SECONDS:
            return False
        self._said[message] = now
        return True


class TimeoutProtocol(H11Protocol):
    """A connection that is cut when its client keeps us waiting: for a request, or for room for the answer.

    While the application works on an answer it is we who are waited for, and nothing is cut.
    `idle` has all connections on which no request has come in yet, those that are so for longest first.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], idle: dict[TimeoutProtocol, None]
    ) -> None:
        super().__init__(config, server_state, app_state)
        self._idle, self._until = idle, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._met: object = None

    # --- what asyncio and uvicorn call -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # What has been read is parsed at one go, and a body can be made of many tiny parts: asyncio reads 256 KiB.
        cast(Any, transport).max_size = _READ_BYTES
        self._idle[self] = None
        self._until = self.loop.time() + REQUEST_SECONDS
        self._timer = self.loop.call_later(REQUEST_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if self.cycle is not self._met:
            self._met = self.cycle
            self._begin()

    def on_response_complete(self) -> None:
        if self.cycle.more_body and not self.transport.is_closing():
            # It would have to be read to get at the next request. A connection that is closed with something unread
            # is reset, and the answer lost on its way.
            self._allow(LINGER_SECONDS)
            self.transport.write_eof()
            self.flow.pause_reading()
            return
        unread = self.transport.is_closing() or self.transport.get_write_buffer_size() > 0
        self._allow(ANSWER_SECONDS if unread else REQUEST_SECONDS)
        self._idle[self] = None
        super().on_response_complete()

    def pause_writing(self) -> None:
        self._allow(ANSWER_SECONDS)
        super().pause_writing()

    def resume_writing(self) -> None:
        self._allow(ANSWER_SECONDS)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What no application ever sees is answered in the same form."""
        body = json.dumps({"detail": msg}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            NOT_KEPT,
            *SECURITY_HEADERS,
        ]
        self._allow(ANSWER_SECONDS)
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def shutdown(self) -> None:
        """Who keeps us waiting is not waited for when the server ends, either."""
        if self._we_work:
            super().shutdown()
        else:
            self.transport.abort()

    def _should_upgrade(self) -> bool:
        # There is nothing else to speak here, and uvicorn would write two lines about it for each request.
        return False

    # --- deadlines -------------------------------------------------------------------------------------------

    @property
    def _we_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete and not self.flow.write_paused

    def _begin(self) -> None:
        """The head of a request has come in, and the application has not begun yet."""
        self._idle.pop(self, None)
        cast(Any, self.scope)["extensions"] = {GONE: self.transport.is_closing}
        if self.cycle.more_body:
            # Whoever wants the body asks for it. Until then it is not even parsed.
            self.flow.pause_reading()

    def _allow(self, seconds: float) -> None:
        self._until = self.loop.time() + seconds
        if self._timer is not None and self._timer.when() > self._until:
            self._timer.cancel()
            self._timer = self.loop.call_at(self._until, self._look)

    def _look(self) -> None:
        """One timer for a connection. Most deadlines are put off before it runs, and only then is it set anew."""
        left = self._until - self.loop.time()
        if self._we_work or left > 0:
            self._timer = self.loop.call_later(max(left, 1.0), self._look)
        else:
            self.transport.abort()
