"""What each command and each Celery task ends is counted by kind, reason and action, and kept for the daemon's page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reaper import celery_tasks
from reaper.memory import Memory
from tests.support.commands import Reaper
from tests.support.protea import HOUR, Protea

REQUEUE = """
[sources.default]
profile = "again"
[profiles.again]
extends = "protea"
[profiles.again.actions.requeue]
set = { status = "queued", started_at = { is = "null" } }
[profiles.again.actions.dead_letter]
set = { status = "failed", finished_at = { is = "now" } }
"""
COMMANDS = {
    "sweep": (("sweep", "--yes"), "JobTimeout", "fail"),
    "clear": (("clear", "--force"), "JobTimeout", "fail"),
    "cleanup": (("cleanup", "--older-than-minutes", "60", "--yes"), "JobTimeout", "fail"),
    "reset": (("reset", "--source", "default", "--confirm", "default"), "ManualTimeout", "fail"),
    "close-interrupted": (
        (
            *("close-interrupted", "--source", "default", "--only-server", "--started-ago", "0s", "--yes"),
            *("--listen", "0.3s", "--window", "1d"),
        ),
        "Interrupted",
        "fail",
    ),
    "fail": (("fail", "--yes", "JOB", "--reason", "test"), "ManualTimeout", "fail"),
    "fail requeue": (("fail", "--yes", "JOB", "--reason", "test", "--action", "requeue"), "ManualTimeout", "requeue"),
    "fail dead_letter": (
        ("fail", "--yes", "JOB", "--reason", "test", "--action", "dead_letter"),
        "ManualTimeout",
        "dead_letter",
    ),
    "task clear": ((), "JobTimeout", "fail"),
    "task reset": ((), "ManualTimeout", "fail"),
}


@pytest.fixture
def reaper(tmp_path: Path, protea: Protea, monkeypatch: pytest.MonkeyPatch) -> Reaper:
    monkeypatch.chdir(tmp_path)
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url, "REAPER_STATE_DIR": str(tmp_path / "state")})
    reaper.configure(REQUEUE)
    return reaper


def run(reaper: Reaper, command: str, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [job if word == "JOB" else word for word in COMMANDS[command][0]]
    if words:
        result = reaper(*words)
        assert result.exit_code == 0, result.output
        return
    for name, value in reaper.given.items():
        monkeypatch.setenv(name, value)
    if command == "task clear":
        celery_tasks.clear_stuck_scheduler_jobs(max_age_hours=4)
    else:
        celery_tasks.reset_scheduler_state(force=True, all_sources=True)


def test_jobs_ended_beside_the_daemon_are_counted_and_kept_for_its_page(
    reaper: Reaper, protea: Protea, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory.open(reaper.folder / "state")
    what = {"task clear": "clear_stuck_scheduler_jobs", "task reset": "reset_scheduler_state"}
    for command, (_, reason, action) in COMMANDS.items():
        job = protea.stale(age=9 * HOUR, operation="embed")
        run(reaper, command, job, monkeypatch)
        assert memory.reap_counts.take(["default"]) == [("default", "embed", reason, action, 1)], command
        [reap] = memory.command_reaps.take(["default"])
        assert (reap.job.key, reap.job.kind, reap.job.reason, reap.job.action) == ((job,), "embed", reason, action)
        assert what.get(command, f"reaper {command.split()[0]}") in reap.by
        assert (memory.reap_counts.take(["default"]), memory.command_reaps.take(["default"])) == ([], [])
        protea.connection.execute("DELETE FROM job_event; DELETE FROM job")


def test_action_that_was_taken_stands_in_the_document_the_table_the_log_and_the_audit_event(
    reaper: Reaper, protea: Protea
) -> None:
    reaper.configure(REQUEUE.replace('profile = "again"', 'profile = "again"\naction = "requeue"'))
    log = reaper.folder / "log"
    reaper.given |= {"REAPER_LOG_FILE": str(log), "REAPER_LOG_FORMAT": "json"}
    jobs = [protea.stale(age=9 * HOUR)]
    [source] = reaper.json("sweep", "--yes")["sources"]
    assert [job["action"] for job in source["reaped_jobs"]] == ["requeue"]
    assert [json.loads(line)["action"] for line in log.read_text().splitlines()] == ["requeue"]
    jobs.append(protea.stale(age=9 * HOUR))
    assert " requeue " in reaper("sweep", "--yes", COLUMNS="200").stdout
    assert [protea.status(job) for job in jobs] == ["queued", "queued"]
