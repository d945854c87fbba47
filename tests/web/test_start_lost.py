"""Executions whose start was lost, over HTTP: the API and the page show them apart, and cleanup ends them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api import ApiDaemon
from tests.support.pages import Page
from tests.support.protea import MINUTE
from tests.support.waiting import wait_until
from tests.support.worlds.noetl import NoetlWorld
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.world import LATELY, State


@pytest.fixture
def noetl(empty: PostgreSQLDatabase) -> Iterator[NoetlWorld]:
    with NoetlWorld.create(empty) as world:
        yield world


def started(noetl: NoetlWorld, folder: Path, **settings: str) -> ApiDaemon:
    return ApiDaemon(folder, database_url=noetl.database.url, profile="noetl", restart_grace="0", **settings)


def test_api_and_page_show_them_apart_and_say_who_ends_them(noetl: NoetlWorld, tmp_path: Path) -> None:
    with started(noetl, tmp_path) as daemon:
        daemon.has_swept()
        silent, alive = noetl.start_lost_job(), noetl.start_lost_job(sign=LATELY)
        daemon.forget()
        assert noetl.state(silent) is State.RUNNING, "sweeps leave them alone"
        [source] = daemon.api.get("/api/jobs").json["sources"]
        assert (source["census"]["running"], source["jobs"]) == (0, [])
        lost = source["start_lost"]
        assert (lost["census"]["running"], lost["census"]["stale"], lost["more"]) == (2, 1, False)
        assert {job["id"]: job["verdict"] for job in lost["jobs"]} == {silent: "stale", alive: "spared"}
        page = Page(daemon.api.get("/").text)
        assert page.at("headline").startswith("1 job is stuck and lost its start")
        shown = page.at("start-lost-title")
        assert silent in shown and alive in shown
        assert "sweeps do not end it, because its start was lost; `reaper cleanup` does" in shown
        assert silent not in page.at("stuck-title")
        job = daemon.api.job(silent).json["job"]
        assert job["start_lost"] is True and job["started_from"] == "created_at of its first known entry"


def test_cleanup_over_http_ends_them(noetl: NoetlWorld, tmp_path: Path) -> None:
    with started(noetl, tmp_path) as daemon:
        daemon.has_swept()
        silent, alive = noetl.start_lost_job(age=9 * MINUTE, sign=6 * MINUTE), noetl.start_lost_job(sign=LATELY)
        preview = daemon.api.ask("POST", "/api/executions/cleanup", {"dry_run": True}, token=False).json
        assert (preview["execution_ids"], preview["spared_count"]) == ([int(silent)], 1)
        assert preview["message"] == "[DRY RUN] Would cancel 1 stuck executions older than 5 minutes"
        done = daemon.api.post("/api/executions/cleanup", {}).json
        assert done["message"] == "Cancelled 1 stuck executions older than 5 minutes"
        assert any(note.startswith("Start lost: 1 of them") for note in done["notes"])
        assert (noetl.state(silent), noetl.state(alive)) == (State.REAPED, State.RUNNING)
        assert daemon.api.job(silent).json["job"]["ended_by"] == "execution.cancelled"


def test_daemon_whose_source_says_so_ends_them_in_its_sweeps(noetl: NoetlWorld, tmp_path: Path) -> None:
    silent = noetl.start_lost_job()
    with started(noetl, tmp_path, start_lost="end"):
        wait_until(lambda: noetl.state(silent) is State.REAPED, "the first sweep")
