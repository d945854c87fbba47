"""Another role may only CREATE in a schema on the search path: none of its functions and operators is ever called.

The schema has an overload for every function and operator of PostgreSQL (`tests/support/overloads.py`), and is looked
into first, before `pg_catalog`. The reaper connects as a superuser, as administrators do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from reaper import celery_tasks
from reaper.dev.postgres import PrivatePostgreSQL
from reaper.model import Outcome, Verdict
from tests.support.api import Answer, ApiDaemon, Client, token_file
from tests.support.commands import Reaper
from tests.support.databases import TemporaryDatabases
from tests.support.overloads import CALLED, SCHEMA, create_overloads, overload_operators_of
from tests.support.protea import HOUR, Protea
from tests.support.waiting import wait_until
from tests.support.worlds import State, World
from tests.support.worlds.adhese import AdheseWorld
from tests.support.worlds.noetl import NoetlWorld
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.protea import ProteaWorld
from tests.support.worlds.vuls import VulsScheduleWorld, VulsWorld

TEMPLATE = "overloads"
CONFIG = """
[sources.default]
database_url = "{url}"
profile = "own"
[profiles.own]
extends = "protea"
actions.requeue.set = {{ status = "queued", started_at = {{ is = "null" }} }}
"""
CLOSE = (
    "close-interrupted", "--source", "default", "--only-server", "--started-ago", "0s", "--yes", "--listen", "1s",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _template(server: PrivatePostgreSQL) -> Iterator[None]:
    url = server.create_database(TEMPLATE, tables=False)
    functions, operators = create_overloads(url)
    assert functions > 3000 and operators > 4000
    yield
    server.drop_database(TEMPLATE)


@pytest.fixture
def calls(server: PrivatePostgreSQL) -> Callable[[], list[str]]:
    """The calls of overloads that the server has logged since the test began."""
    begin = server.log.stat().st_size

    def logged() -> list[str]:
        with server.log.open(errors="replace") as log:
            log.seek(begin)
            return [line for line in log if CALLED in line]

    return logged


def look_into_it_first(url: str) -> None:
    """From the next connection on."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for (enum,) in connection.execute("SELECT oid::regtype::text FROM pg_type WHERE typtype = 'e'").fetchall():
            if not enum.startswith(SCHEMA):
                overload_operators_of(connection, enum)
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET search_path = {SCHEMA}, public, pg_catalog'.encode())


@contextmanager
def protea_with_overloads(databases: TemporaryDatabases) -> Iterator[Protea]:
    with databases.temporary(TEMPLATE) as url:
        PostgreSQLDatabase(url).create("protea")
        # This connection was made before, and so has the path of every database.
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            look_into_it_first(url)
            yield Protea(url, connection)


def test_overloads_would_be_called(databases: TemporaryDatabases, calls: Callable[[], list[str]]) -> None:
    statements = (
        "SELECT date_part('epoch'::varchar, now())",
        "SELECT count(*) FROM job WHERE status = 'running'::job_status",
        "SELECT CASE status WHEN 'running'::job_status THEN 1 END FROM job",
        "SELECT to_regclass('job')",
    )
    with protea_with_overloads(databases) as protea:
        protea.stale()
        for statement in statements:
            with protea.connect() as victim, pytest.raises(psycopg.errors.RaiseException, match=CALLED):
                victim.execute(statement.encode())
    assert len(calls()) == len(statements)


def test_no_command_calls_an_overload(
    databases: TemporaryDatabases, calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    with protea_with_overloads(databases) as protea:
        reaper = Reaper(tmp_path, {})
        reaper.configure(CONFIG.format(url=protea.url))
        stale, other, third, again, living, interrupted = (protea.stale() for _ in range(6))
        ancient = protea.job(age=12 * HOUR)
        protea.event(living)
        protea.event(interrupted, age=60)
        old = protea.job(status="succeeded", age=2400 * HOUR, finished=2390 * HOUR)
        with protea.connect() as holder:
            holder.execute("SET search_path = pg_catalog")
            holder.execute("SELECT FROM public.job WHERE id = %s FOR UPDATE", (third,))
            done = [reaper(*arguments) for arguments in (("report",), ("sweep", "--dry-run"), ("explain", third))]
            assert {result.exit_code for result in done} == {0} and "locked" in done[2].output
            assert reaper("fail", "--yes", third, "--reason", "test").exit_code == 1
        commands = {
            "check": ("check",),
            "report": ("report", "--json"),
            "sql": ("sql",),
            "sql of a job": ("sql", "--job", stale),
            "grants": ("grants", "--role", "worker"),
            "fence status": ("fence", "status"),
            "fence plan": ("fence", "install", "--dry-run"),
            "fence install": ("fence", "install", "--force"),
            "fence status after that": ("fence", "status"),
            "fail": ("fail", "--yes", stale, "--reason", "test"),
            "close-interrupted": CLOSE,
            "close-interrupted's preview": (*CLOSE, "--dry-run"),
            "requeue": ("fail", "--yes", again, "--reason", "test", "--action", "requeue"),
            "cleanup's preview": ("cleanup", "--older-than-minutes", "600", "--dry-run"),
            "cleanup": ("cleanup", "--older-than-minutes", "600", "--yes", "--release", "9"),
            "sweep": ("sweep", "--yes"),
            "clear's preview": ("clear", "--dry-run"),
            "clear": ("clear", "--yes"),
            "purge": ("purge", "--force", "--days-to-keep", "90"),
            "purge's preview": ("purge", "--days-to-keep", "90", "--dry-run"),
            "reset's preview": ("reset", "--all-sources", "--dry-run"),
            "reset": ("reset", "--all-sources", "--yes"),
            "fence remove": ("fence", "remove", "--force"),
        }
        failed = {what: it.output for what in commands if (it := reaper(*commands[what])).exit_code != 0}
        assert failed.keys() == {"fence status"}, failed  # it exits with 1 where there is no fence
        assert not calls()
        codes = {job: protea.row(job)["error_code"] for job in (stale, other, third, ancient, again)}
        assert codes == {stale: "ManualTimeout"} | dict.fromkeys((other, third, ancient), "JobTimeout") | {again: None}
        assert {protea.row(job)["error_code"] for job in (living, interrupted)} <= {"ManualTimeout", "Interrupted"}
        assert protea.status(again) == "queued" and old not in protea.statuses()


def test_no_request_calls_an_overload(
    databases: TemporaryDatabases, calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    """Each operation of the API, and the pages; with all that the daemon does beside them."""
    with protea_with_overloads(databases) as protea:
        first, second, third = (protea.stale() for _ in range(3))
        for job in (first, second, third):
            protea.event(job)  # the first sweep leaves them alone
        started = {job: protea.row(job)["started_at"].isoformat() for job in (first, second)}
        with ApiDaemon(tmp_path, CONFIG.format(url=protea.url), http_token_file=token_file(tmp_path)) as daemon:
            daemon.has_swept()
            api, at = daemon.api, Client.at
            document = api.get("/api/openapi.json").json
            left = {(method, path) for path, methods in document["paths"].items() for method in methods}

            def ask(method: str, template: str, path: str | None = None, body: object = None) -> Answer:
                left.discard((method, template))
                answer = api.ask(method.upper(), path or template, body)
                assert answer.status < 400 or template in ("/ready", "/health/scheduler"), (template, answer)
                return answer

            clearing = "/api/admin/clear-stuck-jobs"

            def cleared(task: str) -> bool:
                status = ask("get", f"{clearing}/{{task_id}}", f"{clearing}/{task}").json["status"]
                assert status != "failed"
                return bool(status == "done")

            for path in ("/", f"/jobs/default/{first}"):
                assert api.get(path).status == 200
            one = "/api/jobs/{source}/{id}"
            for template in sorted(path for method, path in left if method == "get" and "{" not in path):
                ask("get", template)
            ask("get", "/api/jobs", "/api/jobs?verdict=spared&limit=2")
            ask("get", one, at(first))
            for verb, job in (("fail", first), ("requeue", second)):
                body = {"started": started[job], "reason": "test"}
                ask("post", f"{one}/{verb}", f"{at(job)}/{verb}", body)
            ask("post", f"{one}/hold", f"{at(third)}/hold", {"duration": "3h", "reason": "test"})
            ask("post", f"{one}/unhold", f"{at(third)}/unhold")
            counts = [{"kind": "x", "reason": "JobTimeout", "action": "fail", "jobs": 1}]
            ended = {"source": "default", "sweep_id": "x", "by": "test", "counts": counts, "jobs": []}
            ask("post", "/api/ended", None, ended)
            protea.connection.execute("DELETE FROM job_event WHERE job_id = %s", (third,))
            for dry_run in (True, False):
                minutes = {"older_than_minutes": 5, "dry_run": dry_run, "release": 9}
                ask("post", "/api/executions/cleanup", None, minutes)
                ask("post", "/api/sweeps", None, {"dry_run": dry_run})
                submitted = ask("post", clearing, None, {"max_age_hours": 4, "dry_run": dry_run, "release": 9})
                wait_until(lambda task=submitted.json["task_id"]: cleared(task), "the clearing")  # type: ignore[misc]
            ask("post", "/api/supervisor/halt")
            ask("post", "/api/supervisor/restart")
            assert not left
        assert not calls()
        codes = [protea.row(job)["error_code"] for job in (first, second, third)]
        assert codes == ["ManualTimeout", None, "JobTimeout"] and protea.status(second) == "queued"


def test_no_celery_task_calls_an_overload(
    databases: TemporaryDatabases, calls: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with protea_with_overloads(databases) as protea:
        monkeypatch.setenv("REAPER_DATABASE_URL", protea.url)
        monkeypatch.setenv("REAPER_RESTART_GRACE", "0")
        stale, living = protea.stale(), protea.stale()
        protea.event(living)
        old = protea.job(status="succeeded", age=2400 * HOUR, finished=2390 * HOUR)
        assert celery_tasks.get_stuck_jobs_report()["summary"]["total_stuck_jobs"] == 1
        for dry_run in (True, False):
            summary = celery_tasks.clear_stuck_scheduler_jobs(dry_run=dry_run, release=9)["summary"]
            assert summary["cleared"] == (0 if dry_run else 1)
        assert celery_tasks.cleanup_old_task_runs_enhanced()["summary"]["total_deleted"] == 1
        for force in (False, True):
            summary = celery_tasks.reset_scheduler_state(force=force, all_sources=True)["summary"]
            assert (summary["total_running"], summary["ended"]) == (1, int(force))
        assert not calls()
        assert protea.status(stale) == protea.status(living) == "failed" and old not in protea.statuses()


WORLDS: tuple[type[World], ...] = (ProteaWorld, NoetlWorld, AdheseWorld, VulsWorld, VulsScheduleWorld)


@pytest.mark.parametrize("kind", WORLDS, ids=lambda kind: kind.__name__)
def test_no_sweep_of_a_shipped_profile_calls_an_overload(
    kind: type[World], databases: TemporaryDatabases, calls: Callable[[], list[str]]
) -> None:
    """With all that the daemon does around it: lease, record of the contact, evidence, late signs of life."""
    with databases.temporary(TEMPLATE) as url, kind.create(PostgreSQLDatabase(url)) as world:
        stale, alive = world.stale_job(), world.alive_job()
        look_into_it_first(url)
        source = world.source()
        with source.connect():
            lease = source.lease(60)
        assert lease.acquire() and lease.acquire()
        report = world.sweep(source)
        assert (report.outcome, report.reaped, report.failures) == (Outcome.DONE, 1, ()), report
        assert {evidence.verdict for evidence in world.explain(alive)} == {Verdict.SPARED}
        assert world.sweep(source).reaped == 0
        lease.release()
        assert not calls()
        assert world.state(stale) is State.REAPED and world.state(alive) is State.RUNNING
