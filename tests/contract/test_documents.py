"""What commands print with `--json`: members and their types, recursively."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import DaemonRecording, Golden
from tests.contract.support import (
    AWAY,
    HOUR,
    MINUTE,
    CeleryCluster,
    PostgreSQLDatabase,
    Protea,
    Reaper,
    make_tables,
    structure,
)

CLOSE = ("close-interrupted", "--source", "default", "--only-server", "--started-ago", "0s", "--yes")


class Documents:
    """Documents by the command that printed them."""

    def __init__(self, reaper: Reaper) -> None:
        self.found = defaultdict[str, list[Any]](list)
        self._reaper = reaper

    def ask(self, *words: str, code: int | None = 0, name: str = "", **given: str) -> None:
        document = self._reaper.document(*words, code=code, **given)
        self.found[name or document["command"]].append(document)

    @property
    def lines(self) -> list[str]:
        return [line for name, documents in self.found.items() for line in structure(name, *documents)]


def test_documents_keep_their_members(
    reaper: Reaper,
    protea: Protea,
    empty: PostgreSQLDatabase,
    life: DaemonRecording,
    golden: Golden,
    tmp_path: Path,
) -> None:
    documents = Documents(reaper.using({"REAPER_DATABASE_URL": protea.url}))
    _look(documents, protea)
    (tmp_path / "new.toml").write_text("timeout_seconds = '10m'\n")
    documents.ask("diff", "--config", str(tmp_path / "new.toml"), code=3)
    _configuration(documents)
    _end(documents, protea)
    _purge_and_fence(documents, protea)
    others = _other_profiles(reaper, empty.url)
    documents.found |= life.documents
    golden("documents.txt", [*documents.lines, *others])


def _look(documents: Documents, protea: Protea) -> None:
    protea.job(age=20 * MINUTE)
    spared, held = protea.job(age=9 * HOUR), protea.stale()
    protea.event(spared, age=MINUTE)
    with protea.connect() as holder:
        holder.execute("SELECT FROM job WHERE id = %s FOR UPDATE", (held,))
        documents.ask("report")
        documents.ask("explain", held)
        documents.ask("sweep", "--yes")
    documents.ask("explain", spared)
    documents.ask("report", "--verdict", "spared", "--limit", "1", "--exit-code", code=3)
    documents.ask("report", code=75, REAPER_DATABASE_URL=AWAY)
    documents.ask("sweep", "--older-than", "2h", "--dry-run")
    documents.ask("sweep", "--yes", code=75, REAPER_DATABASE_URL=AWAY)
    documents.ask("check")
    documents.ask("check", code=75, REAPER_DATABASE_URL=AWAY)
    documents.ask("explain", "none", code=1, name="explain (error)")


def _configuration(documents: Documents) -> None:
    documents.ask("config", "show")
    documents.ask("config", "check")
    documents.ask("config", "check", code=78, name="config check (error)", REAPER_TIMOUT_SECONDS="1h")
    documents.ask("sql")
    documents.ask("grants")
    documents.ask("grants", "--with", "holders", "--with", "fence", "--offline")


def _end(documents: Documents, protea: Protea) -> None:
    documents.ask("sweep", "--dry-run")
    stale = protea.stale()
    documents.ask("sweep", "--yes")
    documents.ask("explain", stale)
    failed = protea.stale()
    documents.ask("fail", "--yes", failed, "--reason", "its node is gone")
    documents.ask("fail", "--yes", failed, "--reason", "its node is gone", code=1, name="fail (error)")
    protea.stale()
    documents.ask("cleanup", "--older-than-minutes", "60", "--dry-run")
    documents.ask("cleanup", "--older-than-minutes", "60")
    protea.stale()
    documents.ask("clear", "--dry-run")
    documents.ask("clear", "--force")
    documents.ask("clear", code=2, name="clear (error)")
    protea.event(protea.job(age=MINUTE), age=30)
    documents.ask(*CLOSE, "--listen", "0.2s", "--window", "2m", "--dry-run")
    documents.ask(*CLOSE, "--listen", "0.2s", "--window", "2m")
    documents.ask("reset", "--source", "default", "--dry-run")
    documents.ask("reset", "--source", "default", "--confirm", "default")
    for _ in range(51):
        protea.stale()
    documents.ask("sweep", "--yes", code=1)


def _purge_and_fence(documents: Documents, protea: Protea) -> None:
    protea.job(age=2400 * HOUR, finished=2399 * HOUR, status="succeeded")
    documents.ask("purge", "--force", "--dry-run")
    documents.ask("purge", "--force")
    documents.ask("purge", "--force", code=75, REAPER_DATABASE_URL=AWAY)
    documents.ask("fence", "status", code=1)
    documents.ask("fence", "install", "--dry-run")
    documents.ask("fence", "install", "--force")
    documents.ask("fence", "status")
    documents.ask("fence", "remove", "--force")


def _other_profiles(reaper: Reaper, url: str) -> list[str]:
    """What is there only with Celery, and with schedules that stand in the way of their next run."""
    make_tables(url, "adhese.sql", _SCHEDULE, "vuls.sql", _TASK)
    broker = {"REAPER_BROKER_URL": "redis://127.0.0.1:1/0", "REAPER_BROKER_DEADLINE_SECONDS": "0.5"}
    documents = Documents(reaper.using({"REAPER_DATABASE_URL": url, **broker}))
    documents.ask("report", name="report (adhese)", REAPER_PROFILE="adhese")
    documents.ask("report", name="report (vuls)", REAPER_PROFILE="vuls")
    documents.ask("check", code=1, name="check (errors)", REAPER_PROFILE="protea")
    return documents.lines


@pytest.mark.thorough
def test_orphans_keep_their_members(
    reaper: Reaper, empty: PostgreSQLDatabase, cluster: CeleryCluster, golden: Golden
) -> None:
    """What Celery executes for no job: there is one only with a broker and a worker."""
    make_tables(empty.url, "vuls.sql")
    cluster.start_worker()
    cluster.start_task()
    given = {"REAPER_DATABASE_URL": empty.url, "REAPER_PROFILE": "vuls"}
    documents = Documents(
        reaper.using({**given, "REAPER_BROKER_URL": cluster.broker.url, "REAPER_QUEUES": cluster.queue})
    )
    documents.ask("report")
    documents.ask("clear", "--force", "--revoke-orphans")
    lines = [line for line in documents.lines if "orphan" in line or "revoked" in line]
    golden("orphans.txt", lines)


_SCHEDULE = """
INSERT INTO "SCHEDULED_JOBS" VALUES (1, now() - interval '9 hours', 60);
INSERT INTO "JOB_RESULTS" (job_id, scheduled_start, state, start_time)
    VALUES (1, now() - interval '9 hours', 'completed', now() - interval '9 hours');
"""
_TASK = """
INSERT INTO scheduled_tasks (id, name, task_type) VALUES (7, 'nightly', 'scan');
INSERT INTO task_runs (scheduled_task_id, celery_task_id, status, created_at, started_at)
    VALUES (7, 'task', 'running', now() - interval '9 hours', now() - interval '9 hours');
"""
