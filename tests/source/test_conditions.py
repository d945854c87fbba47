"""Conditions that compare two columns, and those of which one is enough, on both servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reaper.model import Verdict
from tests.support.protea import HOUR, MINUTE
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on

STALE, SPARED, ENDED = Verdict.STALE, Verdict.SPARED, Verdict.ENDED

NOT_DUE_SINCE_ITS_START = {
    "any_of": [{"column": "due", "is": "null"}, {"column": "due", "less_than": {"column": "started"}}]
}


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        yield made


def running(*where: dict[str, Any]) -> dict[str, Any]:
    """The jobs that run while these conditions are met, too."""
    return {"running": {"where": list(where)}}


def test_job_runs_while_one_of_its_conditions_is_met(tasks: Tasks) -> None:
    source = tasks.source(mapped(jobs=running(NOT_DUE_SINCE_ITS_START)))
    expected = {
        tasks.add(1): STALE,
        tasks.add(2, due=9 * HOUR): STALE,
        tasks.add(3, due=7 * HOUR): ENDED,
        tasks.add(4, due=9 * HOUR, state="over"): ENDED,
        tasks.add(5, age=None, made=8 * HOUR, due=9 * HOUR): ENDED,  # NULL meets no comparison
    }
    assert tasks.verdicts(source) == expected
    report = tasks.sweep(source)
    assert (report.error, report.failures, report.reaped) == (None, (), 2)
    assert tasks.states() == {"1": "dead", "2": "dead", "3": "working", "4": "over", "5": "working"}


def test_columns_that_store_moments_in_different_ways_are_compared_as_moments(tasks: Tasks) -> None:
    tasks.session.do("ALTER TABLE task ADD done_ms bigint")
    now_ms = tasks.now().timestamp() * 1000
    done_before_its_start = {"column": "started", "greater_than": {"column": "done_ms"}}
    profile = mapped(times={"task.done_ms": "epoch ms"}, jobs=running(done_before_its_start))
    expected = {
        tasks.add(1, done_ms=round(now_ms - 9 * HOUR * 1000)): STALE,
        tasks.add(2, done_ms=round(now_ms - 7 * HOUR * 1000)): ENDED,
        tasks.add(3, done_ms=None): ENDED,
    }
    assert tasks.verdicts(tasks.source(profile)) == expected


def test_numbers_of_two_columns_are_compared(tasks: Tasks) -> None:
    source = tasks.source(mapped(jobs=running({"column": "tries", "less_than": {"column": "max_tries"}})))
    expected = {
        tasks.add(1, tries=2, max_tries=10): STALE,
        tasks.add(2, tries=10, max_tries=2): ENDED,
        tasks.add(3, tries=2, max_tries=2): ENDED,
    }
    assert tasks.verdicts(source) == expected
    explained = tasks.explained("2", "3", source=source)
    assert explained["2"].not_running == ("its tries is 10, not less than max_tries (2)",)


def test_row_is_a_sign_of_life_while_one_of_the_witness_conditions_is_met(tasks: Tasks) -> None:
    moment = "datetime(6)" if tasks.mariadb else "timestamptz"
    tasks.session.do(f"CREATE TABLE pulse (task_id integer, at {moment}, planned {moment}, note varchar(9))")
    where = [{"any_of": [{"column": "note", "in": ["beat"]}, {"column": "at", "greater_than": {"column": "planned"}}]}]
    events = {"table": "pulse", "job": "task_id", "at": "at", "where": where}
    expected = {}
    for number, (planned, note, verdict) in enumerate(
        [(None, "beat", SPARED), (HOUR, "other", SPARED), (MINUTE, "other", STALE), (None, "other", STALE)], 1
    ):
        expected[tasks.add(number)] = verdict
        row = f"INSERT INTO pulse VALUES (%s, {tasks.database.ago}, {tasks.database.ago}, %s)"
        tasks.session.do(row, number, 20 * MINUTE, planned, note)
    assert tasks.verdicts(tasks.source(mapped(alive=[{"witness": "pulse", "events": events}]))) == expected


def test_job_that_ended_by_every_one_of_its_conditions_is_explained_by_all(tasks: Tasks) -> None:
    source = tasks.source(mapped(jobs=running(NOT_DUE_SINCE_ITS_START)))
    tasks.add(1, due=7 * HOUR)
    tasks.add(2, age=None, due=7 * HOUR)
    explained = tasks.explained("1", "2", source=source)
    [why] = explained["1"].not_running
    assert why.startswith("its due is set (2") and "and its due is 2" in why and ", not less than started (2" in why
    assert explained["2"].not_running[0].endswith("and its started is not set")


def test_condition_on_rows_that_must_not_exist_is_explained_in_words(tasks: Tasks) -> None:
    where = [{"any_of": [{"column": "state", "in": ["shut"]}, {"column": "id", "less_than": {"column": "task_id"}}]}]
    missing = [{"table": "task_part", "match": {"task_id": "id"}, "where": where}]
    source = tasks.source(mapped(jobs={"running": {"missing": missing}}))
    expected = {tasks.add(1): STALE, tasks.add(2): ENDED, tasks.add(30): ENDED}
    for number, task, state in [(5, 1, "open"), (6, 2, "shut"), (7, 30, "open")]:
        tasks.part(number, task, state)
    assert tasks.verdicts(source) == expected
    [why] = tasks.explained("2", source=source)["2"].not_running
    assert why == "a row of task_part belongs to it with (state shut or id less than task_id)"
