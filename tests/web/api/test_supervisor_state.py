"""The supervisor's state over HTTP where there is no schedule, and where it has died."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from reaper.observers.metrics import Metrics
from reaper.scheduling.schedule_thread import ScheduleThread
from reaper.scheduling.scheduler import Supervisor
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.halt_switch import HaltSwitch
from reaper.web import AdminService, History, HttpServer, Status
from reaper.web.app import make_app
from reaper.web.guard import AccessControl, guarded
from reaper.web.guard.tokens import Tokens
from tests.scheduling.test_scheduler import SweepLog
from tests.support.api import TOKEN, Client
from tests.support.commands import Reaper
from tests.support.protea import Protea
from tests.support.waiting import wait_until
from tests.sweep.test_halt import Broken


@contextmanager
def served(supervisor: Supervisor) -> Iterator[tuple[Client, str]]:
    """The API of a supervisor, in this process, and its address."""
    service = AdminService(supervisor, Status(), History())
    app = guarded(make_app(service, Metrics().registry), AccessControl(Tokens({"tester": SecretStr(TOKEN)})))
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    try:
        yield Client(int(server.address.rpartition(":")[2])), server.address
    finally:
        server.stop(5)


def test_supervisor_without_a_schedule_has_no_state() -> None:
    with served(Supervisor()) as (api, _):
        answer = api.get("/api/supervisor/state")
        assert (answer.status, answer.detail) == (
            503,
            "no schedule is configured yet: the daemon is starting",
        )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_schedule_that_died_is_finished_and_goes_on_after_a_restart(protea: Protea, tmp_path: Path) -> None:
    halt, sweep_log = HaltSwitch(), SweepLog()
    schedule = ScheduleThread()
    supervisor = Supervisor(halt, schedule)
    supervisor.add(
        SourceRunner(
            protea.source(),
            DowntimeTracker(0),
            RetrySchedule(3600),
            Breaker(50, 0.5),
            100,
            "test-host",
            [sweep_log],
            halt,
        )
    )
    supervisor.start()
    with served(supervisor) as (api, address):
        assert api.get("/api/supervisor/state").json["state"] == "RUNNING"
        schedule.add("broken", lambda: None, Broken())
        wait_until(lambda: api.get("/api/supervisor/state").json["state"] == "FINISHED", "its end")
        shown = Reaper(tmp_path, {})("state", "--url", address)
        assert (shown.exit_code, shown.stdout.split("\n")[0]) == (3, "FINISHED")
        job = protea.stale()
        assert api.post("/api/supervisor/restart").json["state"] == "RUNNING"
        wait_until(lambda: protea.status(job) == "failed", "a sweep of the new schedule")
    assert supervisor.stop(10)
