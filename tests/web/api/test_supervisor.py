"""Sweeps, halts and clearings asked for over HTTP, of a real daemon."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from reaper.dev.postgres import PrivatePostgreSQL
from reaper.memory import Memory
from tests.daemon.test_daemon import count, many, slow
from tests.support.api import OPERATOR, ApiDaemon, shared_daemon
from tests.support.daemons import closed
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.waiting import wait_until

running, afresh, jobs = shared_daemon("steering", batch_size=50)


@pytest.fixture
def daemon(afresh: ApiDaemon, jobs: Protea) -> Iterator[ApiDaemon]:
    """It is not slow any longer than the test that made it so."""
    yield afresh
    jobs.connection.execute("DROP TRIGGER IF EXISTS slow ON job")


def state(daemon: ApiDaemon) -> dict[str, Any]:
    answer = daemon.api.get("/api/supervisor/state")
    assert answer.status == 200, answer.text
    return dict(answer.json)


def test_two_releases_at_once_let_the_same_jobs_through_once(daemon: ApiDaemon, jobs: Protea) -> None:
    many(jobs, 60)
    assert daemon.api.post("/api/sweeps", {}).json["sweeps"][0]["outcome"] == "held"
    slow(jobs, 0.5)
    with ThreadPoolExecutor(2) as operators:
        first = operators.submit(daemon.api.post, "/api/sweeps", {"release": 60})
        wait_until(lambda: jobs.connection.execute("SELECT 1 FROM job WHERE status = 'failed'").fetchone(), "a batch")
        many(jobs, 55)
        second = operators.submit(daemon.api.post, "/api/sweeps", {"release": 60})
        assert first.result().status == 200
        assert second.result().status == 409 and "holds nothing" in second.result().detail
    assert (count(jobs, "failed"), count(jobs, "running")) == (60, 55)


def test_halt_holds_clearings_but_for_those_that_say_so_and_stops_what_was_begun_before_it(
    daemon: ApiDaemon, jobs: Protea
) -> None:
    daemon.api.post("/api/supervisor/halt")
    many(jobs, 40)
    slow(jobs, 0.01, "ROW")
    for path in ("/api/admin/clear-stuck-jobs", "/api/executions/cleanup"):
        refused = daemon.api.post(path, {})
        assert refused.status == 409 and "halted by" in refused.detail and "while_halted" in refused.detail
    assert daemon.api.post("/api/executions/cleanup", {"dry_run": True}).json["cancelled_count"] == 40
    assert count(jobs, "failed") == 0
    meant = {"max_age_hours": 2, "while_halted": True}
    task = daemon.api.post("/api/admin/clear-stuck-jobs", meant).json["task_id"]
    path = f"/api/admin/clear-stuck-jobs/{task}"
    wait_until(lambda: daemon.api.get(path).json["status"] == "done", "its end")
    assert count(jobs, "failed") == 40, "an operator who has halted the schedule may clear up by hand"
    daemon.api.post("/api/supervisor/restart")
    many(jobs, 400)
    jobs.connection.execute(  # as many that live: the breaker holds what is more than half of all
        "INSERT INTO job (operation, queue_name, status, started_at)"
        " SELECT 'young', 'q', 'running', now() FROM generate_series(1, 400)"
    )
    task = daemon.api.post("/api/admin/clear-stuck-jobs", {"max_age_hours": 2}).json["task_id"]
    path = f"/api/admin/clear-stuck-jobs/{task}"
    wait_until(lambda: count(jobs, "failed") > 40, "a batch of it")
    daemon.api.post("/api/supervisor/halt")
    wait_until(lambda: daemon.api.get(path).json["status"] == "done", "its end")
    assert 40 < count(jobs, "failed") < 440
    assert (count(jobs, "failed") - 40) % 50 == 0, "what was in hand ended with its batch"


# --- halt and restart ----------------------------------------------------------------------------------------


def test_halt_names_operator_and_reason_everywhere_and_ends_nothing_until_the_restart(
    daemon: ApiDaemon, jobs: Protea
) -> None:
    assert state(daemon)["state"] == "RUNNING"
    answer = daemon.api.post("/api/supervisor/halt?reason=maintenance")
    assert answer.json["state"] == "HALTED"
    assert answer.json["halted"]["reason"] == "maintenance"
    assert answer.json["halted"]["by"].startswith(f"{OPERATOR} over HTTP from 127.0.0.1:")
    assert state(daemon)["halted"] == answer.json["halted"]
    assert daemon.get("/ready") is not None and daemon.ready[0] is False
    job = jobs.stale()
    refused = daemon.api.post("/api/sweeps", {})
    assert refused.status == 409 and "halted" in refused.detail
    [rehearsed] = daemon.api.post("/api/sweeps", {"dry_run": True}).json["sweeps"]
    assert [each["id"] for each in rehearsed["would_reap"]] == [job]
    assert jobs.status(job) == "running"

    assert daemon.api.post("/api/supervisor/restart").json["state"] == "RUNNING"
    wait_until(lambda: jobs.status(job) == "failed", "the sweep that a restart begins")
    wait_until(lambda: daemon.ready[0], "ready")


def test_halt_during_a_long_sweep_returns_at_once_and_the_sweep_ends_after_its_batch(
    daemon: ApiDaemon, jobs: Protea
) -> None:
    many(jobs, 5_000)
    many_young(jobs, 6_000)
    slow(jobs, 0.2)
    with ThreadPoolExecutor(1) as other:
        sweeping = other.submit(daemon.api.post, "/api/sweeps", {})
        wait_until(lambda: count(jobs, "failed") > 100, "some batches")
        begun = time.monotonic()
        assert daemon.api.post("/api/supervisor/halt").json["state"] == "HALTED"
        assert time.monotonic() - begun < 2
        [swept] = sweeping.result(30).json["sweeps"]
    assert swept["outcome"] == "halted"
    assert 100 < swept["reaped"] < 5_000 and swept["reaped"] % 50 == 0
    assert count(jobs, "failed") == swept["reaped"]


def many_young(jobs: Protea, number: int) -> None:
    """So many that run, so that the breaker takes the others for a few."""
    jobs.connection.execute(
        "INSERT INTO job (operation, queue_name, status, created_at, started_at)"
        " SELECT 'young', 'q', 'running', now(), now() FROM generate_series(1, %s)",
        (number,),
    )


@pytest.mark.parametrize("persist", [True, False])
def test_persistent_halt_outlasts_a_daemon_that_is_killed(protea: Protea, tmp_path: Path, persist: bool) -> None:
    settings: dict[str, Any] = {"database_url": protea.url, "state_dir": tmp_path / "state"}
    with ApiDaemon(tmp_path, **settings) as daemon:
        answer = daemon.api.post(f"/api/supervisor/halt?persist={persist}&reason=fire")
        assert answer.json["halted"]["persistent"] is persist
        daemon.stop(signal.SIGKILL)
    job = protea.stale()
    with ApiDaemon(tmp_path, **settings) as daemon:
        if not persist:
            wait_until(lambda: protea.status(job) == "failed", "a sweep")
            return
        daemon.has_swept("halted")
        assert state(daemon)["halted"]["reason"] == "fire"
        assert protea.status(job) == "running"
        daemon.api.post("/api/supervisor/restart")
        wait_until(lambda: protea.status(job) == "failed", "a sweep after the restart")
    assert Memory.open(tmp_path / "state").halt.load() is None


def test_persistent_halt_without_a_state_directory_halts_and_is_refused(daemon: ApiDaemon) -> None:
    answer = daemon.api.post("/api/supervisor/halt?persist=true")
    assert answer.status == 409
    assert "halted, but only until the daemon ends" in answer.detail and "set REAPER_STATE_DIR" in answer.detail
    assert state(daemon)["state"] == "HALTED" and state(daemon)["halted"]["persistent"] is False


def test_persistent_halt_that_the_disk_refuses_is_answered_500(protea: Protea, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    with ApiDaemon(tmp_path, database_url=protea.url, state_dir=tmp_path / "state") as daemon:
        answer = daemon.api.post("/api/supervisor/halt?persist=true")
        assert answer.status == 500
        assert f"halted, but only until the daemon ends: cannot write {tmp_path}/state/memory.sqlite3" in answer.detail
        assert state(daemon)["state"] == "HALTED" and state(daemon)["halted"]["persistent"] is False


def test_replicas_say_which_of_them_leads(protea: Protea, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with ApiDaemon(first, database_url=protea.url, interval_seconds=1) as one:
        wait_until(lambda: state(one)["sources"][0]["leads"], "one leads")
        with ApiDaemon(second, database_url=protea.url, interval_seconds=1) as other:
            wait_until(lambda: state(other)["sources"][0]["outcome"] == "standby", "the other stands by")
            assert state(other)["sources"][0]["leads"] is False
            one.stop()
            wait_until(lambda: state(other)["sources"][0]["leads"], "it takes over", 60)


# --- sweeps --------------------------------------------------------------------------------------------------


def test_dry_run_says_what_a_sweep_would_do_and_why_and_does_nothing(daemon: ApiDaemon, jobs: Protea) -> None:
    job, young = jobs.stale(), jobs.job(age=MINUTE)
    before = jobs.dump()
    [answered] = daemon.api.post("/api/sweeps", {"dry_run": True}).json["sweeps"]
    assert [(each["id"], each["verdict"]) for each in answered["would_reap"]] == [(job, "stale")]
    assert answered["would_reap"][0]["why"].startswith("no sign of life for 2h")
    assert "Would reap 1 stale job(s). Nothing was changed." in answered["lines"]
    assert (answered["dry_run"], answered["reaped"], answered["breaker"]) == (True, 0, None)
    assert jobs.dump() == before
    assert young


def test_sweep_now_does_what_the_schedule_would_and_is_among_the_recent_ones(daemon: ApiDaemon, jobs: Protea) -> None:
    job = jobs.stale()
    [answered] = daemon.api.post("/api/sweeps", {"source": "default"}).json["sweeps"]
    assert (answered["outcome"], answered["reaped"]) == ("done", 1)
    assert jobs.row(job)["error_code"] == "JobTimeout"
    [latest] = daemon.api.get("/api/sweeps?limit=1").json["sweeps"]
    assert (latest["sweep_id"], latest["reaped"]) == (answered["sweep_id"], 1)
    assert latest["seconds_ago"] < 60


def test_breaker_is_released_only_with_the_number_that_it_holds(daemon: ApiDaemon, jobs: Protea) -> None:
    many(jobs, 60)
    refused = daemon.api.post("/api/sweeps", {"release": 60})
    assert refused.status == 409 and "the breaker holds nothing" in refused.detail
    [held] = daemon.api.post("/api/sweeps", {}).json["sweeps"]
    assert held["outcome"] == "held"
    assert held["breaker"].startswith("60 of 60 running jobs fell silent")
    for wrong in (59, 61, 2**53 - 1):
        refused = daemon.api.post("/api/sweeps", {"release": wrong})
        assert refused.status == 409
        assert f"holds 60 stale jobs by now, not {wrong}" in refused.detail
    many(jobs, 1)
    refused = daemon.api.post("/api/sweeps", {"release": 60})
    assert refused.status == 409 and "holds 61 stale jobs by now, not 60" in refused.detail
    assert count(jobs, "failed") == 0
    [done] = daemon.api.post("/api/sweeps", {"release": 61}).json["sweeps"]
    assert (done["outcome"], done["reaped"]) == ("done", 61)


def test_sweep_is_refused_while_another_one_works_with_a_time_to_retry(daemon: ApiDaemon, jobs: Protea) -> None:
    jobs.stale()
    slow(jobs, 8)
    with ThreadPoolExecutor(1) as other:
        sweeping = other.submit(daemon.api.post, "/api/sweeps", {})
        wait_until(lambda: state(daemon)["sources"][0]["sweeping"], "the sweep")
        for path in ("/api/sweeps", "/api/executions/cleanup"):
            refused = daemon.api.post(path, {})
            if sweeping.done():
                break
            assert refused.status == 409, refused.text
            assert refused.headers["retry-after"] == "5"
            assert "is being swept just now" in refused.detail
        assert sweeping.result(30).json["sweeps"][0]["reaped"] == 1


# --- as the documents have it --------------------------------------------------------------------------------


def test_cleanup_cancels_jobs_that_are_older_and_silent_for_so_many_minutes(daemon: ApiDaemon, jobs: Protea) -> None:
    dead = jobs.job(age=10 * MINUTE)
    live = jobs.job(age=10 * MINUTE)
    jobs.event(live, age=MINUTE)
    young = jobs.job(age=MINUTE)
    rehearsed = daemon.api.post("/api/executions/cleanup", {"older_than_minutes": 5, "dry_run": True})
    assert rehearsed.json["cancelled_count"] == 1
    assert rehearsed.json["execution_ids"] == [dead]
    assert rehearsed.json["message"] == "[DRY RUN] Would cancel 1 stuck executions older than 5 minutes"
    assert jobs.status(dead) == "running"
    done = daemon.api.post("/api/executions/cleanup", {})
    assert done.status == 200
    assert (done.json["cancelled_count"], done.json["execution_ids"]) == (1, [dead])
    assert done.json["message"] == "Cancelled 1 stuck executions older than 5 minutes"
    assert [jobs.status(each) for each in (dead, live, young)] == ["failed", "running", "running"]
    again = daemon.api.post("/api/executions/cleanup", {"older_than_minutes": 5, "dry_run": False}).json
    assert (again["cancelled_count"], again["execution_ids"]) == (0, [])
    assert again["message"] == "No stuck executions found older than 5 minutes"


def test_cleanup_that_the_breaker_holds_cancels_nothing_and_says_why(daemon: ApiDaemon, jobs: Protea) -> None:
    many(jobs, 60)
    answered = daemon.api.post("/api/executions/cleanup", {}).json
    assert (answered["cancelled_count"], answered["execution_ids"]) == (0, [])
    assert "Held by the breaker: 60 of 60 running jobs fell silent" in answered["notes"][0]
    assert daemon.api.post("/api/executions/cleanup", {"release": 59}).json["cancelled_count"] == 0
    assert count(jobs, "failed") == 0
    assert daemon.api.post("/api/executions/cleanup", {"release": 60}).json["cancelled_count"] == 60


@pytest.mark.parametrize("body", [{"older_than_minutes": 0}, {"older_than_minutes": 2**64}, {"dry_run": "no"}])
def test_cleanup_with_a_wrong_request_is_refused(daemon: ApiDaemon, body: object) -> None:
    assert daemon.api.post("/api/executions/cleanup", body).status == 422


def test_clearing_works_in_the_background_one_at_a_time(daemon: ApiDaemon, jobs: Protea) -> None:
    job, young = jobs.job(age=3 * HOUR), jobs.job(age=HOUR)
    slow(jobs, 2)
    begun = daemon.api.post("/api/admin/clear-stuck-jobs", {"max_age_hours": 2, "dry_run": False})
    assert begun.status == 202
    assert begun.json == {"task_id": begun.json["task_id"], "status": "submitted"}
    refused = daemon.api.post("/api/admin/clear-stuck-jobs", {})
    assert refused.status == 409 and "still works" in refused.detail
    path = f"/api/admin/clear-stuck-jobs/{begun.json['task_id']}"
    assert daemon.api.get(path).json["status"] in ("submitted", "running")
    wait_until(lambda: daemon.api.get(path).json["status"] == "done", "done")
    result = daemon.api.get(path).json["result"]
    assert result["summary"] == {
        "total_stuck_jobs": 1,
        "cleared": 1,
        "spared": 0,
        "dry_run": False,
        "max_age_hours": 2.0,
    }
    assert result["sources"]["default"]["outcome"] == "done" and result["errors"] == {}
    assert [jobs.status(each) for each in (job, young)] == ["failed", "running"]
    ended = daemon.api.job(job).json["ended"]
    assert ended["by"].startswith(OPERATOR)
    results = [c["result"] for c in daemon.api.get("/api/changes?limit=3").json["changes"]]
    assert results[0] == "done: reaped 1"


def test_clearing_takes_jobs_older_than_two_hours_unless_another_age_is_given(daemon: ApiDaemon, jobs: Protea) -> None:
    older, younger = jobs.job(age=2 * HOUR + MINUTE), jobs.job(age=2 * HOUR - MINUTE)
    begun = daemon.api.post("/api/admin/clear-stuck-jobs", {}).json
    path = f"/api/admin/clear-stuck-jobs/{begun['task_id']}"
    summary = wait_until(lambda: daemon.api.get(path).json["result"], "done")["summary"]
    assert (summary["max_age_hours"], summary["dry_run"], summary["cleared"]) == (2, False, 1)
    assert [jobs.status(each) for each in (older, younger)] == ["failed", "running"]


def test_clearing_with_an_unknown_id_is_not_found(daemon: ApiDaemon) -> None:
    assert daemon.api.get("/api/admin/clear-stuck-jobs/nothing").status == 404


def test_clearing_ends_with_the_daemon_after_its_batch(protea: Protea, tmp_path: Path) -> None:
    with ApiDaemon(tmp_path, database_url=protea.url, batch_size=50, breaker_share=1) as daemon:
        daemon.has_swept()
        many(protea, 5_000)
        slow(protea, 0.2)
        daemon.api.post("/api/admin/clear-stuck-jobs", {})
        wait_until(lambda: count(protea, "failed") > 100, "some batches")
        status, seconds = daemon.stop()
        assert status == 0 and seconds < 5
        assert daemon.said("Reaper has stopped."), "it was not waited for in vain"
    ended = count(protea, "failed")
    assert ended < 5_000 and ended % 50 == 0


# --- trouble -------------------------------------------------------------------------------------------------


def test_database_that_is_away_is_answered_503(server: PrivatePostgreSQL, protea: Protea, tmp_path: Path) -> None:
    job = protea.stale(age=HOUR)
    with ApiDaemon(tmp_path, database_url=protea.url, interval_seconds=3600) as daemon:
        daemon.has_swept()
        with closed(server.url_of("postgres").replace("+psycopg", ""), protea.connection.info.dbname):
            for answer in (
                daemon.api.get("/api/jobs"),
                daemon.api.job(job),
                daemon.api.end("fail", job, None),
                daemon.api.post("/api/executions/cleanup", {}),
            ):
                assert answer.status == 503, answer.text
                assert answer.headers["retry-after"] == "5"
                assert answer.detail.startswith("source default: ")
            health = daemon.api.get("/health/scheduler")
            assert (health.status, health.json["status"]) == (503, "unknown")
            [swept] = daemon.api.post("/api/sweeps", {}).json["sweeps"]
            assert (swept["outcome"], swept["database_away"]) == ("failed", True)


def test_source_that_cannot_be_read_is_listed_beside_the_others(
    server: PrivatePostgreSQL, protea: Protea, tmp_path: Path
) -> None:
    job = protea.stale()
    config = f"""
[sources.well]
database_url = "{protea.url}"
[sources.ill]
database_url = "postgresql://nobody@127.0.0.1:1/nothing"
"""
    with ApiDaemon(tmp_path, config, http_token_file=tmp_path / "http-token") as daemon:
        wait_until(lambda: protea.status(job) == "failed", "a sweep")
        fresh = protea.job(age=MINUTE)
        answer = daemon.api.get("/api/jobs")
        assert answer.status == 200
        well, ill = sorted(answer.json["sources"], key=lambda each: each["source"], reverse=True)
        assert [each["id"] for each in well["jobs"]] == [fresh]
        assert (ill["database_away"], ill["jobs"], ill["census"]) == (True, [], None)
        assert ill["error"].startswith("source ill: ")
        assert daemon.api.get("/api/jobs?source=ill").status == 503
        health = daemon.api.get("/health/scheduler")
        assert (health.status, health.json["status"]) == (200, "warning")
        assert health.json["details"]["summary"]["unknown"] == ["ill"]
        unclear = daemon.api.post("/api/executions/cleanup", {})
        assert unclear.status == 422
        assert "there are several sources, say which one" in unclear.detail
        assert daemon.api.post("/api/sweeps", {"release": 5}).status == 422
