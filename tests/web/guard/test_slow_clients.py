"""Slow clients and many clients at once: no other client has to wait for them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest
from structlog.testing import capture_logs

from reaper.web import server as server_module
from reaper.web.guard import AccessControl, admission, connection_limits, guarded, middleware
from reaper.web.server import HttpServer
from tests.support.daemons import fetch
from tests.support.http_clients import BEARER, TOKEN, Client, Web, head, make_app, web
from tests.support.waiting import wait_until

SHORT = 0.6


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server with short time limits."""
    for module, name in (
        (connection_limits, "REQUEST_SECONDS"),
        (connection_limits, "ANSWER_SECONDS"),
        (connection_limits, "LINGER_SECONDS"),
        (middleware, "BODY_SECONDS"),
    ):
        monkeypatch.setattr(module, name, SHORT)
    with web({"alice": TOKEN}) as served:
        yield served


def trickle(client: Client, data: bytes, seconds: float) -> bool:
    """Send one byte after the other for so many seconds. False when the server has cut the connection."""
    end = time.monotonic() + seconds
    with ExitStack() as stack:
        stack.enter_context(client)
        for byte in data:
            if time.monotonic() > end:
                return True
            try:
                client.send(bytes([byte]))
                client.socket.settimeout(0.05)
                if client.socket.recv(1) == b"":
                    return False
            except TimeoutError:
                continue
            except ConnectionError:
                return False
    return True


# --- requests that do not come ------------------------------------------------------------------------------


def test_connection_without_a_request_is_closed(impatient: Web) -> None:
    with impatient.connect() as client:
        assert client.ended()


def test_head_that_trickles_in_is_cut_off_however_busy_the_client_is(impatient: Web) -> None:
    begun = time.monotonic()
    assert not trickle(impatient.connect(), head("GET", "/page", {"X": "y" * 1000}), 10)
    assert time.monotonic() - begun < 5


def test_head_of_a_second_request_that_trickles_in_is_cut_off(impatient: Web) -> None:
    client = impatient.connect()
    client.send(head("GET", "/page"))
    assert client.answer().status == 200
    assert not trickle(client, head("GET", "/page", {"X": "y" * 1000}), 10)


def test_body_that_trickles_in_is_answered_408_and_cut_off(impatient: Web) -> None:
    with impatient.connect() as client:
        client.send(head("POST", "/act", {**BEARER, "Content-Type": "application/json", "Content-Length": "1000"}))
        client.send(b"{")
        answer = client.answer()
        assert answer.status == 408
        assert answer.detail == f"the request's body did not come within {SHORT:g} seconds"
        assert client.ended()


def test_body_that_is_still_sent_after_the_answer_is_not_read(impatient: Web) -> None:
    with impatient.connect() as client:
        client.send(head("POST", "/act", {"Transfer-Encoding": "chunked"}))
        assert client.answer().status == 401
        sent = 0
        with pytest.raises((ConnectionError, TimeoutError)):
            while True:
                sent += client.socket.send(b"1\r\nx\r\n" * 1000)
        assert sent < 30_000_000


def test_body_in_tiny_chunks_that_is_not_needed_is_not_parsed() -> None:
    parts = b"1\r\nx\r\n" * 150_000
    with web() as served, served.connect() as client:
        client.send(head("POST", "/act", {"Transfer-Encoding": "chunked"}))
        before, begun = psutil.Process().cpu_times().user, time.monotonic()
        with pytest.raises(ConnectionError):
            while True:
                client.send(parts)
        assert psutil.Process().cpu_times().user - before < 0.5
        assert time.monotonic() - begun < 5


def test_body_in_tiny_chunks_that_came_with_its_head_is_not_parsed() -> None:
    held = threading.Event()
    server = HttpServer(guarded(make_app(held, threading.Event()), AccessControl()), "127.0.0.1", 0)
    with ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(Client(int(server.address.rpartition(":")[2]), 0.2))
            with pytest.raises(TimeoutError):
                client.send(head("GET", "/held/1", {"Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n" * 3_000_000)
        before = psutil.Process().cpu_times().user
        server.start()
        threading.Event().wait(2)
        assert psutil.Process().cpu_times().user - before < 0.5
        held.set()
        server.stop(5)


def test_idle_connection_is_closed(impatient: Web) -> None:
    with impatient.connect() as client:
        client.send(head("GET", "/page"))
        assert client.answer().status == 200
        assert client.ended()


# --- answers that are not read -------------------------------------------------------------------------------

HUGE = 30_000_000


@pytest.mark.parametrize("path", [f"/big?size={HUGE}", "/stream"])
def test_client_that_does_not_read_its_answer_is_cut_off(impatient: Web, path: str) -> None:
    with impatient.connect(receive_buffer=4096) as client:
        client.send(head("GET", path))
        opened = impatient.connections
        wait_until(lambda: len(opened) == 1, "one connection")
        wait_until(lambda: not opened, "the server closes the connection", 10)
        with pytest.raises((ConnectionError, KeyError)):  # the head has come, of a stream without a length
            client.answer()


def test_client_that_sends_requests_and_reads_no_answer_is_cut_off(impatient: Web) -> None:
    with impatient.connect(receive_buffer=4096) as client:
        client.send(head("GET", f"/big?size={HUGE}") + head("GET", "/page") * 3)
        opened = impatient.connections
        wait_until(lambda: len(opened) == 1, "one connection")
        wait_until(lambda: not opened, "the server closes the connection", 10)


@pytest.mark.parametrize("kept", ["close", "keep-alive"])
def test_client_that_reads_slowly_gets_the_whole_answer(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "REQUEST_SECONDS", SHORT)
    with web() as served, served.connect(receive_buffer=65536) as client:
        client.send(head("GET", f"/big?size={HUGE}", {"Connection": kept}))
        begun, received = time.monotonic(), 0
        while received < HUGE:
            part = client.socket.recv(600_000)
            assert part
            received += len(part)
            threading.Event().wait(0.01)
        assert time.monotonic() - begun > 1.5 * SHORT


def test_answer_that_takes_long_to_make_is_not_cut_off(impatient: Web) -> None:
    with impatient.connect() as client:
        client.send(head("GET", "/held/1"))
        threading.Timer(3 * SHORT, impatient.held.set).start()
        assert client.answer().body == b"let go"
        client.send(head("GET", "/page"))
        assert client.answer().status == 200


# --- many at once --------------------------------------------------------------------------------------------


def test_silent_connections_do_not_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MOST_CONNECTIONS", 10)
    with web() as served, ExitStack() as stack:
        silent = [stack.enter_context(served.connect()) for _ in range(30)]
        assert fetch(served.port, "/live") == (200, "alive\n")
        assert len(served.connections) <= 10
        assert silent[0].ended()
        # Those who came last are still there.
        silent[-1].send(head("GET", "/page"))
        assert silent[-1].answer().status == 200


def test_connection_waits_for_a_free_place_while_all_others_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MOST_CONNECTIONS", 3)
    with web() as served, ExitStack() as stack:
        working = [stack.enter_context(served.connect()) for _ in range(3)]
        for client in working:
            client.send(head("GET", "/held/1"))
        opened = served.connections
        wait_until(lambda: sum(each.working for each in opened) == 3, "three requests are served")
        with served.connect(1) as late:
            late.send(head("GET", "/page"))
            with pytest.raises(TimeoutError):
                late.answer()
            served.held.set()
            late.socket.settimeout(10)
            assert late.answer().status == 200


def test_probes_and_those_with_a_token_do_not_wait_behind_the_rest() -> None:
    with web({"alice": TOKEN}) as served, ExitStack() as stack:
        waiting = [stack.enter_context(served.connect()) for _ in range(20)]
        for number, client in enumerate(waiting):
            client.send(head("GET", f"/held/{number}"))
        with served.connect(1) as late:
            late.send(head("GET", "/page"))
            with pytest.raises(TimeoutError):
                late.answer()
        assert served.ask("GET", "/live").status == 200
        assert served.act(BEARER).status == 200
        assert served.ask("GET", "/page", BEARER).status == 200
        served.held.set()
        assert all(client.answer().status == 200 for client in waiting)


def test_clients_that_ask_a_probe_while_it_waits_share_an_answer_made_after_they_asked() -> None:
    with web() as served, ExitStack() as stack:

        def ask(accept: str = "text/plain") -> Client:
            client = stack.enter_context(served.connect())
            client.send(head("GET", "/ready", {"Accept": accept}))
            return client

        first = ask()
        assert served.entered.wait(10)
        later = [ask() for _ in range(10)]
        # A client that left does not take the answer with it.
        later[0].socket.close()
        other = ask("application/json")
        wait_until(lambda: len(served.connections) == 11, "eleven connections")
        served.held.set()
        assert first.answer().body == b"1"
        [shared] = {client.answer().body for client in later[1:]}
        assert {shared, other.answer().body} == {b"2", b"3"}


def test_defect_of_a_probe_is_answered_to_each_client_and_logged_once() -> None:
    with web() as served, capture_logs() as logs:
        for _ in range(2):
            answer = served.ask("GET", "/health/scheduler")
            assert answer.status == 500
            assert "secret" not in answer.detail
            assert answer.headers["cache-control"] == ["no-store"]
    assert [line["event"] for line in logs] == ["Reaper met a defect over HTTP."]


def test_request_that_waits_too_long_is_answered_503_with_a_time_to_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_PATIENCE_SECONDS", 0.3)
    with web() as served, ExitStack() as stack:
        for number in range(8):
            stack.enter_context(served.connect()).send(head("GET", f"/held/{number}"))
        answer = served.ask("GET", "/page")
        assert answer.status == 503
        assert answer.headers["retry-after"] == ["5"]
        assert answer.detail == "too many requests at once: try again in 5 seconds"
        assert answer.headers["x-frame-options"] == ["DENY"]


def test_answers_come_at_a_pace_that_leaves_the_machine_to_the_sweeps() -> None:
    with web() as served, served.connect() as client:
        begun, answers = time.monotonic(), 0
        while time.monotonic() - begun < 4:
            client.send(head("GET", "/page"))
            assert client.answer().status == 200
            answers += 1
        # What was saved up, and then the share that each answer leaves.
        assert 20 < answers < 1 / 0.004 + 4 * 0.12 / 0.004


# --- what else a client may do -------------------------------------------------------------------------------


def test_requests_that_come_in_one_piece_are_answered_one_after_the_other(impatient: Web) -> None:
    with impatient.connect() as client:
        client.send(b"".join(head("GET", path) for path in ("/page", "/nowhere", "/page")))
        assert [client.answer().status for _ in range(3)] == [200, 404, 200]


def test_head_must_not_be_longer_than_16_kib(impatient: Web) -> None:
    assert impatient.ask("GET", "/page", {"Cookie": "x" * 15_000}).status == 200
    assert impatient.ask("GET", "/page", {"Cookie": "x" * 25_000}).status == 400


def test_upgrade_to_a_websocket_is_ignored(impatient: Web, caplog: pytest.LogCaptureFixture) -> None:
    answer = impatient.ask("GET", "/page", {"Connection": "Upgrade", "Upgrade": "websocket"})
    assert answer.status == 200
    assert not caplog.records


def test_input_that_is_not_http_is_answered_400_and_fills_no_log(
    impatient: Web, caplog: pytest.LogCaptureFixture
) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 20_000) * 3:
        answer = impatient.raw(nonsense)
        assert answer.status == 400
        assert answer.detail
    assert len(caplog.records) <= 1


def test_server_does_not_wait_for_clients_when_it_ends() -> None:
    with web() as served, ExitStack() as stack:
        clients = [stack.enter_context(served.connect(receive_buffer=4096)) for _ in range(9)]
        for client, words in zip(
            clients[1:], (b"GET", head("GET", f"/big?size={HUGE}"), head("GET", "/held/1")) * 2, strict=False
        ):
            client.send(words)
        assert fetch(served.port, "/live")[0] == 200
        begun = time.monotonic()
        served.server.ask_to_stop()
        assert all(client.ended() for client in clients if client is not clients[3] and client is not clients[6])
        served.held.set()
        wait_until(lambda: not served.server.running, "the server has stopped")
        assert time.monotonic() - begun < 3


def test_server_goes_on_when_descriptors_are_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_ACCEPT_RETRY_SECONDS", 0.1)
    with web() as served:
        accept = socket.socket.accept
        away = threading.Event()

        def failing(listener: socket.socket) -> object:
            if not away.is_set():
                raise OSError(24, "Too many open files")
            return accept(listener)

        monkeypatch.setattr(socket.socket, "accept", failing)
        with served.connect() as client:
            client.send(head("GET", "/page"))
            threading.Timer(0.3, away.set).start()
            assert client.answer().status == 200
