"""Stale jobs that are tried again: requeued while attempts are left, failed when none is left."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from reaper.model import SweepReport
from reaper.profile import Profile, resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import PATIENCE, SweepRecorder, thresholds

TABLES = """
    CREATE TABLE tasks (
        id bigint PRIMARY KEY, state text NOT NULL, started_at timestamptz, heartbeat_at timestamptz,
        run_at timestamptz, tries int, max_tries int, errors jsonb, twin_of text
    );
    CREATE UNIQUE INDEX ON tasks (twin_of) WHERE state = 'queued';
    CREATE TABLE task_log (task_id bigint NOT NULL REFERENCES tasks, what text NOT NULL, said jsonb NOT NULL);
"""
PROFILE = """
alive = [{ witness = "heartbeat", column = "heartbeat_at" }]
attempts = { column = "tries", limit_column = "max_tries", limit = 2 }

[jobs]
table = "tasks"
key = "id"
started = "started_at"
running = { column = "state", in = ["working"] }

[actions.fail]
set = { state = "dead", errors = { column = "errors", append = { is = "message" } } }
also = [{ insert = "task_log", values = { task_id = { column = "id" }, what = "dead", said = { is = "evidence" } } }]

[actions.requeue.set]
state = "queued"
started_at = { is = "null" }
run_at = { is = "now", plus = "5m" }
tries = { column = "tries", plus = 1 }

[actions.requeue.set.errors]
column = "errors"
append = { json = { at = { is = "now" }, why = { is = "reason" }, try = { column = "tries" } } }

[[actions.requeue.also]]
insert = "task_log"
values = { task_id = { column = "id" }, what = "requeued", said = { is = "evidence" } }
"""


class Tasks:
    """The table of tasks, and how tests fill it."""

    def __init__(self, url: str, connection: psycopg.Connection[Any]) -> None:
        self.url, self.connection = url, connection

    def stale(self, number: int, *, tries: int | None = 0, most: int | None = None, twin: str | None = None) -> None:
        self.connection.execute(
            "INSERT INTO tasks (id, state, started_at, heartbeat_at, tries, max_tries, twin_of)"
            " VALUES (%s, 'working', now() - interval '9 h', now() - interval '2 h', %s, %s, %s)",
            (number, tries, most, twin),
        )

    def sweep(self, action: str, profile: Profile | None = None) -> SweepReport:
        source = Source("main", self.url, profile or mapped(), thresholds(), PATIENCE, SourceOptions(action))
        options = SweepOptions(host="test-host", batch_size=10, breaker=Breaker(50, 1.0))
        return sweep(source, DowntimeTracker(0), SourceState(), options, None, SweepRecorder())

    def states(self) -> dict[int, str]:
        return dict(self.connection.execute("SELECT id, state FROM tasks").fetchall())

    def logged(self) -> list[tuple[int, str]]:
        return self.connection.execute("SELECT task_id, what FROM task_log ORDER BY task_id").fetchall()

    def column(self, name: str, number: int) -> Any:
        row = self.connection.execute(f"SELECT {name} FROM tasks WHERE id = %s", [number]).fetchone()
        assert row is not None
        return row[0]


@pytest.fixture
def tasks(database: str) -> Iterator[Tasks]:
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(TABLES)
        yield Tasks(database, connection)


def mapped(**changes: Any) -> Profile:
    return resolve("tasks", {"base": tomllib.loads(PROFILE), "tasks": {"extends": "base", **changes}})


def test_requeued_job_waits_and_counts_its_attempt(tasks: Tasks) -> None:
    tasks.stale(1, tries=4)
    assert tasks.sweep("requeue").reaped == 1
    assert tasks.states() == {1: "queued"}
    assert tasks.column("tries", 1) == 5
    assert tasks.column("started_at", 1) is None
    assert tasks.column("run_at BETWEEN now() + interval '4 m' AND now() + interval '5 m'", 1)
    [error] = tasks.column("errors", 1)
    assert (error["why"], error["try"]) == ("JobTimeout", 4)
    assert tasks.logged() == [(1, "requeued")]


def test_attempts_left_decide_between_requeue_and_fail(tasks: Tasks) -> None:
    tasks.stale(1, tries=1)  # of 2, which the profile says
    tasks.stale(2, tries=2)
    tasks.stale(3, tries=2, most=3)  # the row's own limit comes first
    tasks.stale(4, tries=3, most=3)
    tasks.stale(5, tries=None)
    assert tasks.sweep("requeue_else_fail").reaped == 5
    assert tasks.states() == {1: "queued", 2: "dead", 3: "queued", 4: "dead", 5: "queued"}
    assert tasks.logged() == [(1, "requeued"), (2, "dead"), (3, "requeued"), (4, "dead"), (5, "requeued")]
    assert tasks.column("tries", 5) == 1


def test_attempt_limit_that_is_null_leaves_no_attempt(tasks: Tasks) -> None:
    tasks.stale(1, tries=0)
    assert tasks.sweep("requeue_else_fail", mapped(attempts={"limit": 1, "limit_column": "max_tries"})).reaped == 1
    assert tasks.states() == {1: "queued"}


def test_appended_members_stay(tasks: Tasks) -> None:
    tasks.stale(1)
    tasks.connection.execute("""UPDATE tasks SET errors = '["first"]'""")
    assert tasks.sweep("fail").reaped == 1
    first, second = tasks.column("errors", 1)
    assert first == "first" and second.startswith("No sign of life for 2h")


@pytest.mark.parametrize(("unique_violation", "left"), [("skip", "working"), ("fail", "dead")])
def test_duplicate_of_a_queued_job_is_skipped_or_failed_as_the_profile_says(
    tasks: Tasks, unique_violation: str, left: str
) -> None:
    tasks.connection.execute("INSERT INTO tasks (id, state, twin_of) VALUES (9, 'queued', 'a')")
    tasks.stale(1)
    tasks.stale(2, twin="a")
    tasks.stale(3)
    report = tasks.sweep("requeue", mapped(actions={"requeue": {"unique_violation": unique_violation}}))
    assert tasks.states() == {9: "queued", 1: "queued", 2: left, 3: "queued"}
    if left == "working":
        assert report.reaped == 2
        [failure] = report.failures
        assert failure.key == ("2",) and "unique" in failure.error
        assert [number for number, _ in tasks.logged()] == [1, 3]
    else:
        assert (report.reaped, report.failures) == (3, ())
        assert tasks.logged() == [(1, "requeued"), (2, "dead"), (3, "requeued")]


def test_duplicates_of_one_batch_are_not_both_queued(tasks: Tasks) -> None:
    tasks.stale(1, twin="a")
    tasks.stale(2, twin="a")
    report = tasks.sweep("requeue")
    assert sorted(tasks.states().values()) == ["queued", "working"]
    assert (report.reaped, len(report.failures)) == (1, 1)
