"""`reaper reset` on vuls: runs end, their messages leave the broker, their tasks are terminated; all else stays."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from kombu import Connection

from reaper.cli import exit_codes
from reaper.dev.postgres.binaries import installed_programs
from tests.support.brokers import Broker, CeleryCluster, RabbitServer, RedisServer, rabbit_server, redis_server
from tests.support.commands import AWAY, Reaper
from tests.support.protea import MINUTE, Protea
from tests.support.terminals import typed
from tests.support.waiting import wait_until
from tests.support.worlds import Database
from tests.support.worlds.servers import database_on
from tests.support.worlds.vuls import VulsWorld

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    with rabbit_server(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


# tests/liveness tries all that is asked of a broker on both, always.
@pytest.fixture(params=["redis", pytest.param("rabbit", marks=pytest.mark.thorough)])
def broker(request: pytest.FixtureRequest) -> Broker:
    server: Broker = request.getfixturevalue(request.param)
    return server


over_redis = pytest.mark.parametrize("broker", ["redis"], indirect=True)


@pytest.fixture(params=["postgresql"])
def database_server(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_on(request, request.param) as database:
        yield database


class Runs(VulsWorld):
    """Runs whose tasks are in Celery's queue, and the files that say which of them have begun."""

    cluster: CeleryCluster

    def add(self, task: str, status: str = "pending") -> str:
        return str(
            self.session.one(
                "INSERT INTO task_runs (scheduled_task_id, celery_task_id, status, created_at, started_at)"
                " VALUES (7, %s, %s, now(), CASE WHEN %s = 'running' THEN now() END) RETURNING id",
                task,
                status,
                status,
            )
        )

    def send(self, name: str, *, with_run: bool = True) -> str:
        """A task that waits; the id of its run."""
        task = self.cluster.send("linger", str(self.track(name)))
        return self.add(task) if with_run else task

    def track(self, name: str) -> Path:
        return self.cluster.folder / f"task-{name}"

    def begun(self, *names: str) -> list[str]:
        return [name for name in names if self.track(name).exists()]

    def finish(self, *names: str) -> None:  # type: ignore[override]
        for name in names:
            (self.cluster.folder / f"task-{name}.done").touch()

    def statuses(self) -> dict[str, str]:
        return {str(id_): status for id_, status in self.session.ask("SELECT id, status FROM task_runs ORDER BY id")}

    def schedule_statuses(self) -> dict[str, str | None]:
        return dict(self.session.ask("SELECT name, last_status FROM scheduled_tasks ORDER BY name"))


@pytest.fixture
def runs(database_server: Database, cluster: CeleryCluster) -> Iterator[Runs]:
    with Runs.create(database_server) as world:
        world.cluster = cluster
        yield world


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: Runs) -> Reaper:
    monkeypatch.chdir(tmp_path)
    reaper = Reaper(tmp_path, {})
    reaper.configure(sources(runs, "runs", "schedules"))
    return reaper


def sources(runs: Runs, *names: str, **more: str) -> str:
    """The configuration of these sources, and of others whose text is given."""
    shared = (
        f'broker_url = "{runs.cluster.broker.url}"\nqueues = ["{runs.cluster.queue}"]\nbroker_deadline_seconds = "6s"\n'
    )
    profiles = {"runs": "vuls", "schedules": "vuls-schedule"}
    tables = [
        f'[sources.{name}]\ndatabase_url = "{runs.database.url}"\nprofile = "{profiles[name]}"\n' for name in names
    ]
    return "".join([shared, *tables, *more.values()])


# --- with workers -------------------------------------------------------------------------------------------------


def test_live_task_is_terminated_and_waiting_ones_never_run(reaper: Reaper, runs: Runs) -> None:
    worker = runs.cluster.start_worker(CHORES_PREFETCH="1")
    running = runs.cluster.start_task()
    live = runs.add(running.id, "running")
    ended = [runs.send(name) for name in ("reserved", "second", "third")]
    other = runs.send("other", with_run=False)
    looked = reaper.json("reset", "--source", "runs", "--dry-run")
    assert (looked["running"], looked["ended"], looked["tasks"]["executing"]) == (4, 0, 1)
    assert running.alive and set(runs.statuses().values()) == {"running", "pending"}
    result = reaper("reset", "--source", "runs", "--force")
    assert result.exit_code == 0 and "Ended 4 job(s) in source runs.\n" in result.stdout, result.output
    assert "Celery (1 worker(s) answered): 1 task(s) terminated, " in result.stdout
    assert runs.statuses() == dict.fromkeys([live, *ended], "failed")
    wait_until(lambda: not running.alive, "the live task has ended")
    wait_until(lambda: runs.begun("other"), "the task without a run is executed")
    assert runs.begun("reserved", "second", "third") == [] and worker.running
    runs.finish("other")
    assert other not in runs.statuses()


def test_emergency_procedure_of_the_document_leaves_nothing_that_runs_after_the_restart(
    reaper: Reaper, runs: Runs
) -> None:
    """Stop all workers, `reset --force`, start the workers."""
    worker = runs.cluster.start_worker(CHORES_PREFETCH="1")
    running = runs.cluster.start_task()
    ended = [runs.add(running.id, "running"), *(runs.send(name) for name in ("reserved", "second", "third"))]
    runs.send("other", with_run=False)
    wait_until(lambda: running.alive, "it is executed")
    worker.kill()
    wait_until(lambda: settled(runs.cluster), "the broker has noticed")
    tasks = reaper.json("reset", "--dry-run")["sources"][0]["tasks"]
    # RabbitMQ has put back what the worker had reserved.
    expected = (3, 0) if isinstance(runs.cluster.broker, RabbitServer) else (2, 1)
    assert (tasks["removed"], tasks["unacknowledged"]) == ({runs.cluster.queue: expected[0]}, expected[1])
    result = reaper("reset", "--force")
    assert result.exit_code == 0 and "Ended 4 job(s) in source runs.\n" in result.stdout, result.output
    assert "No worker answered. Workers that are started run what is left in the queues" in result.stdout
    assert runs.statuses() == dict.fromkeys(ended, "failed")
    runs.cluster.start_worker()
    wait_until(lambda: runs.begun("other"), "the task without a run is executed")
    assert runs.begun("reserved", "second", "third") == []
    runs.finish("other")


def settled(cluster: CeleryCluster) -> bool:
    """Whether the broker has taken back what a killed worker had; Redis never does by itself."""
    if isinstance(cluster.broker, RedisServer):
        return True
    with Connection(cluster.broker.url) as connection, connection.channel() as channel:
        _, ready, consumers = channel.queue_declare(cluster.queue, passive=True)
        return (ready, consumers) == (4, 0)


# --- what it leaves alone -----------------------------------------------------------------------------------------


@over_redis
@pytest.mark.parametrize("database_server", ["postgresql", "mariadb"], indirect=True)
def test_run_whose_row_is_locked_keeps_its_message_and_is_named(reaper: Reaper, runs: Runs) -> None:
    held, other = runs.send("held"), runs.send("ended")
    with runs.database.session() as worker:
        worker.ask("SELECT id FROM task_runs WHERE id = %s FOR UPDATE", held)
        document = reaper.json("reset", "--source", "runs", "--yes")
        worker.rollback()
    assert (document["ended"], document["locked"], document["tasks"]["removed"]) == (1, [held], {runs.cluster.queue: 1})
    assert runs.statuses() == {held: "pending", other: "failed"}
    runs.cluster.start_worker()
    wait_until(lambda: runs.begun("held"), "the held run's task is executed")
    assert runs.begun("ended") == []
    runs.finish("held")


@over_redis
def test_transition_is_committed_before_any_message_is_touched_and_a_broker_that_is_away_is_said(
    reaper: Reaper, runs: Runs
) -> None:
    run = runs.send("waiting")
    reaper.configure(sources(runs, "runs").replace(runs.cluster.broker.url, "redis://:geheim@127.0.0.1:1/0"))
    looked = reaper("reset", "--dry-run")
    assert "broker 127.0.0.1:1: " in looked.stdout and "messages stay in their queues" in looked.stdout
    result = reaper("reset", "--force")
    assert result.exit_code == exit_codes.FAILED and "Ended 1 job(s) in source runs.\n" in result.stdout
    assert "Tasks that workers execute go on, and messages stay in their queues." in result.stdout
    assert runs.statuses() == {run: "failed"}


@over_redis
def test_refused_transition_keeps_its_message(reaper: Reaper, runs: Runs) -> None:
    kept, ended = runs.send("kept"), runs.send("ended")
    runs.session.do(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE check_violation USING MESSAGE = 'not this one'; END $$"
    )
    runs.session.do(
        f"CREATE TRIGGER refuse BEFORE UPDATE ON task_runs FOR EACH ROW WHEN (OLD.id = {kept})"
        " EXECUTE FUNCTION refuse()"
    )
    document = reaper.json("reset", "--source", "runs", "--force", code=exit_codes.FAILED)
    assert [failure["key"] for failure in document["failures"]] == [kept] and document["ended"] == 1
    assert document["tasks"]["removed"] == {runs.cluster.queue: 1}
    assert runs.statuses() == {kept: "pending", ended: "failed"}


@over_redis
def test_source_that_fails_does_not_hide_what_was_ended_in_the_ones_before(reaper: Reaper, runs: Runs) -> None:
    run = runs.send("waiting")
    runs.session.do(
        "INSERT INTO scheduled_tasks (id, name, task_type, last_status) VALUES (100, 'task', 'scan', 'running')"
    )
    # A migration, between the ends of the runs and those of their schedules.
    runs.session.do(
        "CREATE FUNCTION migrate() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN ALTER TABLE scheduled_tasks RENAME COLUMN last_status TO status; RETURN NULL; END $$"
    )
    runs.session.do(
        "CREATE CONSTRAINT TRIGGER migrate AFTER UPDATE ON task_runs INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION migrate()"
    )
    result = reaper("reset", "--force")
    assert result.exit_code == exit_codes.FAILED and "source schedules: " in result.stderr
    assert "Ended 1 job(s) in source runs.\n" in result.stdout and "1 message(s) taken out of" in result.stdout
    assert runs.statuses() == {run: "failed"}


@over_redis
def test_run_without_a_task_is_named_and_no_worker_is_said_to_be_silent(reaper: Reaper, runs: Runs) -> None:
    runs.session.do("INSERT INTO task_runs (scheduled_task_id, status) VALUES (7, 'pending')")
    for words in (("reset", "--dry-run"), ("reset", "--force")):
        shown = reaper(*words).stdout
        assert "No worker answered" not in shown and "worker(s) answered" not in shown
        assert "1 of the jobs have no Celery task in their row." in shown
    assert list(runs.statuses().values()) == ["failed"]


# --- which sources ------------------------------------------------------------------------------------------------


@over_redis
@pytest.mark.parametrize(
    "database_server", ["postgresql", pytest.param("mariadb", marks=pytest.mark.thorough)], indirect=True
)
def test_reset_without_a_source_ends_runs_and_schedules_after_one_question_with_their_counts(
    reaper: Reaper, runs: Runs
) -> None:
    runs.session.do("UPDATE scheduled_tasks SET last_status = 'running', last_run_at = now() WHERE id = 7")
    runs.session.do(
        "INSERT INTO scheduled_tasks (name, task_type, last_status) VALUES ('idle', 'scan', 'success'),"
        " ('orphan', 'scan', 'running')"
    )
    runs.send("waiting")
    before = runs.statuses(), runs.schedule_statuses()
    # The order of the configuration is the other one: the scheduled task waits for its run.
    reaper.configure(sources(runs, "schedules", "runs"))
    status, shown, errors = typed(reaper, "2\n", "reset")
    assert status == exit_codes.USAGE and "that is not the number of jobs: nothing was changed" in errors
    assert "Type 3 to end 1 job(s) of runs and 2 job(s) of schedules" in errors
    assert "1 message(s) taken out of" in shown and (runs.statuses(), runs.schedule_statuses()) == before
    status, shown, errors = typed(reaper, "3\n", "reset")
    assert status == 0 and "Ended 1 job(s) in source runs.\n" in shown, errors
    assert "Ended 2 job(s) in source schedules.\n" in shown
    assert set(runs.statuses().values()) == {"failed"}
    assert runs.schedule_statuses() == {"idle": "success", "nightly": "failed", "orphan": "failed"}


@over_redis
def test_schedule_is_counted_without_its_run_where_the_profile_of_the_runs_names_the_schema(
    reaper: Reaper, runs: Runs
) -> None:
    runs.session.do("UPDATE scheduled_tasks SET last_status = 'running', last_run_at = now() WHERE id = 7")
    runs.send("waiting")
    own = f'[sources.own]\ndatabase_url = "{runs.database.url}"\nprofile = "mine"\n'
    profile = '[profiles.mine]\nextends = "vuls"\njobs.table = "public.task_runs"\n'
    reaper.configure(sources(runs, "schedules", own=own, profile=profile))
    ended = [(one["source"], one["ended"]) for one in reaper.json("reset", "--yes")["sources"]]
    assert ended == [("own", 1), ("schedules", 1)]
    assert (set(runs.statuses().values()), runs.schedule_statuses()) == ({"failed"}, {"nightly": "failed"})


@over_redis
def test_force_and_yes_are_the_same_and_profiles_that_extend_vuls_count(reaper: Reaper, runs: Runs) -> None:
    reaper.configure(
        f'{sources(runs)}[sources.own]\ndatabase_url = "{runs.database.url}"\nprofile = "mine"\n'
        '[profiles.mine]\nextends = "base"\n[profiles.base]\nextends = "vuls"\n'
    )
    for option in ("--force", "--yes"):
        runs.send(option)
        document = reaper.json("reset", option)
        assert [one["source"] for one in document["sources"]] == ["own"]
        assert [one["ended"] for one in document["sources"]] == [1]
    assert set(runs.statuses().values()) == {"failed"}


@over_redis
def test_sources_of_other_profiles_need_all_sources(reaper: Reaper, runs: Runs, protea: Protea) -> None:
    run, job = runs.send("waiting"), protea.job(age=MINUTE)
    main = f'[sources.main]\ndatabase_url = "{protea.url}"\n'
    reaper.configure(sources(runs, "runs", main=main))
    assert [one["source"] for one in reaper.json("reset", "--force")["sources"]] == ["runs"]
    assert (runs.statuses(), protea.status(job)) == ({run: "failed"}, "running")
    reaper.configure(main)
    refused = reaper("reset", "--force")
    assert refused.exit_code == exit_codes.USAGE and "--all-sources" in refused.stderr
    assert protea.status(job) == "running"
    reaper.configure(sources(runs, "runs", main=main))
    documents = reaper.json("reset", "--force", "--all-sources")["sources"]
    assert {one["source"]: one["ended"] for one in documents} == {"runs": 0, "main": 1}
    assert protea.status(job) == "failed"
    both = reaper("reset", "--source", "main", "--all-sources", "--yes")
    assert both.exit_code == exit_codes.USAGE and "exclude each other" in both.stderr


@over_redis
def test_nothing_is_reset_while_one_of_the_sources_cannot_be_counted(reaper: Reaper, runs: Runs) -> None:
    run = runs.send("waiting")
    away = f'[sources.away]\ndatabase_url = "{AWAY}"\nprofile = "vuls"\n'
    reaper.configure(sources(runs, "runs", away=away))
    result = reaper("reset", "--force")
    assert result.exit_code == exit_codes.AWAY and "source away: " in result.stderr
    assert runs.statuses() == {run: "pending"}


# --- the count is the guard ---------------------------------------------------------------------------------------


@over_redis
def test_run_that_is_added_after_the_count_is_not_ended(reaper: Reaper, runs: Runs) -> None:
    first = runs.send("first")
    runs.session.do(
        "CREATE FUNCTION another() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO task_runs (scheduled_task_id, celery_task_id, status) VALUES (7, 'late', 'pending');"
        " RETURN NEW; END $$"
    )
    runs.session.do("CREATE TRIGGER another AFTER UPDATE ON task_runs FOR EACH ROW EXECUTE FUNCTION another()")
    document = reaper.json("reset", "--source", "runs", "--force")
    assert (document["running"], document["ended"]) == (1, 1)
    assert sorted(runs.statuses().values()) == ["failed", "pending"] and runs.statuses()[first] == "failed"


# --- what to keep -------------------------------------------------------------------------------------------------


@over_redis
def test_preview_prints_a_command_that_keeps_a_copy_of_what_is_changed(
    reaper: Reaper, runs: Runs, tmp_path: Path
) -> None:
    run = runs.send("waiting")
    shown = reaper("reset", "--source", "runs", "--dry-run").stdout
    [line] = [line for line in shown.splitlines() if line.startswith("To keep a copy first: ")]
    command = line.removeprefix("To keep a copy first: ")
    assert command.endswith("-t task_runs > before-reset-runs.sql") and command.startswith("pg_dump -h ")
    assert json.loads(json.dumps(reaper.json("reset", "--source", "runs", "--dry-run")))["copy_command"] == command
    assert restored(runs, command, tmp_path) == [(int(run), "pending")]


def restored(runs: Runs, command: str, folder: Path) -> Sequence[Any]:
    """The runs that the copy holds, read by PostgreSQL itself."""
    path = f"{installed_programs()}:/usr/bin:/bin"
    done = subprocess.run(["/bin/sh", "-c", command], cwd=folder, env={"PATH": path}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    text = (folder / "before-reset-runs.sql").read_text()
    rows = text.partition("COPY public.task_runs ")[2].partition("FROM stdin;\n")[2].partition("\\.")[0].splitlines()
    with psycopg.connect(runs.database.url.replace("+psycopg", "")) as connection:
        names = [column.name for column in connection.execute("SELECT * FROM task_runs").description or ()]
    cells = [dict(zip(names, row.split("\t"), strict=True)) for row in rows]
    return [(int(cell["id"]), cell["status"]) for cell in cells]
