"""The Celery tasks that beat and other programs send: names, parameters, and what they return."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.contract.conftest import Golden
from tests.contract.support import Protea, celery_tasks, clean_environment, parameters, structure


def test_tasks_keep_their_names_and_parameters(golden: Golden) -> None:
    golden("celery_tasks.txt", (f"{name}({parameters(task.run)})" for name, task in celery_tasks().items()))


def test_tasks_keep_what_they_return(protea: Protea, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ.keys() - clean_environment({}).keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("REAPER_DATABASE_URL", protea.url)
    monkeypatch.setenv("REAPER_RESTART_GRACE", "0")
    monkeypatch.chdir("/")
    tasks, lines = celery_tasks(), list[str]()
    given: dict[str, list[dict[str, Any]]] = {
        "get_stuck_jobs_report": [{}],
        "clear_stuck_scheduler_jobs": [{"dry_run": True}, {}],
        "cleanup_old_task_runs_enhanced": [{}],
        "reset_scheduler_state": [{"all_sources": True}, {"all_sources": True, "force": True}],
    }
    protea.stale()
    for name, calls in given.items():
        task = tasks[f"reaper.celery_tasks.{name}"]
        lines += structure(task.name, *(task.run(**call) for call in calls))
        protea.stale()
    golden("celery_results.txt", lines)
