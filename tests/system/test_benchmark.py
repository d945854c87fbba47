"""The benchmark runs and reports every measure. The sizes are tiny, so the numbers mean nothing."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.protea import Protea

PROJECT = Path(__file__).parents[2]
TINY = {"stale": 60, "running": 50, "events": 2, "finished": 30, "reaped": 1200, "rounds": 1, "window": 2}
MEASURES: dict[bool, list[tuple[str, ...]]] = {
    False: [("reap", "idle", "survey")],
    True: [("daemon",), ("reap", "idle", "survey", "memory", "flood")],
}
"""By whether there is time for everything: the measures of each run."""


def bench(*words: str, python_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command without the REAPER_ variables of the tests' environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("REAPER_")}
    path = os.pathsep.join(str(folder) for folder in (python_path, PROJECT) if folder)
    return subprocess.run(
        [sys.executable, "scripts/bench.py", *words],
        cwd=PROJECT, env={**inherited, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """A finished process, and the JSON document that it wrote."""

    process: subprocess.CompletedProcess[str]
    document: dict[str, Any]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, thorough: bool) -> list[Run]:
    """MEASURES, each once, in parallel runs (they mostly wait). In the last run, `help` is artificially slow."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "sitecustomize.py").write_text("import sys, time\ntime.sleep(0.31 * ('--help' in sys.orig_argv))\n")
    sizes = [f"--{size}={count}" for size, count in TINY.items()]

    def run(*words: str, python_path: Path | None = None) -> Run:
        path = folder / f"{words[0]}.json"
        done = bench(*words, *sizes, "--json", str(path), python_path=python_path)
        return Run(done, json.loads(path.read_text()) if path.exists() else {})

    with ThreadPoolExecutor() as pool:
        futures = [
            *(pool.submit(run, *measures) for measures in MEASURES[thorough]),
            pool.submit(run, "help", "--check", python_path=folder),
        ]
        return [future.result() for future in futures]


def test_tiny_runs_measure_everything_and_find_that_both_ways_of_reaping_do_the_same(
    runs: list[Run], thorough: bool
) -> None:
    for run in runs[:-1]:
        assert run.process.returncode == 0, run.process.stderr
    measures: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    for run in runs:
        document = run.document
        assert document["version"] == 1
        assert document["sizes"].items() >= TINY.items()
        assert document["machine"]["cores"] >= 1
        assert set(document["versions"]) >= {"postgresql", "python", "reaper"}
        assert document["server_settings"]["fsync"] == "on"
        for figure in document["figures"]:
            assert figure["what"] in run.process.stdout
        measures |= document["measures"]
        figures |= {figure["name"]: figure for figure in document["figures"]}
    assert set(measures) == {"help", *(name for run in MEASURES[thorough] for name in run)}
    assert measures["reap"]["same_outcome"] is True
    assert len(measures["reap"]["sweep_seconds"]) == len(measures["reap"]["hand_written_seconds"]) == 1
    assert measures["idle"]["more_finished"] == 2 * TINY["finished"]
    assert all(figure["value"] >= 0 for figure in figures.values())
    assert figures["reap.ratio"]["ok"] is None, "a ratio of so few jobs says nothing about its bound"
    if thorough:
        assert figures["memory.growth"]["ok"] is True


def test_check_fails_when_a_bound_is_broken(runs: list[Run]) -> None:
    slow = runs[-1]
    assert slow.process.returncode == 1, slow.process.stderr
    assert [figure["ok"] for figure in slow.document["figures"]] == [False]
    assert " NO " in slow.process.stdout


def test_unknown_measure_is_refused() -> None:
    run = bench("reaping")
    assert run.returncode == 2
    assert "'reap'" in run.stderr


@pytest.fixture
def comparison(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(PROJECT / "scripts")
    return importlib.import_module("benchmark.comparison")


def test_comparison_ignores_only_points_in_time_and_durations(protea: Protea, comparison: Any) -> None:
    job = protea.stale()
    protea.sweep()
    before = comparison.read_rows(protea.url)
    protea.connection.execute("UPDATE job SET finished_at = finished_at + interval '1 s'")
    later = '{"judged_at": "later", "silence_seconds": 7}'
    protea.connection.execute("UPDATE job_event SET fields = fields || %s WHERE event = 'job.timeout'", (later,))
    assert comparison.first_difference(before, comparison.read_rows(protea.url)) is None
    protea.connection.execute("UPDATE job_event SET fields = fields - 'witness' WHERE event = 'job.timeout'")
    assert job in comparison.first_difference(before, comparison.read_rows(protea.url))
    protea.connection.execute("UPDATE job SET error_code = 'other'")
    assert comparison.first_difference(before, comparison.read_rows(protea.url)).count(job) == 2
