"""The benchmark: that it measures what it says, at sizes so small that its numbers mean nothing."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import Protea

PROJECT = Path(__file__).parents[1]
TINY = {"stale": 60, "running": 50, "events": 2, "finished": 30, "reaped": 1500, "rounds": 1, "window": 2}


def bench(*words: str, python_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A run of the command, whatever the tests' own environment says."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("REAPER_")}
    path = os.pathsep.join(str(folder) for folder in (python_path, PROJECT) if folder)
    return subprocess.run(
        [sys.executable, "scripts/bench.py", *words],
        cwd=PROJECT, env={**found, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_tiny_run_measures_everything_and_finds_that_both_ways_of_reaping_do_the_same(tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    run = bench(*(f"--{size}={count}" for size, count in TINY.items()), "--json", str(written))
    assert run.returncode == 0, run.stderr
    document = json.loads(written.read_text())
    assert document["version"] == 1
    assert document["sizes"].items() >= TINY.items()
    assert document["machine"]["cores"] >= 1
    assert set(document["versions"]) >= {"postgresql", "python", "reaper"}
    assert document["server_settings"]["fsync"] == "on"
    measures = document["measures"]
    assert set(measures) == {"help", "daemon", "memory", "reap", "idle"}
    assert measures["reap"]["same_outcome"] is True
    assert len(measures["reap"]["sweep_seconds"]) == len(measures["reap"]["hand_written_seconds"]) == 1
    assert measures["idle"]["more_finished"] == 60
    figures = {figure["name"]: figure for figure in document["figures"]}
    assert all(figure["value"] >= 0 for figure in figures.values())
    assert figures["reap.ratio"]["ok"] is None, "a ratio of so few jobs says nothing about its bound"
    assert figures["memory.growth"]["ok"] is True
    for figure in figures.values():
        assert figure["what"] in run.stdout


def test_check_fails_when_a_bound_is_broken(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(0.31)\n")
    slow = bench("help", "--check", python_path=tmp_path)
    assert slow.returncode == 1
    assert " NO " in slow.stdout


def test_a_measure_that_does_not_exist_is_refused() -> None:
    run = bench("reaping")
    assert run.returncode == 2
    assert "'reap'" in run.stderr


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(PROJECT / "scripts")
    return importlib.import_module("benchmark.outcome")


def test_what_was_written_is_compared_but_for_the_moments_of_the_run(protea: Protea, outcome: Any) -> None:
    job = protea.stale()
    protea.sweep()
    before = outcome.written(protea.url)
    protea.connection.execute("UPDATE job SET finished_at = finished_at + interval '1 s'")
    later = '{"judged_at": "later", "silence_seconds": 7}'
    protea.connection.execute("UPDATE job_event SET fields = fields || %s WHERE event = 'job.timeout'", (later,))
    assert outcome.difference(before, outcome.written(protea.url)) is None
    protea.connection.execute("UPDATE job_event SET fields = fields - 'witness' WHERE event = 'job.timeout'")
    assert job in outcome.difference(before, outcome.written(protea.url))
    protea.connection.execute("UPDATE job SET error_code = 'other'")
    assert outcome.difference(before, outcome.written(protea.url)).count(job) == 2
