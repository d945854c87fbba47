"""The tutorial, typed from its first command to its last."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.commands import environment
from tests.documents import DOCS, blocks

PAGE = DOCS / "tutorial.md"
INSTALLATION = 1
"""How many shell blocks install the program from the package index. The checkout is tested in its place."""


@pytest.fixture
def shell(tmp_path: Path, database: str) -> subprocess.CompletedProcess[str]:
    """One shell in which everything was typed; each block begins with its number."""
    url = database.replace("+psycopg", "")
    [file] = blocks(PAGE, "toml")
    (tmp_path / "reaper.toml").write_text(file.text)
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "reaper").write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m reaper "$@"\n')
    (commands / "reaper").chmod(0o755)
    script = []
    for number, block in enumerate(blocks(PAGE, "sh")[INSTALLATION:]):
        text = block.text
        if text.startswith("export REAPER_DATABASE_URL="):
            text = f"export REAPER_DATABASE_URL='{url}'"
        if text == "reaper run":
            text = "timeout --signal=INT 4 reaper run 2>daemon.log"
        script.append(f"echo '=== {number}'\n{text}\necho \"status $?\"")
    env = environment({"PATH": f"{commands}:{os.environ['PATH']}", "REAPER_HTTP_PORT": "0"})
    return subprocess.run(
        ["bash"], input="\n".join(script), env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )


def test_tutorial_leads_from_an_empty_database_to_a_reaped_job(
    shell: subprocess.CompletedProcess[str], database: str, tmp_path: Path
) -> None:
    parts = shell.stdout.split("=== ")[1:]
    statuses = [part.rsplit("status ", 1)[1].split()[0] for part in parts]
    # The first check finds the mistake that the tutorial makes; `timeout` says 124 for the daemon.
    assert statuses == ["0", "0", "0", "1", *["0"] * 6, "124"], shell.stdout + shell.stderr
    whole = " ".join(shell.stdout.split())
    for expected in blocks(PAGE, "text"):
        assert " ".join(expected.text.split()) in whole, shell.stdout
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        states = connection.execute("SELECT id, state, error FROM tasks ORDER BY id").fetchall()
    assert [state for _, state, _ in states] == ["working", "working", "dead", "done"]
    assert states[2][2].startswith("No sign of life for 2h")
    assert "tasks.heartbeat: no such column; did you mean 'heartbeat_at'?" in parts[3]
    assert "CREATE INDEX CONCURRENTLY ON public.tasks (state, created_at)" in parts[3]
    assert "Reaper has stopped." in (tmp_path / "daemon.log").read_text()
