"""Everything that stands between the network and the application. Pure ASGI."""

from __future__ import annotations

import json
from collections.abc import Mapping

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reaper.web.guard import errors
from reaper.web.guard.access import READING, AccessControl, remote
from reaper.web.guard.admission import AdmissionQueue, AdmissionTimeout, ClientDisconnected, Slot
from reaper.web.guard.auth_dependency import GATE
from reaper.web.guard.body_limit import bounded
from reaper.web.guard.coalescing import Coalescer
from reaper.web.guard.rejection_log import RejectionLog

GONE = "reaper.gone"
"""The ASGI extension by which the server tells whether the client has gone: a function without parameters."""
PROBES = frozenset({"/live", "/ready", "/metrics", "/api/health", "/health/scheduler"})
"""What machines ask, and must not wait for because people ask for something else."""
STATIC = "/static/"
STATE = "/api/supervisor/state"

_NOTED = frozenset({401, 403, 421})
_RETRY_SECONDS = 5
_DEFECTS_TOLD = 100
_CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = (
    (b"content-security-policy", _CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""What every answer bears."""
NOT_KEPT = (b"cache-control", b"no-store")
_OURS = frozenset(name for name, _ in SECURITY_HEADERS)


def guarded(app: FastAPI, access_control: AccessControl) -> ASGIApp:
    """The application as it may be put on a network. Its errors speak as ours do from then on."""
    errors.install(app)
    return _Guarded(app, access_control)


class _Guarded:
    def __init__(self, app: ASGIApp, access_control: AccessControl) -> None:
        self._app, self._access_control = app, access_control
        # A lane for each: whoever floods one of them does not keep anybody from the others.
        self._probes = {path: Coalescer(AdmissionQueue(share=0.05, each_seconds=0.0005, at_once=1)) for path in PROBES}
        self._public = AdmissionQueue(share=0.15, each_seconds=0.004, at_once=8)
        # What needs no database does not wait for those who wait for one.
        self._plain = AdmissionQueue(share=0.05, each_seconds=0.002, at_once=2)
        # Who steers the reaper comes before those who look at it, and one long order does not keep the next waiting.
        self._bearers = AdmissionQueue(share=1.0, each_seconds=0.004, at_once=16)
        self._refusals, self._log = RejectionLog(), structlog.get_logger("reaper")
        self._defects: set[tuple[str, str, int]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = _Answer(scope, send)
        probe = self._probes.get(scope["path"]) if scope["method"] == "GET" and not scope["query_string"] else None
        try:
            if probe is not None and self._access_control.allows(scope):
                await self._share(probe, scope, answer)
            else:
                await self._take_turn(scope, receive, answer)
        except ClientDisconnected:
            return
        except AdmissionTimeout:
            detail = f"too many requests at once: try again in {_RETRY_SECONDS} seconds"
            await answer.give(503, detail, {"Retry-After": str(_RETRY_SECONDS)})
        except Exception as defect:  # noqa: BLE001  whatever it is: it is told here, and has no other way to go
            await self._cut_short(defect, scope, answer)

    async def _share(self, probe: Coalescer, scope: Scope, answer: _Answer) -> None:
        for message in await probe.answer(self._app, self._with_gate(scope)):
            await answer.send(message)

    async def _take_turn(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        answer.turn = await self._lane(scope).turn(scope.get("extensions", {}).get(GONE, _never))
        try:
            await self._work(scope, receive, answer)
        finally:
            answer.turn.end()

    def _lane(self, scope: Scope) -> AdmissionQueue:
        if self._access_control.token_name(scope) is not None:
            return self._bearers
        plain = scope["path"] == STATE or scope["path"].startswith(STATIC)
        return self._plain if plain and scope["method"] in READING else self._public

    async def _work(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            self._access_control.check(scope)
            await self._app(self._with_gate(scope), bounded(receive), answer.send)
        except HTTPException as refusal:
            if refusal.status_code in _NOTED:
                who = self._access_control.token_name(scope)
                self._refusals.refused(refusal.status_code, remote(scope), scope["method"], scope["path"], who)
            await answer.give(refusal.status_code, refusal.detail, refusal.headers or {})

    def _with_gate(self, scope: Scope) -> Scope:
        return {**scope, GATE: self._access_control}

    async def _cut_short(self, defect: Exception, scope: Scope, answer: _Answer) -> None:
        self._tell(defect, scope)
        if not answer.begun:
            await answer.give(500, errors.DEFECT)
        elif not answer.ended:
            raise ConnectionAbortedError("a defect cut an answer short") from defect

    def _tell(self, defect: Exception, scope: Scope) -> None:
        """Log a defect with its traceback, the first time that it is met."""
        trace = defect.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else ("", 0)
        known = (type(defect).__name__, *where)
        if known not in self._defects and len(self._defects) < _DEFECTS_TOLD:
            self._defects.add(known)
            self._log.error("Reaper met a defect over HTTP.", method=scope["method"], path=scope["path"][:200],
                            exc_info=defect)  # fmt: skip


class _Answer:
    """What goes back to the client, with the headers that every answer bears."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self.turn: Slot | None = None
        self.begun = self.ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            message = {**message, "headers": self._headers(message)}
            # The work is done; how long the client takes to read of it must not be to the others' cost.
            if self.turn is not None:
                self.turn.end()
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
        await self._send(message)

    async def give(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        """An answer of our own."""
        body = json.dumps({"detail": detail}, ensure_ascii=False).encode()
        given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": raw})
        await self.send({"type": "http.response.body", "body": body})

    def _headers(self, start: Message) -> list[tuple[bytes, bytes]]:
        theirs = [(name, value) for name, value in start.get("headers", ()) if name.lower() not in _OURS]
        asset = self._scope["path"].startswith(STATIC) and start["status"] < 400
        kept = [] if asset else [NOT_KEPT]
        given = theirs if asset else [(name, value) for name, value in theirs if name.lower() != NOT_KEPT[0]]
        return [*given, *SECURITY_HEADERS, *kept]


def _never() -> bool:
    return False
