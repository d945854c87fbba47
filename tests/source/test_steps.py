"""The steps of an action: for which jobs each is taken, and what it writes; on both servers, both or neither."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reaper.check import Level, check_statements, examine
from reaper.model import Reason
from reaper.profile import Profile
from reaper.source import AuditInfo
from reaper.sql_listing import list_recipes
from reaper.staleness.downtime import DowntimeTracker
from tests.support.protea import SweepRecorder
from tests.support.sql_clients import paste
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on

AUDIT = {"insert": "task_log", "values": {"task_id": {"column": "id"}, "what": "dead", "said": {"is": "evidence"}}}


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        made.session.do("CREATE TABLE letter (queue varchar(20) NOT NULL, task_id integer, what varchar(40))")
        yield made


def failing(*also: dict[str, Any], **action: Any) -> Profile:
    return mapped(actions={"fail": {"also": [AUDIT, *also], **action}})


def letters(tasks: Tasks) -> list[tuple[Any, ...]]:
    return tasks.session.ask("SELECT queue, task_id, what FROM letter ORDER BY queue, task_id")


# --- when ------------------------------------------------------------------------------------------------------


def test_step_is_taken_for_the_jobs_that_meet_its_condition_and_for_no_others(tasks: Tasks) -> None:
    """A condition is on the row as it was: `fail` changes the state, and the comparison is that of the column."""
    for number, (kind, tries, twin) in enumerate([("scan", 3, "a"), ("embed", 3, None), ("scan", None, "b")], 1):
        tasks.add(number, kind=kind, tries=tries, twin_of=twin)
        tasks.part(number, number)
    written = {
        "insert": "letter",
        "when": [{"column": "twin_of", "is": "not null"}, {"column": "state", "in": ["working"]}],
        "values": {"queue": {"column": "twin_of"}, "task_id": {"column": "id"}},
    }
    closed = {
        "update": "task_part",
        "when": [{"column": "tries", "greater_than": 2}],
        "match": {"task_id": "id"},
        "set": {"state": "shut"},
    }
    report = tasks.sweep(tasks.source(failing(written, closed)))
    assert (report.error, report.failures, report.reaped) == (None, (), 3)
    assert letters(tasks) == [("a", 1, None), ("b", 3, None)]
    assert tasks.parts() == [(1, 1, "shut"), (2, 2, "shut"), (3, 3, "open")]
    assert tasks.logged() == [(1, "dead"), (2, "dead"), (3, "dead")]


def test_rows_that_a_condition_keeps_are_not_deleted(tasks: Tasks) -> None:
    for number, kind in ((1, "scan"), (2, "embed")):
        tasks.add(number, kind=kind)
        tasks.part(number, number)
    drop = {
        "delete": "task_part",
        "when": [{"sql": "lower({kind}) = 'scan'"}],
        "match": {"task_id": "id"},
        "keep": ["state"],
    }
    recorder = SweepRecorder()
    assert tasks.sweep(tasks.source(failing(drop)), recorder=recorder).reaped == 2
    assert tasks.parts() == [(2, 2, "open")]


def test_evidence_of_jobs_whose_audit_has_a_condition_is_reported_too(tasks: Tasks) -> None:
    tasks.add(1)
    conditional = {**AUDIT, "when": [{"column": "kind", "in": ["scan"]}]}
    recorder = SweepRecorder()
    profile = mapped(actions={"fail": {"also": [conditional]}})
    assert tasks.sweep(tasks.source(profile), recorder=recorder).reaped == 1
    [job] = recorder.reaped_jobs
    assert tasks.logged() == [] and job.evidence is not None and job.evidence["witness"] == "heartbeat"


@pytest.mark.parametrize("refused", ["raise", "drop"])
def test_job_whose_conditional_row_is_refused_stays_as_it_was(tasks: Tasks, refused: str) -> None:
    """Jobs 1 and 2 get a letter, and that of 1 is refused, or dropped without an error."""
    for number, twin in ((1, "a"), (2, "b"), (3, None)):
        tasks.add(number, twin_of=twin)
    if refused == "drop" and tasks.mariadb:
        pytest.skip("no trigger of MariaDB can leave a row out")
    written = {
        "insert": "letter",
        "when": [{"column": "twin_of", "is": "not null"}],
        "values": {"queue": {"column": "twin_of"}, "task_id": {"column": "id"}},
    }
    what = tasks.database.raise_statement if refused == "raise" else "RETURN NULL"
    with tasks.interfering("letter", "INSERT", "NEW.task_id = 1", what):
        report = tasks.sweep(tasks.source(failing(written)))
    assert (report.reaped, [failure.key for failure in report.failures]) == (2, [("1",)])
    assert tasks.states() == {"1": "working", "2": "dead", "3": "dead"}
    assert (letters(tasks), tasks.logged()) == ([("b", 2, None)], [(2, "dead"), (3, "dead")])


def test_condition_of_each_branch_is_its_own(tasks: Tasks) -> None:
    letter: dict[str, Any] = {"insert": "letter", "values": {"queue": "again", "task_id": {"column": "id"}}}
    requeue = {
        "set": {"state": "queued", "started": {"is": "null"}},
        "also": [{**letter, "when": [{"column": "kind", "in": ["scan"]}]}],
    }
    gone = {**letter, "values": {**letter["values"], "queue": "gone"}, "when": [{"column": "kind", "in": ["embed"]}]}
    profile = mapped(
        attempts={"column": "tries", "limit": 2},
        actions={"requeue": requeue, "fail": {"also": [AUDIT, gone]}},
    )
    for number, (kind, tries) in enumerate([("scan", 0), ("embed", 0), ("scan", 9), ("embed", 9)], 1):
        tasks.add(number, kind=kind, tries=tries)
    assert tasks.sweep(tasks.source(profile, action="requeue_else_fail")).reaped == 4
    assert letters(tasks) == [("again", 1, None), ("gone", 4, None)]


# --- unless_there ----------------------------------------------------------------------------------------------


def test_row_is_written_only_where_none_is_there(tasks: Tasks) -> None:
    for number, kind in ((1, "scan"), (2, "embed")):
        tasks.add(number, kind=kind)
    tasks.session.do("INSERT INTO letter VALUES ('q', 1, 'old')")
    letter: dict[str, Any] = {
        "insert": "letter",
        "values": {"queue": "q", "task_id": {"column": "id"}, "what": {"column": "kind"}},
        "unless_there": ["queue", "task_id"],
    }
    report = tasks.sweep(tasks.source(failing(letter)))
    assert (report.error, report.failures, report.reaped) == (None, (), 2)
    assert letters(tasks) == [("q", 1, "old"), ("q", 2, "embed")]


@pytest.mark.parametrize("compared", [["queue"], ["queue", "what"]])
def test_jobs_of_one_batch_that_share_a_row_write_it_once(tasks: Tasks, compared: list[str]) -> None:
    for number, kind in enumerate(("scan", "scan", "embed"), 1):
        tasks.add(number, kind=kind)
    letter: dict[str, Any] = {
        "insert": "letter",
        "values": {"queue": "q", "what": {"column": "kind"}},
        "unless_there": compared,
    }
    report = tasks.sweep(tasks.source(failing(letter)))
    assert (report.error, report.failures, report.reaped) == (None, (), 3)
    assert len(letters(tasks)) == len(compared)


def test_job_whose_absent_row_is_refused_stays_and_is_ended_once_the_row_is_there(tasks: Tasks) -> None:
    tasks.add(1)
    letter: dict[str, Any] = {
        "insert": "letter",
        "values": {"queue": "q", "task_id": {"column": "id"}},
        "unless_there": ["task_id"],
    }
    with tasks.interfering("letter", "INSERT", "NEW.task_id = 1", tasks.database.raise_statement):
        source = tasks.source(failing(letter))
        assert len(tasks.sweep(source).failures) == 1
        assert (tasks.states(), tasks.logged()) == ({"1": "working"}, [])
    tasks.session.do("INSERT INTO letter VALUES ('q', 1, 'theirs')")
    assert tasks.sweep(source).reaped == 1
    assert letters(tasks) == [("q", 1, "theirs")]


# --- backoff ---------------------------------------------------------------------------------------------------


def delays(tasks: Tasks, numbers: dict[int, int | None], **later: Any) -> dict[int, float]:
    """After how many seconds a task with these tries is due again."""
    requeue = {"set": {"state": "queued", "started": {"is": "null"}, "due": {"is": "now", **later}}}
    for task, tries in numbers.items():
        tasks.add(task, tries=tries)
    source = tasks.source(mapped(actions={"requeue": requeue}), action="requeue")
    before = tasks.now()
    assert tasks.sweep(source).reaped == len(numbers)
    due = dict(tasks.session.ask("SELECT id, due FROM task"))
    return {task: (moment.replace(tzinfo=before.tzinfo) - before).total_seconds() for task, moment in due.items()}


@pytest.mark.parametrize(
    ("growth", "expected"),
    [
        ({"power": 4}, {1: 1, 3: 81, 7: 2401, 8: 3595, 10**9: 3595, None: 0, -5: 0}),
        ({"base": 2}, {1: 2, 3: 8, 11: 2048, 12: 3595, 10**9: 3595, None: 1, -5: 1}),
    ],
    ids=["power", "base"],
)
def test_backoff_grows_with_the_tries_up_to_its_limit(
    tasks: Tasks, growth: dict[str, int], expected: dict[int | None, float]
) -> None:
    numbers = dict(enumerate(expected, 1))
    found = delays(tasks, numbers, plus="5s", grows={"column": "tries", "at_most": "1h", **growth})
    for task, tries in numbers.items():
        assert found[task] == pytest.approx(expected[tries] + 5, abs=10), tries
        assert found[task] >= expected[tries] + 5 - 0.01


def test_jitter_leaves_out_up_to_its_share_of_each_delay(tasks: Tasks) -> None:
    found = list(delays(tasks, dict.fromkeys(range(1, 41), 1), plus="1000m", jitter=0.5).values())
    assert all(30_000 <= delay <= 60_060 for delay in found)
    assert max(found) - min(found) > 5_000


# --- elsewhere -------------------------------------------------------------------------------------------------


def test_recipe_by_hand_has_the_steps_that_the_job_gets(tasks: Tasks) -> None:
    for number, kind in ((1, "scan"), (2, "embed")):
        tasks.add(number, kind=kind)
    tasks.session.do("INSERT INTO letter VALUES ('there', 1, 'old')")
    letter: dict[str, Any] = {"insert": "letter", "values": {"queue": "q", "task_id": {"column": "id"}}}
    absent = {**letter, "values": {**letter["values"], "queue": "there"}, "unless_there": ["queue", "task_id"]}
    source = tasks.source(failing({**letter, "when": [{"column": "kind", "in": ["scan"]}]}, absent))
    info = AuditInfo("main", "by hand", "host", Reason.MANUAL_TIMEOUT)
    for number in (1, 2):
        [recipe] = list_recipes(source, DowntimeTracker(0), (str(number),), lambda _: info)
        assert "ERROR" not in paste(tasks.database, "\n".join(recipe.lines))
    assert letters(tasks) == [("q", 1, None), ("there", 1, "old"), ("there", 2, None)]
    assert tasks.states() == {"1": "dead", "2": "dead"}


def test_check_plans_the_statements_of_these_steps_and_names_a_missing_index(tasks: Tasks) -> None:
    letter: dict[str, Any] = {
        "insert": "letter",
        "when": [{"column": "kind", "in": ["scan"]}],
        "values": {"queue": "q", "task_id": {"column": "id"}},
        "unless_there": ["task_id"],
    }
    source = tasks.source(failing(letter))
    assert list(check_statements(source)) == []
    with source.connect() as connection:
        findings = examine(connection, source.profile, source.thresholds.stall.seconds)
    assert [f for f in findings if f.level is Level.ERROR] == []
    assert any(f.subject == "letter" and "the row of 'unless_there' is searched" in f.message for f in findings)
