"""The API of a running daemon, as its clients meet it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from reaper.dev.postgres import PrivatePostgreSQL
from tests.conftest import TEMPLATE
from tests.support.daemons import Daemon
from tests.support.protea import Protea
from tests.support.waiting import wait_until

TOKEN = "a-token-for-tests-0123456789"
OPERATOR = "tester"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def detail(self) -> str:
        """The one sentence of a refusal."""
        assert self.status >= 400, self.text
        return str(self.json["detail"])


class Client:
    """Sends the token unless `token` is false."""

    def __init__(self, port: int, token: str | None = TOKEN) -> None:
        self._port, self._token = port, token

    def ask(
        self, method: str, path: str, body: object = None, *, token: bool = True, raw: bytes | None = None
    ) -> Answer:
        headers = {"Content-Type": "application/json"} if body is not None or raw is not None else {}
        if token and self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        sent = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, path, sent, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path, token=False)

    def post(self, path: str, body: object = None) -> Answer:
        return self.ask("POST", path, body)

    def job(self, name: str, source: str = "default") -> Answer:
        return self.get(self.at(name, source))

    def end(self, verb: str, name: str, started: str | None, source: str = "default") -> Answer:
        return self.post(f"{self.at(name, source)}/{verb}", {"started": started, "reason": "its node is gone"})

    @staticmethod
    def at(name: str, source: str = "default") -> str:
        return f"/api/jobs/{source}/{quote(name, safe='')}"


def token_file(folder: Path) -> Path:
    path = folder / "http-token"
    path.write_text(f"{OPERATOR}:{TOKEN}\n")
    path.chmod(0o600)
    return path


class ApiDaemon(Daemon):
    """A daemon with a token. It sweeps seldom, so that what is asked for is seen alone."""

    def __init__(self, folder: Path, config: str | None = None, **settings: Any) -> None:
        given: dict[str, Any] = {"http_token_file": token_file(folder), "interval_seconds": 3600, **settings}
        super().__init__(folder, config, **given)
        self.api = Client(self.port)

    def __enter__(self) -> ApiDaemon:
        try:
            self.comes_up()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def has_swept(self, outcome: str = "done") -> None:
        """Wait for the first sweep that ends so: the next one is an hour away."""
        wait_until(lambda: self.sweeps(outcome) >= 1, f"the first sweep {outcome}")

    def forget(self) -> None:
        """Empty the daemon's read cache: it answers reads again for a moment, but a POST clears it."""
        assert self.api.post("/api/sweeps", {}).status == 200


@contextmanager
def api_daemon(
    server: PrivatePostgreSQL, folder: Path, name: str, **settings: Any
) -> Iterator[tuple[ApiDaemon, Protea]]:
    """A daemon and its database for many tests: a start takes longer than most of them."""
    url = server.create_database(name, tables=False, template=TEMPLATE)
    with (
        psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection,
        ApiDaemon(folder, database_url=url, **settings) as daemon,
    ):
        daemon.has_swept()
        yield daemon, Protea(url, connection)
    server.drop_database(name)


def shared_daemon(name: str, **settings: Any) -> tuple[Any, Any, Any]:
    """Three fixtures for a module whose tests share a daemon and its database, which has this name.

    The first is to be called `running`: the others ask for it by that name. The second is the daemon as a test wants
    it: with no job, not halted, and telling nothing of what was before. The third is the Protea of its database.
    """

    @pytest.fixture(scope="module")
    def running(
        server: PrivatePostgreSQL, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[tuple[ApiDaemon, Protea]]:
        with api_daemon(server, tmp_path_factory.mktemp(name), name, **settings) as both:
            yield both

    @pytest.fixture
    def daemon(running: tuple[ApiDaemon, Protea]) -> ApiDaemon:
        shared, protea = running
        protea.connection.execute("TRUNCATE job, job_event")
        assert shared.api.post("/api/supervisor/restart").status == 200
        shared.forget()
        return shared

    @pytest.fixture
    def protea(running: tuple[ApiDaemon, Protea]) -> Protea:
        return running[1]

    return running, daemon, protea
