"""A job that kills its workers: sweeps start it again a few times, and then fail it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reaper.memory.requeue_counts import RequeueCountStore
from reaper.memory.state_file import StateFile
from reaper.source import Source, SourceOptions
from reaper.source.requeue_counts import RequeueLimit
from tests.support.protea import HOUR, PATIENCE, thresholds
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on, mostly_on

PROFILE = mapped(
    actions={"requeue": {"set": {"state": "waiting"}}}, attempts={"column": "tries", "limit_column": "max_tries"}
)


@pytest.fixture
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        yield made


def source(tasks: Tasks, state_file: Path, action: str) -> Source:
    """A source of a new process."""
    counts = RequeueCountStore(StateFile(state_file))
    options = SourceOptions(action, requeue_limit=RequeueLimit(2, "default", counts))
    return Source("main", tasks.database.url, PROFILE, thresholds(), PATIENCE, options)


def taken(tasks: Tasks, *numbers: int) -> None:
    """A worker takes the tasks, and dies."""
    for number in numbers:
        tasks.session.do("UPDATE task SET state = 'working' WHERE id = %s", number)


@mostly_on("postgresql")
@pytest.mark.parametrize("action", ["requeue", "requeue_else_fail"])
def test_job_is_failed_after_it_was_started_again_often_enough(tasks: Tasks, tmp_path: Path, action: str) -> None:
    file = tmp_path / "memory.sqlite3"
    tasks.add(1, tries=0, max_tries=99)
    for _ in range(2):
        assert tasks.sweep(source(tasks, file, action)).reaped == 1
        assert tasks.states() == {"1": "waiting"}
        taken(tasks, 1)
    tasks.add(2, tries=0, max_tries=99)
    explained = tasks.explained("1", "2", source=source(tasks, file, action))
    assert explained["1"].action == "fail" and explained["2"].action in (None, "requeue")
    report = tasks.sweep(source(tasks, file, action))
    assert (report.error, report.reaped, tasks.states()) == (None, 2, {"1": "dead", "2": "waiting"})
    assert tasks.said(1)["not_requeued"] == "sweeps have started it again 2 times already (requeue_limit, default)"
    taken(tasks, 1)
    assert tasks.sweep(source(tasks, file, action)).reaped == 1
    assert tasks.states()["1"] == "waiting", "an operator has started it again since: the number begins again"


@mostly_on("postgresql")
def test_job_that_is_failed_for_its_attempts_is_not_counted(tasks: Tasks, tmp_path: Path) -> None:
    file, action = tmp_path / "memory.sqlite3", "requeue_else_fail"
    tasks.add(1, tries=9, max_tries=9, age=9 * HOUR)
    for _ in range(2):
        assert tasks.sweep(source(tasks, file, action)).reaped == 1
        taken(tasks, 1)
    tasks.session.do("UPDATE task SET max_tries = 10")
    tasks.session.do("DELETE FROM task_log")
    assert tasks.sweep(source(tasks, file, action)).reaped == 1
    assert tasks.states() == {"1": "waiting"}
