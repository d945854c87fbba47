"""The daemon, killed with SIGKILL again and again in the midst of its sweeps, and started again each time."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemons import Daemon
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.waiting import wait_until

STALE, LIVE = 10_000, 10_500
KILLS, KILLS_WITHOUT_TIME = 50, 2
BATCH = 20
# How many jobs a daemon may end before it is struck, so that all of them outlast all the kills.
MOST_BEFORE_A_KILL = 80


def make_jobs(protea: Protea) -> None:
    """Stale ones, and a few more that live: without a long history, by an event just now, by a child that runs."""
    make = protea.connection.execute
    old, recent = f"now() - interval '{8 * HOUR} s'", f"now() - interval '{MINUTE} s'"
    one = f"INSERT INTO job (operation, queue_name, status, created_at, started_at) SELECT %s, 'q', 'running', {old}, "
    make(f"{one} {old} FROM generate_series(1, %s)", ["stale", STALE])
    make(f"{one} {recent} FROM generate_series(1, %s)", ["young", LIVE // 3])
    make(f"{one} {old} FROM generate_series(1, %s)", ["heard", LIVE // 3])
    make(f"{one} {old} FROM generate_series(1, %s)", ["parent", LIVE // 3])
    make(
        "INSERT INTO job (operation, queue_name, status, started_at, parent_job_id)"
        f" SELECT 'child', 'q', 'succeeded', {recent}, id FROM job WHERE operation = 'parent'"
    )
    make(
        "INSERT INTO job_event (job_id, ts, event) SELECT id, now() - interval '2 hours', 'progress' FROM job"
        " WHERE operation = 'stale'"
    )
    make(
        f"INSERT INTO job_event (job_id, ts, event) SELECT id, {recent}, 'progress' FROM job WHERE operation = 'heard'"
    )
    make("VACUUM ANALYZE job, job_event")


def number(protea: Protea, query: str) -> int:
    row = protea.connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def failed(protea: Protea) -> int:
    return number(protea, "SELECT count(*) FROM job WHERE status = 'failed'")


def half_done(protea: Protea) -> int:
    """Jobs that are failed without exactly one audit event, or have one without being failed."""
    return number(
        protea,
        "SELECT count(*) FROM job LEFT JOIN (SELECT job_id, count(*) AS audits FROM job_event"
        " WHERE event = 'job.timeout' GROUP BY job_id) e ON e.job_id = job.id"
        " WHERE CASE WHEN status = 'failed' THEN 1 ELSE 0 END <> coalesce(audits, 0)",
    )


def sessions(protea: Protea) -> int:
    """What the server still does for a reaper, alive or dead."""
    return number(
        protea,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'reaper/%'",
    )


def killed_in_a_sweep(protea: Protea, daemon: Daemon, chance: random.Random) -> bool:
    """Strike a while after the sweep has begun to end jobs; whether it had begun, and had not come to its end."""
    before = failed(protea)
    goal = min(before + chance.randint(1, MOST_BEFORE_A_KILL), STALE)
    wait_until(
        lambda: failed(protea) >= goal or daemon.process.poll() is not None,
        "enough jobs are failed",
        interval_seconds=0.02,
    )
    # Not a wait for anything: a moment that has nothing to do with when a commit was seen.
    threading.Event().wait(chance.uniform(0, 0.02))
    daemon.process.kill()
    daemon.process.wait()
    wait_until(lambda: sessions(protea) == 0, "no session of the daemon is left")
    return before < failed(protea) < STALE


def test_stale_jobs_are_ended_once_however_often_the_daemon_is_killed(
    protea: Protea, tmp_path: Path, capsys: pytest.CaptureFixture[str], thorough: bool
) -> None:
    make_jobs(protea)
    seed = random.randrange(1 << 32)
    chance, kills, landed = random.Random(seed), 0, 0
    settings: dict[str, Any] = {"database_url": protea.url, "http_port": 0, "batch_size": BATCH}
    while landed < (KILLS if thorough else KILLS_WITHOUT_TIME):
        with Daemon(tmp_path, **settings) as daemon:
            kills += 1
            landed += killed_in_a_sweep(protea, daemon, chance)
        assert half_done(protea) == 0, f"kill {kills} of seed {seed}"
        assert failed(protea) < STALE, f"all jobs are ended after {kills} kills, {landed} of them in a sweep"
    left = STALE - failed(protea)
    with Daemon(tmp_path, **settings) as daemon:
        wait_until(lambda: failed(protea) == STALE, "every stale job is failed")
        status, _ = daemon.stop()
    with capsys.disabled():
        print(
            f"\n  {kills} kills, {landed} in the midst of a sweep; {left} jobs were left for the last daemon", end=" "
        )
    assert status == 0
    assert half_done(protea) == 0
    ended = protea.connection.execute("SELECT operation, count(*) FROM job WHERE status = 'failed' GROUP BY 1")
    assert ended.fetchall() == [("stale", STALE)]
    assert number(protea, "SELECT count(*) FROM job WHERE status = 'running'") == LIVE // 3 * 3
