"""A job that shows a sign of life after it was ended is reported once; other changes are not late signs."""

from __future__ import annotations

from datetime import datetime

import pytest

from reaper.common import messages
from reaper.common.json_values import to_jsonable
from reaper.model import Outcome, SweepReport
from reaper.operations.fail import ManualEnd, fail
from reaper.profile import resolve
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.sweep import sweep
from tests.support.late_sign_sweeps import FINISHES, Sweeps
from tests.support.protea import HOUR, Protea, SweepRecorder
from tests.support.worlds import State, World
from tests.support.worlds.servers import only_where

# --- every job system --------------------------------------------------------------------------------------------


EVENTS = {
    "protea": "INSERT INTO job_event (job_id, event, ts) VALUES (%s, 'progress', {now})",
    "adhese": 'UPDATE "PARTIAL_JOB_RESULTS" SET end_time = {now} WHERE job_result_id = %s',
    "vuls-schedule": "INSERT INTO task_runs (scheduled_task_id, status, created_at) VALUES (%s, 'success', {now})",
}


def _on_own_tables(world: type[World]) -> bool:
    """Whether the tables are those for which the statements of this module are written."""
    return world.profile != "adhese-schedule" and world.action != "delete" and not world.tables_of


def _leaves_something(world: World) -> bool:
    return (world.profile, world.action) not in {("adhese", "delete"), ("adhese-schedule", "fail")}


def _does(world: World, what: dict[str, str], job: str) -> None:
    assert world.session.do(what[world.profile].format(now=world.database.naive_ago.replace("%s", "0")), job) == 1


def _shows_life(world: World, job: str) -> None:
    if world.profile == "noetl":
        world.sign_of_life(job, world.session)
    elif world.profile == "adhese":
        world.session.do(EVENTS["adhese"].format(now=world.database.naive_ago.replace("%s", "0")), job)
    else:
        _does(world, EVENTS, job)


def _finishes(world: World, job: str) -> None:
    if world.profile == "noetl":
        world.finish(job, world.session)
    else:
        _does(world, FINISHES, job)


def test_changes_made_by_the_reap_are_no_late_sign(world: World) -> None:
    sweeps, jobs = Sweeps(world.source()), [world.stale_job() for _ in range(3)]
    sweeps.reaps(3)
    assert [world.state(job) for job in jobs] == [State.REAPED] * 3
    assert len(sweeps.memory.reaped_jobs) == (3 if _leaves_something(world) else 0)
    assert sweeps.late() == sweeps.late() == []


@only_where(lambda world: world.has_signs and _on_own_tables(world))
def test_late_event_is_reported_once_with_both_evidences(world: World) -> None:
    sweeps, job, quiet = Sweeps(world.source()), world.stale_job(), world.stale_job()
    sweeps.reaps(2)
    _shows_life(world, job)
    [sign] = sweeps.late()
    [own] = {alive.witness for alive in resolve(world.profile).alive if not alive.children}
    assert (sign.key, sign.what, sign.witness, sign.finished, sign.told_before) == ((job,), "event", own, False, False)
    assert (sign.reason, sign.last_witness) == ("JobTimeout", own)
    assert sign.silence_seconds == pytest.approx(2 * HOUR, abs=60)
    assert sign.age_seconds == pytest.approx(8 * HOUR, abs=60)
    assert sign.reaped_at is not None and sign.at is not None and sign.reaped_at < sign.at
    _shows_life(world, job)
    assert sweeps.late() == []
    _shows_life(world, quiet)
    assert [each.key for each in sweeps.late()] == [(quiet,)]


@only_where(_on_own_tables)
def test_late_finish_is_reported_once_with_its_status(world: World) -> None:
    sweeps, job = Sweeps(world.source()), world.stale_job()
    world.stale_job()
    sweeps.reaps(2)
    _finishes(world, job)
    [sign] = sweeps.late()
    assert (sign.key, sign.what, sign.finished, sign.told_before) == ((job,), "status", True, False)
    assert sign.status != sign.status_then
    assert sweeps.late() == []
    assert len(sweeps.memory.reaped_jobs) == 1


@only_where(lambda world: world.has_signs and _on_own_tables(world))
def test_late_event_and_the_finish_that_follows_are_two_reports_of_one_job(world: World) -> None:
    sweeps, job = Sweeps(world.source()), world.stale_job()
    sweeps.reaps()
    _shows_life(world, job)
    [event] = sweeps.late()
    _finishes(world, job)
    [finish] = sweeps.late()
    assert (event.what, event.told_before, finish.what, finish.told_before) == ("event", False, "status", True)
    assert sweeps.late() == []


# --- protea ------------------------------------------------------------------------------------------------------


def test_late_failure_is_reported_though_the_status_is_the_same(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.connection.execute(
        "UPDATE job SET finished_at = clock_timestamp(), error_code = 'Boom' WHERE id = %s", (job,)
    )
    [sign] = sweeps.late()
    assert (sign.what, sign.finished, sign.status, sign.status_then) == ("status", True, "failed", "failed")
    assert sign.at is not None and sign.witness is None
    assert "it has ended again as failed (an end at " in messages.describe_late_sign(sign)


def test_job_that_is_set_to_running_again_is_reported(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.connection.execute("UPDATE job SET status = 'running', finished_at = NULL WHERE id = %s", (job,))
    protea.event(job)
    [sign] = sweeps.late()
    assert (sign.what, sign.status, sign.finished) == ("status", "running", False)
    assert "its status is running, not failed (job_event at " in messages.describe_late_sign(sign)


def test_job_that_is_started_again_is_no_late_sign(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.connection.execute("UPDATE job SET status = 'running', started_at = now() WHERE id = %s", (job,))
    protea.event(job)
    assert sweeps.late() == []
    protea.connection.execute("UPDATE job SET status = 'succeeded', finished_at = now() WHERE id = %s", (job,))
    assert sweeps.late() == [] and len(sweeps.memory.reaped_jobs) == 0


def test_job_that_is_requeued_by_hand_is_no_late_sign(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.connection.execute("UPDATE job SET status = 'queued', finished_at = NULL WHERE id = %s", (job,))
    assert sweeps.late() == [] and len(sweeps.memory.reaped_jobs) == 0


def test_purged_job_is_no_late_sign(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.event(job)
    protea.connection.execute("DELETE FROM job WHERE id = %s", (job,))
    assert sweeps.late() == [] and len(sweeps.memory.reaped_jobs) == 0


def test_end_of_a_child_is_no_late_sign_of_its_parent(protea: Protea, sweeps: Sweeps) -> None:
    parent = protea.stale()
    sweeps.reaps()
    child = protea.job(parent=parent, age=9 * HOUR)
    protea.connection.execute("UPDATE job SET created_at = now() WHERE id = %s", (child,))
    sweeps.reaps()
    assert sweeps.late() == []
    protea.event(child)
    assert [sign.key for sign in sweeps.late()] == [(child,)]


def test_event_from_before_the_reap_is_no_late_sign(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.event(job, age=60)
    assert sweeps.late() == []


def test_late_signs_are_scanned_for_while_held_and_while_halted(protea: Protea) -> None:
    sweeps, jobs = Sweeps(protea.source()), [protea.stale() for _ in range(2)]
    sweeps.reaps(2)
    protea.event(jobs[0])
    for _ in range(51):
        protea.stale()
    sweeps.options = SweepOptions("test-host", 10, Breaker(50, 0.5))
    report = sweeps.once()
    assert (report.outcome, [sign.key for sign in report.late]) == (Outcome.HELD, [(jobs[0],)])
    protea.event(jobs[1])
    sweeps.options = SweepOptions("test-host", 10, Breaker(50, 1.0), is_halted=lambda: True)
    report = sweeps.once()
    assert (report.outcome, [sign.key for sign in report.late]) == (Outcome.HALTED, [(jobs[1],)])


def test_dry_run_takes_no_late_sign_away_from_the_next_sweep(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.event(job)
    sweeps.options = SweepOptions("test-host", 10, Breaker(50, 1.0), dry_run=True)
    assert not sweeps.once().looked_back
    sweeps.options = SweepOptions("test-host", 10, Breaker(50, 1.0))
    assert len(sweeps.late()) == 1


def test_sweep_without_ended_jobs_runs_no_scan_for_late_signs(protea: Protea, sweeps: Sweeps) -> None:
    protea.job(age=10)
    sweeps.once()
    sweeps.statements.clear()
    report = sweeps.once()
    before = len(sweeps.statements)
    assert not report.looked_back and not any("reaper_found" in each for each in sweeps.statements)
    protea.stale()
    sweeps.reaps()
    sweeps.statements.clear()
    assert sweeps.once().looked_back
    # One transaction more: how it opens (read only, and its limits), and one look; and whether signs have vanished.
    assert len(sweeps.statements) == before + 4


def test_job_ended_by_an_operator_through_the_daemon_is_tracked_too(protea: Protea) -> None:
    reports: list[SweepReport] = []

    class ReportRecorder(SweepRecorder):
        def swept(self, report: SweepReport) -> None:
            reports.append(report)

    source = protea.source()
    runner = SourceRunner(
        source, DowntimeTracker(0), RetrySchedule(60), Breaker(50, 1.0), 10, "test-host", [ReportRecorder()]
    )
    job = protea.job(age=10)
    fail(source, DowntimeTracker(0), (job,), ManualEnd("me", "test-host", "no good"), runner)
    protea.event(job)
    assert runner.tick() is not None
    runner.stop()
    assert runner.join(5)
    [sign] = reports[0].late
    assert (sign.key, sign.reason, sign.what) == ((job,), "ManualTimeout", "event")


def test_mass_reap_tracks_a_sample_and_gives_every_job_its_time(
    protea: Protea, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reaper.source.reap.MAX_FOLLOWED", 15)
    sweeps, recorder = Sweeps(protea.source()), SweepRecorder()
    recorder.memory = sweeps.memory
    for _ in range(60):
        protea.stale()
    report = sweep(sweeps.source, DowntimeTracker(0), sweeps.memory, sweeps.options, None, recorder)
    sweeps.source.close()
    # Two batches of ten are in hand at a time.
    assert report.reaped == 60 and 15 <= len(sweeps.memory.reaped_jobs) <= 25
    assert all(job.reaped_at for job in recorder.reaped_jobs)


def test_documents_have_the_time_of_the_reap_and_not_the_state_after_it(protea: Protea) -> None:
    recorder, job = SweepRecorder(), protea.stale()
    protea.sweep(recorder=recorder)
    document = to_jsonable(recorder.reaped_jobs[0])
    row = protea.row(job)
    assert datetime.fromisoformat(document["reaped_at"]) >= row["finished_at"]
    assert not {"remains", "state_after"} & document.keys() and recorder.reaped_jobs[0].state_after is not None
