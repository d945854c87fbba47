"""The steps of protea's manual for its stale job reaper, as they are typed there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from reaper.config import load
from tests.support.api import ApiDaemon
from tests.support.daemons import Daemon
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.waiting import wait_until

_STUCK = """
-- Jobs RUNNING for more than 1 hour
SELECT id, operation, status, started_at,
       EXTRACT(EPOCH FROM (now() - started_at))/3600 AS hours_running
FROM job
WHERE status = 'running'
  AND started_at < now() - interval '1 hour'
ORDER BY started_at;
"""
_LAST_ACTIVITY = """
-- Last activity timestamp per stuck job
SELECT j.id, j.operation, j.started_at,
       max(je.ts) AS last_event_ts,
       EXTRACT(EPOCH FROM (now() - max(je.ts)))/60 AS minutes_silent
FROM job j
LEFT JOIN job_event je ON je.job_id = j.id
WHERE j.status = 'running'
  AND j.started_at < now() - interval '1 hour'
GROUP BY j.id, j.operation, j.started_at
ORDER BY last_event_ts;
"""
_FAIL = """
UPDATE job
SET status      = 'failed',
    finished_at  = now(),
    error_code   = 'ManualTimeout',
    error_message = 'Manually marked FAILED by operator'
WHERE id = '<job-uuid>'
  AND status = 'running';

INSERT INTO job_event (job_id, ts, level, event, message, fields)
VALUES (
    '<job-uuid>',
    now(),
    'error',
    'job.timeout',
    'Manually marked FAILED by operator',
    '{}'::jsonb
);
"""
_NONE_LEFT = """
-- Confirm no jobs remain stuck
SELECT count(*) FROM job
WHERE status = 'running'
  AND started_at < now() - interval '1 hour';
"""
_SIX_HOURS, _HALF_AN_HOUR = 21600, 1800


def rows(protea: Protea, query: str) -> list[Any]:
    with protea.connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return cursor.execute(query.encode()).fetchall()


def test_defaults_are_those_of_the_manual() -> None:
    settings = load({}, {"REAPER_DATABASE_URL": "postgresql:///protea"})
    assert settings.sources["default"].profile.name == "protea"
    assert settings.interval_seconds == 60
    assert (settings.timeout_seconds, settings.stall_seconds) == (_SIX_HOURS, _HALF_AN_HOUR)


def test_knobs_of_the_manual_set_the_thresholds(protea: Protea, tmp_path: Path) -> None:
    knobs = {
        "PROTEA_TUNING__WORKER__REAPER_MAIN_TIMEOUT_SECONDS": "172800",
        "PROTEA_TUNING__WORKER__REAPER_STALL_SECONDS": "3600",
    }
    old, young = protea.job(age=50 * HOUR), protea.job(age=47 * HOUR)
    quiet = protea.job(age=50 * HOUR)
    protea.event(quiet, age=HOUR - 5 * MINUTE)
    with ApiDaemon(tmp_path, database_url=protea.url, **knobs) as daemon:
        daemon.has_swept()
        policy = str(daemon.api.get("/api/policy").json)
    assert (protea.status(old), protea.status(young), protea.status(quiet)) == ("failed", "running", "running")
    fields = protea.audits(old)[0]["fields"]
    assert (fields["timeout_seconds"], fields["stall_seconds"]) == (172800, 3600)
    assert (fields["timeout_from"], fields["stall_from"]) == tuple(knobs)
    assert all(knob in policy for knob in knobs)


def test_stuck_jobs_are_found_ended_and_gone_with_the_queries_of_the_manual(protea: Protea, tmp_path: Path) -> None:
    stuck = protea.stale()
    [found] = rows(protea, _STUCK)
    assert (str(found["id"]), found["status"]) == (stuck, "running")
    assert float(found["hours_running"]) == pytest.approx(8, abs=0.1)
    live = protea.job(age=7 * HOUR)
    protea.event(live, age=MINUTE)
    silent = {str(row["id"]): float(row["minutes_silent"]) for row in rows(protea, _LAST_ACTIVITY)}
    assert silent == {stuck: pytest.approx(120, abs=1), live: pytest.approx(1, abs=1)}
    with Daemon(tmp_path, database_url=protea.url) as daemon:
        wait_until(lambda: protea.status(stuck) == "failed", "the stuck job's end")
        daemon.says("Reaped 1 stale job(s).")
        daemon.says("Reaper skipped live job.", job=live)
    assert protea.row(stuck)["error_code"] == "JobTimeout"
    [audit] = protea.audits(stuck)
    assert (audit["level"], audit["event"]) == ("error", "job.timeout")
    assert (audit["fields"]["timeout_seconds"], audit["fields"]["stall_seconds"]) == (_SIX_HOURS, _HALF_AN_HOUR)
    protea.connection.execute("UPDATE job SET status = 'succeeded' WHERE id = %s", (live,))
    assert rows(protea, _NONE_LEFT) == [{"count": 0}]


def test_job_that_was_failed_by_hand_with_the_statements_of_the_manual_stays_as_it_is(
    protea: Protea, tmp_path: Path
) -> None:
    job = protea.stale()
    for statement in _FAIL.replace("<job-uuid>", job).split(";\n\n"):
        protea.connection.execute(statement.encode())
    before = protea.dump()
    with Daemon(tmp_path, database_url=protea.url) as daemon:
        daemon.comes_up().sweeps_on(2)
        status, body = daemon.get(f"/api/jobs/default/{job}") or (0, "")
    assert (status, protea.dump()) == (200, before)
    assert '"verdict":"ended"' in body.replace(" ", "")
    assert "Manually marked FAILED by operator" in str(protea.row(job)["error_message"])
