"""/health/scheduler: `healthy` only when nothing is stuck, and when all is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from reaper.config import load
from reaper.liveness import LivenessReport
from reaper.observers.metrics import Metrics
from reaper.scheduling.scheduler import Supervisor
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.source.factory import create_source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.web import AdminService, History, HttpServer, Status, stuck_jobs
from reaper.web.app import make_app
from tests.support.api import Answer
from tests.support.daemons import fetch
from tests.support.protea import HOUR
from tests.support.worlds import Database
from tests.support.worlds.servers import database_on
from tests.support.worlds.vuls import QUEUE, FakeProbe, VulsWorld


class Probe(FakeProbe):
    """Workers that execute tasks, and that may not have answered for all."""

    def __init__(self) -> None:
        super().__init__()
        self.executing: dict[str, str] = {}
        self.unreliable: Mapping[str, str] = {}

    def ask(self) -> LivenessReport:
        queues = frozenset({QUEUE}) - self.unreliable.keys()
        alive = frozenset(self.alive) | frozenset(self.executing)
        known = frozenset({QUEUE})
        return LivenessReport(
            alive=alive, executing=self.executing, queues=queues, known=known, unreliable=self.unreliable
        )


class Reading:
    """The HTTP port of a daemon whose sweeps are made by hand."""

    def __init__(self, database: Database) -> None:
        environment = {
            "REAPER_DATABASE_URL": database.url,
            "REAPER_PROFILE": "vuls",
            "REAPER_BROKER_URL": "redis://127.0.0.1:1/0",
        }
        settings = load({}, environment)
        self.probe, history, supervisor = Probe(), History(), Supervisor()
        source = create_source(settings, settings.sources["default"])
        source.options = replace(source.options, probe=self.probe)
        schedule, breaker = RetrySchedule(60), Breaker.from_settings(settings)
        self.runner = SourceRunner(source, DowntimeTracker(0), schedule, breaker, 100, "test", [history])
        supervisor.add(self.runner)
        history.set_sources(["default"])
        service = AdminService(supervisor, Status(), history)
        service.configure(settings)
        self.server = HttpServer(make_app(service, Metrics().registry), "127.0.0.1", 0)
        self.server.start()

    def get(self, query: str = "") -> Answer:
        port = int(self.server.address.rpartition(":")[2])
        status, body = fetch(port, f"/health/scheduler{query}")
        return Answer(status, {}, body)

    def sweep(self) -> None:
        report = self.runner.tick()
        assert report is not None and report.error is None


@pytest.fixture(params=["postgresql", "mariadb"])
def vuls(request: pytest.FixtureRequest) -> Iterator[VulsWorld]:
    with database_on(request, request.param) as database, VulsWorld.create(database) as world:
        yield world


@pytest.fixture
def health(vuls: VulsWorld, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    monkeypatch.setattr("reaper.web.read_cache._FRESH_SECONDS", 0.0)
    monkeypatch.setattr("reaper.web.read_cache._FRESH_SHARE", 0.0)
    reading = Reading(vuls.database)
    yield reading
    reading.server.stop(5)
    reading.runner.stop()
    reading.runner.join(5)


def test_health_is_a_warning_until_the_first_sweep_has_ended(health: Reading) -> None:
    answer = health.get()
    assert (answer.status, answer.json["status"], answer.json["stuck_jobs"]) == (200, "warning", 0)
    assert answer.json["details"]["sources"]["default"]["error"] == "no sweep has ended yet"
    health.sweep()
    assert health.get().json == {"status": "healthy"}


def test_health_is_a_warning_while_a_worker_may_still_have_the_job(health: Reading, vuls: VulsWorld) -> None:
    health.probe.unreliable = {QUEUE: "workers have been asked for 4s only"}
    vuls.job(age=8 * HOUR, sign=None)
    health.sweep()
    found = health.get().json
    assert (found["status"], found["stuck_jobs"], found["details"]["summary"]["unknown"]) == ("warning", 0, ["default"])
    assert "asked for 4s only" in found["details"]["sources"]["default"]["error"]
    health.probe.unreliable = {}
    health.sweep()
    assert health.get().json == {"status": "healthy"}, "the sweep has ended it"


def test_age_of_a_stuck_job_is_an_hour_for_vuls_and_as_the_client_asks(health: Reading, vuls: VulsWorld) -> None:
    health.sweep()
    run = vuls.job(age=2 * HOUR, sign=None)
    found = health.get().json
    assert (found["status"], found["stuck_jobs"]) == ("warning", 1)
    assert [job["id"] for job in found["details"]["sources"]["default"]["jobs"]] == [run]
    assert health.get("?max_age_hours=1.5").json["stuck_jobs"] == 1
    assert health.get("?max_age_hours=4").json == {"status": "healthy"}


@pytest.mark.parametrize("query", ["?max_age_hours=1&bogus=2", "?max_age_hours=0", "?max_age_hours=nan", "?hours=1"])
def test_wrong_parameter_of_health_is_refused(health: Reading, query: str) -> None:
    answer = health.get(query)
    assert answer.status == 422 and "details" not in answer.text


def test_orphan_that_the_last_sweep_has_seen_is_stuck(
    health: Reading, vuls: VulsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    vuls.job(age=60, sign=60)
    known = vuls.session.one("SELECT celery_task_id FROM task_runs")
    health.probe.executing = {known: "worker@one", "of nobody": "worker@one"}
    monkeypatch.setattr(stuck_jobs, "CONFIRM_SECONDS", 1000.0)
    health.sweep()
    young = health.get().json
    assert (young["status"], young["stuck_jobs"]) == ("warning", 0)
    assert "they may get one" in young["details"]["sources"]["default"]["error"]
    monkeypatch.setattr(stuck_jobs, "CONFIRM_SECONDS", 0.0)
    found = health.get().json
    assert (found["status"], found["stuck_jobs"]) == ("warning", 1)
    assert found["details"]["orphans"] == [{"id": "of nobody", "task": None, "worker": "worker@one"}]
    assert found["details"]["summary"]["orphaned_tasks"] == 1
    health.probe.executing = {known: "worker@one"}
    health.sweep()
    assert health.get().json == {"status": "healthy"}
