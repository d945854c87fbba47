"""The breaker holds a sweep when nearly all jobs fall silent at once, until it is released or they show life again."""

from __future__ import annotations

import pytest

from reaper.model import JobCounts, Outcome
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import Protea, SweepRecorder


def crowd(protea: Protea, *, silent: int, alive: int = 0) -> None:
    """Running jobs, 8 h old; the living jobs wrote an event just now."""
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, created_at, started_at) "
        "SELECT 'x', 'q', 'running', now() - interval '9 h', now() - interval '8 h' FROM generate_series(1, %s)",
        (silent,),
    )
    protea.connection.execute(
        "WITH made AS (INSERT INTO job (operation, queue_name, status, created_at, started_at) "
        "SELECT 'x', 'q', 'running', now() - interval '9 h', now() - interval '8 h' FROM generate_series(1, %s) "
        "RETURNING id) INSERT INTO job_event (job_id, event) SELECT id, 'progress' FROM made",
        (alive,),
    )


def failed(protea: Protea) -> int:
    return list(protea.statuses().values()).count("failed")


@pytest.mark.parametrize(
    ("stale", "running", "minimum", "share", "opens"),
    [
        (51, 51, 50, 0.5, True),
        (50, 50, 50, 0.5, False),  # not more than 50
        (51, 101, 50, 0.5, True),
        (51, 102, 50, 0.5, False),  # just half, and not more
        (1000, 2000, 50, 0.5, False),
        (1001, 2000, 50, 0.5, True),
        (6, 8, 5, 0.5, True),  # a source with few jobs
        (5, 8, 5, 0.5, False),
        (51, 51, 1, 0.01, True),
        (60, 60, 60, 0.5, False),
        (61, 61, 60, 0.5, True),
        (100, 100, 50, 1.0, False),  # more than all of them is never
        (0, 0, 50, 0.5, False),
    ],
)
def test_breaker_opens_above_its_minimum_and_its_share(
    stale: int, running: int, minimum: int, share: float, opens: bool
) -> None:
    assert Breaker(minimum, share).opens(JobCounts(running, stale, stale, None)) is opens


def test_breaker_says_why_it_holds() -> None:
    assert Breaker(10, 0.25).reason(JobCounts(120, 100, 70, None)) == (
        "70 of 120 running jobs fell silent: more than 10 and more than 25% of them"
    )


def test_held_sweep_changes_nothing_and_counts_everything(protea: Protea) -> None:
    crowd(protea, silent=51, alive=10)
    before = protea.dump()
    recorder = SweepRecorder()
    report = protea.sweep(recorder=recorder, memory=SourceState())
    assert (report.outcome, report.reaped, report.error) == (Outcome.HELD, 0, None)
    assert protea.dump() == before and not recorder.reaped_jobs
    assert report.census is not None
    assert (report.census.running, report.census.stale, report.census.spared) == (61, 51, 10)
    assert len(report.newly_spared) == 10


def test_dry_run_shows_what_the_breaker_would_hold(protea: Protea) -> None:
    crowd(protea, silent=51)
    report = protea.sweep(dry_run=True)
    assert (report.outcome, len(report.would_reap)) == (Outcome.DONE, 51)
    assert failed(protea) == 0


def test_breaker_closes_by_itself_when_workers_show_signs_of_life_again(protea: Protea) -> None:
    crowd(protea, silent=60)
    assert protea.sweep().outcome is Outcome.HELD
    protea.connection.execute(
        "INSERT INTO job_event (job_id, event) SELECT id, 'back again' FROM job ORDER BY id LIMIT 30"
    )
    report = protea.sweep()
    assert (report.outcome, report.reaped, failed(protea)) == (Outcome.DONE, 30, 30)


def test_breaker_lets_half_of_the_running_jobs_be_ended(protea: Protea) -> None:
    crowd(protea, silent=60, alive=60)
    report = protea.sweep()
    assert (report.outcome, report.reaped) == (Outcome.DONE, 60)


@pytest.mark.parametrize(("typed", "outcome"), [(50, Outcome.HELD), (51, Outcome.DONE), (60, Outcome.DONE)])
def test_release_lets_through_no_more_jobs_than_it_names(protea: Protea, typed: int, outcome: Outcome) -> None:
    crowd(protea, silent=51)
    options = SweepOptions("test-host", 1000, Breaker(50, 0.5), override_breaker_up_to=typed)
    report = sweep(protea.source(), DowntimeTracker(0), SourceState(), options, None, SweepRecorder())
    assert report.outcome is outcome
    assert failed(protea) == (51 if outcome is Outcome.DONE else 0)
    crowd(protea, silent=51)
    assert protea.sweep().outcome is Outcome.HELD, "the next sweep is held again"
