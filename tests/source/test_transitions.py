"""A transition and what goes with it happen both or neither, on both servers, whatever the user's triggers do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reaper.model import JobCounts, Outcome
from reaper.profile import Profile
from tests.support.protea import HOUR, MINUTE, SweepRecorder
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on

pytestmark = pytest.mark.every_server

INTERFERES = "a trigger or rule interferes"
DELETE: dict[str, Any] = {
    "delete": True,
    "also": [
        {"delete": "task_part", "match": {"task_id": "id"}},
        {"delete": "task_log", "match": {"task_id": "id"}, "where": [{"column": "what", "in": ["note"]}]},
    ],
}
CLOSE_PARTS = {
    "update": "task_part",
    "match": {"task_id": "id"},
    "where": [{"column": "state", "in": ["open"]}],
    "set": {"state": "closed"},
}
REQUEUE = {
    "set": {"state": "queued", "started": {"is": "null"}, "tries": {"column": "tries", "plus": 1}},
    "also": [
        {
            "insert": "task_log",
            "values": {"task_id": {"column": "id"}, "what": "queued", "said": {"is": "evidence"}},
        }
    ],
}


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        yield made


def deleting() -> Profile:
    return mapped(actions={"delete": DELETE})


# --- refused ---------------------------------------------------------------------------------------------------


def only_the_bad_one_is_left(tasks: Tasks, batch_size: int, *, profile: Profile | None = None) -> str:
    """Sweeps seven stale tasks of which one is refused, and gives what the report says of that."""
    for number in range(1, 8):
        tasks.add(number, kind="bad" if number == 4 else "embed")
    recorder = SweepRecorder()
    report = tasks.sweep(tasks.source(profile), batch_size=batch_size, recorder=recorder)
    assert (report.outcome, report.error, report.reaped) == (Outcome.DONE, None, 6)
    assert (report.lost, report.locked_total, report.refused_total) == (0, 0, 1)
    assert {job.key for job in recorder.reaped_jobs} == {(str(n),) for n in range(1, 8) if n != 4}
    assert len(recorder.reaped_jobs) == 6
    assert tasks.states() == {str(n): "working" if n == 4 else "dead" for n in range(1, 8)}
    [failure] = report.failures
    assert failure.key == ("4",)
    return failure.error


@pytest.mark.parametrize("batch_size", [1000, 3])
def test_job_whose_state_a_trigger_puts_back_is_refused_and_has_no_audit(tasks: Tasks, batch_size: int) -> None:
    with tasks.putting_back():
        assert INTERFERES in only_the_bad_one_is_left(tasks, batch_size)
    assert tasks.logged() == [(n, "dead") for n in range(1, 8) if n != 4]
    assert tasks.sweep().reaped == 1 and tasks.states()["4"] == "dead"


def test_job_whose_state_a_trigger_puts_back_is_refused_where_no_audit_is_written(tasks: Tasks) -> None:
    profile = mapped(actions={"fail": {"also": []}})
    with tasks.putting_back():
        assert INTERFERES in only_the_bad_one_is_left(tasks, 1000, profile=profile)
    assert tasks.logged() == []


@pytest.mark.parametrize("batch_size", [1000, 3])
@pytest.mark.parametrize(
    ("table", "operation", "when"),
    [("task", "UPDATE", "OLD.kind = 'bad'"), ("task_log", "INSERT", "NEW.task_id = 4")],
    ids=["transition", "audit"],
)
def test_job_that_a_trigger_refuses_stays_and_all_others_are_ended(
    tasks: Tasks, table: str, operation: str, when: str, batch_size: int
) -> None:
    with tasks.interfering(table, operation, when, tasks.database.raise_statement):
        assert "refused by a trigger" in only_the_bad_one_is_left(tasks, batch_size)
    assert tasks.logged() == [(n, "dead") for n in range(1, 8) if n != 4]


def test_jobs_that_are_all_put_back_are_all_refused(tasks: Tasks) -> None:
    for number in (1, 2, 3):
        tasks.add(number, kind="bad")
    unchanged = tasks.dump()
    with tasks.putting_back():
        report = tasks.sweep()
    assert (report.reaped, len(report.failures), report.census and report.census.stale) == (0, 3, 3)
    assert tasks.dump() == unchanged


# --- what goes with it -----------------------------------------------------------------------------------------


def test_audit_is_written_once_for_each_job_from_its_own_row(tasks: Tasks) -> None:
    for number in range(1, 6):
        tasks.add(number, tries=number * 10)
    assert tasks.sweep(batch_size=2).reaped == 5
    tries = tasks.session.ask("SELECT task_id, tries FROM task_log ORDER BY task_id")
    assert tries == [(number, number * 10) for number in range(1, 6)]


@pytest.mark.parametrize("audited", [True, False])
def test_ended_job_is_reported_as_it_was_judged_with_its_evidence_where_the_database_keeps_none(
    tasks: Tasks, audited: bool
) -> None:
    tasks.add(1, kind="scan")
    tasks.add(2, beat=None)
    recorder = SweepRecorder()
    profile = mapped() if audited else mapped(actions={"fail": {"also": []}})
    assert tasks.sweep(tasks.source(profile), recorder=recorder).reaped == 2
    first, second = sorted(recorder.reaped_jobs)
    assert (first.key, first.reason, first.kind, first.witness) == (("1",), "JobTimeout", "scan", "heartbeat")
    assert (second.key, second.reason, second.kind, second.witness) == (("2",), "JobTimeout", "embed", "start")
    assert first.age_seconds == pytest.approx(8 * HOUR, abs=60)
    assert first.silence_seconds == pytest.approx(2 * HOUR, abs=60)
    assert second.silence_seconds == second.age_seconds
    if audited:
        assert (first.evidence, second.evidence) == (None, None) and tasks.said(1)["witness"] == "heartbeat"
    else:
        assert first.evidence is not None and first.evidence["witness"] == "heartbeat"
        assert second.evidence is not None and second.evidence["witness"] == "start"


def test_parts_are_changed_only_of_jobs_that_end_and_only_as_the_profile_says(tasks: Tasks) -> None:
    tasks.add(1)
    tasks.add(2)
    tasks.add(3, beat=MINUTE)
    tasks.add(4, state="over")
    for number, (task, state) in enumerate([(1, "open"), (1, "done"), (2, "open"), (3, "open"), (4, "open")], 1):
        tasks.part(number, task, state)
    assert tasks.sweep(tasks.source(mapped(actions={"fail": {"also": [CLOSE_PARTS]}}))).reaped == 2
    assert tasks.parts() == [(1, 1, "closed"), (2, 1, "done"), (3, 2, "closed"), (4, 3, "open"), (5, 4, "open")]


def test_part_that_a_trigger_refuses_keeps_its_job_running_without_an_audit(tasks: Tasks) -> None:
    tasks.add(1)
    tasks.add(2)
    tasks.part(1, 1)
    tasks.part(2, 2)
    also = [{"insert": "task_log", "values": {"task_id": {"column": "id"}, "what": "dead"}}, CLOSE_PARTS]
    source = tasks.source(mapped(actions={"fail": {"also": also}}))
    with tasks.interfering("task_part", "UPDATE", "OLD.task_id = 2", tasks.database.raise_statement):
        report = tasks.sweep(source)
    assert (report.reaped, [failure.key for failure in report.failures]) == (1, [("2",)])
    assert tasks.states() == {"1": "dead", "2": "working"}
    assert (tasks.logged(), tasks.parts()) == ([(1, "dead")], [(1, 1, "closed"), (2, 2, "open")])


# --- rows that are deleted -------------------------------------------------------------------------------------


def test_deleted_job_takes_with_it_the_rows_that_refer_to_it_and_no_others(tasks: Tasks) -> None:
    tasks.add(1)
    tasks.add(2)
    tasks.add(3, beat=MINUTE)
    for number, task in enumerate((1, 1, 2, 3), 1):
        tasks.part(number, task)
    for task in (1, 3):
        tasks.session.do("INSERT INTO task_log (task_id, what) VALUES (%s, 'note')", task)
    report = tasks.sweep(tasks.source(deleting(), action="delete"))
    assert (report.error, report.failures, report.reaped) == (None, (), 2)
    assert (tasks.states(), tasks.parts(), tasks.logged()) == ({"3": "working"}, [(4, 3, "open")], [(3, "note")])


def test_deleted_job_is_written_down_where_the_profile_says_so(tasks: Tasks) -> None:
    tasks.session.do("CREATE TABLE gone (task_id integer, what varchar(20))")
    tasks.add(1)
    tasks.part(1, 1)
    note = {"insert": "gone", "values": {"task_id": {"column": "id"}, "what": {"column": "kind"}}}
    profile = mapped(actions={"delete": {"delete": True, "also": [DELETE["also"][0], note]}})
    report = tasks.sweep(tasks.source(profile, action="delete"))
    assert (report.error, report.failures, report.reaped) == (None, (), 1)
    assert (tasks.states(), tasks.parts()) == ({}, [])
    assert tasks.session.ask("SELECT task_id, what FROM gone") == [(1, "embed")]


def test_deleted_job_that_another_row_still_refers_to_stays_with_all_that_belongs_to_it(tasks: Tasks) -> None:
    tasks.add(1)
    tasks.add(2)
    for task in (1, 2):
        tasks.part(task, task)
    tasks.session.do("INSERT INTO task_log (task_id, what) VALUES (2, 'bill')")
    report = tasks.sweep(tasks.source(deleting(), action="delete"))
    assert (report.reaped, [failure.key for failure in report.failures]) == (1, [("2",)])
    assert (tasks.states(), tasks.parts(), tasks.logged()) == ({"2": "working"}, [(2, 2, "open")], [(2, "bill")])


def test_deleted_job_that_a_trigger_refuses_keeps_its_parts(tasks: Tasks) -> None:
    tasks.add(1, kind="bad")
    tasks.add(2)
    for task in (1, 2):
        tasks.part(task, task)
    with tasks.interfering("task", "DELETE", "OLD.kind = 'bad'", tasks.database.raise_statement):
        report = tasks.sweep(tasks.source(deleting(), action="delete"))
    assert (report.reaped, [failure.key for failure in report.failures]) == (1, [("1",)])
    assert (tasks.states(), tasks.parts()) == ({"1": "working"}, [(1, 1, "open")])


# --- another try -----------------------------------------------------------------------------------------------


def requeueing(**attempts: Any) -> Profile:
    return mapped(
        attempts=attempts or {"column": "tries", "limit_column": "max_tries", "limit": 2}, actions={"requeue": REQUEUE}
    )


def test_attempts_left_decide_between_another_try_and_the_end(tasks: Tasks) -> None:
    tries: dict[int, tuple[int | None, int | None]] = {
        1: (1, None),
        2: (2, None),
        3: (2, 3),
        4: (3, 3),
        5: (None, None),
        6: (4, 3),
        7: (0, 0),
    }
    for number, (tried, most) in tries.items():
        tasks.add(number, tries=tried, max_tries=most)
    recorder = SweepRecorder()
    report = tasks.sweep(tasks.source(requeueing(), action="requeue_else_fail"), recorder=recorder)
    assert (report.error, report.failures, report.reaped, len(recorder.reaped_jobs)) == (None, (), 7, 7)
    again = {1, 3, 5}
    assert tasks.states() == {str(number): "queued" if number in again else "dead" for number in tries}
    assert tasks.logged() == [(number, "queued" if number in again else "dead") for number in tries]
    assert [tasks.column("tries", number) for number in tries] == [2, 2, 3, 3, 1, 4, 0]


def test_attempts_without_any_limit_that_is_known_are_spent(tasks: Tasks) -> None:
    tasks.add(1, tries=0, max_tries=None)
    tasks.add(2, tries=0, max_tries=1)
    source = tasks.source(requeueing(column="tries", limit_column="max_tries"), action="requeue_else_fail")
    assert tasks.sweep(source).reaped == 2
    assert tasks.states() == {"1": "dead", "2": "queued"}


def test_retries_are_counted_without_the_first_attempt(tasks: Tasks) -> None:
    for number, (retries, most) in enumerate([(0, 2), (1, 2), (None, 1), (None, 2), (5, None), (0, None)], 1):
        tasks.add(number, tries=retries, max_tries=most)
    source = tasks.source(
        requeueing(retries_column="tries", limit_column="max_tries", limit=6), action="requeue_else_fail"
    )
    assert tasks.sweep(source).reaped == 6
    ended = {"2": "dead", "3": "dead", "5": "dead"}
    assert tasks.states() == {**dict.fromkeys("146", "queued"), **ended}


def test_job_without_a_limit_is_tried_for_ever_where_null_means_that(tasks: Tasks) -> None:
    tasks.add(1, tries=99, max_tries=None)
    tasks.add(2, tries=99, max_tries=99)
    tasks.add(3, tries=None, max_tries=None)
    attempts = {"column": "tries", "limit_column": "max_tries", "null_is_no_limit": True}
    source = tasks.source(requeueing(**attempts), action="requeue_else_fail")
    assert {key: evidence.action for key, evidence in tasks.explained("1", "2", source=source).items()} == {
        "1": "requeue",
        "2": "fail",
    }
    assert tasks.sweep(source).reaped == 3
    assert tasks.states() == {"1": "queued", "2": "dead", "3": "queued"}


def test_sql_of_a_value_may_name_what_the_reaper_knows(tasks: Tasks) -> None:
    # A function that takes any type: the value must have one of its own.
    reason = "{is.reason}" if tasks.mariadb else "to_jsonb({is.reason}) #>> '{{}}'"
    said = "concat(" + reason + ", '|', {is.message}, '|', {kind}, '|', {is.source}, '|', {is.host})"
    rest = "CASE WHEN {is.age} > {is.silence} AND {is.now} > {beat} THEN {is.evidence} END"
    fail = {
        "set": {"state": "dead", "note": {"sql": said}},
        "also": [
            {"insert": "task_log", "values": {"task_id": {"column": "id"}, "what": "dead", "said": {"sql": rest}}}
        ],
    }
    profile = mapped(actions={"fail": fail})
    assert profile.actions["fail"].writes_evidence
    for number in (1, 2):
        tasks.add(number)
    report = tasks.sweep(tasks.source(profile))
    assert (report.error, report.failures, report.reaped) == (None, (), 2)
    reason, message, *others = tasks.column("note", 1).split("|")
    assert (reason, others) == ("JobTimeout", ["embed", "main", "test-host"])
    assert message.startswith("No sign of life for 2h")
    assert tasks.said(2)["witness"] == "heartbeat"


@pytest.mark.parametrize("kind", ["bad", "embed"])
def test_transition_that_is_put_back_leaves_the_other_alone(tasks: Tasks, kind: str) -> None:
    """Of the jobs of a batch some are requeued and some are failed: each transition is counted by itself."""
    tasks.add(1, tries=0, kind="bad")
    tasks.add(2, tries=9, kind=kind)
    tasks.add(3, tries=9)
    with tasks.putting_back():
        report = tasks.sweep(tasks.source(requeueing(), action="requeue_else_fail"))
    refused = {"1", "2"} if kind == "bad" else {"1"}
    assert {failure.key[0] for failure in report.failures} == refused
    assert tasks.states() == {key: "working" if key in refused else "dead" for key in ("1", "2", "3")}
    assert {str(number) for number, _ in tasks.logged()} == {"1", "2", "3"} - refused


@pytest.mark.parametrize(("unique_violation", "left"), [("skip", "working"), ("fail", "dead")])
def test_job_whose_twin_is_queued_is_skipped_or_failed_as_the_profile_says(
    tasks: Tasks, unique_violation: str, left: str
) -> None:
    tasks.add(9, state="queued", twin_of="a")
    for number, twin in ((1, None), (2, "a"), (3, None)):
        tasks.add(number, tries=0, twin_of=twin)
    profile = mapped(actions={"requeue": {**REQUEUE, "unique_violation": unique_violation}})
    report = tasks.sweep(tasks.source(profile, action="requeue"))
    assert tasks.states() == {"1": "queued", "2": left, "3": "queued", "9": "queued"}
    assert [failure.key for failure in report.failures] == ([("2",)] if left == "working" else [])
    audited = [(1, "queued"), (2, "dead"), (3, "queued")]
    assert tasks.logged() == [audit for audit in audited if left == "dead" or audit[0] != 2]


def test_number_beyond_all_that_exist_is_the_first_where_none_does(tasks: Tasks) -> None:
    number = {"table": "task_part", "column": "id", "match": {"task_id": "id"}, "step": 1}
    values = {"task_id": {"column": "id"}, "what": "dead", "tries": {"next": number}}
    tasks.add(1)
    tasks.add(2)
    tasks.part(4, 2)
    report = tasks.sweep(tasks.source(mapped(actions={"fail": {"also": [{"insert": "task_log", "values": values}]}})))
    assert (report.reaped, report.failures) == (2, ())
    assert tasks.session.ask("SELECT task_id, tries FROM task_log ORDER BY task_id") == [(1, 1), (2, 5)]


def test_job_whose_state_a_trigger_puts_back_is_refused_where_other_rows_say_that_it_runs_too(tasks: Tasks) -> None:
    running = {
        "column": "state",
        "in": ["working"],
        "exists": [{"table": "task_part", "match": {"task_id": "id"}}],
    }
    for number, kind in ((1, "bad"), (2, "embed")):
        tasks.add(number, kind=kind)
        tasks.part(number, number)
    with tasks.putting_back():
        report = tasks.sweep(tasks.source(mapped(jobs={"running": running})))
    assert (report.reaped, [failure.key for failure in report.failures]) == (1, [("1",)])
    assert (tasks.states(), tasks.logged()) == ({"1": "working", "2": "dead"}, [(2, "dead")])


def test_job_that_another_table_says_is_running_ends_when_its_row_there_is_deleted(tasks: Tasks) -> None:
    part: dict[str, Any] = {"table": "task_part", "match": {"task_id": "id"}}
    release = {
        "set": {"tries": {"column": "tries", "plus": 1}},
        "also": [{"delete": part["table"], "match": part["match"]}],
    }
    running = {"column": "state", "in": ["working"], "exists": [part]}
    tasks.add(1, tries=4)
    tasks.part(1, 1)
    profile = mapped(jobs={"running": running}, actions={"release": release})
    report = tasks.sweep(tasks.source(profile, action="release"))
    assert (report.reaped, report.failures) == (1, ())
    assert tasks.session.ask("SELECT tries FROM task") == [(5,)]
    assert tasks.sweep(tasks.source(profile, action="release")).census == JobCounts(0, 0, 0, None, 0.0)
