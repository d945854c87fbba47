"""Comparing with what was recorded, recording it again, and the one daemon that these tests look at."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.contract.support import (
    HERE,
    HOUR,
    MINUTE,
    TOKEN,
    Answer,
    ApiDaemon,
    Protea,
    Reaper,
    api_daemon,
    ask,
    closed,
    token_file,
)
from tests.support.waiting import wait_until

Golden = Callable[[str, Iterable[str]], None]
T = TypeVar("T")

_NAME = "contract"
_JOB = "/api/jobs/{source}/{id}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record", action="store_true", help="Write the files of tests/contract again; see its README.md."
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares lines, in any order, with a file of this folder; with `--record`, writes the file."""

    def compare(name: str, lines: Iterable[str]) -> None:
        path, now = HERE / name, sorted(set(lines))
        if request.config.getoption("--record", default=False):
            path.write_text("".join(f"{line}\n" for line in now))
            pytest.skip(f"recorded {name}")
        before = path.read_text().splitlines()
        changes = list(difflib.unified_diff(before, now, f"{name} (recorded)", f"{name} (now)", lineterm="", n=1))
        if changes:
            hint = "Users depend on this. If the change is meant: pytest tests/contract --record; see README.md there."
            pytest.fail("\n".join([f"{name} has changed. {hint}", *changes]), pytrace=False)

    return compare


@pytest.fixture
def reaper(tmp_path: Path) -> Reaper:
    """The command, with nothing configured."""
    return Reaper(tmp_path)


# --- The daemon ------------------------------------------------------------------------------------------------------


@dataclass
class DaemonRecording:
    """What a daemon answered, measured and logged while everything in `_live` happened to it."""

    answers: list[Answer] = field(default_factory=list)
    openapi: dict[str, Any] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    metrics: str = ""
    openmetrics: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    documents: dict[str, list[Any]] = field(default_factory=dict)
    exit_statuses: dict[str, int] = field(default_factory=dict)
    ended_job: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def life(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonRecording]:
    """One daemon lives once, whichever tests ask for it: its start takes longer than all of them."""
    folder = tmp_path_factory.mktemp("contract")
    with api_daemon(server, folder, _NAME, state_dir=folder / "state") as (daemon, protea):
        lived = _live(daemon, protea, server.url_of("postgres").replace("+psycopg", ""))
        lived.exit_statuses["run (SIGTERM)"], _ = daemon.stop()
        lived.log = daemon.log
    yield lived


def _live(daemon: ApiDaemon, protea: Protea, server: str) -> DaemonRecording:
    life = DaemonRecording()
    get, post = _asker(daemon, life, "GET"), _asker(daemon, life, "POST")

    protea.job(age=20 * MINUTE)
    # It passes its timeout between the first sweep and the next one.
    spared = protea.job(age=6 * HOUR)
    protea.event(spared, age=MINUTE)
    stale, other, ended_by_operator = (protea.stale() for _ in range(3))

    get("/api/jobs?limit=2", name="/api/jobs")
    get("/api/jobs?verdict=stale&source=default&kind=embed&offset=0", name="/api/jobs")
    get(f"/api/jobs/default/{stale}", name=_JOB)
    get("/health/scheduler")
    post("/api/sweeps", {"dry_run": True})
    post("/api/executions/cleanup", {"older_than_minutes": 60, "dry_run": True})
    started = _json(get(f"/api/jobs/default/{ended_by_operator}", name=_JOB))["job"]["started"]
    end = {"started": started, "reason": "its node is gone"}
    post(f"/api/jobs/default/{ended_by_operator}/fail", end, name=f"{_JOB}/fail")
    post(f"/api/jobs/default/{ended_by_operator}/fail", end, name=f"{_JOB}/fail")
    post(f"/api/jobs/default/{other}/requeue", end, name=f"{_JOB}/requeue")
    with protea.connect() as holder:
        holder.execute("SELECT FROM job WHERE id = %s FOR UPDATE", (other,))
        post("/api/sweeps", {})
        get("/api/jobs?verdict=stale", name="/api/jobs")
    life.ended_job, [life.audit] = protea.row(stale), protea.audits(stale)
    # A worker finishes late.
    protea.connection.execute("UPDATE job SET status = 'succeeded', finished_at = now() WHERE id = %s", (stale,))
    protea.event(stale)
    post("/api/sweeps", {"source": "default"})
    get("/api/late")
    get(f"/api/jobs/default/{stale}", name=_JOB)
    submitted = _json(post("/api/admin/clear-stuck-jobs", {"dry_run": True, "max_age_hours": 2}))
    clearing = f"/api/admin/clear-stuck-jobs/{submitted['task_id']}"
    wait_until(lambda: _json(ask(daemon.port, "GET", clearing))["result"], "the clear has a result")
    get(clearing, name="/api/admin/clear-stuck-jobs/{task_id}")
    protea.stale()
    post("/api/executions/cleanup", {"older_than_minutes": 60})
    for path in ("/live", "/ready", "/api/health", "/api/supervisor/state", "/api/sweeps", "/api/policy"):
        get(path)
    get("/api/changes?limit=100", name="/api/changes")

    _ask_wrongly(daemon, get, post)
    _look_at_pages(life, get, stale)
    life.openapi = _json(ask(daemon.port, "GET", "/api/openapi.json"))
    life.metrics = ask(daemon.port, "GET", "/metrics").text
    accept = "application/openmetrics-text; version=1.0.0"
    life.openmetrics = ask(daemon.port, "GET", "/metrics", Accept=accept).text

    variables = {"REAPER_HTTP_PORT": str(daemon.port), "REAPER_HTTP_TOKEN_FILE": str(token_file(daemon.folder))}
    reaper = Reaper(daemon.folder, variables)
    life.documents["state"] = [reaper.document("state")]
    life.documents["halt"] = [reaper.document("halt", "--reason", "a migration")]
    life.documents["state"].append(reaper.document("state", code=None))
    life.exit_statuses["state (halted)"] = reaper("state").exit_code
    life.documents["restart"] = _swept_after(daemon, lambda: [reaper.document("restart")])
    post("/api/supervisor/halt?persist=true&reason=a+migration", name="/api/supervisor/halt")
    post("/api/sweeps", {})
    get("/ready")
    _swept_after(daemon, lambda: post("/api/supervisor/restart"))

    with closed(server, _NAME):
        post("/api/sweeps", {})
        get("/api/jobs")
        get("/ready")
        get("/health/scheduler")
    return life


def _swept_after(daemon: ApiDaemon, act: Callable[[], T]) -> T:
    """What it returns, when the sweep that follows it has ended."""
    before = daemon.sweeps()
    done = act()
    wait_until(lambda: daemon.sweeps() > before, "another sweep")
    return done


def _ask_wrongly(daemon: ApiDaemon, get: Callable[..., Answer], post: Callable[..., Answer]) -> None:
    get("/api/jobs?limit=x", name="/api/jobs")
    get("/api/jobs?unknown=1", name="/api/jobs")
    get("/api/jobs?source=none", name="/api/jobs")
    get("/api/jobs/default/none", name=_JOB)
    get("/nothing")
    get("/api/supervisor/halt")
    post("/api/supervisor/halt", Authorization="")
    post("/api/supervisor/halt", Authorization="Bearer nothing-of-the-kind-0123456789")
    get("/live", Host="elsewhere.example")
    post("/api/sweeps", {"unknown": 1})


def _asker(daemon: ApiDaemon, life: DaemonRecording, method: str) -> Callable[..., Answer]:
    def asked(path: str, body: object = None, *, name: str = "", **headers: str) -> Answer:
        given = {"Authorization": f"Bearer {TOKEN}"} if method == "POST" else {}
        answer = ask(daemon.port, method, path, body, name=name, **{**given, **headers})
        life.answers.append(answer)
        return answer

    return asked


def _json(answer: Answer) -> Any:
    return json.loads(answer.text)


def _look_at_pages(life: DaemonRecording, get: Callable[..., Answer], job: str) -> None:
    paths = {
        "/": "/",
        "/?part=live": "/?part=live",
        "/?source=default&kind=embed&verdict=running&page=1": "/?source=&kind=&verdict=&page=",
        f"/jobs/default/{job}": "/jobs/{source}/{id}",
        f"/jobs/default/{job}?part=live": "/jobs/{source}/{id}?part=live",
        "/jobs/default/none": "/jobs/{source}/{id}",
    }
    for path, name in paths.items():
        answer = get(path, name=name)
        if answer.status == 200:
            life.pages[name] = answer.text
