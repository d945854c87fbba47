"""Public job systems themselves: their own tables, their own workers, killed or stopped in the middle of a job.

Only with --systems (`scripts/test.sh --systems`). Each system is installed in an environment of its own; a driver in
`drivers/` speaks to it by its own API. The reaper has just the privileges that `reaper grants` prints.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Reaper
from tests.support.programs import without_settings
from tests.support.system_environments import python_of, version_of
from tests.support.waiting import stays_true, wait_until
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.world import new_role

pytestmark = pytest.mark.systems
_DRIVERS = Path(__file__).parent / "drivers"
_START_SECONDS = 90.0
"""Until when a worker has started and has taken its job."""
_SETTLE_SECONDS = 2.0
"""How long a worker that was stopped gets to write down that its job has ended."""


@dataclass(frozen=True)
class System:
    """A public job system, and what its own API says of jobs."""

    name: str
    failed: str
    """The state of a job that the reaper has failed."""
    done: str
    """The state of a job that its worker has finished."""
    stall_seconds: float
    """More than the pause between two signs of life of the driver's workers."""
    has_signs: bool = True
    fenced: bool = False
    """Whether a late finish leaves a reaped job as it is."""

    def __str__(self) -> str:
        return self.name


SYSTEMS = (
    System("chancy", failed="failed", done="succeeded", stall_seconds=5, fenced=True),
    System("pgqueuer", failed="failed", done="successful", stall_seconds=5),
)


class Installation:
    """One system in one database, with a reaper. A job has the name of its queue; a worker serves one queue."""

    def __init__(self, system: System, database: PostgreSQLDatabase, folder: Path, open_until: ExitStack) -> None:
        self.system = system
        self._url = database.url.replace("+psycopg", "")
        self._runs, self._open_until = folder / "runs", open_until
        self._runs.mkdir()
        self._python = python_of(system.name)
        self.ask("install")
        role = new_role()
        owner = Reaper(folder, {"REAPER_DATABASE_URL": database.url, "REAPER_PROFILE": system.name})
        granted = owner("grants", "--role", role, "--with", "actions")
        assert granted.exit_code == 0, granted.output
        database.restrict_to_role(role, [granted.stdout])
        open_until.callback(database.drop_role, role)
        limits = {"REAPER_TIMEOUT_SECONDS": "2s", "REAPER_STALL_SECONDS": f"{system.stall_seconds:g}s"}
        self.reaper = Reaper(folder, {**owner.given, **limits, "REAPER_DATABASE_URL": database.reaper})

    def ask(self, *words: str) -> str:
        """One command of the driver, and what it printed."""
        done = subprocess.run(
            self._command(*words), env=self._environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def start_worker(self, queue: str) -> subprocess.Popen[bytes]:
        """A worker for this queue. It is killed at the end of the test."""
        log = self._open_until.enter_context((self._runs / f"{queue}.log").open("ab"))
        worker = subprocess.Popen(self._command("work", queue), env=self._environment(), stdout=log, stderr=log)
        self._open_until.callback(worker.wait)
        self._open_until.callback(worker.kill)
        return worker

    def start_job(self, name: str) -> tuple[str, subprocess.Popen[bytes]]:
        """A job in the middle of its work: its id, and its worker."""
        job = self.ask("enqueue", name)
        worker = self.start_worker(name)
        self.wait_for_runs(name, 1)
        return job, worker

    def wait_for_runs(self, name: str, count: int) -> None:
        runs, log = self._runs / f"{name}.runs", self._runs / f"{name}.log"
        wait_until(
            lambda: runs.exists() and len(runs.read_text().splitlines()) >= count,
            lambda: f"run {count} of {name} has begun: {log.read_text()}",
            _START_SECONDS,
        )

    def let_end(self, name: str) -> None:
        (self._runs / f"{name}.end").touch()
        wait_until(lambda: (self._runs / f"{name}.ended").exists(), f"{name} has ended")

    def let_go_on(self, worker: subprocess.Popen[bytes], name: str) -> None:
        """A stopped worker wakes up, and ends its job."""
        (self._runs / f"{name}.end").touch()
        worker.send_signal(signal.SIGCONT)
        wait_until(lambda: (self._runs / f"{name}.ended").exists(), f"{name} has ended")

    def wait_for_state(self, job: str, state: str) -> None:
        wait_until(lambda: self.ask("state", job) == state, lambda: f"{job} is {state}: {self.ask('state', job)}")

    def sweep_until_reaped(self, job: str, action: str = "fail") -> list[dict[str, Any]]:
        """Sweep until one has ended the job. Returns the reports."""
        reports = []

        def reaped() -> bool:
            [report] = self.reaper.json("sweep", "--yes", REAPER_ACTION=action)["sources"]
            reports.append(report)
            assert report["error"] is None and not report["failures"], report
            return bool(report["reaped"])

        wait_until(reaped, f"job {job} is reaped", interval_seconds=0.3)
        assert reports[-1]["reaped"] == 1, reports[-1]
        return reports

    def _command(self, *words: str) -> list[str]:
        driver = _DRIVERS / f"drive_{self.system.name.replace('-', '_')}.py"
        return [str(self._python), str(driver), self._url, *words]

    def _environment(self) -> dict[str, str]:
        return {**without_settings(os.environ), "RUNS": str(self._runs)}


@pytest.fixture(params=SYSTEMS, ids=str)
def installation(
    request: pytest.FixtureRequest, empty: PostgreSQLDatabase, tmp_path: Path, results: dict[str, dict[str, str]]
) -> Iterator[Installation]:
    system: System = request.param
    with ExitStack() as open_until:
        results.setdefault(system.name, {"version": version_of(system.name)})
        yield Installation(system, empty, tmp_path, open_until)


def test_check_finds_nothing_to_mend(installation: Installation) -> None:
    [source] = installation.reaper.json("check")["sources"]
    wrong = [finding for finding in source["findings"] if finding["level"] == "error"]
    assert not wrong


def test_job_of_a_killed_worker_is_failed_and_a_live_one_is_spared(
    installation: Installation, results: dict[str, dict[str, str]]
) -> None:
    system, result = installation.system, results[installation.system.name]
    # A job whose system shows no sign of life is spared by its age alone, so it has to be the younger one.
    names = ("living", "victim") if system.has_signs else ("victim", "living")
    jobs = {name: installation.start_job(name) for name in names}
    victim, worker = jobs["victim"]
    worker.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    reports = installation.sweep_until_reaped(victim)
    result["killed worker found after"] = f"{time.monotonic() - killed:.0f} s"
    assert installation.ask("state", victim) == system.failed
    result["state by its own API"] = system.failed
    if system.has_signs:
        assert reports[-1]["census"]["spared"] == 1, reports[-1]
    result["live one spared by"] = "its signs of life" if system.has_signs else "its age"
    installation.let_end("living")
    installation.wait_for_state(jobs["living"][0], system.done)
    assert installation.ask("state", victim) == system.failed


def test_requeued_job_runs_again(installation: Installation, results: dict[str, dict[str, str]]) -> None:
    job, worker = installation.start_job("victim")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    installation.sweep_until_reaped(job, "requeue")
    installation.start_worker("victim")
    installation.wait_for_runs("victim", 2)
    installation.let_end("victim")
    installation.wait_for_state(job, installation.system.done)
    results[installation.system.name]["requeued job ran"] = "yes"


def test_late_finish_is_refused_where_the_system_fences(
    installation: Installation, results: dict[str, dict[str, str]]
) -> None:
    system = installation.system
    job, worker = installation.start_job("victim")
    worker.send_signal(signal.SIGSTOP)
    installation.sweep_until_reaped(job)
    installation.let_go_on(worker, "victim")
    if system.fenced:
        stays_true(lambda: installation.ask("state", job) == system.failed, "it is failed", _SETTLE_SECONDS)
    else:
        wait_until(lambda: installation.ask("state", job) != system.failed, "the late worker has changed its state")
    results[system.name]["late finish"] = "refused" if system.fenced else "overwrites"
