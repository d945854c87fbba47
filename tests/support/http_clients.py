"""A small application behind the guard, on a real port, and clients that send exactly the bytes of a test."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Security
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, SecretStr

from reaper.web.api import errors
from reaper.web.guard import AccessControl, Caller, guarded, token_required
from reaper.web.guard.access import AllowedHosts
from reaper.web.guard.connection_limits import ClientConnection
from reaper.web.guard.tokens import Tokens
from reaper.web.server import HttpServer

TOKEN = "s3cret-of-alice-long-enough"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class ChangeRequest(BaseModel):
    """What can be asked for."""

    model_config = ConfigDict(extra="forbid")

    source: str
    action: Literal["fail", "requeue"] = "fail"
    started: str | None = None


class Filter(BaseModel):
    model_config = ConfigDict(extra="forbid")

    verdict: Literal["stale", "spared"] | None = None
    limit: int = 50


def make_app(held: threading.Event, entered: threading.Event) -> FastAPI:
    """Paths that are read, that change something and that fail, and two that answer when `held` is set."""
    app = FastAPI()
    errors.install(app)

    @app.get("/live")
    def live() -> Response:
        return PlainTextResponse("alive\n")

    asked = itertools.count(1)

    @app.get("/ready")
    def ready() -> Response:
        number = next(asked)
        entered.set()
        assert held.wait(30)
        return PlainTextResponse(str(number))

    @app.get("/health/scheduler")
    def broken() -> Response:
        raise RuntimeError("an inner secret")

    @app.get("/page")
    def page() -> Response:
        return PlainTextResponse("read me", headers={"Cache-Control": "public", "X-Frame-Options": "ALLOWALL"})

    @app.get("/jobs")
    def jobs(query: Annotated[Filter, Query()]) -> Filter:
        return query

    @app.get("/static/page.js")
    def static() -> Response:
        return Response("1", media_type="text/javascript", headers={"Cache-Control": "max-age=3600"})

    @app.get("/big")
    def big(size: int) -> Response:
        return Response(b"x" * size)

    @app.get("/stream")
    def stream() -> Response:
        return StreamingResponse(b"x" * 100_000 for _ in range(1000))

    @app.get("/held/{number}")
    def hold(number: int) -> Response:
        assert held.wait(30)
        return PlainTextResponse("let go")

    @app.get("/defect")
    def defect() -> Response:
        raise RuntimeError("an inner secret")

    @app.post("/act")
    def act(order: ChangeRequest, who: Annotated[Caller, Security(token_required)]) -> dict[str, str]:
        return {"name": who.name, "remote": who.remote, "source": order.source}

    @app.get("/whoami")
    def whoami(who: Annotated[Caller, Security(token_required)]) -> dict[str, str]:
        return {"name": who.name}

    @app.post("/forgotten")
    def forgotten() -> str:
        return "no token was required"

    return app


@dataclass
class Answer:
    """One answer as it came over the wire; `headers` by their names in lower case, each with all its values."""

    status: int
    headers: dict[str, list[str]]
    body: bytes

    @property
    def detail(self) -> str:
        error_document = json.loads(self.body)
        assert list(error_document) == ["detail"]
        assert isinstance(error_document["detail"], str)
        return error_document["detail"]

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Client:
    """A connection."""

    def __init__(self, port: int, seconds: float = 10, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(seconds)
        self.socket.connect(("127.0.0.1", port))
        self._received = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Answer:
        """The next answer. Raises ConnectionError when the connection ends before it is whole."""
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers.setdefault(name.lower(), []).append(value)
        length = int(headers["content-length"][0])
        while len(self._received) < length:
            self._more()
        body, self._received = self._received[:length], self._received[length:]
        return Answer(int(re.split(" ", first)[1]), headers, body)

    def ended(self) -> bool:
        """Wait until the server has ended the connection; raises TimeoutError when it does not."""
        try:
            while self.socket.recv(1 << 20):
                pass
        except ConnectionError:
            pass
        return True

    def _more(self) -> None:
        part = self.socket.recv(1 << 20)
        if not part:
            raise ConnectionResetError("the server has ended the connection")
        self._received += part


def head(method: str, path: str, headers: Mapping[str, str] | None = None, host: str | None = "localhost") -> bytes:
    """The first part of a request; `host` None leaves the header out."""
    given = {**({"Host": host} if host is not None else {}), **(headers or {})}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


@dataclass
class Web:
    """The application as others meet it."""

    server: HttpServer
    access_control: AccessControl
    held: threading.Event
    entered: threading.Event

    @property
    def port(self) -> int:
        return int(self.server.address.rpartition(":")[2])

    @property
    def connections(self) -> set[ClientConnection]:
        """Those that the server has at this moment."""
        return self.server.connections.open

    def connect(self, seconds: float = 10, receive_buffer: int | None = None) -> Client:
        return Client(self.port, seconds, receive_buffer)

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        host: str | None = "localhost",
    ) -> Answer:
        given = {**({"Content-Length": str(len(body))} if body else {}), **(headers or {})}
        return self.raw(head(method, path, given, host) + body)

    def raw(self, request: bytes) -> Answer:
        with self.connect() as client:
            client.send(request)
            return client.answer()

    def act(self, headers: Mapping[str, str] | None = None, order: object = None, **more: Any) -> Answer:
        """Ask for a change."""
        body = json.dumps(order if order is not None else {"source": "main"}).encode()
        return self.ask("POST", "/act", {"Content-Type": "application/json", **(headers or {})}, body, **more)


@contextmanager
def web(tokens: Mapping[str, str] | None = None, hosts: AllowedHosts | None = None) -> Iterator[Web]:
    access_control = AccessControl(Tokens({name: SecretStr(token) for name, token in (tokens or {}).items()}), hosts)
    held, entered = threading.Event(), threading.Event()
    served = Web(
        HttpServer(guarded(make_app(held, entered), access_control), "127.0.0.1", 0), access_control, held, entered
    )
    served.server.start()
    try:
        yield served
    finally:
        held.set()
        served.server.stop(5)
