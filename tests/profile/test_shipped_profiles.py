"""Sweeps in the job system of every shipped profile, on real servers.

A test that says "at any moment" stops a sweep before each of its statements and each of its commits, one after the
other, and lets the job's own worker act there in another session.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event

from reaper.model import SweepReport, Verdict
from reaper.profile import resolve, shipped
from reaper.profile.actions import REQUEUE_ELSE_FAIL
from reaper.source import Claim, Source
from tests.support.commands import environment
from tests.support.programs import PROJECT, start
from tests.support.protea import HOUR, MINUTE, SweepRecorder
from tests.support.waiting import wait_until
from tests.support.worlds import WORLDS, Deadlock, Session, State, World
from tests.support.worlds.servers import only_where, place_id, places_where, repeats_a_shape, restricted_world_on

JOBS = 20


@pytest.fixture(params=places_where(long=True, repeats=repeats_a_shape), ids=place_id)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Every world on every server that supports it. The reaper connects as a role with just its privileges."""
    kind, where = request.param
    with restricted_world_on(request, kind, where) as made:
        yield made


def repeats_a_race(world: type[World]) -> bool:
    """Whether races with a worker go as in another world, where they are tried without --thorough."""
    same_rows = ("adhese", "fail"), ("vuls-schedule", "fail")
    return repeats_a_shape(world) or (world.profile, world.action) in same_rows


def test_shipped_profiles_and_all_their_actions_have_a_world() -> None:
    tried = {(world.profile, world.action) for world in WORLDS}
    adhese = resolve("adhese").actions
    # `fail`, which a sweep takes by default, does the same as `complete`.
    assert adhese["fail"] == adhese["complete"]
    # A choice takes actions that have a world; tests/source/test_choices.py tries the choice itself.
    choices = {(name, choice) for name in shipped() for choice in resolve(name).choices}
    assert tried | {("adhese", "complete")} | choices == {
        (name, action) for name in shipped() for action in resolve(name).action_names if action != REQUEUE_ELSE_FAIL
    }


# --- verdicts --------------------------------------------------------------------------------------------------


def test_jobs_that_live_are_young_or_have_finished_are_left_alone(world: World) -> None:
    alive, young, finished = world.alive_job(), world.young_job(), world.ended_job()
    before = world.dump()
    report = world.sweep()
    assert (report.error, report.reaped) == (None, 0)
    assert report.census and (report.census.running, report.census.spared) == (2, 1)
    assert [world.state(job) for job in (alive, young)] == [State.RUNNING] * 2
    assert world.state(finished) is State.FINISHED and world.dump() == before


def test_stale_jobs_are_reported_by_a_dry_run_and_ended_once_by_a_sweep(world: World) -> None:
    jobs, recorder = [world.stale_job() for _ in range(3)], SweepRecorder()
    before = world.dump()
    report = world.sweep(dry_run=True)
    assert {evidence.key for evidence in report.would_reap} == {(job,) for job in jobs}
    assert report.reaped == 0 and world.dump() == before
    report = world.sweep(recorder=recorder)
    assert (report.error, report.failures, report.reaped) == (None, (), 3)
    assert {reaped.key for reaped in recorder.reaped_jobs} == {(job,) for job in jobs}
    assert [world.state(job) for job in jobs] == [State.REAPED] * 3
    if world.has_message:
        words = world.message(jobs[0])
        assert "after running for 8h 0m (timeout 6h)" in words and "(stall window 30m)" in words
    after = world.dump()
    assert world.sweep().reaped == 0 and world.dump() == after


@only_where(lambda world: world.start_optional, long=True, repeats=repeats_a_shape)
def test_job_without_a_start_counts_from_the_next_column(world: World) -> None:
    old, young = world.stale_job(start=False), world.young_job(start=False)
    assert world.sweep().reaped == 1
    assert (world.state(old), world.state(young)) == (State.REAPED, State.RUNNING)


@only_where(lambda _: True, public=True, repeats=lambda world: bool(world.tables_of))
def test_sweep_of_many_jobs_ends_only_the_stale_ones(world: World) -> None:
    kept = [world.alive_job(), world.young_job()]
    over = world.ended_job()
    jobs = [world.stale_job() for _ in range(JOBS)]
    assert world.sweep(batch_size=3).reaped == JOBS
    assert {world.state(job) for job in jobs} == {State.REAPED}
    assert {world.state(job) for job in kept} == {State.RUNNING} and world.state(over) is State.FINISHED


# --- reports ------------------------------------------------------------------------------------------------


@only_where(lambda _: True, repeats=lambda world: bool(world.tables_of))
def test_explain_agrees_with_the_sweep_on_each_job(world: World) -> None:
    jobs = {
        world.stale_job(): Verdict.STALE,
        world.alive_job(): Verdict.SPARED,
        world.young_job(): Verdict.YOUNG,
        world.stale_job(): Verdict.STALE,
    }
    ended = world.ended_job()
    if world.keeps_finished:
        jobs[ended] = Verdict.ENDED
    verdicts = {evidence.key[0]: evidence.verdict for evidence in world.explain(*jobs)}
    assert verdicts == jobs
    recorder = SweepRecorder()
    world.sweep(recorder=recorder)
    assert {reaped.key[0] for reaped in recorder.reaped_jobs} == {
        job for job in verdicts if verdicts[job] is Verdict.STALE
    }
    assert all(evidence.verdict is not Verdict.STALE for evidence in world.explain(*jobs))


def test_evidence_is_complete(world: World) -> None:
    """It is in the database or, where the database has no place for it, in the log."""
    job, recorder = world.stale_job(), SweepRecorder()
    [expected] = world.explain(job)
    report = world.sweep(recorder=recorder)
    [evidence] = world.audit(job) if world.has_audit else [reaped_job.evidence for reaped_job in recorder.reaped_jobs]
    assert evidence is not None
    for name in ("started", "started_from", "last_sign", "witness", "signs", "timeout_from", "stall_from"):
        assert evidence[name] == getattr(expected, name), name
    assert (evidence["timeout_seconds"], evidence["stall_seconds"]) == (6 * HOUR, 30 * MINUTE)
    assert evidence["age_seconds"] == pytest.approx(8 * HOUR, abs=60)
    silence = (2 if world.has_signs else 8) * HOUR
    assert evidence["silence_seconds"] == pytest.approx(silence, abs=60)
    assert evidence["judged_at"] >= expected.judged_at
    assert (evidence["reason"], evidence["source"]) == ("JobTimeout", "main")
    assert (evidence["sweep_id"], evidence["host"]) == (report.sweep_id, "test-host")


# --- against a worker ------------------------------------------------------------------------------------------


class Interruption:
    """Runs a function once, before statement or commit number `at` of a source."""

    def __init__(self, at: int, what: Callable[[], object]) -> None:
        self._left, self._what = at, what
        self._lock = threading.Lock()
        self.happened = False

    def listen(self, source: Source) -> None:
        event.listen(source.engine, "before_cursor_execute", self._passed)
        event.listen(source.engine, "commit", self._passed)

    def _passed(self, *_: object) -> None:
        with self._lock:  # batches are worked off on two threads
            now, self._left = self._left == 0, self._left - 1
        if now:
            self.happened = True
            self._what()


class Worker:
    """Acts in a session of its own, at some moment of a sweep."""

    def __init__(self, world: World, act: Callable[[Session], bool]) -> None:
        self._world, self._act = world, act
        self._session = world.database.session()
        self._watcher = world.database.session(autocommit=True)
        self._pool = ThreadPoolExecutor(1)
        self._acting: Future[bool] | None = None
        self.waited = False

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._session.close()
        self._watcher.close()

    def act(self) -> None:
        """Returns when it is done, or has to wait for a lock."""
        acting = self._acting = self._pool.submit(self._act_and_commit)
        wait_until(
            lambda: acting.done() or self._world.database.is_blocked(self._session, self._watcher),
            "the action is done, or waits for a lock",
            interval_seconds=0.005,
        )
        self.waited = not acting.done()

    def did(self) -> bool:
        """Whether it changed anything, once it is through."""
        assert self._acting is not None
        return self._acting.result(30)

    def _act_and_commit(self) -> bool:
        for _ in range(10):
            try:
                done = self._act(self._session)
            except Deadlock:
                # As every client of such a database has to: begin again, a little later.
                self._session.rollback()
                threading.Event().wait(0.05)
            else:
                self._session.commit()
                return done
        raise Deadlock


def at_any_moment(
    world: World, act: Callable[[str, Session], bool], thorough: bool
) -> Iterator[tuple[str, Worker, bool, SweepReport]]:
    """A stale job, the worker that acted on it, whether the reaper had been first, and the report of the sweep.

    With --thorough once for each moment of a sweep. Otherwise for every second moment from the one on at which the
    sweep begins to end jobs, and for one in four before that, where nothing is locked yet; other ones in each world. At
    the end it is certain that the worker was in time in some, and waited in others.
    """
    early = late = waited = 0
    for at in itertools.count() if thorough else moments(world):
        job, source = world.stale_job(), world.source()
        gone: list[bool] = []
        with Worker(world, partial(act, job)) as worker:

            def interrupt(job: str = job, worker: Worker = worker, gone: list[bool] = gone) -> None:
                gone.append(world.state(job) is not State.RUNNING)
                worker.act()

            context = Interruption(at, interrupt)
            context.listen(source)
            report = world.sweep(source)
            source.close()
            assert report.error is None and not report.failures, report
            if not context.happened:
                assert world.state(job) is State.REAPED
                break
            worker.did()
            yield job, worker, gone[0], report
            early, waited, late = early + (not gone[0]), waited + worker.waited, late + gone[0]
            if world.state(job) is State.RUNNING:
                assert world.finish(job, world.session)
    assert early > 5 and waited > 0, (early, waited, late)


def moments(world: World) -> Iterator[int]:
    """The moments of a sweep that are tried without --thorough."""
    claimed, number = moment_of_claim(world), WORLDS.index(type(world))
    yield from range(number % 4, claimed, 4)
    yield from itertools.count(claimed + number % 2, 2)


def moment_of_claim(world: World) -> int:
    """How many statements and commits of a sweep that nothing disturbs go before the first that ends a job."""
    job, source, passed = world.stale_job(), world.source(), itertools.count()
    claim, claimed = source.claim, list[int]()

    def noted(*arguments: Any, **given: Any) -> Claim:
        claimed.append(next(passed))
        return claim(*arguments, **given)

    source.claim = noted  # type: ignore[method-assign]
    for name in ("before_cursor_execute", "commit"):
        event.listen(source.engine, name, lambda *_: next(passed))
    world.sweep(source)
    source.close()
    assert world.state(job) is State.REAPED
    return claimed[0]


@only_where(lambda _: True, long=True, repeats=repeats_a_race)
def test_worker_that_finishes_at_any_moment_of_a_sweep_wins_or_waits(world: World, thorough: bool) -> None:
    for job, worker, gone, report in at_any_moment(world, world.finish, thorough):
        state = world.state(job)
        sent_back = world.database.deadlocks and worker.waited and not report.reaped
        if sent_back or (not worker.waited and not gone):
            assert (state, report.reaped) == (State.FINISHED, 0)
        else:
            assert (state, report.reaped) == (State.REAPED, 1)
            assert worker.did() is not world.fenced


@only_where(
    lambda world: world.has_signs and world.signs_wait,
    long=True,
    repeats=lambda world: repeats_a_race(world) or world.action == "delete",
)
def test_sign_of_life_at_any_moment_of_a_sweep_saves_the_job_or_waits(world: World, thorough: bool) -> None:
    for job, worker, gone, report in at_any_moment(world, world.sign_of_life, thorough):
        sent_back = world.database.deadlocks and worker.waited and not report.reaped
        saved = sent_back or (not worker.waited and not gone)
        assert (world.state(job), report.reaped) == ((State.RUNNING, 0) if saved else (State.REAPED, 1))


@pytest.mark.usefixtures("short_wait_for_log")
def test_worker_that_is_finishing_is_not_disturbed_and_may_roll_back(world: World) -> None:
    with world.database.session() as session:
        for ends in (session.commit, session.rollback):
            job = world.stale_job()
            assert world.finish(job, session)
            report = world.sweep()
            assert (report.reaped, report.error, report.failures) == (0, None, ())
            ends()
            finished = ends == session.commit
            assert world.state(job) is (State.FINISHED if finished else State.RUNNING)
            assert world.sweep().reaped == (0 if finished else 1)
    assert world.state(job) is State.REAPED


@pytest.mark.usefixtures("short_wait_for_log")
@only_where(lambda world: world.has_signs and world.signs_wait, long=True, repeats=repeats_a_race)
def test_uncommitted_sign_of_life_saves_the_job(world: World) -> None:
    job = world.stale_job()
    with world.database.session() as session:
        assert world.sign_of_life(job, session)
        report = world.sweep()
        assert (report.reaped, report.error, report.failures) == (0, None, ())
        session.commit()
    assert world.sweep().reaped == 0 and world.state(job) is State.RUNNING


# --- against another reaper, errors and death ------------------------------------------------------------------


@only_where(lambda _: True, long=True, repeats=repeats_a_race)
def test_concurrent_sweeps_end_each_job_once(world: World) -> None:
    jobs = [world.stale_job() for _ in range(JOBS)]
    begin, recorders = threading.Barrier(2), (SweepRecorder(), SweepRecorder())

    def sweep(mine: SweepRecorder) -> SweepReport:
        source = world.source()
        Interruption(0, begin.wait).listen(source)
        return world.sweep(source, recorder=mine, batch_size=3)

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(sweep, recorders))
    assert [report.error for report in reports] == [None, None] and not any(report.failures for report in reports)
    ended = [reaped.key[0] for mine in recorders for reaped in mine.reaped_jobs]
    # Whom neither of them got, each having met the other there, the next sweep gets.
    again = SweepRecorder()
    world.sweep(recorder=again)
    ended += [reaped.key[0] for reaped in again.reaped_jobs]
    assert sorted(ended) == sorted(jobs)
    assert {world.state(job) for job in jobs} == {State.REAPED}
    assert not world.has_audit or {len(world.audit(job)) for job in jobs} == {1}


def test_error_at_any_table_leaves_nothing_half_done(world: World) -> None:
    job, before = world.stale_job(), world.dump()
    for table, operation in world.writes:
        with world.database.refusing_writes(table, operation):
            report = world.sweep()
        assert (report.reaped, [failure.key for failure in report.failures]) == (0, [(job,)]), (table, operation)
        assert world.dump() == before
    assert world.sweep().reaped == 1 and world.state(job) is State.REAPED


@only_where(lambda _: True, long=True, repeats=repeats_a_race)
def test_reaper_killed_within_its_transaction_leaves_nothing(world: World) -> None:
    job, before = world.stale_job(), world.dump()
    words = ("tests.support.world_sweep", type(world).__name__, world.database.reaper)
    for table, operation in world.writes:
        with (
            world.database.blocking_writes(table, operation),
            start(*words, environment=environment({}), folder=PROJECT) as reaper,
        ):
            wait_until(
                lambda: world.database.gate_has_waiter(world.session) or reaper.poll() is not None,
                "the reaper's statement waits, or the reaper has ended",
            )
            assert reaper.poll() is None, "it ended by itself"
            reaper.kill()
        wait_until(lambda: world.database.reaper_sessions(world.session) == 0, "no session of the reaper is left")
        assert world.dump() == before, (table, operation)
    assert world.sweep().reaped == 1 and world.state(job) is State.REAPED
