"""Jobs that pass their timeout alive are reported once, by name up to a hundred."""

from __future__ import annotations

from datetime import timedelta

from reaper.sweep.breaker import Breaker
from reaper.sweep.source_state import SourceState
from tests.support.protea import HOUR, Protea


def test_job_that_passes_its_timeout_alive_is_reported_once(protea: Protea) -> None:
    now, memory = protea.now(), SourceState()
    first, second = protea.job(age=7 * HOUR), protea.job(age=5 * HOUR)
    for job in (first, second):
        protea.event(job, age=-2 * HOUR)

    def newly_spared_at(later: timedelta) -> list[str]:
        report = protea.sweep(protea.as_of(now + later), memory=memory)
        assert report.newly_spared_total == len(report.newly_spared)
        return [evidence.key[0] for evidence in report.newly_spared]

    assert newly_spared_at(timedelta(0)) == [first]
    assert newly_spared_at(timedelta(minutes=1)) == []
    assert newly_spared_at(timedelta(minutes=59)) == []
    assert newly_spared_at(timedelta(minutes=61)) == [second]
    assert newly_spared_at(timedelta(minutes=62)) == []
    assert protea.sweep(protea.as_of(now + timedelta(minutes=62))).newly_spared_total == 2


def test_job_that_starts_again_is_reported_again(protea: Protea) -> None:
    now, memory = protea.now(), SourceState()
    job = protea.job()
    protea.event(job, age=-10 * HOUR)
    assert protea.sweep(protea.as_of(now), memory=memory).newly_spared_total == 1
    protea.connection.execute("UPDATE job SET started_at = now()")
    assert protea.sweep(protea.as_of(now + timedelta(hours=1)), memory=memory).newly_spared_total == 0
    assert protea.sweep(protea.as_of(now + timedelta(hours=7)), memory=memory).newly_spared_total == 1


def test_spared_jobs_are_reported_even_among_many_stale_ones(protea: Protea) -> None:
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, created_at, started_at) "
        "SELECT 'x', 'q', 'running', now() - interval '9 h', now() - interval '8 h' FROM generate_series(1, 150)"
    )
    alive = protea.job(age=7 * HOUR)
    protea.event(alive)
    report = protea.sweep(breaker=Breaker(10**6, 1.0))
    assert report.reaped == 150
    assert [evidence.key for evidence in report.newly_spared] == [(alive,)]
    assert report.newly_spared_total == 1


def test_many_newly_spared_jobs_are_counted_and_some_are_listed(protea: Protea) -> None:
    protea.connection.execute(
        "WITH made AS (INSERT INTO job (operation, queue_name, status, created_at, started_at) "
        "SELECT 'x', 'q', 'running', now() - interval '9 h', now() - interval '8 h' FROM generate_series(1, 150) "
        "RETURNING id) INSERT INTO job_event (job_id, event) SELECT id, 'x' FROM made"
    )
    memory = SourceState()
    report = protea.sweep(memory=memory)
    assert (len(report.newly_spared), report.newly_spared_total) == (100, 150)
    assert protea.sweep(memory=memory).newly_spared_total == 0
