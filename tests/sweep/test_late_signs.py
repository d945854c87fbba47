"""Late signs: a job that shows life after it was ended is told, once; nothing else is taken for that."""

from __future__ import annotations

import time
import tomllib
import tracemalloc
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import generate_latest
from sqlalchemy.event import listens_for
from structlog.testing import capture_logs

from reaper.common import messages
from reaper.common.json_values import to_jsonable
from reaper.model import LateSign, Outcome, PostTransitionState, ReapedJob, ServerClock, SweepReport
from reaper.observers.event_log import EventLog
from reaper.observers.metrics import Metrics
from reaper.operations.fail import ManualEnd, fail
from reaper.profile import resolve
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.source import Sign, Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep import late_signs
from reaper.sweep.breaker import Breaker
from reaper.sweep.late_signs import MAX_PER_SWEEP, MAX_TRACKED, ReapedJobTracker, newer_than_transition
from reaper.sweep.options import SweepOptions
from reaper.sweep.state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.daemons import Daemon, Samples, until
from tests.support.protea import HOUR, PATIENCE, Heard, Protea, thresholds
from tests.support.worlds import Database, State, World
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import database_on, only_where
from tests.support.worlds.vuls import VulsWorld


class Sweeps:
    """One sweep after the other of a source, as a daemon does them; what they executed stands in `statements`."""

    def __init__(self, source: Source, **options: Any) -> None:
        self.source, self.memory = source, SourceState()
        self.options = SweepOptions(**{"host": "test-host", "batch_size": 10, "breaker": Breaker(50, 1.0), **options})
        self.statements: list[str] = []

        @listens_for(source.engine, "before_cursor_execute")
        def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            self.statements.append(statement)

    def once(self) -> SweepReport:
        heard = Heard(memory=self.memory)
        report = sweep(self.source, DowntimeTracker(0), self.memory, self.options, None, heard)
        self.source.close()
        assert report.late_trouble is None, report.late_trouble
        return report

    def reaps(self, jobs: int = 1) -> None:
        report = self.once()
        assert (report.error, report.failures, report.reaped, list(report.late)) == (None, (), jobs, [])

    def late(self) -> list[LateSign]:
        report = self.once()
        assert (report.error, report.outcome, report.reaped) == (None, Outcome.DONE, 0)
        return list(report.late)


# --- every job system --------------------------------------------------------------------------------------------


EVENTS = {
    "protea": "INSERT INTO job_event (job_id, event, ts) VALUES (%s, 'progress', {now})",
    "adhese": 'UPDATE "PARTIAL_JOB_RESULTS" SET end_time = {now} WHERE job_result_id = %s',
    "vuls-schedule": "INSERT INTO task_runs (scheduled_task_id, status, created_at) VALUES (%s, 'success', {now})",
}
FINISHES = {
    "protea": "UPDATE job SET status = 'succeeded', finished_at = {now} WHERE id = %s",
    "adhese": "UPDATE \"JOB_RESULTS\" SET state = 'failed' WHERE id = %s",
    "vuls": "UPDATE task_runs SET status = 'success', completed_at = {now} WHERE id = %s",
    "vuls-schedule": "UPDATE scheduled_tasks SET last_status = 'success' WHERE id = %s",
}
"""What the worker of a job does that does not ask whether it is still its own."""


def _leaves_something(world: World) -> bool:
    return (world.profile, world.action) not in {("adhese", "delete"), ("adhese-schedule", "fail")}


def _does(world: World, what: dict[str, str], job: str) -> None:
    assert world.hand.do(what[world.profile].format(now=world.database.naive_ago.replace("%s", "0")), job) == 1


def _shows_life(world: World, job: str) -> None:
    if world.profile == "noetl":
        world.sign_of_life(job, world.hand)
    elif world.profile == "adhese":
        world.hand.do(EVENTS["adhese"].format(now=world.database.naive_ago.replace("%s", "0")), job)
    else:
        _does(world, EVENTS, job)


def _finishes(world: World, job: str) -> None:
    if world.profile == "noetl":
        world.finish(job, world.hand)
    else:
        _does(world, FINISHES, job)


def test_what_a_reap_writes_itself_is_no_sign_of_life(world: World) -> None:
    sweeps, jobs = Sweeps(world.source()), [world.stale_job() for _ in range(3)]
    sweeps.reaps(3)
    assert [world.state(job) for job in jobs] == [State.REAPED] * 3
    assert len(sweeps.memory.ended) == (3 if _leaves_something(world) else 0)
    assert sweeps.late() == sweeps.late() == []


@only_where(lambda world: world.signs and world.profile != "adhese-schedule" and world.action != "delete")
def test_a_late_event_is_told_once_with_both_evidences(world: World) -> None:
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


@only_where(lambda world: world.profile != "adhese-schedule" and world.action != "delete")
def test_a_late_finish_is_told_once_with_what_it_wrote(world: World) -> None:
    sweeps, job = Sweeps(world.source()), world.stale_job()
    world.stale_job()
    sweeps.reaps(2)
    _finishes(world, job)
    [sign] = sweeps.late()
    assert (sign.key, sign.what, sign.finished, sign.told_before) == ((job,), "status", True, False)
    assert sign.status != sign.status_then
    assert sweeps.late() == []
    assert len(sweeps.memory.ended) == 1


@only_where(lambda world: world.signs and world.profile != "adhese-schedule" and world.action != "delete")
def test_an_event_and_the_finish_that_follows_are_one_story(world: World) -> None:
    sweeps, job = Sweeps(world.source()), world.stale_job()
    sweeps.reaps()
    _shows_life(world, job)
    [event] = sweeps.late()
    _finishes(world, job)
    [finish] = sweeps.late()
    assert (event.what, event.told_before, finish.what, finish.told_before) == ("event", False, "status", True)
    assert sweeps.late() == []


# --- protea ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sweeps(protea: Protea) -> Sweeps:
    return Sweeps(protea.source())


def test_a_worker_that_fails_late_is_told_though_the_status_is_the_same(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.connection.execute(
        "UPDATE job SET finished_at = clock_timestamp(), error_code = 'Boom' WHERE id = %s", (job,)
    )
    [sign] = sweeps.late()
    assert (sign.what, sign.finished, sign.status, sign.status_then) == ("status", True, "failed", "failed")
    assert sign.at is not None and sign.witness is None
    assert "it has ended again as failed (an end at " in messages.describe_late_sign(sign)


def test_a_job_that_says_again_that_it_runs_is_told(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.connection.execute("UPDATE job SET status = 'running', finished_at = NULL WHERE id = %s", (job,))
    protea.event(job)
    [sign] = sweeps.late()
    assert (sign.what, sign.status, sign.finished) == ("status", "running", False)
    assert "its status is running, not failed (job_event at " in messages.describe_late_sign(sign)


def test_a_job_that_is_started_anew_is_not_told(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.connection.execute("UPDATE job SET status = 'running', started_at = now() WHERE id = %s", (job,))
    protea.event(job)
    assert sweeps.late() == []
    protea.connection.execute("UPDATE job SET status = 'succeeded', finished_at = now() WHERE id = %s", (job,))
    assert sweeps.late() == [] and len(sweeps.memory.ended) == 0


def test_a_job_that_is_put_back_by_hand_is_not_told(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.connection.execute("UPDATE job SET status = 'queued', finished_at = NULL WHERE id = %s", (job,))
    assert sweeps.late() == [] and len(sweeps.memory.ended) == 0


def test_a_job_that_is_purged_is_not_told(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.event(job)
    protea.connection.execute("DELETE FROM job WHERE id = %s", (job,))
    assert sweeps.late() == [] and len(sweeps.memory.ended) == 0


def test_the_end_of_a_child_is_no_sign_of_its_parent(protea: Protea, sweeps: Sweeps) -> None:
    parent = protea.stale()
    sweeps.reaps()
    child = protea.job(parent=parent, age=9 * HOUR)
    protea.connection.execute("UPDATE job SET created_at = now() WHERE id = %s", (child,))
    sweeps.reaps()
    assert sweeps.late() == []
    protea.event(child)
    assert [sign.key for sign in sweeps.late()] == [(child,)]


def test_an_event_of_before_the_reap_is_no_late_sign(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.event(job, age=60)
    assert sweeps.late() == []


def test_it_looks_while_the_breaker_holds_and_while_it_is_halted(protea: Protea) -> None:
    sweeps, jobs = Sweeps(protea.source()), [protea.stale() for _ in range(2)]
    sweeps.reaps(2)
    protea.event(jobs[0])
    for _ in range(51):
        protea.stale()
    sweeps.options = SweepOptions("test-host", 10, Breaker(50, 0.5))
    report = sweeps.once()
    assert (report.outcome, [sign.key for sign in report.late]) == (Outcome.HELD, [(jobs[0],)])
    protea.event(jobs[1])
    sweeps.options = SweepOptions("test-host", 10, Breaker(50, 1.0), halted=lambda: True)
    report = sweeps.once()
    assert (report.outcome, [sign.key for sign in report.late]) == (Outcome.HALTED, [(jobs[1],)])


def test_a_rehearsal_takes_no_sign_away_from_the_sweep_that_tells_it(protea: Protea, sweeps: Sweeps) -> None:
    job = protea.stale()
    sweeps.reaps()
    protea.event(job)
    sweeps.options = SweepOptions("test-host", 10, Breaker(50, 1.0), dry_run=True)
    assert not sweeps.once().looked_back
    sweeps.options = SweepOptions("test-host", 10, Breaker(50, 1.0))
    assert len(sweeps.late()) == 1


def test_where_nothing_was_reaped_nothing_more_is_asked(protea: Protea, sweeps: Sweeps) -> None:
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
    # One transaction more: how it opens (read only, and its limits), and one look.
    assert len(sweeps.statements) == before + 3


def test_a_job_ended_by_a_person_through_the_daemon_is_remembered_too(protea: Protea) -> None:
    told: list[SweepReport] = []

    class Told(Heard):
        def swept(self, report: SweepReport) -> None:
            told.append(report)

    source = protea.source()
    runner = SourceRunner(source, DowntimeTracker(0), RetrySchedule(60), Breaker(50, 1.0), 10, "test-host", [Told()])
    job = protea.job(age=10)
    fail(source, DowntimeTracker(0), (job,), ManualEnd("me", "test-host", "no good"), runner)
    protea.event(job)
    assert runner.tick() is not None
    runner.stop()
    assert runner.join(5)
    [sign] = told[0].late
    assert (sign.key, sign.reason, sign.what) == ((job,), "ManualTimeout", "event")


def test_of_very_many_some_are_followed_and_all_are_told_when(protea: Protea, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reaper.source.claim.MAX_FOLLOWED", 15)
    sweeps, heard = Sweeps(protea.source()), Heard()
    heard.memory = sweeps.memory
    for _ in range(60):
        protea.stale()
    report = sweep(sweeps.source, DowntimeTracker(0), sweeps.memory, sweeps.options, None, heard)
    sweeps.source.close()
    # Two batches of ten are in hand at a time.
    assert report.reaped == 60 and 15 <= len(sweeps.memory.ended) <= 25
    assert all(job.reaped_at for job in heard.reaped_jobs)


def test_documents_tell_when_a_job_was_ended_and_not_what_is_only_compared(protea: Protea) -> None:
    heard, job = Heard(), protea.stale()
    protea.sweep(heard=heard)
    document = to_jsonable(heard.reaped_jobs[0])
    row = protea.row(job)
    assert datetime.fromisoformat(document["reaped_at"]) >= row["finished_at"]
    assert not {"remains", "state_after"} & document.keys() and heard.reaped_jobs[0].state_after is not None


# --- what columns make of it -------------------------------------------------------------------------------------

TASKS = """
[[alive]]
witness = "heartbeat"
column = "heartbeat_at"
[[alive]]
witness = "line"
events = { table = "task_log", match = { task_id = "id", task_part = "part" }, at = "at" }
[jobs]
table = "tasks"
key = ["id", "part"]
started = ["started_at", "created_at"]
claim = ["worker"]
running = { column = "state", in = ["working"] }
[actions.fail]
set = { state = "dead", heartbeat_at = { is = "now" } }
[actions.requeue.set]
state = "queued"
started_at = { is = "null" }
worker = { is = "null" }
"""
TABLES = (
    "CREATE TABLE tasks (id bigint, part varchar(9), state varchar(20) NOT NULL, created_at {moment},"
    " started_at {moment}, heartbeat_at {moment}, worker varchar(20), PRIMARY KEY (id, part))",
    "CREATE TABLE task_log (task_id bigint, task_part varchar(9), at {moment})",
)


class Tasks:
    """A table of tasks with a heartbeat, and lines that they write."""

    def __init__(self, place: Database, context: str, profile: str = TASKS) -> None:
        self.place, self.hand = place, place.session(autocommit=True)
        self.now = place.naive_ago.replace("%s", "0")
        self.profile = resolve("tasks", {"tasks": {"time": "naive", **tomllib.loads(profile)}})
        for statement in TABLES:
            self.hand.do(statement.format(context=context))

    def stale(self, number: int) -> None:
        ago = self.place.naive_ago
        self.hand.do(
            f"INSERT INTO tasks VALUES (%s, 'a', 'working', {ago}, {ago}, {ago}, 'w1')",
            number,
            9 * HOUR,
            8 * HOUR,
            2 * HOUR,
        )

    def sweeps(self, action: str = "fail") -> Sweeps:
        return Sweeps(Source("main", self.place.url, self.profile, thresholds(), PATIENCE, SourceOptions(action)))

    def sets(self, what: str, number: int = 1) -> None:
        assert self.hand.do(f"UPDATE tasks SET {what.format(now=self.now)} WHERE id = %s", number) == 1

    def writes(self, number: int = 1) -> None:
        self.hand.do(f"INSERT INTO task_log VALUES (%s, 'a', {self.now})", number)


SERVERS = [("postgresql", "timestamp"), ("mariadb", "datetime(6)")]


@pytest.fixture(params=SERVERS, ids=[server for server, _ in SERVERS])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    where, context = request.param
    with database_on(request, where) as place:
        made = Tasks(place, context)
        yield made
        made.hand.close()


def test_a_heartbeat_and_a_line_are_late_signs_each(tasks: Tasks) -> None:
    sweeps = tasks.sweeps()
    for number in (1, 2, 3):
        tasks.stale(number)
    sweeps.reaps(3)
    assert sweeps.late() == []
    tasks.sets("heartbeat_at = {now}", 1)
    tasks.writes(2)
    told = {sign.key: (sign.witness, sign.what) for sign in sweeps.late()}
    assert told == {("1", "a"): ("heartbeat", "event"), ("2", "a"): ("line", "event")}


def test_a_requeued_job_is_told_until_it_is_started_anew(tasks: Tasks) -> None:
    sweeps = tasks.sweeps("requeue")
    for number in (1, 2, 3):
        tasks.stale(number)
    sweeps.reaps(3)
    assert sweeps.late() == []
    tasks.sets("heartbeat_at = {now}", 1)
    tasks.sets("state = 'working', worker = 'w2', started_at = {now}, heartbeat_at = {now}", 2)
    # Nothing but its state says that it runs again: it was to.
    tasks.sets("state = 'working', heartbeat_at = {now}", 3)
    assert [sign.key for sign in sweeps.late()] == [("1", "a")]
    tasks.sets("state = 'done', heartbeat_at = {now}", 1)
    assert sweeps.late() == [] and len(sweeps.memory.ended) == 0


def test_another_worker_of_a_job_that_was_failed_is_another_run(tasks: Tasks) -> None:
    sweeps = tasks.sweeps()
    tasks.stale(1)
    sweeps.reaps()
    tasks.sets("worker = 'w2', heartbeat_at = {now}")
    assert sweeps.late() == [] and len(sweeps.memory.ended) == 0


@pytest.mark.parametrize("context", ["timestamp(0)", "timestamp"])
def test_what_a_column_rounds_up_is_no_sign(empty: PostgreSQLDatabase, context: str) -> None:
    tasks, many = Tasks(empty, context), 8
    sweeps = tasks.sweeps()
    for number in range(many):
        tasks.stale(number)
        sweeps.reaps()  # each at another fraction of a second
        assert sweeps.late() == []
    tasks.hand.do("UPDATE tasks SET heartbeat_at = heartbeat_at + interval '2 s'")
    assert len(sweeps.late()) == many
    tasks.hand.close()


@pytest.mark.parametrize(
    "epoch, sign, is_later",
    [
        (100.0, 100.0, False),
        (100.0, 99.0, False),
        (100.5, 100.5, False),
        (100.5, 100.6, True),
        (100.5, 101.0, False),  # may be the same moment in whole seconds
        (100.5, 101.5, True),
        (100.0, 101.0, True),
        (100.4567, 100.457, False),  # may be the same in whole milliseconds
        (100.4567, 100.458, True),
        (100.0, float("inf"), False),
    ],
)
def test_a_sign_is_later_than_what_rounding_makes_of_the_reap(epoch: float, sign: float, is_later: bool) -> None:
    remains = PostTransitionState(epoch, (), None, requeued=False)
    assert (newer_than_transition(remains, Sign(sign, "then")) is not None) is is_later
    assert newer_than_transition(remains, None) is None


def test_what_a_trigger_writes_during_the_reap_is_no_sign(empty: PostgreSQLDatabase) -> None:
    tasks = Tasks(empty, "timestamp")
    tasks.hand.do(
        "CREATE FUNCTION beat() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01);"
        " INSERT INTO task_log VALUES (NEW.id, NEW.part, timezone('UTC', clock_timestamp())); RETURN NULL; END $$"
    )
    tasks.hand.do("CREATE TRIGGER beat AFTER UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION beat()")
    tasks.stale(1)
    sweeps = tasks.sweeps()
    sweeps.reaps()
    assert tasks.hand.one("SELECT count(*) FROM task_log") == 1
    assert sweeps.late() == []
    tasks.hand.close()


def test_a_witness_that_a_transition_sets_ahead_is_not_heard_nor_one_that_speaks_of_others() -> None:
    ahead = TASKS.replace('heartbeat_at = { is = "now" }', 'heartbeat_at = { is = "now", plus = "5m" }')
    also = '[[actions.fail.also]]\ninsert = "task_log"\nvalues = {{ task_id = {{ column = "id" }}, at = {{ {0} }} }}\n'
    shared = TASKS.replace('match = { task_id = "id", task_part = "part" }', 'match = { task_id = "id" }')

    def heard(profile: str) -> str:
        mapped = resolve("tasks", {"tasks": tomllib.loads(profile)})
        source = Source("main", "postgresql+psycopg://x@127.0.0.1/x", mapped, thresholds(), PATIENCE)
        downtime = DowntimeTracker(0)
        downtime.record_contact(
            ServerClock(now=datetime(2000, 1, 1, tzinfo=UTC), server_started=datetime(2000, 1, 1, tzinfo=UTC))
        )
        return str(source.follow_up.snapshot_query(EvaluationContext.of(downtime, thresholds())))

    assert "heartbeat_at" in heard(TASKS) and "task_log" in heard(TASKS)
    assert "heartbeat_at" not in heard(ahead) and "task_log" in heard(ahead)
    assert "task_log" in heard(TASKS + also.format('is = "now"'))
    assert "task_log" not in heard(TASKS + also.format('is = "now", plus = "5m"'))
    assert "heartbeat_at" in heard(shared) and "task_log" not in heard(shared)


# --- what is remembered ------------------------------------------------------------------------------------------


def ended(*numbers: int) -> list[ReapedJob]:
    remains = PostTransitionState(1.0, (1.0,), "failed", requeued=False)
    return [
        ReapedJob((str(n),), "JobTimeout", "embed", 1.0, 1.0, None, evidence={"big": "x" * 9}, state_after=remains)
        for n in numbers
    ]


def test_the_newest_are_remembered_and_no_more_than_a_few_thousand() -> None:
    remembered = ReapedJobTracker()
    for begin in range(0, 2 * MAX_TRACKED, 1000):
        remembered.remember(ended(*range(begin, begin + 1000)))
    assert len(remembered) == MAX_TRACKED
    due: set[str] = set()
    for _ in range(2 * MAX_TRACKED // MAX_PER_SWEEP):
        found = [key for (key,) in remembered.next_keys()]
        assert len(set(found)) == len(found) == MAX_PER_SWEEP
        # The newest every time, the others in turn.
        assert set(found) >= {str(n) for n in range(2 * MAX_TRACKED - MAX_PER_SWEEP // 2, 2 * MAX_TRACKED)}
        due |= set(found)
    assert due == {str(n) for n in range(MAX_TRACKED, 2 * MAX_TRACKED)}


def test_what_is_remembered_is_small() -> None:
    remembered = ReapedJobTracker()
    tracemalloc.start()
    for begin in range(0, 20_000, 1000):
        batch = [
            job._replace(
                key=(str(uuid.uuid4()),),
                kind=f"embed {n % 5}",
                evidence={"signs": [n] * 100},
                state_after=PostTransitionState(1.5, (float(n),), f"failed {n % 2}", requeued=False),
            )
            for n, job in enumerate(ended(*range(begin, begin + 1000)))
        ]
        remembered.remember(batch)
        del batch
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(remembered) == MAX_TRACKED
    assert held < 4 << 20, held


def test_what_was_ended_a_day_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered = ReapedJobTracker()
    remembered.remember(ended(1))
    now = time.monotonic()
    monkeypatch.setattr("reaper.sweep.late_signs.time.monotonic", lambda: now + late_signs.RETENTION_SECONDS / 2)
    remembered.remember(ended(2))
    assert list(remembered.next_keys()) == [("1",), ("2",)]
    monkeypatch.setattr("reaper.sweep.late_signs.time.monotonic", lambda: now + late_signs.RETENTION_SECONDS + 60)
    assert list(remembered.next_keys()) == [("2",)] and len(remembered) == 1


def test_a_job_that_is_ended_anew_is_remembered_anew() -> None:
    remembered = ReapedJobTracker()
    remembered.remember(ended(1))
    before = remembered.next_keys()[("1",)]
    remembered.remember(ended(1))
    remembered.forget(before)
    assert list(remembered.next_keys()) == [("1",)]
    remembered.remember([job._replace(state_after=None) for job in ended(1)])
    assert len(remembered) == 0


# --- what is told ------------------------------------------------------------------------------------------------


def test_signs_are_counted_once_for_each_job_by_its_kind(protea: Protea, sweeps: Sweeps) -> None:
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


def test_a_mass_of_signs_is_told_by_name_for_a_hundred_and_counted() -> None:
    sign = LateSign(("1",), "embed", "JobTimeout", "t", 1.0, "job_event", "event", "job_event", "t", "failed")
    with capture_logs() as lines:
        EventLog().swept(SweepReport("main", "1", Outcome.DONE, 0.1, late=[sign] * 130, looked_back=True))
    told = [line["event"] for line in lines]
    assert told == ["Reaper ended a job that shows life afterwards."] * 100 + [
        "Reaper ended more jobs that show life afterwards."
    ]
    assert lines[-1]["jobs"] == 30 and {line["log_level"] for line in lines} == {"error"}


def test_what_cannot_be_looked_at_is_told_once_and_fails_no_sweep(vuls: VulsWorld) -> None:
    event_log = EventLog()
    sweeps, job = Sweeps(vuls.source()), vuls.stale_job()
    sweeps.reaps()
    vuls.hand.do("ALTER TABLE task_runs RENAME COLUMN completed_at TO ended_at")
    with capture_logs() as lines:
        for _ in range(3):
            report = sweep(sweeps.source, DowntimeTracker(0), sweeps.memory, sweeps.options, None, Heard())
            assert (report.outcome, report.looked_back) == (Outcome.DONE, True)
            assert "completed_at" in (report.late_trouble or "")
            event_log.swept(report)
        vuls.hand.do("ALTER TABLE task_runs RENAME COLUMN ended_at TO completed_at")
        event_log.swept(sweeps.once())
    assert [line["event"] for line in lines] == [
        "Reaper cannot see whether ended jobs show life afterwards.",
        "Reaper sees ended jobs again.",
    ]
    vuls.hand.do(FINISHES["vuls"].format(now="now()"), job)
    assert len(sweeps.late()) == 1


def test_a_look_that_takes_too_long_is_cut_short_and_tried_with_fewer(
    protea: Protea, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is looked at takes a tenth of a second here, so that four can be looked at, and no eight."""
    monkeypatch.setattr(late_signs, "_LOOK_SECONDS", 0.7)
    where = [{"sql": "({id} IS NOT NULL AND pg_sleep(0.1) IS NULL) IS NOT TRUE"}]
    profile = resolve("slow", {"slow": {"extends": "protea", "purge": {"where": where, "at": ["finished_at"]}}})
    sweeps, event_log = Sweeps(Source("main", protea.url, profile, thresholds(), PATIENCE)), EventLog()
    jobs = [protea.stale() for _ in range(8)]
    found = set()
    with capture_logs() as lines:
        for number in range(8):
            heard = Heard(memory=sweeps.memory)
            report = sweep(sweeps.source, DowntimeTracker(0), sweeps.memory, sweeps.options, None, heard)
            assert report.outcome is Outcome.DONE
            event_log.swept(report)
            found |= {sign.key[0] for sign in report.late}
            if number == 0:
                assert (report.reaped, report.late_trouble) == (8, "canceling statement due to statement timeout")
                for job in jobs:
                    protea.event(job)
    sweeps.source.close()
    assert found == set(jobs)
    assert [line["event"] for line in lines if "ended jobs" in line["event"]] == [
        "Reaper cannot see whether ended jobs show life afterwards.",
        "Reaper sees ended jobs again.",
    ]


def test_a_database_that_goes_away_meanwhile_fails_the_sweep_as_always(protea: Protea, sweeps: Sweeps) -> None:
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


def test_a_daemon_tells_of_a_worker_that_was_only_slow(protea: Protea, tmp_path: Path) -> None:
    job = protea.stale(operation="embed")
    told = "Reaper ended a job that shows life afterwards."
    with psycopg.connect(protea.libpq, autocommit=True) as worker:
        worker.execute("SELECT status FROM job WHERE id = %s", (job,))
        with Daemon(tmp_path, database_url=protea.libpq) as daemon:
            daemon.comes_up()
            until(lambda: protea.status(job) == "failed", "the reap")
            daemon.sweeps_on(2)
            assert daemon.said(told) == []
            worker.execute("INSERT INTO job_event (job_id, event) VALUES (%s, 'progress')", (job,))
            line = daemon.says(told)
            assert (line["level"], line["job"], line["kind"], line["what"]) == ("error", job, "embed", "event")
            assert (line["witness"], line["late_witness"]) == ("job_event", "job_event")
            assert line["silence_seconds"] == pytest.approx(2 * HOUR, abs=60)
            # It does not ask whether the job is still its own.
            worker.execute("UPDATE job SET status = 'succeeded', finished_at = now() WHERE id = %s", (job,))
            line = daemon.says(told, what="status")
            assert (line["status"], line["status_then"], line["finished"]) == ("succeeded", "failed", True)
            assert line["told_before"] is True
            daemon.sweeps_on(2)
            assert len(daemon.said(told)) == 2
            assert daemon.metrics.value("reaper_late_signs_total", source="default", kind="embed") == 1
            assert daemon.metrics.value("reaper_late_signs_total", source="default", kind="other") == 0


def test_it_is_put_into_words() -> None:
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
    ended = "ended as JobTimeout at 2026-11-28T12:00:00+00:00 after 2h of silence, last heard of by job_event"
    assert messages.describe_late_sign(event) == f"{ended}; since then job_event at 2026-11-28T12:01:00+00:00"
    entry = replace(event, witness=None, at=None, status="step.exit")
    assert messages.describe_late_sign(entry) == f"{ended}; since then an entry step.exit in its log"
    finish = replace(event, what="status", status="succeeded", finished=True, witness=None, at=None)
    assert messages.describe_late_sign(finish) == f"{ended}; since then its status is succeeded, not failed"
    runs = replace(event, what="status", witness=None, at=None)
    assert messages.describe_late_sign(runs) == f"{ended}; since then it says that it runs"
