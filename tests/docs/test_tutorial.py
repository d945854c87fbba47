"""The tutorial, typed from its first command to its last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support.commands import environment
from tests.support.documents import DOCS, blocks
from tests.support.programs import PROJECT, control_of, start
from tests.support.waiting import wait_until

PAGE = DOCS / "tutorial.md"
INSTALLATION = 1
"""How many shell blocks install the program from the package index. The checkout is tested in its place."""


@pytest.fixture
def reader(tmp_path: Path, database: str) -> dict[str, str]:
    """The environment of a reader whose folder has the command `reaper` and the tutorial's file."""
    [file] = blocks(PAGE, "toml")
    (tmp_path / "reaper.toml").write_text(file.text)
    commands = tmp_path / "bin"
    commands.mkdir()
    forked = f"{sys.executable} -IS {PROJECT}/tests/support/forked_command.py {control_of('reaper')} reaper"
    (commands / "reaper").write_text(f'#!/bin/sh\nexec {forked} "$@"\n')
    (commands / "reaper").chmod(0o755)
    return environment({"PATH": f"{commands}:{os.environ['PATH']}", "REAPER_HTTP_PORT": "0"})


def test_tutorial_leads_from_an_empty_database_to_a_reaped_job_and_a_daemon(
    reader: dict[str, str], database: str, tmp_path: Path
) -> None:
    url = database.replace("+psycopg", "")
    script = []
    *typed, last = (block.text for block in blocks(PAGE, "sh")[INSTALLATION:])
    assert last == "reaper run"
    for number, text in enumerate(typed):
        here = f"export REAPER_DATABASE_URL='{url}'" if text.startswith("export REAPER_DATABASE_URL=") else text
        script.append(f"echo '=== {number}'\n{here}\necho \"status $?\"")
    shell = subprocess.run(
        ["bash"], input="\n".join(script), env=reader, cwd=tmp_path, capture_output=True, text=True, timeout=120,
        pass_fds=[control_of("reaper")],
    )  # fmt: skip
    parts = shell.stdout.split("=== ")[1:]
    statuses = [part.rsplit("status ", 1)[1].split()[0] for part in parts]
    # The first check finds the mistake that the tutorial makes.
    assert statuses == ["0", "0", "0", "1", *["0"] * 6], shell.stdout + shell.stderr
    assert "tasks.heartbeat: no such column; did you mean 'heartbeat_at'?" in parts[3]
    assert "CREATE INDEX CONCURRENTLY ON public.tasks (state, created_at)" in parts[3]
    whole = " ".join(shell.stdout.split())
    for expected in blocks(PAGE, "text"):
        assert " ".join(expected.text.split()) in whole, shell.stdout
    with psycopg.connect(url) as connection:
        states = connection.execute("SELECT id, state, error FROM tasks ORDER BY id").fetchall()
    assert [state for _, state, _ in states] == ["working", "working", "dead", "done"]
    assert states[2][2].startswith("No sign of life for 2h")

    env = {**reader, "REAPER_CONFIG": "reaper.toml", "REAPER_DATABASE_URL": url}
    log = tmp_path / "daemon.log"
    with (
        log.open("wb") as stderr,
        start("reaper", "run", environment=env, folder=tmp_path, stderr=stderr, warnings_are_errors=True) as it,
    ):
        try:
            wait_until(lambda: "Reaper starts." in log.read_text(), "the daemon's start", 60)
            it.send_signal(signal.SIGINT)
            assert it.wait(30) == 0
        finally:
            it.kill()
    assert "Reaper has stopped." in log.read_text()
