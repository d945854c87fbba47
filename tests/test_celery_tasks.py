"""The importable Celery tasks, in a real worker on a real Redis."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from redis import Redis

from reaper import celery_tasks
from reaper.errors import ReaperError
from reaper.memory import HaltRecord, Memory
from reaper.scheduling.cron_trigger import CronTrigger
from tests.support.api import ApiDaemon
from tests.support.brokers import CeleryCluster, ProcessGroup, RedisServer, redis_server
from tests.support.commands import environment
from tests.support.programs import PROJECT
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.waiting import wait_until
from tests.support.worlds.vuls import VulsWorld

DAY = 24 * HOUR
NAMES = (
    "clear_stuck_scheduler_jobs",
    "get_stuck_jobs_report",
    "cleanup_old_task_runs_enhanced",
    "reset_scheduler_state",
)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


class ReaperWorker:
    """A worker with the reaper's tasks, with settings from its environment."""

    def __init__(self, redis: RedisServer, folder: Path, **settings: str) -> None:
        self._redis, self._folder, self._log = redis, folder, folder / "worker.log"
        self._environment = environment(
            {"REAPER_RESTART_GRACE": "0", "BEAT_BROKER": redis.url, "BEAT_FILE": str(folder / "beat"), **settings}
        )
        self._app = Celery(broker=redis.url, backend=redis.url)
        self._group = self.run("worker", "-c", "1", "-P", "prefork", "--without-gossip", "--without-mingle")
        wait_until(lambda: b" ready." in self._log.read_bytes(), "the worker is ready", 60)

    def run(self, *words: str) -> ProcessGroup:
        words = ("-A", "tests.support.celery_beat_app", *words, "-l", "info")
        return ProcessGroup.of_celery(words, self._folder, self._log, self._environment)

    def ask(self, task: str, **arguments: Any) -> Any:
        """What it returns, through the broker and back: it is JSON. Raises what the task raises."""
        name = task if "." in task else f"reaper.celery_tasks.{task}"
        answer = self._app.send_task(name, kwargs=arguments).get(timeout=60)
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        return answer

    def close(self) -> None:
        self._group.kill()
        self._app.close()
        assert b"geheim" not in self._log.read_bytes()


@pytest.fixture
def worker(redis: RedisServer, tmp_path: Path, protea: Protea) -> Iterator[ReaperWorker]:
    worker = ReaperWorker(redis, tmp_path, REAPER_DATABASE_URL=protea.url)
    yield worker
    worker.close()


def test_stuck_jobs_are_reported_and_cleared_and_living_jobs_spared(worker: ReaperWorker, protea: Protea) -> None:
    stuck, alive, young = protea.job(age=3 * HOUR), protea.job(age=3 * HOUR), protea.job(age=1.9 * HOUR)
    protea.event(stuck, age=2.5 * HOUR)
    protea.event(alive, age=MINUTE)
    report = worker.ask("get_stuck_jobs_report", max_age_hours=2)
    assert (report["summary"]["total_stuck_jobs"], report["summary"]["max_age_hours"]) == (1, 2)
    assert [job["key"] for job in report["sources"]["default"]["stuck_jobs"]] == [stuck]
    assert worker.ask("app.tasks.cleanup_tasks.get_stuck_jobs_report")["summary"] == report["summary"]
    looked = worker.ask("clear_stuck_scheduler_jobs", max_age_hours=2, dry_run=True)
    assert (looked["summary"]["total_stuck_jobs"], looked["summary"]["cleared"]) == (1, 0)
    assert protea.status(stuck) == "running"
    cleared = worker.ask("clear_stuck_scheduler_jobs")
    assert cleared["summary"] == {
        "total_stuck_jobs": 1, "cleared": 1, "spared": 1, "dry_run": False, "max_age_hours": 2, "halted": None,
    }  # fmt: skip
    assert cleared["errors"] == {} and cleared["sources"]["default"]["outcome"] == "done"
    assert [protea.status(job) for job in (stuck, alive, young)] == ["failed", "running", "running"]
    assert len(protea.audits(stuck)) == 1
    assert worker.ask("get_stuck_jobs_report")["summary"]["total_stuck_jobs"] == 0


@pytest.mark.parametrize(("hours", "ended"), [(2.99, True), (3.01, False)])
def test_hours_that_are_given_are_used(worker: ReaperWorker, protea: Protea, hours: float, ended: bool) -> None:
    job = protea.job(age=3 * HOUR)
    worker.ask("clear_stuck_scheduler_jobs", max_age_hours=hours)
    assert (protea.status(job) == "failed") is ended


def test_finished_jobs_are_cleaned_up(worker: ReaperWorker, protea: Protea) -> None:
    for days in (41, 40, 29):
        protea.job(status="succeeded", finished=days * DAY, age=50 * DAY)
    running = protea.job(age=50 * DAY)
    done = worker.ask("cleanup_old_task_runs_enhanced", days_to_keep=30, batch_size=1)
    counted = {"total_deleted": 2, "refused": 0, "days_to_keep": 30, "batch_size": 1}
    assert done["summary"] == {**counted, "halted": None}
    assert done["sources"]["default"]["purged"] == 2
    assert len(protea.statuses()) == 2 and protea.status(running) == "running"


def test_reset_task_reports_first_and_ends_all_jobs_when_forced(worker: ReaperWorker, protea: Protea) -> None:
    jobs = [protea.job(age=MINUTE, operation=operation) for operation in ("embed", "embed", "align")]
    looked = worker.ask("reset_scheduler_state", all_sources=True)
    assert looked["summary"] == {"total_running": 3, "ended": 0, "force": False}
    assert looked["sources"]["default"]["kinds"] == [["embed", 2], ["align", 1]]
    assert {protea.status(job) for job in jobs} == {"running"}
    assert worker.ask("reset_scheduler_state", all_sources=True, force=True)["summary"]["ended"] == 3
    assert {protea.status(job) for job in jobs} == {"failed"}
    [audit] = protea.audits(jobs[0])
    assert audit["fields"]["reason"] == "ManualTimeout" and audit["fields"]["operator"].startswith("Celery task ")


@pytest.mark.parametrize("force", [False, True])
def test_reset_task_leaves_sources_of_other_profiles_alone_unless_all_are_named(
    protea: Protea, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    monkeypatch.setenv("REAPER_DATABASE_URL", protea.url)
    job = protea.job(age=MINUTE)
    with pytest.raises(ReaperError, match=r"no source has the profile vuls.*: nothing was changed; all_sources=True"):
        celery_tasks.reset_scheduler_state.apply(kwargs={"force": force}).get()
    assert protea.status(job) == "running"


def test_reset_task_of_the_document_ends_runs_and_schedules_and_removes_their_messages(
    redis: RedisServer, tmp_path: Path, vuls: VulsWorld
) -> None:
    cluster = CeleryCluster(redis, tmp_path)
    task = cluster.send("linger", str(tmp_path / "track"))
    vuls.session.do("INSERT INTO task_runs (scheduled_task_id, celery_task_id) VALUES (7, %s)", task)
    vuls.session.do("UPDATE scheduled_tasks SET last_status = 'running'")
    config = tmp_path / "reaper.toml"
    config.write_text(
        f'broker_url = "{redis.url}"\nqueues = ["{cluster.queue}"]\n'
        f'[sources.schedules]\nprofile = "vuls-schedule"\ndatabase_url = "{vuls.database.url}"\n'
        f'[sources.runs]\nprofile = "vuls"\ndatabase_url = "{vuls.database.url}"\n'
        '[sources.other]\ndatabase_url = "postgresql://someone:geheim@127.0.0.1:1/x"\n'
    )
    worker = ReaperWorker(redis, tmp_path, REAPER_CONFIG=str(config))
    try:
        looked = worker.ask("reset_scheduler_state", force=False)
        assert looked["summary"] == {"total_running": 2, "ended": 0, "force": False}
        assert looked["sources"]["runs"]["tasks"]["removed"] == {cluster.queue: 1}
        done = worker.ask("reset_scheduler_state", force=True)
        assert (done["summary"]["ended"], done["errors"]) == (2, {})
        assert worker.ask("reset_scheduler_state", all_sources=True)["errors"].keys() == {"other"}
        assert done["sources"]["runs"]["tasks"]["removed"] == {cluster.queue: 1}
    finally:
        worker.close()
    assert vuls.session.one("SELECT status FROM task_runs") == "failed"
    assert vuls.session.one("SELECT last_status FROM scheduled_tasks") == "failed"
    with Redis.from_url(redis.url) as client:
        assert client.llen(cluster.queue) == 0


def test_halt_in_the_state_directory_of_the_worker_holds_clear_reset_and_purge(
    redis: RedisServer, tmp_path: Path, protea: Protea
) -> None:
    job = protea.job(age=3 * HOUR)
    worker = ReaperWorker(redis, tmp_path, REAPER_DATABASE_URL=protea.url, REAPER_STATE_DIR=str(tmp_path / "state"))
    try:
        Memory.open(tmp_path / "state").halt.save(HaltRecord("alice", "look first"))
        held = worker.ask("clear_stuck_scheduler_jobs")
        assert held["summary"]["cleared"] == 0 and held["summary"]["halted"] == "halted by alice (look first)"
        assert held["sources"]["default"]["outcome"] == "halted"
        with pytest.raises(Exception, match="halted by alice"):
            worker.ask("reset_scheduler_state", all_sources=True, force=True)
        assert worker.ask("reset_scheduler_state", all_sources=True)["summary"]["total_running"] == 1
        finished = protea.job(status="succeeded", finished=41 * DAY, age=50 * DAY)
        purge = worker.ask("cleanup_old_task_runs_enhanced")
        assert (purge["summary"]["total_deleted"], purge["sources"]["default"]["outcome"]) == (0, "halted")
        assert (protea.status(job), protea.status(finished)) == ("running", "succeeded")
        assert worker.ask("cleanup_old_task_runs_enhanced", while_halted=True)["summary"]["total_deleted"] == 1
        assert worker.ask("clear_stuck_scheduler_jobs", while_halted=True)["summary"]["cleared"] == 1
    finally:
        worker.close()


def test_task_on_a_host_without_the_state_asks_the_daemon_and_is_not_held_where_nothing_answers(
    redis: RedisServer, tmp_path: Path, protea: Protea
) -> None:
    """As docs/how-to/celery.md says: such a host has to reach the daemon's address."""
    job = protea.job(age=3 * HOUR)
    with ApiDaemon(tmp_path, database_url=protea.url) as daemon:
        daemon.has_swept()
        assert daemon.api.post("/api/supervisor/halt?reason=look").status == 200
        worker = ReaperWorker(redis, tmp_path, REAPER_DATABASE_URL=protea.url, REAPER_HTTP_PORT=str(daemon.port))
        try:
            held = worker.ask("clear_stuck_scheduler_jobs")
            assert held["sources"]["default"]["outcome"] == "halted" and protea.status(job) == "running"
            assert held["summary"]["halted"].endswith("(look)")
            daemon.stop()
            assert worker.ask("clear_stuck_scheduler_jobs")["summary"]["cleared"] == 1
        finally:
            worker.close()


def test_silence_from_before_the_servers_start_is_trusted_only_by_the_value_true(
    redis: RedisServer, tmp_path: Path, protea: Protea
) -> None:
    """A schedule may give its arguments as text, and the text "false" trusts nothing."""
    protea.job(age=3 * HOUR)
    worker = ReaperWorker(redis, tmp_path, REAPER_DATABASE_URL=protea.url, REAPER_RESTART_GRACE="60s")
    try:
        cleared = [
            worker.ask("clear_stuck_scheduler_jobs", trust_silence=given)["summary"]["cleared"]
            for given in (False, "false", True)
        ]
    finally:
        worker.close()
    assert cleared == [0, 0, 1]


def test_settings_are_read_again_by_each_task(redis: RedisServer, tmp_path: Path, protea: Protea) -> None:
    config = tmp_path / "reaper.toml"
    config.write_text("")
    worker = ReaperWorker(redis, tmp_path, REAPER_CONFIG=str(config))
    try:
        with pytest.raises(Exception, match="no database is configured"):
            worker.ask("get_stuck_jobs_report")
        protea.stale()
        config.write_text(
            f'[sources.up]\ndatabase_url = "{protea.libpq}"\n'
            '[sources.down]\ndatabase_url = "postgresql://someone:geheim@127.0.0.1:1/x"\n'
        )
        report = worker.ask("get_stuck_jobs_report")
        assert report["summary"]["total_stuck_jobs"] == 1 and report["summary"]["unknown"] == ["down"]
        assert report["errors"].keys() == {"down"} and report["sources"].keys() == {"up"}
        cleared = worker.ask("clear_stuck_scheduler_jobs")
        assert cleared["summary"]["cleared"] == 1 and cleared["errors"].keys() == {"down"}
        config.write_text('[sources.down]\ndatabase_url = "postgresql://someone:geheim@127.0.0.1:1/x"\n')
        for task in NAMES:
            with pytest.raises(Exception, match="source down: "):
                worker.ask(task, **({"all_sources": True} if task == "reset_scheduler_state" else {}))
    finally:
        worker.close()


def test_beat_clears_what_is_stuck(worker: ReaperWorker, protea: Protea) -> None:
    stuck = protea.stale()
    beat = worker.run("beat")
    try:
        wait_until(lambda: protea.status(stuck) == "failed", "beat and the worker have cleared it", 40)
    finally:
        beat.kill()


# --- arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", NAMES)
def test_tasks_have_their_documented_names(task: str) -> None:
    assert getattr(celery_tasks, task).name == f"reaper.celery_tasks.{task}"


@pytest.mark.parametrize("hours", [0, -1, "2", None, True, float("nan"), float("inf"), 87601])
def test_wrong_hours_are_refused(hours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAPER_DATABASE_URL", "postgresql://x@127.0.0.1:1/x")
    for task in (celery_tasks.clear_stuck_scheduler_jobs, celery_tasks.get_stuck_jobs_report):
        with pytest.raises(ValueError, match="max_age_hours: expected a number above 0 and at most 87600"):
            task.apply(kwargs={"max_age_hours": hours}).get()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"days_to_keep": 0}, "days_to_keep: expected a whole number from 1 to 3650, not 0"),
        ({"days_to_keep": 1.5}, "days_to_keep: expected a whole number"),
        ({"batch_size": 0}, "batch_size: expected a whole number from 1 to 100000, not 0"),
        ({"batch_size": "many"}, "batch_size: expected a whole number"),
    ],
)
def test_wrong_numbers_for_a_cleanup_are_refused(
    arguments: dict[str, Any], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REAPER_DATABASE_URL", "postgresql://x@127.0.0.1:1/x")
    with pytest.raises(ValueError, match=why):
        celery_tasks.cleanup_old_task_runs_enhanced.apply(kwargs=arguments).get()


def test_cleanup_task_without_a_purgeable_source_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REAPER_DATABASE_URL", "postgresql://x@127.0.0.1:1/x")
    monkeypatch.setenv("REAPER_PROFILE", "noetl")
    with pytest.raises(ReaperError, match="no source has a profile that says which jobs are finished"):
        celery_tasks.cleanup_old_task_runs_enhanced.apply().get()


def test_beat_schedule_of_the_document_is_due_as_it_says() -> None:
    """As it stands in the document: every two hours, and weekly on Sunday at 03:00, as a scheduled purge is."""
    hours, week = schedule(7200.0), crontab(hour=3, minute=0, day_of_week=0)
    sunday = datetime(2026, 11, 29, 3, 0, tzinfo=UTC)
    for entry in (hours, week):
        entry.nowfun = lambda: sunday
    assert hours.is_due(sunday - timedelta(hours=2)).is_due and not hours.is_due(sunday - timedelta(hours=1.9)).is_due
    assert week.is_due(sunday - timedelta(days=7)).is_due
    week.nowfun = lambda: sunday - timedelta(minutes=1)
    assert not week.is_due(sunday - timedelta(days=7)).is_due
    assert CronTrigger("0 3 * * 0").get_next_fire_time(None, sunday - timedelta(days=1)) == sunday


_DOCUMENTED_USE = """
from celery import Celery

vuls = Celery("vuls")
vuls.conf.task_always_eager = True

from app.tasks.cleanup_tasks import (
    cleanup_old_task_runs_enhanced, clear_stuck_scheduler_jobs, get_stuck_jobs_report, reset_scheduler_state
)

for task in (cleanup_old_task_runs_enhanced, clear_stuck_scheduler_jobs, get_stuck_jobs_report, reset_scheduler_state):
    assert task.name.startswith("app.tasks.cleanup_tasks.") and vuls.tasks[task.name].name == task.name
print(clear_stuck_scheduler_jobs.delay(max_age_hours=2, dry_run=False).result)
"""


def test_tasks_can_be_imported_from_a_module_of_the_application(tmp_path: Path) -> None:
    """The two lines of the how-to, and then what the document does: import, `delay`, and a name for beat."""
    page = (PROJECT / "docs/how-to/celery.md").read_text()
    [glue] = re.findall(r"```python\n(from reaper\.celery_tasks import tasks_named\n.*?)```", page, re.DOTALL)
    assert len([line for line in glue.splitlines() if line]) == 2
    module = tmp_path / "app" / "tasks" / "cleanup_tasks.py"
    module.parent.mkdir(parents=True)
    module.write_text(glue)
    done = subprocess.run(
        [sys.executable, "-c", _DOCUMENTED_USE],
        env={**environment({}), "PYTHONPATH": os.pathsep.join([str(PROJECT), str(tmp_path)])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no database is configured: set REAPER_DATABASE_URL" in done.stdout
