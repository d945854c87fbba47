"""Clients that keep the server waiting, and many at once: nobody else is to notice."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack

import psutil
import pytest
from starlette.types import Message
from structlog.testing import capture_logs

from reaper.web import server as server_module
from reaper.web.guard import AccessControl, admission, connections, guarded, middleware
from reaper.web.guard.admission import AdmissionLimit, AdmissionTimeout, ClientDisconnected
from reaper.web.server import Server
from tests.support.daemons import fetch
from tests.support.http_clients import BEARER, TOKEN, Client, Web, head, make_app, web
from tests.support.protea import eventually

SHORT = 0.6


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server with little patience."""
    for module, name in (
        (connections, "REQUEST_SECONDS"),
        (connections, "ANSWER_SECONDS"),
        (connections, "LINGER_SECONDS"),
        (middleware, "BODY_SECONDS"),
    ):
        monkeypatch.setattr(module, name, SHORT)
    with web({"alice": TOKEN}) as served:
        yield served


def dribble(client: Client, data: bytes, seconds: float) -> bool:
    """Send one byte after the other for so long. Whether the server let it."""
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


def test_a_client_that_says_nothing_is_let_go(hasty: Web) -> None:
    with hasty.connect() as client:
        assert client.ended()


def test_a_head_that_dribbles_in_is_cut_off_however_busy_the_client_is(hasty: Web) -> None:
    begun = time.monotonic()
    assert not dribble(hasty.connect(), head("GET", "/page", {"X": "y" * 1000}), 10)
    assert time.monotonic() - begun < 5


def test_so_it_is_when_it_is_the_second_one(hasty: Web) -> None:
    client = hasty.connect()
    client.send(head("GET", "/page"))
    assert client.answer().status == 200
    assert not dribble(client, head("GET", "/page", {"X": "y" * 1000}), 10)


def test_a_body_that_dribbles_in_is_answered_and_cut_off(hasty: Web) -> None:
    with hasty.connect() as client:
        client.send(head("POST", "/act", {**BEARER, "Content-Type": "application/json", "Content-Length": "1000"}))
        client.send(b"{")
        answer = client.answer()
        assert answer.status == 408
        assert answer.detail == f"the request's body did not come within {SHORT:g} seconds"
        assert client.ended()


def test_what_is_still_sent_after_the_answer_is_not_read(hasty: Web) -> None:
    with hasty.connect() as client:
        client.send(head("POST", "/act", {"Transfer-Encoding": "chunked"}))
        assert client.answer().status == 401
        sent = 0
        with pytest.raises((ConnectionError, TimeoutError)):
            while True:
                sent += client.socket.send(b"1\r\nx\r\n" * 1000)
        assert sent < 30_000_000


def test_a_body_in_tiny_parts_that_nobody_asked_for_takes_no_time() -> None:
    parts = b"1\r\nx\r\n" * 150_000
    with web() as served, served.connect() as client:
        client.send(head("POST", "/act", {"Transfer-Encoding": "chunked"}))
        before, begun = psutil.Process().cpu_times().user, time.monotonic()
        with pytest.raises(ConnectionError):
            while True:
                client.send(parts)
        assert psutil.Process().cpu_times().user - before < 0.5
        assert time.monotonic() - begun < 5


def test_nor_does_one_that_is_there_before_the_server_reads_anything() -> None:
    held = threading.Event()
    server = Server(guarded(make_app(held, threading.Event()), AccessControl()), "127.0.0.1", 0)
    with ExitStack() as stack:
        for _ in range(8):
            client = stack.enter_context(Client(int(server.address.rpartition(":")[2]), 0.2))
            with pytest.raises(TimeoutError):
                client.send(head("GET", "/held", {"Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n" * 3_000_000)
        before = psutil.Process().cpu_times().user
        server.start()
        threading.Event().wait(2)
        assert psutil.Process().cpu_times().user - before < 0.5
        held.set()
        server.stop(5)


def test_an_idle_connection_is_let_go_with_what_else_it_sends_ignored(hasty: Web) -> None:
    with hasty.connect() as client:
        client.send(head("GET", "/page"))
        assert client.answer().status == 200
        assert client.ended()


# --- answers that are not read -------------------------------------------------------------------------------

HUGE = 30_000_000


@pytest.mark.parametrize("path", [f"/big?size={HUGE}", "/stream"])
def test_a_client_that_does_not_read_its_answer_is_cut_off(hasty: Web, path: str) -> None:
    with hasty.connect(receive_buffer=4096) as client:
        client.send(head("GET", path))
        opened = hasty.connections
        eventually(lambda: len(opened) == 1)
        eventually(lambda: not opened, 10)
        with pytest.raises((ConnectionError, KeyError)):  # the head has come, of a stream without a length
            client.answer()


@pytest.mark.parametrize("kept", ["close", "keep-alive"])
def test_one_that_reads_slowly_gets_all_of_it(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", SHORT)
    with web() as served, served.connect(receive_buffer=65536) as client:
        client.send(head("GET", f"/big?size={HUGE}", {"Connection": kept}))
        begun, received = time.monotonic(), 0
        while received < HUGE:
            part = client.socket.recv(600_000)
            assert part
            received += len(part)
            threading.Event().wait(0.01)
        assert time.monotonic() - begun > 1.5 * SHORT


def test_an_answer_that_takes_long_to_make_is_not_cut_off(hasty: Web) -> None:
    with hasty.connect() as client:
        client.send(head("GET", "/held"))
        threading.Timer(3 * SHORT, hasty.held.set).start()
        assert client.answer().body == b"let go"
        client.send(head("GET", "/page"))
        assert client.answer().status == 200


# --- many at once --------------------------------------------------------------------------------------------


def test_connections_that_say_nothing_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MOST_CONNECTIONS", 10)
    with web() as served, ExitStack() as stack:
        silent = [stack.enter_context(served.connect()) for _ in range(30)]
        assert fetch(served.port, "/live") == (200, "alive\n")
        assert len(served.connections) <= 10
        assert silent[0].ended()
        # Those who came last are still there.
        silent[-1].send(head("GET", "/page"))
        assert silent[-1].answer().status == 200


def test_when_all_are_at_work_the_next_one_waits_for_the_first_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MOST_CONNECTIONS", 3)
    with web() as served, ExitStack() as stack:
        working = [stack.enter_context(served.connect()) for _ in range(3)]
        for client in working:
            client.send(head("GET", "/held"))
        opened = served.connections
        eventually(lambda: sum(each.working for each in opened) == 3)
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
            client.send(head("GET", f"/held?{number}"))
        with served.connect(1) as late:
            late.send(head("GET", "/page"))
            with pytest.raises(TimeoutError):
                late.answer()
        assert served.ask("GET", "/live").status == 200
        assert served.act(BEARER).status == 200
        assert served.ask("GET", "/page", BEARER).status == 200
        served.held.set()
        assert all(client.answer().status == 200 for client in waiting)


def test_those_who_ask_a_probe_while_it_waits_share_an_answer_that_was_made_after_they_asked() -> None:
    with web() as served, ExitStack() as stack:

        def ask(accept: str = "text/plain") -> Client:
            client = stack.enter_context(served.connect())
            client.send(head("GET", "/ready", {"Accept": accept}))
            return client

        first = ask()
        assert served.entered.wait(10)
        later = [ask() for _ in range(10)]
        # One that left does not take the answer with it.
        later[0].socket.close()
        other = ask("application/json")
        eventually(lambda: len(served.connections) == 11)
        served.held.set()
        assert first.answer().body == b"1"
        [shared] = {client.answer().body for client in later[1:]}
        assert {shared, other.answer().body} == {b"2", b"3"}


def test_a_probe_with_a_defect_says_so_to_everybody_and_to_the_log_once() -> None:
    with web() as served, capture_logs() as logs:
        for _ in range(2):
            answer = served.ask("GET", "/health/scheduler")
            assert answer.status == 500
            assert "secret" not in answer.detail
            assert answer.headers["cache-control"] == ["no-store"]
    assert [line["event"] for line in logs] == ["Reaper met a defect over HTTP."]


def test_who_waits_too_long_is_told_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_PATIENCE_SECONDS", 0.3)
    with web() as served, ExitStack() as stack:
        for number in range(8):
            stack.enter_context(served.connect()).send(head("GET", f"/held?{number}"))
        answer = served.ask("GET", "/page")
        assert answer.status == 503
        assert answer.headers["retry-after"] == ["5"]
        assert answer.detail == "too many requests at once: try again in 5 seconds"
        assert answer.headers["x-frame-options"] == ["DENY"]


def test_cheap_questions_are_answered_at_a_pace_that_leaves_the_machine_to_others() -> None:
    with web() as served, served.connect() as client:
        begun, answers = time.monotonic(), 0
        while time.monotonic() - begun < 4:
            client.send(head("GET", "/page"))
            assert client.answer().status == 200
            answers += 1
        # What was saved up, and then the share that each answer leaves.
        assert 20 < answers < 1 / 0.004 + 4 * 0.12 / 0.004


# --- what else a client may do -------------------------------------------------------------------------------


def test_requests_that_come_in_one_piece_are_answered_one_after_the_other(hasty: Web) -> None:
    with hasty.connect() as client:
        client.send(b"".join(head("GET", path) for path in ("/page", "/nowhere", "/page")))
        assert [client.answer().status for _ in range(3)] == [200, 404, 200]


def test_a_head_must_not_be_longer_than_16_kib(hasty: Web) -> None:
    assert hasty.ask("GET", "/page", {"Cookie": "x" * 15_000}).status == 200
    assert hasty.ask("GET", "/page", {"Cookie": "x" * 25_000}).status == 400


def test_there_is_nothing_to_upgrade_to(hasty: Web, caplog: pytest.LogCaptureFixture) -> None:
    answer = hasty.ask("GET", "/page", {"Connection": "Upgrade", "Upgrade": "websocket"})
    assert answer.status == 200
    assert not caplog.records


def test_nonsense_is_answered_and_fills_no_log(hasty: Web, caplog: pytest.LogCaptureFixture) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 20_000) * 3:
        answer = hasty.raw(nonsense)
        assert answer.status == 400
        assert answer.detail
    assert len(caplog.records) <= 1


def test_the_end_waits_for_no_client() -> None:
    with web() as served, ExitStack() as stack:
        clients = [stack.enter_context(served.connect(receive_buffer=4096)) for _ in range(9)]
        for client, words in zip(
            clients[1:], (b"GET", head("GET", f"/big?size={HUGE}"), head("GET", "/held")) * 2, strict=False
        ):
            client.send(words)
        assert fetch(served.port, "/live")[0] == 200
        begun = time.monotonic()
        served.server.ask_to_stop()
        assert all(client.ended() for client in clients if client is not clients[3] and client is not clients[6])
        served.held.set()
        eventually(lambda: not served.server.running)
        assert time.monotonic() - begun < 3


def test_a_server_without_descriptors_goes_on_when_there_are_some_again(monkeypatch: pytest.MonkeyPatch) -> None:
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


# --- the admission limit -------------------------------------------------------------------------------------


def run(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(scenario())


class Work:
    """An answer that takes until it is let go."""

    def __init__(self) -> None:
        self.began, self.let_go = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> list[Message]:
        self.began.set()
        await self.let_go.wait()
        return [{"type": "answer"}]


async def nothing() -> list[Message]:
    return []


def test_admission_keeps_the_order_of_requests() -> None:
    async def scenario() -> None:
        limit, order = AdmissionLimit(1, 0.001, at_once=1), list[int]()

        async def client(number: int) -> None:
            async def work() -> list[Message]:
                order.append(number)
                return []

            await limit.run(work)

        await asyncio.gather(*(client(number) for number in range(50)))
        assert order == list(range(50))

    run(scenario)


def test_admission_works_on_no_more_at_once_than_it_may() -> None:
    async def scenario() -> None:
        limit, works = AdmissionLimit(1, 0.0001, at_once=3), [Work() for _ in range(5)]
        tasks = [asyncio.create_task(limit.run(work)) for work in works]
        await asyncio.sleep(0.05)
        assert [work.began.is_set() for work in works] == [True, True, True, False, False]
        works[1].let_go.set()
        await works[3].began.wait()
        await asyncio.sleep(0.05)
        assert not works[4].began.is_set()
        for work in works:
            work.let_go.set()
        await asyncio.gather(*tasks)

    run(scenario)


def test_admission_gives_the_turn_of_a_client_that_has_gone_to_the_next() -> None:
    async def scenario() -> None:
        limit, first, gone = AdmissionLimit(1, 0.0001, at_once=1), Work(), False
        working = asyncio.create_task(limit.run(first))
        leaving = asyncio.create_task(limit.run(nothing, lambda: gone))
        cancelled = asyncio.create_task(limit.run(nothing))
        last = asyncio.create_task(limit.run(nothing))
        await first.began.wait()
        gone = True
        cancelled.cancel()
        first.let_go.set()
        await working
        await last
        with pytest.raises(ClientDisconnected):
            await leaving

    run(scenario)


def test_admission_frees_the_turn_of_a_request_that_is_cancelled_as_it_is_admitted() -> None:
    async def scenario() -> None:
        limit, first = AdmissionLimit(1, 0.0001, at_once=1), Work()
        working = asyncio.create_task(limit.run(first))
        admitted = asyncio.create_task(limit.run(nothing))
        await first.began.wait()
        first.let_go.set()
        await asyncio.sleep(0)
        admitted.cancel()
        await working
        with pytest.raises(asyncio.CancelledError):
            await admitted
        assert await asyncio.wait_for(limit.run(nothing), 1) == []

    run(scenario)


def test_admission_raises_when_the_turn_does_not_come_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_PATIENCE_SECONDS", 0.1)

    async def scenario() -> None:
        limit, first = AdmissionLimit(1, 0.0001, at_once=1), Work()
        working = asyncio.create_task(limit.run(first))
        await first.began.wait()
        for late in (limit.run(nothing), limit.run_shared("question", nothing)):
            with pytest.raises(AdmissionTimeout):
                await late
        first.let_go.set()
        await working
        assert await limit.run_shared("question", nothing) == []

    run(scenario)


def test_answer_is_shared_by_the_clients_that_wait_even_when_one_of_them_leaves() -> None:
    async def scenario() -> None:
        limit, works = AdmissionLimit(1, 0.0001, at_once=1), [Work(), Work()]
        asking = [asyncio.create_task(limit.run_shared("question", work)) for work in works]
        await works[0].began.wait()
        asking[0].cancel()
        works[0].let_go.set()
        assert await asking[1] == [{"type": "answer"}]
        assert not works[1].began.is_set()

    run(scenario)


def test_answer_is_not_shared_with_a_client_that_asks_after_it_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        limit, works = AdmissionLimit(1, 0.0001, at_once=3), [Work(), Work(), Work()]
        first = asyncio.create_task(limit.run_shared("question", works[0]))
        await works[0].began.wait()
        later = [asyncio.create_task(limit.run_shared("question", work)) for work in works[1:]]
        await asyncio.sleep(0.05)
        assert not works[1].began.is_set(), "it waits a moment for others"
        for work in works:
            work.let_go.set()
        await asyncio.gather(first, *later)
        assert [work.began.is_set() for work in works] == [True, True, False]

        monkeypatch.setattr(admission, "_SAME_QUESTION_SECONDS", 0.05)
        slow, next_one = Work(), Work()
        hanging = asyncio.create_task(limit.run_shared("question", slow))
        await slow.began.wait()
        other = asyncio.create_task(limit.run_shared("question", next_one))
        await next_one.began.wait()
        for work in (slow, next_one):
            work.let_go.set()
        await asyncio.gather(hanging, other)

    run(scenario)


def test_work_takes_its_share_of_the_time_and_no_more() -> None:
    async def scenario() -> None:
        limit, began, worked = AdmissionLimit(0.25, 0, at_once=4, burst_seconds=0.05), time.monotonic(), 0.0

        async def work() -> list[Message]:
            nonlocal worked
            before = time.monotonic()
            await asyncio.sleep(0.02)
            worked += time.monotonic() - before
            return []

        while time.monotonic() - began < 2:
            await limit.run(work)
        assert 0.15 < worked / 2 < 0.35

    run(scenario)


def test_admission_debt_is_never_longer_than_half_a_burst() -> None:
    limit = AdmissionLimit(10, 0, at_once=1, burst_seconds=2)
    limit.charge(1000)
    assert 0 < limit.wait_seconds <= 0.1
