"""`observe = true`: sweeps judge as ever, and whatever ends jobs ends none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from reaper.errors import SourceObserved
from reaper.model import Outcome
from reaper.observers.daemon_log import DaemonLog
from reaper.operations.orphaned_tasks import revoke_orphans
from reaper.profile import resolve
from reaper.source import AuditInfo, Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep import sweep as sweep_module
from reaper.sweep.source_state import SourceState
from tests.support.commands import Reaper
from tests.support.protea import PATIENCE, Protea, thresholds

OBSERVED = SourceOptions(observed="reaper.toml:1")


def observed_source(protea: Protea) -> Source:
    return Source("main", protea.url, resolve("protea"), thresholds(), PATIENCE, OBSERVED)


def test_observing_sweep_judges_every_job_and_ends_none(protea: Protea) -> None:
    jobs, alive = [protea.stale() for _ in range(3)], protea.job(age=60)
    before = protea.dump()
    report = protea.sweep(observed_source(protea))
    assert (report.outcome, report.reaped, report.succeeded) == (Outcome.OBSERVED, 0, True)
    assert report.census is not None and (report.census.stale, report.census.running) == (3, 4)
    assert {job.key[0] for job in report.would_reap} == set(jobs) and alive not in jobs
    assert protea.dump() == before
    assert protea.sweep(protea.source()).reaped == 3


def test_job_that_would_be_ended_is_reported_once_and_again_after_a_sign_of_life(
    protea: Protea, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "MAX_LISTED", 2)
    jobs, source, state = [protea.stale() for _ in range(3)], observed_source(protea), SourceState()
    log = DaemonLog()
    with structlog.testing.capture_logs() as lines:
        for _ in range(4):
            log.swept(protea.sweep(source, memory=state))
        protea.event(jobs[0])
        log.swept(protea.sweep(source, memory=state))
        protea.connection.execute("DELETE FROM job_event WHERE job_id = %s", [jobs[0]])
        log.swept(protea.sweep(source, memory=state))
        log.swept(protea.sweep(protea.source(), memory=state))
    told = [line["job"] for line in lines if line["event"] == "Reaper would end a stale job."]
    assert sorted(told) == sorted([*jobs, jobs[0]])
    begun = [line for line in lines if line["event"].startswith("Reaper observes the source")]
    assert len(begun) == 1 and any("no longer only observes" in line["event"] for line in lines)


def test_job_that_no_sweep_ends_is_not_reported(protea: Protea) -> None:
    protea.stale(operation="migrate_index")
    other = protea.stale()
    options = replace(OBSERVED, never=("migrate_*",))
    report = protea.sweep(Source("main", protea.url, resolve("protea"), thresholds(), PATIENCE, options))
    assert [job.key for job in report.would_reap] == [(other,)]


def test_more_jobs_than_are_remembered_are_counted_only(protea: Protea, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "_MAX_OBSERVED", 2)
    source, state = observed_source(protea), SourceState()
    for _ in range(3):
        protea.stale()
    reports = [protea.sweep(source, memory=state) for _ in range(2)]
    assert [len(report.would_reap) for report in reports] == [2, 0]
    assert [report.census and report.census.stale for report in reports] == [3, 3]


def test_nothing_can_claim_jobs_of_an_observed_source_or_revoke_its_tasks(protea: Protea) -> None:
    """The last line of defence: whatever ends jobs makes a claim first."""
    source = observed_source(protea)
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
    with pytest.raises(SourceObserved, match=r"reaper\.toml:1.*--while-observed"):
        source.claim(context, AuditInfo(source="main", sweep_id="0", host="h"))
    with pytest.raises(SourceObserved):
        revoke_orphans(None, source, [])  # type: ignore[arg-type]


# --- commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def reaper(tmp_path: Path, database: str) -> Reaper:
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database, "REAPER_OBSERVE": "true"})


def test_dry_run_and_report_say_what_would_be_ended_and_why_it_is_left(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    assert job in reaper("sweep", "--dry-run").stdout
    assert "observed only (observe = true, REAPER_OBSERVE)" in " ".join(reaper("report").stdout.split())
    explained = reaper.json("explain", job)
    assert [left["reason"] for left in explained["left"]] == ["observed"]
