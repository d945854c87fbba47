"""A dry run and `explain` agree with what a sweep ends, and change nothing."""

from __future__ import annotations

from dataclasses import replace

from reaper.model import Outcome, Verdict
from tests.support.protea import HOUR, MINUTE, Protea, thresholds
from tests.sweep.test_sweep import limits


def population(protea: Protea) -> dict[str, Verdict]:
    """Jobs of every sort, with the verdict that each must get."""
    parent = protea.stale()
    eldest = protea.stale()
    protea.job(parent=eldest, status="succeeded", age=5 * HOUR, finished=4 * HOUR)
    alive = protea.job()
    protea.event(alive, age=MINUTE)
    return {
        protea.stale(): Verdict.STALE,
        protea.stale(operation="quiet"): Verdict.SPARED,
        protea.job(age=20 * MINUTE, operation="quick"): Verdict.STALE,
        protea.job(age=None, created=7 * HOUR): Verdict.STALE,
        protea.job(age=None, created=HOUR): Verdict.YOUNG,
        protea.job(age=5 * HOUR): Verdict.YOUNG,
        alive: Verdict.SPARED,
        parent: Verdict.SPARED,
        protea.job(parent=parent, age=HOUR): Verdict.YOUNG,
        eldest: Verdict.STALE,
        protea.stale(status="queued"): Verdict.ENDED,
        protea.stale(status="succeeded", finished=HOUR): Verdict.ENDED,
        protea.stale(status="failed", finished=HOUR): Verdict.ENDED,
        protea.stale(status="cancelled"): Verdict.ENDED,
    }


KINDS = {"quiet": limits(stall=4 * HOUR), "quick": limits(timeout=10 * MINUTE, stall=10 * MINUTE)}


def test_dry_run_selects_the_same_jobs_and_changes_nothing(protea: Protea) -> None:
    expected = population(protea)
    source = protea.source(thresholds(kinds=KINDS))
    before = protea.dump()
    dry = protea.sweep(source, dry_run=True)
    assert protea.dump() == before
    assert (dry.outcome, dry.dry_run, dry.reaped) == (Outcome.DONE, True, 0)
    selected = {evidence.key[0] for evidence in dry.would_reap}
    assert selected == {job for job, verdict in expected.items() if verdict is Verdict.STALE}
    wet = protea.sweep(source)
    assert dry.census is not None and wet.census is not None
    # A moment later everything is a little older.
    assert replace(dry.census, most_overdue=wet.census.most_overdue) == wet.census
    assert {job for job in expected if protea.audits(job)} == selected


def test_dry_run_lists_some_jobs_and_counts_all(protea: Protea) -> None:
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, created_at, started_at) "
        "SELECT 'x', 'q', 'running', now() - interval '9 h', now() - interval '8 h' FROM generate_series(1, 250)"
    )
    report = protea.sweep(dry_run=True, batch_size=40)
    assert report.census is not None and report.census.stale == 250
    assert len({evidence.key for evidence in report.would_reap}) == 100


def test_explain_agrees_with_what_the_sweep_does(protea: Protea) -> None:
    expected = population(protea)
    source = protea.source(thresholds(kinds=KINDS))
    assert {job: protea.judge(job, source).verdict for job in expected} == expected
    before = protea.statuses()
    protea.sweep(source)
    after = protea.statuses()
    assert {job for job in before if before[job] != after[job]} == {
        job for job, verdict in expected.items() if verdict is Verdict.STALE
    }
