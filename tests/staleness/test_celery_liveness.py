"""What a liveness report means for a job: alive, dead, or unknown and so spared."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from reaper.liveness import LivenessReport, TaskRemoval
from reaper.model import SweepReport, Verdict
from reaper.profile import Profile, resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import PATIENCE, SweepRecorder, thresholds
from tests.support.worlds.postgresql import PostgreSQLDatabase

CELERY = {"witness": "celery", "celery": {"task": "celery_task_id", "queue": "queue"}}
QUEUED = resolve("queued", {"queued": {"extends": "vuls", "alive": [CELERY]}})
"""Rows say in which queue their tasks wait."""
ONE_QUEUE = LivenessReport(queues=frozenset({"celery"}), known=frozenset({"celery"}))


@dataclass
class FixedProbe:
    """A probe with a fixed report."""

    liveness: LivenessReport

    def ask(self) -> LivenessReport:
        return self.liveness

    def revoke(self, ids: Sequence[str]) -> None:
        raise AssertionError(f"nothing is to be revoked: {ids}")

    def remove_tasks(self, ids: Collection[str], *, dry_run: bool = False) -> TaskRemoval:
        raise AssertionError(f"no task is to be removed: {ids}, {dry_run}")


class VulsRuns:
    """The runs of vuls. All of them are stale unless the report says otherwise."""

    def __init__(self, url: str, connection: psycopg.Connection[Any]) -> None:
        self.url, self.connection = url, connection

    def add(self, task: str | None, *, started: bool = True) -> None:
        self.connection.execute(
            "INSERT INTO task_runs (scheduled_task_id, celery_task_id, status, created_at, started_at)"
            " VALUES (1, %s, 'running', now() - interval '9 h', CASE WHEN %s THEN now() - interval '8 h' END)",
            (task, started),
        )

    def queue(self, task: str, queue: str | None) -> None:
        """A run whose row says in which queue its task waits."""
        self.add(task)
        self.connection.execute("ALTER TABLE task_runs ADD COLUMN IF NOT EXISTS queue text")
        self.connection.execute("UPDATE task_runs SET queue = %s WHERE celery_task_id = %s", (queue, task))

    def failed(self) -> set[str | None]:
        found = self.connection.execute("SELECT celery_task_id FROM task_runs WHERE status = 'failed'").fetchall()
        return {task for (task,) in found}

    def sweep(
        self,
        liveness: LivenessReport | None,
        queues: tuple[str, ...] = ("celery",),
        profile: str | Profile = "vuls",
    ) -> SweepReport:
        habits = SourceOptions(probe=FixedProbe(liveness) if liveness else None, queues=queues)
        mapped = resolve(profile) if isinstance(profile, str) else profile
        source = Source("main", self.url, mapped, thresholds(), PATIENCE, habits)
        return sweep(
            source, DowntimeTracker(0), SourceState(), SweepOptions("host", 10, Breaker(50, 1.0)), None, SweepRecorder()
        )


@pytest.fixture
def runs(empty: PostgreSQLDatabase) -> Iterator[VulsRuns]:
    empty.create("vuls")
    with psycopg.connect(empty.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("INSERT INTO scheduled_tasks (id, name, task_type) VALUES (1, 'nightly', 'scan')")
        yield VulsRuns(empty.url, connection)


def test_task_that_no_worker_knows_is_dead_when_its_queue_is_served(runs: VulsRuns) -> None:
    runs.add("a")
    assert runs.sweep(ONE_QUEUE).reaped == 1


@pytest.mark.parametrize(
    ("liveness", "queues", "why"),
    [
        (LivenessReport(trouble="the broker is away"), ("celery",), "Celery: the broker is away"),
        (LivenessReport(), ("celery",), "Celery: no worker of its queue has answered"),
        (ONE_QUEUE, ("celery", "mail"), "Celery: no worker of its queue has answered"),
        # A worker of a queue that no setting names was met, and has not answered: it may have the task.
        (
            LivenessReport(queues=ONE_QUEUE.queues, known=frozenset({"celery", "scans"})),
            ("celery",),
            "Celery: no worker of its queue has answered",
        ),
        (
            LivenessReport(
                queues=ONE_QUEUE.queues, known=frozenset({"celery", "scans"}), unreliable={"scans": "w1 is missing"}
            ),
            ("celery",),
            "Celery: w1 is missing",
        ),
    ],
)
def test_task_that_may_be_somewhere_is_unknown_and_spared(
    runs: VulsRuns, liveness: LivenessReport, queues: tuple[str, ...], why: str
) -> None:
    runs.add("a")
    report = runs.sweep(liveness, queues)
    assert report.reaped == 0
    [spared] = report.newly_spared
    assert (spared.verdict, spared.unknown) == (Verdict.SPARED, why)


@pytest.mark.parametrize("started", [False, True])
def test_task_that_has_started_may_be_a_waiting_message_again(runs: VulsRuns, started: bool) -> None:
    runs.add("a", started=started)
    report = runs.sweep(LivenessReport(queues=ONE_QUEUE.queues, known=ONE_QUEUE.known, backlog=ONE_QUEUE.queues))
    assert report.reaped == 0
    [spared] = report.newly_spared
    assert spared.unknown == "Celery: it may be one of the messages that wait in its queue"


@pytest.mark.parametrize(
    ("liveness", "why"),
    [
        (LivenessReport(trouble="the broker is away"), "the broker is away"),
        (LivenessReport(), "no worker of its queue has answered"),
        (
            LivenessReport(queues=ONE_QUEUE.queues, known=ONE_QUEUE.known, backlog=ONE_QUEUE.queues),
            "it may be one of the messages that wait in its queue",
        ),
        (
            LivenessReport(
                queues=ONE_QUEUE.queues, known=frozenset({"celery", "scans"}), unreliable={"scans": "w1 is missing"}
            ),
            "w1 is missing",
        ),
        (None, "was not asked"),
    ],
    ids=["not asked", "not served", "messages wait", "doubted", "no probe"],
)
def test_run_without_the_id_of_its_task_is_unknown_where_that_of_another_is(
    runs: VulsRuns, liveness: LivenessReport | None, why: str
) -> None:
    """Its task may have been sent, and the id not written."""
    runs.add(None)
    runs.add("a")
    report = runs.sweep(liveness)
    assert report.reaped == 0
    assert [job.unknown for job in report.newly_spared] == [f"Celery: {why}"] * 2


def test_run_without_the_id_of_its_task_is_ended_when_all_of_celery_has_answered(runs: VulsRuns) -> None:
    runs.add(None)
    runs.add("a")
    alive = LivenessReport(queues=ONE_QUEUE.queues, known=ONE_QUEUE.known, alive=frozenset({"a"}))
    assert runs.sweep(alive).reaped == 1
    assert runs.failed() == {None}


def test_job_is_unknown_where_no_witness_is_asked_and_has_no_sign_of_life_for_it(runs: VulsRuns) -> None:
    runs.add("a")
    report = runs.sweep(None)
    assert (report.reaped, report.asked_witness) == (0, False)
    [spared] = report.newly_spared
    assert (spared.unknown, spared.witness) == ("Celery: was not asked", "start")
    assert spared.silence_seconds == pytest.approx(8 * 3600, abs=60)


def test_queue_that_a_row_names_decides_for_its_own_tasks(runs: VulsRuns) -> None:
    for task, queue in (("a", "celery"), ("b", "mail"), ("c", "scans"), ("d", None), ("e", "lost"), ("f", "celery")):
        runs.queue(task, queue)
    served = frozenset({"celery", "mail"})
    liveness = LivenessReport(
        alive=frozenset({"f"}),
        queues=served,
        known=served | {"scans"},
        backlog=frozenset({"mail"}),
        unreliable={"scans": "w1 is missing"},
    )
    report = runs.sweep(liveness, profile=QUEUED)
    assert (report.error, runs.failed()) == (None, {"a"})
    reasons = {evidence.key[0]: evidence.unknown for evidence in report.newly_spared}
    rows = runs.connection.execute("SELECT celery_task_id, id::text FROM task_runs").fetchall()
    assert {name: reasons[id_] for name, id_ in rows if id_ in reasons} == {
        "b": "Celery: it may be one of the messages that wait in its queue",
        "c": "Celery: w1 is missing",
        "d": "Celery: no worker of its queue has answered",
        "e": "Celery: no worker of its queue has answered",
        "f": None,
    }


def test_message_that_waits_in_a_queue_that_only_workers_name_may_be_the_task(runs: VulsRuns) -> None:
    both = frozenset({"celery", "scans"})
    runs.add("a")
    report = runs.sweep(LivenessReport(queues=both, known=both, backlog=frozenset({"scans"})))
    assert report.reaped == 0
    [spared] = report.newly_spared
    assert spared.unknown == "Celery: it may be one of the messages that wait in its queue"
