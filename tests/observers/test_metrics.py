"""What Prometheus is given: complete from the start, true to the database, and bounded."""

from __future__ import annotations

import os
import shutil
import subprocess
from math import isnan
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from reaper.memory.reap_counts import MAX_KINDS
from reaper.model import JobCounts, Outcome, PurgeReport, ReapedJob, Reason, SweepReport
from reaper.observers.metrics import OPTIONAL_STEPS, Metrics
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.daemons import Daemon, Samples
from tests.support.protea import HOUR, Protea

BY_SOURCE = {
    "reaper_jobs_spared",
    "reaper_jobs_running",
    "reaper_jobs_stale",
    "reaper_jobs_stale_left",
    "reaper_most_overdue_ratio",
    "reaper_jobs_refused_total",
    "reaper_reaps_lost_total",
    "reaper_candidates_locked",
    "reaper_candidates_locked_overdue",
    "reaper_sweep_duration_seconds_count",
    "reaper_last_success_timestamp_seconds",
    "reaper_oldest_running_started_timestamp_seconds",
    "reaper_breaker_open",
    "reaper_leader",
    "reaper_database_up",
}


def samples(metrics: Metrics) -> Samples:
    return Samples(generate_latest(metrics.registry).decode())


def made(*sources: str) -> Metrics:
    metrics = Metrics()
    metrics.set_sources(sources, 60)
    return metrics


def sweep_into(metrics: Metrics, protea: Protea, memory: SourceState | None = None, **kwargs: int) -> SweepReport:
    """A sweep whose report reaches the metrics."""
    breaker = Breaker(50, kwargs.get("share", 1))
    options = SweepOptions("test-host", kwargs.get("batch_size", 1000), breaker)
    report = sweep(protea.source(), DowntimeTracker(0), memory or SourceState(), options, None, metrics)
    metrics.swept(report)
    return report


def test_series_all_exist_before_the_first_sweep(tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url="postgresql://nobody:x@127.0.0.1:1/none", interval_seconds=60) as daemon:
        found = daemon.comes_up().metrics
        for name in BY_SOURCE:
            assert found.value(name, source="default") is not None, name
        for outcome in Outcome:
            assert found.value("reaper_sweeps_total", source="default", outcome=outcome) is not None
        for reason in Reason:
            labels = {"source": "default", "kind": "other", "reason": reason.value, "action": "fail"}
            assert found.value("reaper_jobs_reaped_total", **labels) == 0
        assert found.value("reaper_silence_at_reap_seconds_count") == 0
        assert found.value("reaper_interval_seconds") == 60
        assert found.total("reaper_build_info") == 1
        assert {tuple(sorted(sample.labels)) for sample in found.families["reaper_build_info"].samples} == {
            ("python", "version")
        }


def test_promtool_finds_nothing_to_say(protea: Protea) -> None:
    if (promtool := shutil.which("promtool")) is None:
        if os.environ.get("CI"):
            pytest.fail("promtool is missing")
        pytest.skip("promtool is not installed")
    metrics = made("main", "other")
    for text in (generate_latest(metrics.registry), _after_a_sweep(metrics, protea)):
        checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def _after_a_sweep(metrics: Metrics, protea: Protea) -> bytes:
    protea.stale(operation='a "kind"\n\\with\u00e4')
    assert sweep_into(metrics, protea).reaped == 1
    return generate_latest(metrics.registry)


def test_counter_of_reaped_jobs_equals_the_failed_rows(protea: Protea) -> None:
    metrics = made("main")
    for operation, count in (("embed", 7), ("predict", 5)):
        for _ in range(count):
            protea.stale(operation=operation)
    protea.job()
    sweep_into(metrics, protea, batch_size=3)
    found = samples(metrics)
    by_kind = {
        kind: found.value("reaper_jobs_reaped_total", source="main", kind=kind, reason="JobTimeout", action="fail")
        for kind in ("embed", "predict", "other")
    }
    rows = protea.connection.execute("SELECT operation, count(*) FROM job WHERE status = 'failed' GROUP BY 1")
    assert by_kind == {"other": 0, **dict(rows.fetchall())} == {"embed": 8, "predict": 5, "other": 0}
    assert found.value("reaper_silence_at_reap_seconds_count") == 13


def test_kinds_beyond_fifty_are_counted_as_other(protea: Protea) -> None:
    metrics = made("main")
    for number in range(MAX_KINDS + 20):
        protea.stale(operation=f"kind {number}")
    sweep_into(metrics, protea, batch_size=10)
    found = samples(metrics)
    labels = [s.labels for s in found.families["reaper_jobs_reaped"].samples if s.name.endswith("_total")]
    kinds = {each["kind"] for each in labels}
    assert len(kinds) == MAX_KINDS + 1
    assert (
        found.value("reaper_jobs_reaped_total", source="main", kind="other", reason="JobTimeout", action="fail") == 20
    )
    assert found.total("reaper_jobs_reaped_total") == MAX_KINDS + 20


def test_gauges_tell_what_the_survey_found(protea: Protea) -> None:
    metrics = made("main")
    protea.stale()
    protea.event(protea.job(age=7 * HOUR))
    protea.job(age=10)
    protea.job(status="queued")
    sweep_into(metrics, protea)
    found = samples(metrics)
    value = {name: found.value(name, source="main") for name in BY_SOURCE}
    assert value["reaper_jobs_running"] == 3
    assert value["reaper_jobs_stale"] == 1
    assert value["reaper_jobs_spared"] == 1
    row = protea.connection.execute("SELECT extract(epoch FROM min(started_at))::float FROM job").fetchone()
    assert row is not None
    assert value["reaper_oldest_running_started_timestamp_seconds"] == pytest.approx(row[0])
    assert (value["reaper_database_up"], value["reaper_leader"], value["reaper_breaker_open"]) == (1, 1, 0)
    assert (value["reaper_last_success_timestamp_seconds"] or 0) > 1.7e9
    assert value["reaper_most_overdue_ratio"] == pytest.approx(8 / 6, rel=0.01)
    assert value["reaper_sweep_duration_seconds_count"] == 1

    # Nothing runs any more: nothing is left over from before.
    protea.connection.execute("UPDATE job SET status = 'succeeded'")
    sweep_into(metrics, protea)
    found = samples(metrics)
    gauges = ("running", "stale", "spared")
    assert [found.value(f"reaper_jobs_{name}", source="main") for name in gauges] == [0, 0, 0]
    assert found.value("reaper_oldest_running_started_timestamp_seconds", source="main") == 0
    assert found.value("reaper_most_overdue_ratio", source="main") == 0


def test_stale_jobs_are_left_when_two_sweeps_have_not_ended_them() -> None:
    metrics = made("main")

    def left(stale: int, outcome: Outcome = Outcome.DONE, **report: Any) -> float | None:
        census = JobCounts(9, stale, stale, None) if outcome is not Outcome.FAILED else None
        metrics.swept(SweepReport("main", "1", outcome, 0.1, census, **report))
        return samples(metrics).value("reaper_jobs_stale_left", source="main")

    assert left(5, reaped=4) == 0
    assert left(7, reaped=3, lost=2) == 1
    assert left(0, Outcome.FAILED) == 1
    assert left(7) == 2
    assert left(3, reaped=3) == 0
    assert left(3) == 0
    assert left(3) == 3
    assert left(3, Outcome.STANDBY) == 0


def test_database_is_unknown_before_the_end_of_the_first_sweep() -> None:
    metrics = made("main")
    found = samples(metrics).value("reaper_database_up", source="main")
    assert found is not None and isnan(found)
    metrics.swept(SweepReport("main", "1", Outcome.FAILED, 0.1, None, database_away=True))
    assert samples(metrics).value("reaper_database_up", source="main") == 0


def test_parts_that_a_sweep_went_on_without_are_counted() -> None:
    metrics = made("main")

    def failed() -> list[float | None]:
        return [
            samples(metrics).value("reaper_sweep_parts_failed_total", source="main", part=part)
            for part in OPTIONAL_STEPS
        ]

    assert failed() == [0, 0, 0, 0]
    troubles: tuple[dict[str, Any], ...] = (
        {},
        {"late_trouble": "timeout"},
        {"late_trouble": "timeout", "revoke_trouble": "away"},
        {"start_lost_trouble": "timeout"},
        {"future_signs_trouble": "timeout"},
    )
    for trouble in troubles:
        metrics.swept(SweepReport("main", "1", Outcome.DONE, 0.1, JobCounts(1, 0, 0, None), **trouble))
    assert failed() == [2, 1, 1, 1]


def test_replica_that_has_not_swept_has_no_last_success(protea: Protea) -> None:
    metrics = made("main")
    for outcome in Outcome:
        if outcome not in (Outcome.DONE, Outcome.QUIET, Outcome.OBSERVED):
            metrics.swept(SweepReport("main", "1", outcome, 0.1))
    assert samples(metrics).value("reaper_last_success_timestamp_seconds", source="main") == 0
    sweep_into(metrics, protea)
    assert (samples(metrics).value("reaper_last_success_timestamp_seconds", source="main") or 0) > 1.7e9


def test_witness_that_was_removed_from_the_configuration_is_not_down() -> None:
    metrics = made("main")

    def up(outcome: Outcome = Outcome.DONE, *, leads: bool = True, **report: Any) -> float | None:
        metrics.swept(SweepReport("main", "1", outcome, 0.1, leads=leads, **report))
        return samples(metrics).value("reaper_witness_up", source="main")

    assert up(asked_witness=True, witness_trouble="no answer") == 0
    assert up(Outcome.STANDBY, leads=False) == 0
    assert up(Outcome.FAILED, leads=False) == 0
    assert up() == 1


def test_purges_are_counted_by_how_they_went() -> None:
    metrics = made("main")
    for outcome in (Outcome.DONE, Outcome.FAILED, Outcome.FAILED):
        metrics.purge_ended(PurgeReport("main", outcome, 0.1))
    metrics.purge_ended(PurgeReport("gone", Outcome.DONE, 0.1))
    found = samples(metrics)
    assert {o: found.value("reaper_purges_total", source="main", outcome=o) for o in Outcome} == {
        **dict.fromkeys(Outcome, 0),
        Outcome.DONE: 1,
        Outcome.FAILED: 2,
    }
    assert found.about("gone") == set()


def test_refused_job_is_counted(protea: Protea) -> None:
    metrics, memory = made("main"), SourceState()
    protea.stale(operation="refused")
    protea.stale()
    protea.connection.execute("ALTER TABLE job ADD CHECK (operation <> 'refused' OR status <> 'failed')")
    for _ in range(2):
        sweep_into(metrics, protea, memory)
    found = samples(metrics)
    # Left alone for a while after that: counted once.
    assert found.value("reaper_jobs_refused_total", source="main") == 1
    assert found.total("reaper_jobs_reaped_total") == 1
    assert found.value("reaper_jobs_stale", source="main") == 1


def test_series_of_a_removed_source_do_not_return_with_its_last_sweep() -> None:
    metrics = made("main", "gone")
    metrics.set_sources(["main"], 60)
    metrics.reaped("gone", "1", [ReapedJob(("1",), "JobTimeout", "embed", 1.0, 1.0, None)])
    metrics.swept(SweepReport("gone", "1", Outcome.DONE, 0.1))
    found = samples(metrics)
    assert found.about("gone") == set()
    assert found.about("main") >= BY_SOURCE


def test_standby_counts_no_jobs(protea: Protea) -> None:
    metrics = made("main")
    protea.job(age=10)
    sweep_into(metrics, protea)
    metrics.swept(SweepReport("main", "2", Outcome.STANDBY, 0.1))
    found = samples(metrics)
    assert found.value("reaper_jobs_running", source="main") == 0
    assert found.value("reaper_leader", source="main") == 0


def test_jobs_whose_start_is_unknown_are_counted_beside_those_that_are_remembered() -> None:
    metrics = made("main")
    metrics.surveyed("main", JobCounts(9, 0, 0, None, without_start=4, start_unknown=2))
    found = samples(metrics)
    assert found.value("reaper_jobs_without_start", source="main") == 4
    assert found.value("reaper_jobs_with_unknown_start", source="main") == 2
