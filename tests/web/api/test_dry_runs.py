"""Dry runs over HTTP, of a real daemon: anyone who may read may ask for one, and nothing else without a token."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from reaper.web.guard.access import DRY_RUNS
from tests.daemon.test_daemon import slow
from tests.support.api import TOKEN, Answer, ApiDaemon, Client, shared_daemon
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.waiting import wait_until

running, afresh, jobs = shared_daemon("dry_runs")

CLEANUP, SWEEPS, CLEAR = "/api/executions/cleanup", "/api/sweeps", "/api/admin/clear-stuck-jobs"


@pytest.fixture
def daemon(afresh: ApiDaemon, jobs: Protea) -> Iterator[ApiDaemon]:
    """It is not slow any longer than the test that made it so."""
    yield afresh
    jobs.connection.execute("DROP TRIGGER IF EXISTS slow ON job")


def anyone(daemon: ApiDaemon) -> Client:
    return Client(daemon.port, token=None)


def changes(daemon: ApiDaemon) -> list[tuple[str, str]]:
    """Who has changed what, newest first: at most fifty."""
    entries = daemon.api.get("/api/changes?limit=50").json["changes"]
    return [(entry["who"], entry["action"]) for entry in entries]


def curl(daemon: ApiDaemon, *arguments: str) -> Any:
    """The document's command, with this daemon's port; its output is parsed."""
    address = f"http://localhost:{daemon.port}{CLEANUP}"
    command = ["curl", "-sS", "-X", "POST", address, *arguments, "-w", "\n%{http_code}"]
    body, _, status = subprocess.run(command, check=True, capture_output=True, text=True).stdout.rpartition("\n")
    return Answer(int(status), {}, body)


def test_curls_of_the_document_work_as_typed_as_far_as_they_change_nothing(daemon: ApiDaemon, jobs: Protea) -> None:
    job = jobs.job(age=10 * MINUTE)
    typed = ["-H", "Content-Type: application/json", "-d"]
    found = curl(daemon, *typed, '{"older_than_minutes": 5, "dry_run": true}')
    assert (found.status, found.json["cancelled_count"], found.json["execution_ids"]) == (200, 1, [job])
    assert found.json["message"] == "[DRY RUN] Would cancel 1 stuck executions older than 5 minutes"
    refused = curl(daemon, *typed, '{"older_than_minutes": 5, "dry_run": false}')
    assert refused.status == 401 and jobs.status(job) == "running"
    assert "\n" not in refused.detail
    for source_of_the_token in ("Authorization: Bearer TOKEN", "REAPER_HTTP_TOKEN_FILE", ".data/http-token"):
        assert source_of_the_token in refused.detail
    bearer = ["-H", f"Authorization: Bearer {TOKEN}"]
    done = curl(daemon, *bearer, *typed, '{"older_than_minutes": 5, "dry_run": false}')
    assert (done.status, done.json["message"]) == (200, "Cancelled 1 stuck executions older than 5 minutes")
    assert jobs.status(job) == "failed"


def test_request_without_a_body_asks_for_the_defaults_of_the_document(daemon: ApiDaemon, jobs: Protea) -> None:
    older, younger = jobs.job(age=5 * MINUTE + 1), jobs.job(age=4 * MINUTE)
    assert curl(daemon).status == 401
    done = curl(daemon, "-H", f"Authorization: Bearer {TOKEN}")
    assert (done.status, done.json["execution_ids"], done.json["dry_run"]) == (200, [older], False)
    assert jobs.status(younger) == "running"


@pytest.mark.parametrize("path", sorted(DRY_RUNS))
def test_dry_run_needs_no_token_and_changes_nothing(daemon: ApiDaemon, jobs: Protea, path: str) -> None:
    jobs.stale(age=20 * HOUR)
    before, changed = jobs.dump(), changes(daemon)
    assert anyone(daemon).post(path, {"dry_run": True}).status in (200, 202)
    wrong = Client(daemon.port, token="wrong")
    wait_until(lambda: wrong.post(path, {"dry_run": True}).status in (200, 202), "the one before is done")
    assert jobs.dump() == before
    assert changes(daemon) == changed, "it is a read, and is not audited"
    wait_until(lambda: daemon.api.post(path, {"dry_run": True}).status in (200, 202), "the one before is done")
    assert len(changes(daemon)) > len(changed), "with a token it is"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"{", b"[]", b'["dry_run"]', b'"dry_run"', b"null", b'{"dry_run": false}', b'{"dry_run": "true"}',
        b'{"dry_run": 1}', b'{"dry_run": null}', b'{"Dry_run": true}',
        b'{"a": {"dry_run": true}}', b"[" * 60_000, b"\xff\xfe", b'{"dry_run": true}x',
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", sorted(DRY_RUNS))
def test_body_that_does_not_ask_for_a_dry_run_needs_a_token(
    daemon: ApiDaemon, jobs: Protea, path: str, body: bytes
) -> None:
    job = jobs.stale(age=20 * HOUR)
    refused = anyone(daemon).ask("POST", path, raw=body)
    assert refused.status == 401, refused.text
    assert jobs.status(job) == "running"


def test_wrong_dry_run_is_answered_with_what_is_wrong(daemon: ApiDaemon) -> None:
    refused = anyone(daemon).post(CLEANUP, {"dry_run": True, "older_than_minutes": 0})
    assert refused.status == 422 and "older_than_minutes" in refused.detail


def test_dry_run_for_a_page_of_another_site_is_refused(daemon: ApiDaemon) -> None:
    for header in ("Origin: http://evil.example", "Sec-Fetch-Site: cross-site"):
        arguments = ["-H", "Content-Type: application/json", "-d", '{"dry_run": true}', "-H", header]
        refused = curl(daemon, *arguments)
        assert refused.status == 403 and "only this reaper's own page" in refused.detail


def test_daemon_without_tokens_does_dry_runs_and_says_how_to_change_something(protea: Protea, tmp_path: Path) -> None:
    job = protea.job(age=10 * MINUTE)
    with ApiDaemon(tmp_path, database_url=protea.url, http_token_file="") as daemon:
        daemon.has_swept()
        assert anyone(daemon).post(CLEANUP, {"dry_run": True}).json["execution_ids"] == [job]
        refused = anyone(daemon).post(CLEANUP, {})
        assert refused.status == 403 and "read-only" in refused.detail
        assert "REAPER_HTTP_TOKEN_FILE" in refused.detail and "manage.sh start" in refused.detail


def test_refusal_for_want_of_a_token_is_logged(daemon: ApiDaemon) -> None:
    assert anyone(daemon).post(CLEANUP, {}).status == 401
    wait_until(lambda: daemon.said("Reaper refused a request."), "the line in the log")


def test_dry_run_while_a_sweep_works_waits_for_no_one(daemon: ApiDaemon, jobs: Protea) -> None:
    job = jobs.stale()
    slow(jobs, 12)
    with ThreadPoolExecutor(1) as other:
        sweeping = other.submit(daemon.api.post, SWEEPS, {})
        wait_until(lambda: daemon.api.get("/api/supervisor/state").json["sources"][0]["sweeping"], "the sweep")
        found = anyone(daemon).post(CLEANUP, {"dry_run": True})
        assert not sweeping.done() and (found.status, found.json["execution_ids"]) == (200, [job])
        assert sweeping.result(30).status == 200


def test_dry_runs_of_anyone_keep_no_clearing_waiting_and_take_no_clearing_s_place(
    daemon: ApiDaemon, jobs: Protea
) -> None:
    task = daemon.api.post(CLEAR, {}).json["task_id"]
    path = f"{CLEAR}/{task}"
    wait_until(lambda: daemon.api.get(path).json["status"] == "done", "the clearing")
    for _ in range(25):
        wait_until(lambda: anyone(daemon).post(CLEAR, {"dry_run": True}).status == 202, "the dry run before is done")
    assert daemon.api.get(path).status == 200
    rehearsed = anyone(daemon).post(CLEAR, {"dry_run": True})
    assert rehearsed.status in (202, 409)
    assert daemon.api.post(CLEAR, {}).status == 202


def test_bodies_that_come_slowly_keep_no_reader_waiting(daemon: ApiDaemon) -> None:
    head = (
        f"POST {CLEANUP} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{{"
    )
    with ExitStack() as stack:
        for _ in range(12):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
            client.sendall(head.encode())
        time.sleep(0.3)  # until the daemon waits for their bodies
        begun = time.monotonic()
        assert daemon.api.get("/api/jobs").status == 200
        assert daemon.api.post(CLEANUP, {"dry_run": True}).status == 200
        assert time.monotonic() - begun < 4, "half as long as it waits for a body"


def test_dry_run_anywhere_else_needs_a_token(daemon: ApiDaemon) -> None:
    paths = daemon.api.get("/api/openapi.json").json["paths"]
    changing = {path for path, methods in paths.items() if "post" in methods}
    assert changing > DRY_RUNS
    for path in changing - DRY_RUNS:
        assert anyone(daemon).post(path.replace("{source}", "default"), {"dry_run": True}).status == 401, path
    security = {path: paths[path]["post"]["security"] for path in changing}
    assert {path for path, needed in security.items() if {} in needed} == DRY_RUNS


def test_cleanup_leaves_a_kind_with_a_longer_limit_alone_and_notes_how_many(protea: Protea, tmp_path: Path) -> None:
    config = f'[kinds.train]\ntimeout_seconds = "2d"\n[sources.default]\ndatabase_url = "{protea.url}"\n'
    with ApiDaemon(tmp_path, config) as daemon:
        daemon.has_swept()
        train, embed = protea.stale(operation="train"), protea.stale(operation="embed")
        for dry_run in (True, False):
            answer = daemon.api.post(CLEANUP, {"older_than_minutes": 60, "dry_run": dry_run}).json
            assert (answer["execution_ids"], answer["spared_count"]) == ([embed], 1)
            assert "the limit of their kind or their row is longer" in answer["notes"][0]
        daemon.api.post(CLEAR, {"max_age_hours": 1})
        assert (protea.status(train), protea.status(embed)) == ("running", "failed")
