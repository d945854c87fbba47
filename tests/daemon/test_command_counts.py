"""Jobs that commands and Celery tasks end beside the daemon are counted in its metrics."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from reaper import celery_tasks
from reaper.memory import Memory
from tests.support.commands import Reaper
from tests.support.daemons import Daemon
from tests.support.protea import MINUTE, Protea
from tests.support.waiting import wait_until

REAPED = "reaper_jobs_reaped_total"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def reaper(tmp_path: Path, protea: Protea, state: Path, monkeypatch: pytest.MonkeyPatch) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url, "REAPER_STATE_DIR": str(state)})


@contextmanager
def idle_daemon(tmp_path: Path, protea: Protea, state: Path) -> Iterator[Daemon]:
    """A daemon whose second sweep is an hour away: what it counts, others have ended."""
    with Daemon(tmp_path, database_url=protea.url, state_dir=state, interval_seconds=3600) as daemon:
        daemon.comes_up()
        wait_until(lambda: daemon.sweeps() >= 1, "the first sweep")
        yield daemon


def counts(daemon: Daemon, jobs: int, **labels: str) -> None:
    wait_until(lambda: daemon.metrics.total(REAPED, **labels) == jobs, f"{jobs} jobs counted as {labels}")


def test_commands_beside_the_daemon_are_counted_by_kind_and_reason(
    protea: Protea, reaper: Reaper, tmp_path: Path, state: Path
) -> None:
    with idle_daemon(tmp_path, protea, state) as daemon:
        protea.stale(operation="embed")
        protea.stale(operation="align")
        assert reaper("sweep", "--yes").exit_code == 0
        counts(daemon, 1, source="default", kind="embed", reason="JobTimeout")
        counts(daemon, 1, source="default", kind="align", reason="JobTimeout")

        job = protea.job(age=MINUTE, operation="embed")
        assert reaper("fail", "--yes", job, "--reason", "its node is gone").exit_code == 0
        counts(daemon, 1, source="default", kind="embed", reason="ManualTimeout")

        for _ in range(2):
            protea.job(age=MINUTE, operation="embed")
        assert reaper("reset", "--source", "default", "--confirm", "default").exit_code == 0
        counts(daemon, 3, source="default", kind="embed", reason="ManualTimeout")
        counts(daemon, 5)


def test_celery_tasks_with_the_same_state_directory_are_counted(
    protea: Protea, reaper: Reaper, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in reaper.given.items():
        monkeypatch.setenv(name, value)
    with idle_daemon(tmp_path, protea, state) as daemon:
        protea.stale()
        assert celery_tasks.clear_stuck_scheduler_jobs(max_age_hours=2)["summary"]["cleared"] == 1
        counts(daemon, 1)


def test_jobs_that_were_ended_while_the_daemon_was_down_are_counted_when_it_is_back(
    protea: Protea, reaper: Reaper, tmp_path: Path, state: Path
) -> None:
    with idle_daemon(tmp_path, protea, state) as daemon:
        daemon.stop()
    protea.stale()
    assert reaper("sweep", "--yes").exit_code == 0
    with idle_daemon(tmp_path, protea, state) as daemon:
        counts(daemon, 1)
        # A dry run, and a sweep that finds nothing, count nothing.
        assert reaper("sweep", "--dry-run").exit_code == 0
        assert reaper("sweep", "--yes").exit_code == 0
        daemon.stop()
    with idle_daemon(tmp_path, protea, state) as daemon:
        counts(daemon, 0)


def test_command_ends_its_jobs_although_they_cannot_be_counted(protea: Protea, reaper: Reaper, state: Path) -> None:
    """Its state can be read, so that no halt and no hold is missed, and not written."""
    job = protea.stale()
    Memory.open(state)
    with closing(sqlite3.connect(state / "memory.sqlite3")) as other:
        other.execute("BEGIN IMMEDIATE")
        result = reaper("sweep", "--yes")
    assert result.exit_code == 0, result.output
    assert protea.status(job) == "failed"
    assert "the jobs that are ended are missing in the daemon's metrics: cannot write" in result.stderr


def test_command_whose_state_cannot_be_read_ends_nothing_since_a_halt_may_be_kept_there(
    protea: Protea, reaper: Reaper, state: Path
) -> None:
    job = protea.stale()
    state.mkdir()
    (state / "memory.sqlite3").write_text("")
    (state / "memory.sqlite3-wal").mkdir()
    held = reaper("sweep", "--yes")
    assert (held.exit_code, protea.status(job)) == (1, "running")
    assert "halted by unknown: cannot read" in held.stderr
