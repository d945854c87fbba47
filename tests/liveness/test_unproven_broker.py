"""A broker from another application's variable is believed once it has shown a task of the source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reaper.liveness.unproven_broker import UnprovenBroker
from reaper.profile import resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.commands import Reaper
from tests.support.daemons import Daemon
from tests.support.databases import TemporaryDatabases
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds import Database
from tests.support.worlds.servers import postgresql_world, world_on
from tests.support.worlds.vuls import QUEUE, VulsWorld
from tests.support.worlds.world import State


@pytest.fixture(params=["postgresql", "mariadb"])
def vuls(request: pytest.FixtureRequest) -> Iterator[VulsWorld]:
    with world_on(request, VulsWorld, request.param) as world:
        yield world


def test_broker_of_another_application_makes_no_job_look_dead(vuls: VulsWorld) -> None:
    probe = UnprovenBroker(vuls.probe, "REDIS_URL")
    with_probe = SourceOptions(probe=probe, queues=(QUEUE,))
    source = Source("runs", vuls.database.url, resolve("vuls"), thresholds(), PATIENCE, with_probe)

    def swept() -> tuple[int, str | None]:
        options = SweepOptions(host="test", batch_size=10, breaker=Breaker(0, 1.0))
        report = sweep(source, DowntimeTracker(0), SourceState(), options, None, SweepRecorder())
        assert report.error is None
        return report.reaped, report.witness_trouble

    try:
        dead = vuls.job(age=8 * HOUR, sign=None)
        vuls.probe.alive.add("a task of another application")
        reaped, trouble = swept()
        assert reaped == 0 and trouble is not None and "REDIS_URL has shown no task of this source yet" in trouble
        assert vuls.state(dead) is State.RUNNING
        vuls.alive_job()
        assert swept() == (1, None) and vuls.state(dead) is State.REAPED
        vuls.probe.alive.clear()
        assert swept()[1] is None, "it has been shown"
    finally:
        source.close()


def test_orphans_of_an_unproven_broker_are_not_known(vuls: VulsWorld) -> None:
    vuls.probe.alive.add("a task of another application")
    report = UnprovenBroker(vuls.probe, "CELERY_BROKER_URL").ask()
    assert report.trouble is not None and report.alive == frozenset()


@pytest.fixture
def on_postgresql(databases: TemporaryDatabases) -> Iterator[Database]:
    with postgresql_world(databases, VulsWorld) as world:
        yield world.database


def test_documents_commands_work_with_its_two_variables(
    on_postgresql: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reaper = Reaper(tmp_path, {"DATABASE_URL": on_postgresql.url, "REDIS_URL": "redis://127.0.0.1:1/0"})
    assert on_postgresql.url.startswith("postgresql+psycopg://")
    assert reaper("report").exit_code == 78
    result = reaper("report", REAPER_PROFILE="vuls")
    assert result.exit_code == 0 and "default" in result.output
    assert "DATABASE_URL" in reaper("config", "show", REAPER_PROFILE="vuls").stdout
    note = reaper("config", "show", REAPER_PROFILE="vuls", CELERY_BROKER_URL="sqs://x").stderr
    assert "CELERY_BROKER_URL is ignored" in note


def test_first_line_of_the_log_names_the_variables(on_postgresql: Database, tmp_path: Path) -> None:
    with Daemon(
        tmp_path,
        profile="vuls",
        broker_deadline_seconds="1s",
        DATABASE_URL=on_postgresql.url,
        REDIS_URL="redis://127.0.0.1:1/0",
    ) as daemon:
        daemon.comes_up()
        first = daemon.log[0]
    borrowed = {"sources.default.database_url": "DATABASE_URL", "sources.default.broker_url": "REDIS_URL"}
    assert (first["event"], first["borrowed"]) == ("Reaper starts.", borrowed)
