"""Late signs are counted, logged and described; a scan that fails is reported and fails no sweep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from prometheus_client import generate_latest
from sqlalchemy.event import listens_for
from structlog.testing import capture_logs

from reaper.common import messages
from reaper.model import LateSign, Outcome, SweepReport
from reaper.observers.daemon_log import DaemonLog
from reaper.observers.metrics import Metrics
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep import late_signs
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.daemons import Daemon, Samples
from tests.support.late_sign_sweeps import FINISHES, Sweeps
from tests.support.protea import HOUR, PATIENCE, Protea, SweepRecorder, thresholds
from tests.support.waiting import wait_until
from tests.support.worlds.vuls import VulsWorld


def test_late_signs_are_counted_once_for_each_job_by_kind(protea: Protea, sweeps: Sweeps) -> None:
    metrics = Metrics()
    metrics.set_sources(["main", "other"], 60)

    def value(kind: str) -> float | None:
        found = Samples(generate_latest(metrics.registry).decode())
        return found.value("reaper_late_signs_total", source="main", kind=kind)

    assert (value("other"), value("embed")) == (0, None)
    jobs = [protea.stale(operation=operation) for operation in ("embed", "embed", "predict")]
    sweeps.reaps(3)
    for job in jobs[1:]:
        protea.event(job)
    metrics.swept(sweeps.once())
    protea.connection.execute("UPDATE job SET status = 'succeeded' WHERE id = %s", (jobs[1],))
    metrics.swept(sweeps.once())
    assert (value("embed"), value("predict"), value("other")) == (1, 1, 0)
    metrics.set_sources(["other"], 60)
    assert value("embed") is value("other") is None


def test_many_late_signs_are_listed_up_to_a_hundred_and_counted() -> None:
    sign = LateSign(("1",), "embed", "JobTimeout", "t", 1.0, "job_event", "event", "job_event", "t", "failed")
    with capture_logs() as lines:
        DaemonLog().swept(SweepReport("main", "1", Outcome.DONE, 0.1, late=[sign] * 130, looked_back=True))
    logged = [line["event"] for line in lines]
    assert logged == ["A reaped job showed a sign of life afterwards; it may have been ended wrongly."] * 100 + [
        "More reaped jobs showed a sign of life afterwards."
    ]
    assert lines[-1]["jobs"] == 30 and {line["log_level"] for line in lines} == {"error"}


def test_scan_that_the_database_refuses_is_reported_once_and_fails_no_sweep(vuls: VulsWorld) -> None:
    event_log = DaemonLog()
    sweeps, job = Sweeps(vuls.source()), vuls.stale_job()
    sweeps.reaps()
    vuls.session.do("ALTER TABLE task_runs RENAME COLUMN completed_at TO ended_at")
    with capture_logs() as lines:
        for _ in range(3):
            report = sweep(sweeps.source, DowntimeTracker(0), sweeps.memory, sweeps.options, None, SweepRecorder())
            assert (report.outcome, report.looked_back) == (Outcome.DONE, True)
            assert "completed_at" in (report.late_trouble or "")
            event_log.swept(report)
        vuls.session.do("ALTER TABLE task_runs RENAME COLUMN ended_at TO completed_at")
        event_log.swept(sweeps.once())
    assert [line["event"] for line in lines] == [
        "Reaped jobs could not be checked for later signs of life; the next sweep tries again.",
        "Reaped jobs can be checked for later signs of life again.",
    ]
    vuls.session.do(FINISHES["vuls"].format(now="now()"), job)
    assert len(sweeps.late()) == 1


def test_scan_that_takes_too_long_is_cut_short_and_repeated_with_fewer_jobs(
    protea: Protea, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at one job takes a tenth of a second here: a scan of four jobs ends in time, a scan of eight does not."""
    monkeypatch.setattr(late_signs, "_SCAN_SECONDS", 0.7)
    where = [{"sql": "({id} IS NOT NULL AND pg_sleep(0.1) IS NULL) IS NOT TRUE"}]
    profile = resolve("slow", {"slow": {"extends": "protea", "purge": {"where": where, "at": ["finished_at"]}}})
    sweeps, event_log = Sweeps(Source("main", protea.url, profile, thresholds(), PATIENCE)), DaemonLog()
    jobs = [protea.stale() for _ in range(8)]
    found = set()
    with capture_logs() as lines:
        for number in range(8):
            recorder = SweepRecorder(memory=sweeps.memory)
            report = sweep(sweeps.source, DowntimeTracker(0), sweeps.memory, sweeps.options, None, recorder)
            assert report.outcome is Outcome.DONE
            event_log.swept(report)
            found |= {sign.key[0] for sign in report.late}
            if number == 0:
                assert (report.reaped, report.late_trouble) == (8, "canceling statement due to statement timeout")
                for job in jobs:
                    protea.event(job)
    sweeps.source.close()
    assert found == set(jobs)
    assert [line["event"] for line in lines if "later signs of life" in line["event"]] == [
        "Reaped jobs could not be checked for later signs of life; the next sweep tries again.",
        "Reaped jobs can be checked for later signs of life again.",
    ]


def test_database_that_goes_away_during_the_scan_fails_the_sweep(protea: Protea, sweeps: Sweeps) -> None:
    protea.stale()
    sweeps.reaps()

    @listens_for(sweeps.source.engine, "before_cursor_execute")
    def kill(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "reaper_found" in statement:
            protea.connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'reaper/main'"
            )

    report = sweeps.once()
    assert (report.outcome, report.database_away, report.looked_back) == (Outcome.FAILED, True, False)


def test_daemon_reports_late_signs_of_a_slow_worker(protea: Protea, tmp_path: Path) -> None:
    job = protea.stale(operation="embed")
    logged = "A reaped job showed a sign of life afterwards; it may have been ended wrongly."
    with psycopg.connect(protea.libpq, autocommit=True) as worker:
        worker.execute("SELECT status FROM job WHERE id = %s", (job,))
        with Daemon(tmp_path, database_url=protea.libpq) as daemon:
            daemon.comes_up()
            wait_until(lambda: protea.status(job) == "failed", "the reap")
            daemon.sweeps_on(2)
            assert daemon.said(logged) == []
            worker.execute("INSERT INTO job_event (job_id, event) VALUES (%s, 'progress')", (job,))
            line = daemon.says(logged)
            assert (line["level"], line["job"], line["kind"], line["what"]) == ("error", job, "embed", "event")
            assert (line["witness"], line["late_witness"]) == ("job_event", "job_event")
            assert line["silence_seconds"] == pytest.approx(2 * HOUR, abs=60)
            # It does not ask whether the job is still its own.
            worker.execute("UPDATE job SET status = 'succeeded', finished_at = now() WHERE id = %s", (job,))
            line = daemon.says(logged, what="status")
            assert (line["status"], line["status_then"], line["finished"]) == ("succeeded", "failed", True)
            assert line["told_before"] is True
            daemon.sweeps_on(2)
            assert len(daemon.said(logged)) == 2
            assert daemon.metrics.value("reaper_late_signs_total", source="default", kind="embed") == 1
            assert daemon.metrics.value("reaper_late_signs_total", source="default", kind="other") == 0


def test_late_sign_is_described_in_words() -> None:
    event = LateSign(
        key=("1",),
        kind="embed",
        reason="JobTimeout",
        reaped_at="2026-11-28T12:00:00+00:00",
        silence_seconds=2 * HOUR,
        last_witness="job_event",
        what="event",
        witness="job_event",
        at="2026-11-28T12:01:00+00:00",
        status="failed",
        status_then="failed",
    )
    ended = "ended as JobTimeout at 2026-11-28T12:00:00+00:00 after 2h of silence, last sign of life from job_event"
    assert messages.describe_late_sign(event) == f"{ended}; since then job_event at 2026-11-28T12:01:00+00:00"
    entry = replace(event, witness=None, at=None, status="step.exit")
    assert messages.describe_late_sign(entry) == f"{ended}; since then an entry step.exit in its log"
    finish = replace(event, what="status", status="succeeded", finished=True, witness=None, at=None)
    assert messages.describe_late_sign(finish) == f"{ended}; since then its status is succeeded, not failed"
    runs = replace(event, what="status", witness=None, at=None)
    assert messages.describe_late_sign(runs) == f"{ended}; since then its row says that it is running"


def test_sweep_that_is_stopped_does_not_look_for_late_signs(protea: Protea) -> None:
    """A stop waits for the batch in progress, and for nothing else."""
    memory = SourceState()
    recorder = SweepRecorder(memory=memory)
    ended = protea.stale()
    assert protea.sweep(memory=memory, recorder=recorder).reaped == 1
    protea.event(ended)
    waiting = protea.stale()
    stopped = protea.sweep(memory=memory, recorder=recorder, stopping=lambda: True)
    assert (stopped.outcome, stopped.looked_back, stopped.late) == (Outcome.STOPPED, False, ())
    assert protea.status(waiting) == "running"
    [sign] = protea.sweep(memory=memory, recorder=recorder).late
    assert sign.key == (ended,)
