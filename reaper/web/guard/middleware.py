"""The ASGI middleware between the network and the application: access, admission, bodies, headers of every answer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import structlog
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reaper.web.guard.access import ACCESS_CONTROL, BODY_BYTES, READING, AccessControl, may_be_dry_run, remote
from reaper.web.guard.admission import AdmissionLimit, AdmissionTimeout, ClientDisconnected
from reaper.web.guard.connection_limits import CONNECTION, ClientConnection
from reaper.web.guard.headers import secured
from reaper.web.guard.json_escaping import spelled_out
from reaper.web.read_cache import CONNECTIONS

BODY_SECONDS = 10.0
"""From the moment when the application asks for a body until all of it has come."""
DEFECT = "this is a defect in the reaper, not in the request; the log of the daemon has the details"

_PROBES = frozenset({"/live", "/ready", "/metrics", "/api/health", "/health/scheduler"})
"""Asked by machines, which must not wait because people ask for something else."""
_READS = frozenset({"GET", "HEAD"})
_STATIC = "/static/"
_STATE = "/api/supervisor/state"
_SOURCE_PATH = re.compile("(?:/api)?/jobs/(?P<source>[^/]*)")
_LOGGED_STATUSES = frozenset({401, 403, 421})
_LOG_WINDOW_SECONDS = 10.0
_RETRY_SECONDS = 5
_DEFECTS_LOGGED = 100


def guarded(app: ASGIApp, access_control: AccessControl) -> ASGIApp:
    """The application as it may be put on a network."""
    return _Guard(app, access_control)


class _Guard:
    def __init__(self, app: ASGIApp, access_control: AccessControl) -> None:
        self._app, self._access_control = app, access_control
        # One limit in classes: a flood in one of them keeps no request of another waiting.
        self._probes = AdmissionLimit(share=0.08, request_seconds=0.0005, at_once=len(_PROBES))
        # A source is read over so many connections: more of its readers would wait for each other, and others for them.
        self._public = AdmissionLimit(share=0.12, request_seconds=0.004, at_once=8, at_once_of_group=CONNECTIONS)
        # Needs no database, and does not wait for requests that wait for one.
        self._plain = AdmissionLimit(share=0.05, request_seconds=0.002, at_once=2)
        # Their bodies are awaited: clients that send them slowly keep no other reader waiting.
        self._dry_runs = AdmissionLimit(share=0.05, request_seconds=0.004, at_once=4)
        # Operators come before those who only look, and one long request does not keep the next one waiting.
        self._operators = AdmissionLimit(share=1.0, request_seconds=0.004, at_once=16)
        self._rejections, self._log = RejectionLog(), structlog.get_logger("reaper")
        self._defects_logged: set[tuple[str, str, int]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = _Exchange(scope, receive, send)
        try:
            answer = await self._admit({**scope, ACCESS_CONTROL: self._access_control}, exchange)
        except ClientDisconnected:
            return
        except AdmissionTimeout:
            detail = f"too many requests at once: try again in {_RETRY_SECONDS} seconds"
            answer = _error(503, detail, {"Retry-After": str(_RETRY_SECONDS)})
        except Exception as defect:  # noqa: BLE001  it is logged here, and nothing above could do more
            self._log_defect(defect, scope)
            answer = _error(500, DEFECT)
        # The turn is over: the time that a client takes to read its answer is not charged to the others.
        await exchange.send(answer)

    async def _admit(self, scope: Scope, exchange: _Exchange) -> list[Message]:
        limit, operator = self._class_of(scope)
        if scope["method"] in _READS and not operator and self._access_control.allows(scope):
            answer = lambda: self._collect(scope, _no_body())  # noqa: E731
            return await limit.run_shared(_question(scope), answer, _group_of(scope))
        return await limit.run(lambda: self._work(scope, exchange), exchange.client_gone, _group_of(scope))

    def _class_of(self, scope: Scope) -> tuple[AdmissionLimit, bool]:
        """The limit that holds for a request, and whether it bears a token."""
        if self._access_control.token_name(scope) is not None:
            return self._operators, True
        path, reading = scope["path"], scope["method"] in READING
        if path in _PROBES and scope["method"] in _READS and not scope["query_string"]:
            return self._probes, False
        if may_be_dry_run(scope):
            return self._dry_runs, False
        plain = reading and (path == _STATE or path.startswith(_STATIC))
        return self._plain if plain else self._public, False

    async def _work(self, scope: Scope, exchange: _Exchange) -> list[Message]:
        try:
            self._access_control.check(scope)
            answer = await self._collect(scope, exchange.receive)
        except HTTPException as refusal:
            answer = _error(refusal.status_code, refusal.detail, refusal.headers or {})
        self._log_rejection(scope, answer[0]["status"])
        return answer

    def _log_rejection(self, scope: Scope, status: int) -> None:
        """Log a status with which the guard, or the application for want of a token, has refused a request."""
        if status in _LOGGED_STATUSES:
            who = self._access_control.token_name(scope)
            self._rejections.refused(status, remote(scope), scope["method"], _path_as_sent(scope), who)

    async def _collect(self, scope: Scope, receive: Receive) -> list[Message]:
        """The application's whole answer. It streams none: what it makes is small."""
        answer: list[Message] = []

        async def send(message: Message) -> None:
            answer.append(message)

        # uvicorn sends the head of what a GET would have been answered with.
        as_get = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
        await self._app(as_get, receive, send)
        return answer

    def _log_defect(self, defect: Exception, scope: Scope) -> None:
        """Log a defect with its traceback, the first time that it occurs."""
        trace = defect.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else ("", 0)
        identity = (type(defect).__name__, *where)
        if identity not in self._defects_logged and len(self._defects_logged) < _DEFECTS_LOGGED:
            self._defects_logged.add(identity)
            self._log.error("Reaper met a defect over HTTP.", method=scope["method"], path=_path_as_sent(scope)[:200],
                            exc_info=defect)  # fmt: skip


class _Exchange:
    """One request and its answer, between uvicorn and the application."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._path, self._receive, self._send = scope["path"], receive, send
        self._connection: ClientConnection | None = scope.get("state", {}).get(CONNECTION)
        headers = Headers(scope=scope)
        has_body = headers.get("content-length", "0").strip("0") != "" or "transfer-encoding" in headers
        self._body_complete, self._body_length, self._body_due = not has_body, 0, 0.0
        if self._connection is not None:
            self._connection.request_began(has_body=has_body)

    def client_gone(self) -> bool:
        return self._connection is not None and self._connection.closing

    async def receive(self) -> Message:
        """Raises HTTPException: 413 once the body has become too long, 408 when it does not come in time.

        The time runs from the first call: a body that the application does not need is not waited for.
        """
        if self._body_complete:
            return await self._receive()
        loop = asyncio.get_running_loop()
        self._body_due = self._body_due or loop.time() + BODY_SECONDS
        if self._connection is not None:
            self._connection.resume_reading()
        try:
            async with asyncio.timeout_at(self._body_due):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, f"the request's body did not come within {BODY_SECONDS:g} seconds") from None
        self._body_length += len(message.get("body", b""))
        if self._body_length > BODY_BYTES:
            raise HTTPException(413, f"a request's body must not be longer than {BODY_BYTES} bytes")
        self._body_complete = not message.get("more_body", False)
        if self._connection is not None:
            self._connection.body_unread = not self._body_complete
            if not self._body_complete:
                self._connection.pause_reading()
        return message

    async def send(self, answer: Sequence[Message]) -> None:
        for message in spelled_out(answer):
            if message["type"] == "http.response.start":
                message = {**message, "headers": self._headers(message)}
            await self._send(message)
        if self._connection is not None:
            self._connection.answer_sent()

    def _headers(self, start: Message) -> list[tuple[bytes, bytes]]:
        static = self._path.startswith(_STATIC) and start["status"] < 400
        # The rest of the body would have to be read to get at the next request.
        close = [] if self._body_complete else [(b"connection", b"close")]
        return [*secured(start.get("headers", ()), may_be_cached=static), *close]


class RejectionLog:
    """Logs rejected requests: the first at once, and those of the ten seconds after it in one line.

    A flood of them cannot fill the log. Lives in one event loop.
    """

    def __init__(self, logger: Any = None) -> None:
        self._log = logger or structlog.get_logger("reaper")
        self._window: asyncio.TimerHandle | None = None
        self._count = 0
        self._last: dict[str, Any] = {}

    def refused(self, status: int, remote: str, method: str, path: str, who: str | None) -> None:
        """`who` is the name of its token: it is used from where it should not be, or has been stolen."""
        self._count += 1
        self._last = {"status": status, "remote": remote, "method": method[:20], "path": path[:200]}
        if who is not None:
            self._last["who"] = who
        if self._window is None:
            self._write()

    def _write(self) -> None:
        self._window = None
        if self._count:
            self._log.warning("Reaper refused a request.", **self._last, attempts=self._count)
            self._count = 0
            self._window = asyncio.get_running_loop().call_later(_LOG_WINDOW_SECONDS, self._write)


def _error(status: int, detail: str, headers: Mapping[str, str] | None = None) -> list[Message]:
    """An answer of the guard's own."""
    body = json.dumps({"detail": detail}, ensure_ascii=False).encode()
    given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
    return [
        {"type": "http.response.start", "status": status, "headers": raw},
        {"type": "http.response.body", "body": body},
    ]


def _path_as_sent(scope: Scope) -> str:
    """Not decoded: what a stranger sends is not to be read as text."""
    return str((scope.get("raw_path") or quote(scope["path"]).encode()).decode("ascii", "backslashreplace"))


def _group_of(scope: Scope) -> str:
    """Requests that may be slow together: those about one source, else those for one path."""
    if (path := _SOURCE_PATH.match(scope["path"])) is not None:
        return path["source"]
    return QueryParams(scope["query_string"]).get("source", scope["path"])


def _question(scope: Scope) -> tuple[object, ...]:
    """Everything of a GET or HEAD request without a token on which its answer depends."""
    given = Headers(scope=scope)
    return (scope.get("raw_path") or scope["path"], scope["query_string"], given.get("accept"),
            given.get("if-none-match"), given.get("authorization"))  # fmt: skip


def _no_body() -> Receive:
    """The input of a request without a body, whose client stays."""
    body: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if body:
            return body.pop()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    return receive
