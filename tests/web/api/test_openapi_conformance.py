"""The API keeps to its own description, whatever is sent to it: schemathesis against a real daemon."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reaper.dev.postgres import PrivatePostgreSQL
from tests.support.api import TOKEN, ApiDaemon, api_daemon
from tests.support.daemons import PROJECT
from tests.support.examples import examples
from tests.support.protea import MINUTE, Protea

SEED = 1
ENDPOINTS, CHANGES = 25, 10
"""How many the description has, and how many of them change something (POST)."""
TRIES = 1, 8
"""Of each endpoint, besides what follows from its description alone: by default, and with --thorough."""


@pytest.fixture
def running(server: PrivatePostgreSQL, tmp_path: Path) -> Iterator[tuple[ApiDaemon, Protea]]:
    # A read may be answered from the read cache for two seconds.
    with api_daemon(server, tmp_path, "schema", state_dir=tmp_path / "state") as both:
        yield both


def ask_everything(daemon: ApiDaemon, jobs: list[str], *words: str, selected: int = ENDPOINTS) -> None:
    """Everything that follows from the description, right and wrong. Fails with what was found."""
    program = Path(sys.executable).with_name("st")
    url = f"http://127.0.0.1:{daemon.port}/api/openapi.json"
    options = [
        "--seed",
        str(SEED),
        "--max-examples",
        str(examples(TRIES[0], all_of_them=TRIES[1])),
        "--continue-on-failure",
        "--no-color",
        *words,
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT),
        "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
        "BEARER": f"Bearer {TOKEN}",
        "JOBS": " ".join(jobs),
    }
    found = subprocess.run(
        [program, "run", url, *options],
        env=environment, cwd=daemon.folder, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr
    assert f"{selected} selected / {ENDPOINTS} total" in found.stdout
    assert daemon.said("Reaper met a defect over HTTP.") == []


def test_api_conforms_to_its_description_with_a_token(running: tuple[ApiDaemon, Protea]) -> None:
    daemon, protea = running
    jobs = [protea.job(age=MINUTE) for _ in range(40)]
    stale = [protea.stale() for _ in range(5)]
    ask_everything(daemon, jobs + stale, "-H", f"Authorization: Bearer {TOKEN}")
    assert "succeeded" not in protea.statuses().values()
    done = {change["action"] for change in daemon.api.get("/api/changes?limit=100").json["changes"]}
    assert done <= {"fail", "requeue", "hold", "unhold", "sweep", "cleanup", "clear", "ended", "halt", "restart"}
    assert daemon.api.get("/api/supervisor/state").json["state"] == "RUNNING"


@pytest.mark.thorough
def test_api_conforms_to_its_description_without_a_token_and_changes_nothing(running: tuple[ApiDaemon, Protea]) -> None:
    daemon, protea = running
    jobs = [protea.job(age=MINUTE) for _ in range(5)]
    before = protea.dump()
    # What could change something is refused before it is looked up. Reads need no token, and are asked above.
    changes = ("--phases", "examples,coverage", "--exclude-checks", "unsupported_method", "--include-method", "POST")
    ask_everything(daemon, jobs, *changes, selected=CHANGES)
    assert protea.dump() == before
    assert {c["action"] for c in daemon.api.get("/api/changes").json["changes"]} <= set()


def test_api_page_has_commands_that_are_all_answered(running: tuple[ApiDaemon, Protea]) -> None:
    daemon, _ = running
    page = (PROJECT / "docs" / "reference" / "api.md").read_text()
    commands = re.findall(r"```bash\n(.+?)\n```", page, re.DOTALL)
    assert len(commands) == ENDPOINTS
    for command in commands:
        here = command.replace(":9469/", f":{daemon.port}/")
        words = ["bash", "-c", f"{here} -o /dev/null -w '%{{http_code}}'"]
        asked = subprocess.run(words, env={**os.environ, "TOKEN": TOKEN}, capture_output=True, text=True, timeout=60)
        assert asked.returncode == 0, asked.stderr
        # The example of a job is none of this database; there may be a sweep at work; one address leads to another.
        assert asked.stdout in {"200", "202", "307", "404", "409"}, (command, asked.stdout)
        if "/api/supervisor/halt" in command:
            assert daemon.api.post("/api/supervisor/restart").status == 200
