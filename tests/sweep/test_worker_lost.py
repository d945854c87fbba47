"""A worker that is gone: the reaper itself has seen no change of its row for `gone_after` of audible time, and sweeps
of sources that ask for it end its jobs without waiting for their timeout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from reaper.check import check_statements
from reaper.common.messages import describe_counts, describe_verdict
from reaper.memory import Memory
from reaper.model import JobHold, Outcome, Verdict
from reaper.operations.report import ReportQuery, overdue_jobs, report
from reaper.profile import Profile
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from tests.support.protea import HOUR, MINUTE, SweepRecorder, thresholds
from tests.support.tasks import tasks_in
from tests.support.workers import WorkerMemory, Workers, held
from tests.support.worlds.servers import database_on, mostly_on

GONE_AFTER = 90.0


@pytest.fixture(params=["postgresql", "mariadb"])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        made.add(99, age=HOUR, beat=None, note="bystander", tries=1)
        yield Workers(made)


def witnessed(**changes: Any) -> Profile:
    return held(**{"gone_after": GONE_AFTER, **changes})


def test_jobs_of_a_worker_that_is_gone_are_ended_before_their_timeout(workers: Workers) -> None:
    for host in ("dead", "bystander", "mute"):
        workers.add(host, 1, beat=None if host == "mute" else MINUTE)
    young, memory, recorder = HOUR, WorkerMemory(), SweepRecorder()
    held_by: list[str | None] = ["dead", "mute", "never was", None]
    for number, holder in enumerate(held_by, start=1):
        workers.task(number, holder, 1, age=young)
    workers.task(5, "dead", 1, age=GONE_AFTER / 9)
    workers.task(6, "dead", 1, age=8 * HOUR)
    workers.task(7, "dead", None, age=young)
    source = workers.source(witnessed(), memory)
    assert list(check_statements(source)) == []
    assert workers.tasks.sweep(source).reaped == 0, "the first look begins to count"
    memory.age(GONE_AFTER / 3)
    workers.beat("bystander")
    assert workers.tasks.sweep(source).reaped == 0
    memory.age(GONE_AFTER)
    workers.beat("bystander")
    swept = workers.tasks.sweep(source, recorder=recorder)
    assert (swept.error, swept.outcome, swept.reaped) == (None, Outcome.DONE, 3)
    assert {(job.key[0], job.reason) for job in recorder.reaped_jobs} == {
        (key, "WorkerLost") for key in ("1", "3", "6")
    }
    census = swept.census
    assert census is not None
    assert (census.stale, census.worker_lost, census.lost_young, census.past_timeout) == (3, 3, 2, 1)
    assert census.spared == 0 and "3 stale (3 of these because their worker is gone)" in describe_counts(census)
    said = workers.tasks.said(1)
    assert said["reason"] == "WorkerLost" and said["worker"] == "dead 1"
    assert said["worker_lost"].startswith("no heartbeat since 20") and "gone after 1m 30s" in said["worker_lost"]
    assert workers.tasks.said(3)["worker_lost"].startswith("no row in worker since 20")
    message = workers.tasks.column("note", 3)
    assert message.startswith("Its worker never was 1 is gone: no row in worker since 20")
    assert message.endswith("; the job had been running for 1h 0m.")


def test_everything_that_judges_a_job_says_that_its_worker_is_gone(workers: Workers) -> None:
    workers.add("bystander", 1, beat=0)
    memory = WorkerMemory()
    for number, age in enumerate([HOUR, 8 * HOUR], start=1):
        workers.task(number, "gone", 1, age=age)
    workers.task(3, "gone", 1, age=8 * HOUR)
    source = workers.source(witnessed(), memory)
    workers.tasks.sweep(source, options=SweepOptions("host", 9, Breaker(50, 1.0), is_halted=lambda: True))
    memory.age(GONE_AFTER + 1)
    workers.beat("bystander")
    explained = workers.tasks.explained("1", "2", "99", source=source)
    assert [explained[key].verdict for key in ("1", "2", "99")] == [Verdict.STALE, Verdict.STALE, Verdict.YOUNG]
    assert describe_verdict(explained["1"]).startswith("its worker gone 1 is gone: no row in worker since")
    assert describe_verdict(explained["1"]).endswith(" (gone after 1m 30s); running for 1h")
    assert explained["2"].worker_lost is None, "it is stale by its own silence, and that is its reason"
    shown = report(source, DowntimeTracker(0), ReportQuery(Verdict.STALE, None, 9))
    assert {job.key[0] for job in shown.jobs} == {"1", "2", "3"}
    assert (shown.census.stale, shown.census.worker_lost, shown.census.lost_young) == (3, 1, 1)
    young = report(source, DowntimeTracker(0), ReportQuery(Verdict.YOUNG, None, 9))
    assert [job.key[0] for job in young.jobs] == ["99"]
    assert {job.key[0] for job in overdue_jobs(source, DowntimeTracker(0)).jobs} == {"1", "2", "3"}
    holds, now = Memory.open(None).holds, workers.tasks.now()
    for job in ("1", "3", "99"):
        holds.add(JobHold("main", (job,), now + timedelta(hours=1), "ann", "look"), now)
    kept = report(workers.source(witnessed(), memory, holds=holds), DowntimeTracker(0), ReportQuery(None, None, 9))
    assert (kept.census.stale, kept.census.kept) == (3, 2), "one of a lost worker and a silent one are on hold"
    dry = workers.tasks.sweep(source, options=SweepOptions("host", 9, Breaker(50, 1.0), dry_run=True))
    assert {job.key[0] for job in dry.would_reap} == {"1", "2", "3"}
    held_back = workers.source(witnessed(), memory, gone_after_seconds=None)
    assert workers.tasks.explained("1", source=held_back)["1"].verdict is Verdict.YOUNG, "a source asks for it"


def aged(workers: Workers, profile: Profile | None = None, **options: Any) -> tuple[Any, WorkerMemory]:
    """A source, and its memory in which every worker has been as it is for long enough."""
    memory = WorkerMemory()
    source = workers.source(profile or witnessed(), memory, **options)
    workers.tasks.sweep(source, options=SweepOptions("host", 9, Breaker(50, 1.0), is_halted=lambda: True))
    memory.age(GONE_AFTER + 1)
    return source, memory


@mostly_on("postgresql", "workers")
def test_worker_that_beats_between_the_survey_and_the_claim_spares_its_jobs(workers: Workers) -> None:
    for host in ("dead", "slow", "bystander"):
        workers.add(host, 1, beat=MINUTE)
    for number, host in enumerate(["dead", "slow", "back"], start=1):
        workers.task(number, host, 1, age=HOUR)
    source, _ = aged(workers)
    workers.beat("bystander")

    class Beats(SweepRecorder):
        def surveyed(self, source: str, census: Any) -> None:
            super().surveyed(source, census)
            workers.beat("slow")
            workers.add("back", 1, beat=0)

    recorder = Beats()
    report = workers.tasks.sweep(source, recorder=recorder)
    assert recorder.censuses[0].worker_lost == 3, "the survey has found all of them"
    assert ([job.key[0] for job in recorder.reaped_jobs], report.lost) == (["1"], 2)
    assert workers.tasks.sweep(source).reaped == 0


@mostly_on("postgresql", "workers")
def test_other_sign_of_life_than_the_heartbeat_spares_the_job_of_a_worker_that_is_gone(workers: Workers) -> None:
    workers.add("bystander", 1, beat=MINUTE)
    for number, beat in enumerate([GONE_AFTER / 9, GONE_AFTER + 10, None], start=1):
        workers.tasks.add(number, age=HOUR, beat=beat, note="gone", tries=1)
    source, _ = aged(workers, witnessed(also=[{"witness": "own", "column": "beat"}]))
    workers.beat("bystander")
    report = workers.tasks.sweep(source)
    assert (report.reaped, {key for key, state in workers.tasks.states().items() if state == "dead"}) == (2, {"2", "3"})


@mostly_on("postgresql", "workers")
def test_what_becomes_of_the_job_is_said_by_the_source(workers: Workers) -> None:
    workers.add("bystander", 1, beat=MINUTE)
    actions = {"requeue": {"set": {"state": "waiting"}}}
    profile = witnessed(parts={"actions": actions, "attempts": {"column": "tries", "limit": 9}})
    workers.task(1, "gone", 1, age=HOUR)
    source, memory = aged(workers, profile, action="requeue_else_fail")
    workers.beat("bystander")
    explained = workers.tasks.explained("1", source=source)["1"]
    assert (explained.action, describe_verdict(explained).endswith("; its action is fail")) == ("fail", True)
    assert (workers.tasks.sweep(source).reaped, workers.tasks.states()["1"]) == (1, "dead")
    workers.tasks.sweep(source)
    workers.task(2, "gone", 1, age=HOUR)
    assert workers.tasks.sweep(source).reaped == 0, "no job named it in between: its time has begun again"
    memory.age(GONE_AFTER + 1)
    workers.beat("bystander")
    starts_again = workers.source(profile, memory, action="requeue_else_fail", worker_lost_action="requeue_else_fail")
    assert (workers.tasks.sweep(starts_again).reaped, workers.tasks.states()["2"]) == (1, "waiting")


@mostly_on("postgresql", "workers")
def test_time_goes_on_after_a_restart_and_deaf_time_is_left_out(workers: Workers, tmp_path: Path) -> None:
    workers.add("bystander", 1, beat=MINUTE)
    workers.task(1, "gone", 1, age=20 * HOUR)
    limits = thresholds(timeout=30 * HOUR)
    profile, kept = witnessed(gone_after=9 * HOUR), tmp_path / "memory.sqlite3"

    def swept(memory: WorkerMemory, downtime: DowntimeTracker) -> int:
        source = workers.source(profile, memory, limits)
        workers.beat("bystander")
        return workers.tasks.sweep(source, downtime=downtime).reaped

    first = WorkerMemory(kept)
    swept(first, DowntimeTracker(0))
    first.age(9 * HOUR + 1)
    assert swept(WorkerMemory(), DowntimeTracker(0)) == 0, "without memory the time begins again"
    assert swept(WorkerMemory(kept), DowntimeTracker(60)) == 0, "the server was started since: no worker could be heard"
    assert swept(WorkerMemory(kept), DowntimeTracker(0)) == 1


@mostly_on("mariadb", "workers")
def test_all_of_several_workers_that_go_at_once_are_held_whatever_their_number(workers: Workers) -> None:
    for host in ("one", "two", "bystander"):
        workers.add(host, 1, beat=MINUTE)
    workers.task(1, "one", 1, age=HOUR)
    source, memory = aged(workers)
    options = SweepOptions("host", 9, Breaker(50, 1.0))
    report = workers.tasks.sweep(source, options=options)
    assert (report.outcome, report.reaped) == (Outcome.HELD, 0)
    assert report.census is not None and report.census.workers_gone == 3
    why = options.breaker.reason(report.census)
    assert why.startswith("3 workers have gone at about the same time") and "2 stale jobs may be alive" in why
    workers.beat("two")
    workers.task(2, "one", 1, age=HOUR)
    assert workers.tasks.sweep(source, options=options).reaped == 3, "one that holds no job is left: it is no outage"
    workers.task(3, "two", 1, age=HOUR)
    memory.age(GONE_AFTER / 2 + 1)
    workers.add("new", 1, beat=0)
    workers.task(4, "new", 1, age=HOUR)
    assert workers.tasks.sweep(source, options=options).outcome is Outcome.DONE
    memory.age(GONE_AFTER / 2 + 1)
    again = workers.tasks.sweep(source, options=options)
    assert again.outcome is Outcome.HELD, "the last heartbeats of an outage come one after the other"
    released = workers.tasks.sweep(source, options=replace(options, override_breaker_up_to=1))
    assert (released.outcome, released.reaped) == (Outcome.DONE, 1), "a person has seen it"


@mostly_on("postgresql", "workers")
def test_next_sweep_is_due_when_a_worker_goes_and_not_an_interval_later(workers: Workers) -> None:
    memory = WorkerMemory()
    workers.add("dead", 1, beat=MINUTE)
    workers.task(1, "dead", 1, age=HOUR)
    source = workers.source(witnessed(gone_after=HOUR), memory)
    breaker, pace = Breaker(50, 1.0), RetrySchedule(MINUTE)
    runner = SourceRunner(source, DowntimeTracker(0), pace, breaker, 9, "host", [])
    runner.tick()
    assert runner.delay_seconds == MINUTE
    memory.age(HOUR - MINUTE / 2)
    runner.tick()
    assert 0 < runner.delay_seconds <= MINUTE / 2
    memory.age(MINUTE)
    runner.tick()
    assert runner.delay_seconds == MINUTE, "nothing is left to wait for"
