"""The supervisor's state over HTTP where there is no schedule, and where it has died."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from reaper.admin import Desk, History, Server, Status
from reaper.admin.app import make_app
from reaper.admin.security import Gate, guarded
from reaper.admin.security.tokens import Tokens
from reaper.breaker import Breaker
from reaper.halt import Halt
from reaper.hearing import Hearing
from reaper.metrics import Metrics
from reaper.supervisor import Supervisor
from reaper.watch import Pace, Watch
from tests.api import TOKEN, Client
from tests.daemons import until
from tests.support import Protea
from tests.test_halt import Broken
from tests.test_supervisor import Diary


@contextmanager
def served(supervisor: Supervisor) -> Iterator[Client]:
    """The API of a supervisor, in this process."""
    desk = Desk(supervisor, Status(), History())
    app = guarded(make_app(desk, Metrics().registry), Gate(Tokens({"tester": SecretStr(TOKEN)})))
    server = Server(app, "127.0.0.1", 0)
    server.start()
    try:
        yield Client(int(server.address.rpartition(":")[2]))
    finally:
        server.stop(5)


def test_without_a_schedule_there_is_no_state() -> None:
    with served(Supervisor()) as api:
        answer = api.get("/api/supervisor/state")
        assert (answer.status, answer.detail) == (503, "no schedule is configured")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_schedule_that_died_is_finished_and_goes_on_when_it_is_restarted(protea: Protea) -> None:
    halt, diary = Halt(), Diary()
    supervisor = Supervisor(halt)
    supervisor.add(Watch(protea.source(), Hearing(0), Pace(3600), Breaker(50, 0.5), 100, "test-host", [diary], halt))
    supervisor.start()
    with served(supervisor) as api:
        assert api.get("/api/supervisor/state").json["state"] == "RUNNING"
        supervisor._scheduler.add_job(lambda: None, Broken())
        until(lambda: api.get("/api/supervisor/state").json["state"] == "FINISHED", "its end")
        job = protea.stale()
        assert api.post("/api/supervisor/restart").json["state"] == "RUNNING"
        until(lambda: protea.status(job) == "failed", "a sweep of the new schedule")
    assert supervisor.stop(10)
