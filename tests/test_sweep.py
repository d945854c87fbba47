"""What one sweep does to one database: the living are spared, the silent are ended once, and it says why."""

from __future__ import annotations

from reaper.model import Outcome
from tests.support import HOUR, MINUTE, Protea


def test_a_silent_job_past_its_timeout_is_failed_with_evidence(protea: Protea) -> None:
    job = protea.stale()
    report = protea.sweep()
    assert (report.outcome, report.reaped) == (Outcome.DONE, 1)
    row = protea.row(job)
    assert (row["status"], row["error_code"]) == ("failed", "JobTimeout")
    assert row["finished_at"] is not None
    assert row["error_message"].startswith("No sign of life for 2h 0m (stall window 30m) after running for 8h 0m")
    [event] = protea.audits(job)
    assert (event["level"], event["message"]) == ("error", row["error_message"])
    assert event["fields"]["sweep_id"] == report.sweep_id
    assert event["fields"]["witness"] == "job_event"


def test_a_job_with_a_recent_event_is_spared(protea: Protea) -> None:
    job = protea.job()
    protea.event(job, age=29 * MINUTE)
    report = protea.sweep()
    assert protea.status(job) == "running"
    assert report.census is not None and report.census.spared == 1


def test_a_start_that_is_null_falls_back_to_the_creation(protea: Protea) -> None:
    job = protea.job(age=None, created=7 * HOUR)
    protea.sweep()
    assert protea.status(job) == "failed"
