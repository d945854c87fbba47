"""Tasks of ended jobs that Celery's workers still execute are revoked, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest

from reaper.errors import ProbeUnavailable
from reaper.liveness import LivenessReport, TaskRemoval
from reaper.model import Key, Outcome, ReapedJob, SweepReport
from reaper.profile import resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from reaper.sweep.task_revocation import TaskRevocation
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds.postgresql import PostgreSQLDatabase

QUEUE = frozenset({"celery"})
ORDERS = SweepOptions("test-host", 10, Breaker(50, 1.0))


def executing(trouble: str | None = None, alive: Sequence[str] = (), **tasks: str) -> LivenessReport:
    """What each worker has: its tasks by their ids."""
    return LivenessReport(
        alive=frozenset([*tasks, *alive]), executing=tasks, queues=QUEUE, known=QUEUE, trouble=trouble
    )


@dataclass
class Workers:
    """They report what they execute, and record what was revoked."""

    liveness: LivenessReport = field(default_factory=LivenessReport)
    revoked: list[list[str]] = field(default_factory=list)
    away: bool = False
    before: Callable[[], object] = lambda: None

    def ask(self) -> LivenessReport:
        return self.liveness

    def revoke(self, ids: Sequence[str]) -> None:
        self.before()
        self.revoked.append(sorted(ids))
        if self.away:
            raise ProbeUnavailable("no worker answered")

    def remove_tasks(self, ids: Collection[str], *, dry_run: bool = False) -> TaskRemoval:
        raise AssertionError(f"no task is to be removed: {ids}, {dry_run}")


def job(task: str | None, key: Key = ("1",)) -> ReapedJob:
    return ReapedJob(key, "JobTimeout", "7", 9 * HOUR, 9 * HOUR, "start", task)


# --- what is revoked ----------------------------------------------------------------------------------------------


def test_task_of_an_ended_job_is_revoked_while_a_worker_executes_it() -> None:
    workers, revoked = Workers(), dict[str, str]()
    revoking = TaskRevocation(workers, revoked)
    revoking.revoke_tasks_of(
        [job("a"), job("b"), job(None), job("waits")], executing(a="w1", other="w2", alive=["waits"])
    )
    assert (workers.revoked, revoked, revoking.trouble) == ([["a"]], {"a": "w1"}, None)


@pytest.mark.parametrize("liveness", [None, executing(), executing(other="w1")])
def test_task_that_no_worker_executes_is_not_revoked(liveness: LivenessReport | None) -> None:
    workers, revoked = Workers(), dict[str, str]()
    TaskRevocation(workers, revoked).revoke_tasks_of([job("a"), job(None)], liveness)
    assert (workers.revoked, revoked) == ([], {})


def test_task_that_the_same_worker_still_executes_is_revoked_again_and_reported_as_trouble() -> None:
    workers, revoked = Workers(), {"a": "w1", "b": "w2"}
    revoking = TaskRevocation(workers, revoked)
    revoking.retry_earlier(executing(a="w1", b="w2", c="w1"))
    assert (workers.revoked, revoked) == ([["a", "b"]], {"a": "w1", "b": "w2"})
    assert revoking.trouble == "2 task(s) of ended jobs are still being executed"


def test_task_that_another_worker_has_taken_up_since_is_not_revoked() -> None:
    """Its message came back, and a worker has begun it again: that run is not the one that was ended."""
    workers, revoked = Workers(), {"a": "w1", "b": "w1"}
    revoking = TaskRevocation(workers, revoked)
    revoking.retry_earlier(executing(a="w2", b="w1"))
    assert (workers.revoked, revoked) == ([["b"]], {"b": "w1"})
    assert revoking.trouble == "1 task(s) of ended jobs are still being executed"


def test_task_that_has_ended_is_forgotten() -> None:
    workers, revoked = Workers(), {"a": "w1", "b": "w1"}
    revoking = TaskRevocation(workers, revoked)
    revoking.retry_earlier(executing(c="w1", alive=["b"]))
    assert (workers.revoked, revoked, revoking.trouble) == ([], {}, None)


def test_revocation_that_failed_is_sent_again_with_the_next_sweep_and_not_with_each_batch() -> None:
    workers, revoked = Workers(away=True), dict[str, str]()
    liveness = executing(a="w1", b="w2", c="w3")
    revoking = TaskRevocation(workers, revoked)
    revoking.revoke_tasks_of([job("a")], liveness)
    revoking.revoke_tasks_of([job("b")], liveness)
    assert (workers.revoked, revoked) == ([["a"]], {"a": "w1", "b": "w2"})
    assert revoking.trouble == "tasks of ended jobs may still be executed: no worker answered"
    workers.away = False
    revoking = TaskRevocation(workers, revoked)
    revoking.retry_earlier(liveness)
    assert workers.revoked == [["a"], ["a", "b"]]


def test_revocation_that_failed_again_is_not_sent_with_each_batch_either() -> None:
    workers, revoked = Workers(away=True), {"a": "w1"}
    liveness = executing(a="w1", b="w2")
    revoking = TaskRevocation(workers, revoked)
    revoking.retry_earlier(liveness)
    revoking.revoke_tasks_of([job("b")], liveness)
    assert (workers.revoked, revoked) == ([["a"]], {"a": "w1", "b": "w2"})
    assert revoking.trouble == "tasks of ended jobs may still be executed: no worker answered"


def test_task_that_does_not_end_delays_no_other() -> None:
    workers, revoked = Workers(), {"stubborn": "w1"}
    liveness = executing(stubborn="w1", a="w2")
    revoking = TaskRevocation(workers, revoked)
    revoking.retry_earlier(liveness)
    revoking.revoke_tasks_of([job("a")], liveness)
    assert workers.revoked == [["stubborn"], ["a"]]
    assert revoked == {"stubborn": "w1", "a": "w2"}
    assert revoking.trouble == "1 task(s) of ended jobs are still being executed"


# --- in a sweep ------------------------------------------------------------------------------------------------


class VulsRuns:
    """The runs of vuls. A worker that executes one keeps it alive until it is seven hours old."""

    def __init__(self, url: str, connection: psycopg.Connection[Any]) -> None:
        self.url, self.connection = url, connection
        self.workers, self.memory = Workers(), SourceState()

    def add(self, task: str, *, age: float = 8 * HOUR, started: bool = True) -> None:
        self.connection.execute(
            "INSERT INTO task_runs (scheduled_task_id, celery_task_id, status, created_at, started_at)"
            " VALUES (1, %s, 'running', now() - make_interval(secs => %s),"
            " CASE WHEN %s THEN now() - make_interval(secs => %s) END)",
            (task, age, started, age),
        )

    def failed(self) -> set[str]:
        found = self.connection.execute("SELECT celery_task_id FROM task_runs WHERE status = 'failed'")
        return {str(task) for (task,) in found}

    def sweep(self, liveness: LivenessReport, options: SweepOptions = ORDERS) -> SweepReport:
        self.workers.liveness = liveness
        habits = SourceOptions(probe=self.workers, queues=("celery",), max_age=7 * HOUR)
        source = Source("main", self.url, resolve("vuls"), thresholds(), PATIENCE, habits)
        report = sweep(source, DowntimeTracker(0), self.memory, options, None, SweepRecorder())
        assert report.error is None
        return report


@pytest.fixture
def runs(empty: PostgreSQLDatabase) -> Iterator[VulsRuns]:
    empty.create("vuls")
    with psycopg.connect(empty.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("INSERT INTO scheduled_tasks (id, name, task_type) VALUES (1, 'nightly', 'scan')")
        yield VulsRuns(empty.url, connection)


def test_sweep_revokes_what_it_has_ended_after_the_commit_and_nothing_else(runs: VulsRuns) -> None:
    for task in ("hung", "lost", "reserved"):
        runs.add(task)
    runs.add("young", age=6.5 * HOUR)
    runs.add("waiting", started=False)
    seen: list[set[str]] = []
    runs.workers.before = lambda: seen.append(runs.failed())
    report = runs.sweep(executing(hung="w1", young="w1", waiting="w2", other="w2", alive=["reserved"]))
    assert (report.reaped, report.census and report.census.spared) == (2, 3)
    assert runs.failed() == {"hung", "lost"}
    assert (runs.workers.revoked, seen) == ([["hung"]], [{"hung", "lost"}])
    assert runs.memory.unconfirmed_revocations == {"hung": "w1"} and report.revoke_trouble is None


def test_sweep_tells_again_only_of_tasks_that_the_same_worker_has(runs: VulsRuns) -> None:
    for task in ("kept", "moved", "over"):
        runs.add(task)
    runs.sweep(executing(kept="w1", moved="w1", over="w1"))
    report = runs.sweep(executing(kept="w1", moved="w2"))
    assert runs.workers.revoked == [["kept", "moved", "over"], ["kept"]]
    assert report.revoke_trouble == "1 task(s) of ended jobs are still being executed"
    assert runs.sweep(executing(moved="w2")).revoke_trouble is None
    assert len(runs.workers.revoked) == 2 and runs.memory.unconfirmed_revocations == {}


@pytest.mark.parametrize(
    ("options", "outcome"),
    [(replace(ORDERS, dry_run=True), Outcome.DONE), (replace(ORDERS, is_halted=lambda: True), Outcome.HALTED)],
    ids=["dry run", "halted"],
)
def test_sweep_that_ends_nothing_revokes_nothing(runs: VulsRuns, options: SweepOptions, outcome: Outcome) -> None:
    runs.memory.unconfirmed_revocations["earlier"] = "w1"
    runs.add("hung")
    assert runs.sweep(executing(hung="w1", earlier="w1"), options).outcome is outcome
    assert (runs.workers.revoked, runs.failed(), runs.memory.unconfirmed_revocations) == ([], set(), {"earlier": "w1"})


def test_sweep_that_could_not_ask_the_workers_forgets_and_revokes_nothing(runs: VulsRuns) -> None:
    runs.memory.unconfirmed_revocations["earlier"] = "w1"
    report = runs.sweep(executing(trouble="the broker is away"))
    assert (report.witness_trouble, report.revoke_trouble) == ("the broker is away", None)
    assert (runs.workers.revoked, runs.memory.unconfirmed_revocations) == ([], {"earlier": "w1"})
    runs.sweep(executing(earlier="w1"))
    assert runs.workers.revoked == [["earlier"]]
