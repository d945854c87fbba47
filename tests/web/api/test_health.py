"""Health over HTTP: what keeps a source from being ready, said in words."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from reaper.errors import ReaperError
from reaper.model import Outcome, SweepReport
from reaper.observers import status as status_module
from reaper.observers.metrics import Metrics
from reaper.scheduling.scheduler import Supervisor
from reaper.web import AdminService, History, HttpServer, Status
from reaper.web.app import make_app
from tests.support.daemons import fetch
from tests.support.waiting import wait_until


@pytest.fixture
def status() -> Status:
    made = Status()
    made.set_sources(["main"], 60)
    return made


@pytest.fixture
def port(status: Status) -> Iterator[int]:
    metrics = Metrics()
    metrics.set_sources(["main"], 60)
    service = AdminService(Supervisor(), status, History())
    server = HttpServer(make_app(service, metrics.registry), "127.0.0.1", 0)
    server.start()
    yield int(server.address.rpartition(":")[2])
    server.stop(5)


def report(outcome: Outcome = Outcome.DONE, *, away: bool = False, error: str | None = None) -> SweepReport:
    return SweepReport("main", "1", outcome, 0.1, database_away=away, error=error)


def test_source_is_ready_after_its_first_sweep_and_not_before(status: Status, port: int) -> None:
    code, body = fetch(port, "/ready")
    assert code == 503
    assert json.loads(body) == {
        "ready": False,
        "sources": {"main": {"ready": False, "problems": ["no sweep has ended yet"]}},
    }
    status.swept(report())
    assert fetch(port, "/ready") == (200, '{"ready":true,"sources":{"main":{"ready":true,"problems":[]}}}')


@pytest.mark.parametrize(
    ("swept", "problem"),
    [
        (report(Outcome.FAILED, away=True, error="gone"), "database away: gone"),
        (report(Outcome.FAILED, error="a defect"), "last sweep failed: a defect"),
        (report(Outcome.HELD), "breaker open: nearly all running jobs fell silent at once"),
    ],
)
def test_problems_of_a_source_last_until_a_sweep_succeeds(status: Status, swept: SweepReport, problem: str) -> None:
    status.swept(report())
    status.swept(swept)
    assert status.problems() == {"main": [problem]}
    status.swept(report())
    assert status.problems() == {"main": []}


@pytest.mark.parametrize(
    ("swept", "problems"),
    [
        (report(Outcome.FAILED, away=True, error="gone"), []),
        (report(Outcome.FAILED, error="a defect"), ["last sweep as the leader failed: a defect"]),
        (report(Outcome.HELD), []),
    ],
)
def test_standby_is_ready_unless_its_own_last_sweep_failed(
    status: Status, swept: SweepReport, problems: list[str]
) -> None:
    status.swept(swept)
    status.swept(report(Outcome.STANDBY))
    assert status.problems() == {"main": problems}


def test_standby_is_ready_again_three_intervals_after_a_failure_of_its_own() -> None:
    status = Status()
    status.set_sources(["main"], 0.05)
    status.swept(report(Outcome.FAILED, error="a deadlock"))

    def stands_by() -> bool:
        status.swept(report(Outcome.STANDBY))
        return status.problems() == {"main": []}

    assert not stands_by()
    wait_until(stands_by, "three intervals")


def test_breaker_stays_open_while_the_database_is_away(status: Status) -> None:
    status.swept(report(Outcome.HELD))
    status.swept(report(Outcome.FAILED, away=True, error="gone"))
    assert [problem.partition(":")[0] for problem in status.problems()["main"]] == ["database away", "breaker open"]


def test_source_is_not_ready_without_a_success_for_three_intervals() -> None:
    status = Status()
    status.set_sources(["main"], 0.05)
    status.swept(report())
    wait_until(lambda: "no successful sweep" in "".join(status.problems()["main"]), "too old")


def test_daemon_is_live_while_its_main_loop_turns(status: Status, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch(port, "/live") == (200, "alive\n")
    monkeypatch.setattr(status_module, "_MAX_TICK_SECONDS", 0.05)
    wait_until(lambda: fetch(port, "/live") == (503, "the main loop does not turn\n"), "it is missed")
    monkeypatch.undo()
    status.on_tick()
    assert fetch(port, "/live")[0] == 200


def test_removed_source_has_no_part_in_readiness(status: Status) -> None:
    status.swept(report(Outcome.FAILED, error="trouble"))
    status.set_sources(["other"], 60)
    status.swept(report(Outcome.FAILED, error="trouble"))
    assert set(status.problems()) == {"other"}


def test_unknown_paths_are_not_found(port: int) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/job", "/api", "/api/", "/api/supervisor"):
        assert fetch(port, path)[0] == 404


def test_scrape_gets_the_format_that_it_accepts(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(
            b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Accept: application/openmetrics-text; version=1.0.0\r\n\r\n"
        )
        answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    assert "content-type: application/openmetrics-text; version=1.0.0" in answer
    assert answer.rstrip().endswith("# EOF")


def test_hanging_clients_do_not_keep_others_out(port: int) -> None:
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    try:
        assert fetch(port, "/live")[0] == 200
    finally:
        for each in idle:
            each.close()


def test_server_that_stops_leaves_no_thread_and_no_port(status: Status) -> None:
    server = HttpServer(make_app(AdminService(Supervisor(), status, History()), Metrics().registry), "127.0.0.1", 0)
    server.start()
    port = int(server.address.rpartition(":")[2])
    wait_until(lambda: fetch(port, "/live"), "an answer")
    server.stop(5)
    assert "http" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(ConnectionRefusedError):
        fetch(port, "/live")


@pytest.mark.parametrize("host", ["203.0.113.1", "a..b"])
def test_server_names_an_address_that_it_cannot_listen_on(status: Status, host: str) -> None:
    with pytest.raises(ReaperError, match=rf"cannot listen on {host}:9469: .+; REAPER_HTTP_PORT takes another port"):
        HttpServer(make_app(AdminService(Supervisor(), status, History()), Metrics().registry), host, 9469)
