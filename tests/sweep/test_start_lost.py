"""Executions of a log whose start was lost: found within `since`, and ended by sweeps only where the source says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest
from sqlalchemy import Connection

from reaper.memory.future_signs import FutureSignStore
from reaper.memory.state_file import StateFile
from reaper.model import Outcome, SweepReport
from reaper.operations.fail import ManualEnd, fail
from reaper.operations.report import ReportQuery, report
from reaper.profile import resolve
from reaper.source import AuditInfo, Source
from reaper.source.future_signs import future_states
from reaper.source.statements import SourceStatements
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.breaker import Breaker
from reaper.sweep.listeners import NullListener
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.summary import sweep_summary
from reaper.sweep.sweep import sweep
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds.noetl import NoetlWorld
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.world import LATELY, SILENT, State

DAY = 24 * HOUR
Mode = Literal["off", "show", "end"]


@pytest.fixture
def noetl(empty: PostgreSQLDatabase) -> Iterator[NoetlWorld]:
    with NoetlWorld.create(empty) as world:
        yield world


def source(noetl: NoetlWorld, start_lost: Mode = "end") -> Source:
    options = replace(noetl.source_options(), start_lost=start_lost)
    return Source("main", noetl.database.reaper, resolve("noetl"), thresholds(), PATIENCE, options)


def state_of(noetl: NoetlWorld, *jobs: str) -> list[State]:
    return [noetl.state(job) for job in jobs]


def entries(noetl: NoetlWorld) -> int:
    return int(noetl.session.one("SELECT count(*) FROM noetl.event"))


# --- which they are -----------------------------------------------------------------------------------------------


def test_sweep_ends_executions_that_lost_their_start_where_the_source_says_so(noetl: NoetlWorld) -> None:
    lost, ordinary, alive = noetl.start_lost_job(), noetl.stale_job(), noetl.start_lost_job(sign=LATELY)
    recorder = SweepRecorder()
    done = noetl.sweep(source(noetl), recorder=recorder)
    assert done.census is not None and done.start_lost is not None
    assert (done.census.running, done.census.stale, done.reaped) == (3, 2, 2)
    assert (done.start_lost.running, done.start_lost.spared, done.start_lost.stale) == (2, 1, 1)
    assert state_of(noetl, lost, ordinary, alive) == [State.REAPED, State.REAPED, State.RUNNING]
    [evidence] = noetl.audit(lost)
    assert evidence["start_lost"] is True and evidence["started_from"] == "created_at of its first known entry"
    assert "start_lost" not in noetl.audit(ordinary)[0]
    assert any("start was lost: 2 running" in line for line in sweep_summary(done, Breaker(50, 0.5), 0))


@pytest.mark.parametrize("start_lost", ["show", "off"])
def test_sweep_leaves_them_alone_everywhere_else(noetl: NoetlWorld, start_lost: Mode) -> None:
    lost, ordinary = noetl.start_lost_job(), noetl.stale_job()
    done = noetl.sweep(source(noetl, start_lost))
    assert done.census is not None and (done.census.running, done.reaped, done.start_lost) == (1, 1, None)
    assert state_of(noetl, lost, ordinary) == [State.RUNNING, State.REAPED]


def test_execution_without_an_entry_within_since_is_history(noetl: NoetlWorld) -> None:
    history = noetl.start_lost_job(age=9 * DAY, sign=7 * DAY + HOUR)
    lately = noetl.start_lost_job(age=30 * DAY, sign=7 * DAY - HOUR)
    done = noetl.sweep(source(noetl))
    assert done.start_lost is not None and done.start_lost.running == 1
    assert state_of(noetl, history, lately) == [State.RUNNING, State.REAPED]


@pytest.mark.parametrize("end", ["playbook.failed", "workflow.completed", "execution.cancelled"])
def test_execution_with_an_end_does_not_run_whenever_that_came(noetl: NoetlWorld, end: str) -> None:
    job = noetl.start_lost_job()
    noetl.write(job, end, "failed", age=SILENT)
    before = entries(noetl)
    assert noetl.sweep(source(noetl)).reaped == 0
    assert entries(noetl) == before


def test_execution_whose_start_is_older_than_since_is_an_ordinary_one(noetl: NoetlWorld) -> None:
    job = noetl.job(age=20 * DAY, sign=2 * DAY)
    done = noetl.sweep(source(noetl))
    assert done.start_lost is not None and (done.reaped, done.start_lost.running) == (1, 0)
    assert noetl.state(job) is State.REAPED


def test_profile_without_the_word_looks_for_none() -> None:
    assert resolve("protea").with_start_lost() is None


# --- what others may do meanwhile ----------------------------------------------------------------------------------


def _claimed(noetl: NoetlWorld, job: str, meanwhile: tuple[str, float] | None) -> int:
    """How many of the surveyed jobs are ended, when this entry is written between survey and lock."""
    main = source(noetl)
    with main.connect() as connection:
        lost = main.start_lost
        assert lost is not None
        context = main.begin_evaluation(connection, DowntimeTracker(0))
        with main.transaction(connection, read_only=True):
            candidates = list(lost.survey.stream(connection, context))
        assert [candidate.key for candidate in candidates] == [(job,)]
        if meanwhile is not None:
            event, age = meanwhile
            noetl.write(job, event, "running", age=age)
        claim = lost.claim(context, AuditInfo("main", "sweep", "host"))
        with main.transaction(connection):
            return len(claim.run(connection, candidates).reaped)


@pytest.mark.parametrize(
    "meanwhile",
    # The first and the last bear an old moment, so that they are no signs of life.
    [("playbook.completed", SILENT), ("step.enter", 0), ("playbook.initialized", SILENT)],
    ids=["an end", "a sign of life", "the start that was late"],
)
def test_entry_between_survey_and_lock_keeps_an_execution_from_being_ended(
    noetl: NoetlWorld, meanwhile: tuple[str, float]
) -> None:
    job = noetl.start_lost_job()
    assert _claimed(noetl, job, meanwhile) == 0
    assert noetl.state(job) is not State.REAPED


def test_execution_that_is_still_silent_behind_the_lock_is_ended(noetl: NoetlWorld) -> None:
    job = noetl.start_lost_job()
    assert _claimed(noetl, job, None) == 1
    assert noetl.state(job) is State.REAPED


# --- guards and trouble ---------------------------------------------------------------------------------------------


def test_breaker_counts_them_with_the_others(noetl: NoetlWorld) -> None:
    jobs = [noetl.start_lost_job() for _ in range(30)] + [noetl.stale_job() for _ in range(30)]
    held = noetl.sweep(source(noetl))
    assert held.outcome is Outcome.HELD and held.census is not None and held.census.stale == 60
    assert set(state_of(noetl, *jobs)) == {State.RUNNING}


def test_dry_run_lists_them_with_the_others(noetl: NoetlWorld) -> None:
    lost, ordinary, before = noetl.start_lost_job(), noetl.stale_job(), entries(noetl)
    preview = noetl.sweep(source(noetl), dry_run=True)
    assert {evidence.key: evidence.start_lost for evidence in preview.would_reap} == {
        (lost,): True,
        (ordinary,): False,
    }
    assert entries(noetl) == before


def test_trouble_in_finding_them_keeps_no_other_job_from_being_ended(noetl: NoetlWorld) -> None:
    ordinary, main = noetl.stale_job(), source(noetl)
    with main.connect():  # the first contact, at which names are spelled
        lost = main.start_lost
    assert lost is not None
    # A table that is not there stands for whatever the database may refuse in this read alone.
    jobs = lost.profile.jobs.model_copy(update={"table": "noetl.no_such_log"})
    wrong = lost.profile.model_copy(update={"jobs": jobs})
    main.start_lost = Source("main", noetl.database.reaper, wrong, thresholds(), PATIENCE, lost.options)
    done = noetl.sweep(main)
    assert (done.outcome, done.reaped, done.start_lost) == (Outcome.DONE, 1, None)
    assert "no_such_log" in (done.start_lost_trouble or "")
    assert noetl.state(ordinary) is State.REAPED
    found = report(main, DowntimeTracker(0), ReportQuery(None, None, 10))
    assert found.start_lost is None and "which jobs have lost their start" in found.notes[0]


def test_life_after_the_end_is_reported(noetl: NoetlWorld) -> None:
    job, main, state = noetl.start_lost_job(), source(noetl), SourceState()

    class Tracking(NullListener):
        def reaped(self, source: str, sweep_id: str, batch: object) -> None:
            state.reaped_jobs.track(batch)  # type: ignore[arg-type]

    def swept() -> SweepReport:
        return sweep(main, DowntimeTracker(0), state, SweepOptions("host", 10, Breaker(50, 0.5)), None, Tracking())

    assert swept().reaped == 1
    assert not swept().late
    noetl.sign_of_life(job, noetl.session)
    [late] = swept().late
    assert (late.key, late.what) == ((job,), "event")


def test_operator_may_fail_one_whether_sweeps_end_them_or_not(noetl: NoetlWorld) -> None:
    job, main = noetl.start_lost_job(sign=LATELY), source(noetl, "show")
    ended = fail(main, DowntimeTracker(0), (job,), ManualEnd("bob", "host", "its node is gone"), NullListener())
    assert ended.key == (job,) and ended.reason == "ManualTimeout"
    assert (
        noetl.session.one(
            "SELECT event_type::text FROM noetl.event WHERE execution_id = %s ORDER BY event_id DESC LIMIT 1", job
        )
        == "execution.cancelled"
    )


# --- the report -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "listed"), [(10, 3), (2, 2)])
def test_report_shows_them_apart_and_counts_all(noetl: NoetlWorld, limit: int, listed: int) -> None:
    jobs = [noetl.start_lost_job(age=10 * HOUR - n) for n in range(2)] + [noetl.start_lost_job(sign=LATELY)]
    ordinary = noetl.stale_job()
    found = report(source(noetl, "show"), DowntimeTracker(0), ReportQuery(None, None, limit))
    assert [job.key for job in found.jobs] == [(ordinary,)] and found.census.running == 1
    assert found.start_lost is not None
    counts = found.start_lost.census
    assert (counts.running, counts.past_timeout, counts.spared, counts.stale) == (3, 3, 1, 2)
    assert [job.key[0] for job in found.start_lost.jobs] == jobs[:listed]
    assert found.start_lost.more is (listed < 3)
    assert all(job.start_lost for job in found.start_lost.jobs)


def test_report_of_a_source_that_does_not_look_for_them_says_so(noetl: NoetlWorld) -> None:
    noetl.start_lost_job()
    assert report(source(noetl, "off"), DowntimeTracker(0), ReportQuery(None, None, 10)).start_lost is None


def test_sign_in_the_future_counts_from_when_it_was_first_seen_as_for_other_jobs(noetl: NoetlWorld) -> None:
    """It would spare the execution until that moment, in years."""
    file = StateFile(None)
    lost, ordinary = noetl.start_lost_job(sign=-2000 * DAY), noetl.stale_job()
    swept = source(noetl)
    swept.options = replace(swept.options, future_signs=FutureSignStore(file))
    done = noetl.sweep(swept)
    assert (done.reaped, done.future_signs and (done.future_signs.jobs, done.future_signs.job)) == (1, (1, lost))
    assert state_of(noetl, lost, ordinary) == [State.RUNNING, State.REAPED]
    set_back = f"UPDATE future_sign SET first_seen_epoch = first_seen_epoch - {HOUR}"
    file.write(lambda connection: connection.exec_driver_sql(set_back))
    assert noetl.sweep(swept).reaped == 1
    assert state_of(noetl, lost) == [State.REAPED]
    [evidence] = noetl.audit(lost)
    assert evidence["silence_seconds"] == pytest.approx(HOUR, abs=60)


def test_look_for_signs_in_the_future_of_lost_starts_that_fails_keeps_those_of_other_jobs(
    noetl: NoetlWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    noetl.start_lost_job(sign=-2000 * DAY)
    swept = source(noetl)
    look = future_states

    def fails(statements: SourceStatements, connection: Connection, context: EvaluationContext) -> object:
        if swept.start_lost is not None and statements is swept.start_lost.statements:
            connection.exec_driver_sql("SELECT 1 / 0")
        return look(statements, connection, context)

    monkeypatch.setattr("reaper.source.source.future_states", fails)
    done = noetl.sweep(swept)
    assert (done.error, done.future_signs_trouble) == (None, None)
    assert done.future_signs is not None and (done.future_signs.jobs, done.future_signs.complete) == (0, False)
