"""Rows beside the job: what a job's own row does not say is read from one row of another table, on both servers."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from reaper.check import Finding, Level
from reaper.grants.needs import Workload, required_privileges
from reaper.model import JobCounts, KindThresholds, Threshold, Verdict
from reaper.profile import Profile, resolve
from tests.support.checks import problems, run_check
from tests.support.protea import HOUR, MINUTE, SweepRecorder, thresholds
from tests.support.tasks import Tasks, tasks_in
from tests.support.worlds.servers import database_on

STALE, SPARED, YOUNG = Verdict.STALE, Verdict.SPARED, Verdict.YOUNG

TABLES = """
    CREATE TABLE begun (number integer PRIMARY KEY, task_id integer NOT NULL, type varchar(9) NOT NULL, at {moment});
    CREATE INDEX begun_task ON begun (task_id, at);
    CREATE TABLE spec (task_id integer NOT NULL, number integer NOT NULL, sort varchar(20), seen {moment},
        tries integer, most integer, held integer, PRIMARY KEY (task_id, number));
    CREATE TABLE class (name varchar(20) PRIMARY KEY, title varchar(20), worker integer);
    CREATE TABLE worker (id integer PRIMARY KEY, seen {moment});
"""
PROFILE = """
alive = [
    { witness = "row", column = "spec.seen" },
    { witness = "worker", events = { table = "worker", match = { id = "class.worker" }, at = "seen" } },
]
attempts = { column = "spec.tries", limit_column = "spec.most" }

[jobs]
table = "task"
key = "id"
kind = "class.title"
status = "state"
started = ["begun.at", "made"]
claim = ["begun.number"]
running = { column = "state", in = ["working"], where = [{ column = "spec.held", is = "null" }] }

[jobs.beside.begun]
table = "begun"
match = { task_id = "id" }
where = [{ column = "type", in = ["started"] }]
newest = "at"

[jobs.beside.spec]
table = "spec"
match = { task_id = "id" }

[jobs.beside.class]
table = "class"
match = { name = "spec.sort" }

[actions.fail]
set = { state = "dead", note = { column = "class.title" }, tries = { column = "spec.tries", plus = 1 } }

[[actions.fail.also]]
insert = "task_log"
values = { task_id = { column = "id" }, what = "dead", said = { is = "evidence" } }

[actions.requeue]
set = { state = "waiting" }

[[actions.requeue.also]]
update = "class"
match = { name = "spec.sort" }
set = { worker = { is = "null" } }
"""


class Beside(Tasks):
    """Tasks whose start, kind, sign of life and attempts stand in rows beside them."""

    def __init__(self, tasks: Tasks) -> None:
        self.__dict__.update(tasks.__dict__)
        moment = "datetime(6)" if self.mariadb else "timestamptz"
        for statement in TABLES.format(moment=moment).split(";"):
            if statement.strip():
                self.session.do(statement)

    def job(self, number: int, *, spec: bool = True, seen: float | None = None, begun: Any = (), **columns: Any) -> str:
        """A task that was made ten hours ago. `begun`: how long ago each entry of its start is."""
        key = self.add(number, age=None, made=10 * HOUR, beat=None)
        for n, age in enumerate(begun):
            row = (number * 10 + n, number, "started", age)
            self.session.do(f"INSERT INTO begun VALUES (%s, %s, %s, {self.database.ago})", *row)
        if spec:
            self.spec(number, seen=seen, **columns)
        return key

    def spec(self, task: int, *, number: int = 1, seen: float | None = None, **columns: Any) -> None:
        row = {"task_id": task, "number": number, "sort": "a", **columns}
        names, places = ", ".join([*row, "seen"]), ", ".join(["%s"] * len(row))
        self.session.do(f"INSERT INTO spec ({names}) VALUES ({places}, {self.database.ago})", *row.values(), seen)

    def worker(self, number: int, seen: float) -> None:
        self.session.do(f"INSERT INTO worker VALUES (%s, {self.database.ago})", number, seen)


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Beside]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        beside = Beside(made)
        beside.session.do("INSERT INTO class VALUES ('a', 'Embed', NULL), ('b', 'Index', 1), ('c', 'Crawl', 2)")
        beside.worker(1, MINUTE)
        yield beside


def profile(**changes: Any) -> Profile:
    return resolve("tasks", {"base": tomllib.loads(PROFILE), "tasks": {"extends": "base", **changes}})


def test_newest_row_of_the_start_counts_and_without_one_the_next_start_column_does(tasks: Beside) -> None:
    expected = {
        tasks.job(1, begun=[9 * HOUR, 7 * HOUR]): STALE,
        tasks.job(2, begun=[9 * HOUR, 2 * HOUR]): YOUNG,
        tasks.job(3): STALE,
        tasks.job(4, begun=[7 * HOUR], seen=MINUTE): SPARED,
        tasks.job(5, begun=[7 * HOUR], sort="b"): SPARED,
        tasks.job(6, begun=[7 * HOUR], sort="c"): STALE,
        tasks.job(7, begun=[7 * HOUR], held=1): Verdict.ENDED,
        tasks.job(8, begun=[7 * HOUR], spec=False): STALE,
    }
    tasks.session.do("INSERT INTO begun VALUES (99, 1, 'failed', NULL), (98, 1, 'started', NULL)")
    tasks.session.do(f"INSERT INTO begun VALUES (97, 1, 'failed', {tasks.database.ago})", MINUTE)
    source = tasks.source(profile())
    assert tasks.verdicts(source) == expected
    said = tasks.explained("1", "3", "6", "7", "8", source=source)
    assert [said[key].started_from for key in ("1", "3")] == ["begun.at", "made"]
    assert [said[key].kind for key in ("1", "6", "8")] == ["Embed", "Crawl", None]
    assert said["7"].not_running == ("its spec.held is set (1)",)
    with source.connect() as connection, source.transaction(connection, read_only=True):
        kinds = source.survey.kinds(connection)
    assert dict(kinds) == {"Embed": 4, "Index": 1, "Crawl": 1, None: 1}


def test_sweep_ends_exactly_the_stale_and_copies_what_the_rows_beside_them_hold(tasks: Beside) -> None:
    tasks.job(1, begun=[7 * HOUR], tries=4)
    tasks.job(2, begun=[2 * HOUR])
    tasks.job(3, begun=[7 * HOUR], seen=MINUTE)
    recorder = SweepRecorder()
    report = tasks.sweep(tasks.source(profile()), recorder=recorder)
    assert (report.error, report.failures, report.reaped) == (None, (), 1)
    assert [(job.key, job.kind) for job in recorder.reaped_jobs] == [(("1",), "Embed")]
    assert tasks.states() == {"1": "dead", "2": "working", "3": "working"}
    assert (tasks.column("note", 1), tasks.column("tries", 1)) == ("Embed", 5)
    assert tasks.said(1)["started_from"] == "begun.at"


def test_kind_of_a_row_beside_the_job_has_thresholds_of_its_own(tasks: Beside) -> None:
    kinds = {"Crawl": KindThresholds(timeout=Threshold(HOUR, "here"))}
    expected = {
        tasks.job(1, begun=[2 * HOUR], sort="c"): STALE,
        tasks.job(2, begun=[2 * HOUR]): YOUNG,
        tasks.job(3, begun=[2 * HOUR], seen=MINUTE, sort="c"): SPARED,
    }
    assert tasks.verdicts(tasks.source(profile(), thresholds(kinds=kinds))) == expected
    report = tasks.sweep(tasks.source(profile(), thresholds(kinds=kinds)))
    assert (report.error, report.reaped, tasks.states()["1"]) == (None, 1, "dead")


def test_limits_of_a_row_beside_the_job_hold_for_it(tasks: Beside) -> None:
    limits = {"timeout": {"column": "spec.most", "unit": "s"}, "stall": {"column": "spec.tries", "unit": "s"}}
    expected = {
        tasks.job(1, begun=[2 * HOUR], most=3600): STALE,
        tasks.job(2, begun=[2 * HOUR], most=3 * 3600): YOUNG,
        tasks.job(3, begun=[2 * HOUR]): YOUNG,
        tasks.job(4, begun=[7 * HOUR], tries=3600, seen=50 * MINUTE): SPARED,
        tasks.job(5, begun=[7 * HOUR], tries=60, seen=5 * MINUTE): STALE,
        tasks.job(6, begun=[7 * HOUR], spec=False): STALE,
    }
    assert tasks.verdicts(tasks.source(profile(limits=limits))) == expected


def test_job_with_two_rows_where_one_is_expected_is_unknown_and_is_never_ended(tasks: Beside) -> None:
    tasks.job(1, begun=[7 * HOUR])
    tasks.job(2, begun=[7 * HOUR])
    tasks.spec(2, number=2)
    source = tasks.source(profile())
    assert tasks.verdicts(source) == {"1": STALE, "2": SPARED}
    assert tasks.explained("2", source=source)["2"].unknown == "several rows of spec are its row 'spec'"
    report = tasks.sweep(source)
    assert (report.error, report.reaped, tasks.states()) == (None, 1, {"1": "dead", "2": "working"})


def test_attempts_of_a_row_beside_the_job_decide_between_requeue_and_fail(tasks: Beside) -> None:
    tasks.job(1, begun=[7 * HOUR], tries=2, most=3, sort="c")
    tasks.job(2, begun=[7 * HOUR], tries=3, most=3)
    tasks.job(3, begun=[7 * HOUR], spec=False)
    report = tasks.sweep(tasks.source(profile(), action="requeue_else_fail"))
    assert (report.error, report.failures, report.reaped) == (None, (), 3)
    assert tasks.states() == {"1": "waiting", "2": "dead", "3": "dead"}
    assert tasks.session.ask("SELECT name, worker FROM class ORDER BY name") == [("a", None), ("b", 1), ("c", None)]


def test_job_that_is_started_again_after_the_survey_is_not_ended(tasks: Beside) -> None:
    """The row beside it is read again under the lock."""
    tasks.job(1, begun=[7 * HOUR])
    tasks.job(2, begun=[7 * HOUR])

    class Meanwhile(SweepRecorder):
        def surveyed(self, source: str, census: JobCounts) -> None:
            super().surveyed(source, census)
            tasks.session.do(f"INSERT INTO begun VALUES (100, 1, 'started', {tasks.database.ago})", 0)

    report = tasks.sweep(tasks.source(profile()), recorder=Meanwhile())
    assert (report.error, report.reaped, tasks.states()) == (None, 1, {"1": "working", "2": "dead"})


def test_job_whose_claim_in_a_row_beside_it_changes_after_the_survey_is_not_ended(tasks: Beside) -> None:
    """Its start is the same."""
    tasks.job(1, begun=[7 * HOUR])
    tasks.job(2, begun=[7 * HOUR])

    class Meanwhile(SweepRecorder):
        def surveyed(self, source: str, census: JobCounts) -> None:
            super().surveyed(source, census)
            tasks.session.do("UPDATE begun SET number = 100 WHERE task_id = 1")

    report = tasks.sweep(tasks.source(profile()), recorder=Meanwhile())
    assert (report.error, report.reaped, tasks.states()) == (None, 1, {"1": "working", "2": "dead"})


def test_job_of_which_a_second_row_appears_after_the_survey_is_not_ended(tasks: Beside) -> None:
    tasks.job(1, begun=[7 * HOUR])

    class Meanwhile(SweepRecorder):
        def surveyed(self, source: str, census: JobCounts) -> None:
            super().surveyed(source, census)
            tasks.spec(1, number=2)

    report = tasks.sweep(tasks.source(profile()), recorder=Meanwhile())
    assert (report.error, report.reaped, tasks.states()) == (None, 0, {"1": "working"})


def test_check_says_where_several_rows_may_be_beside_a_job_and_names_a_job_that_has_them(tasks: Beside) -> None:
    tasks.job(1, begun=[7 * HOUR])
    [may_be] = [f for f in checked(tasks) if f.subject == "spec"]
    assert may_be.level is Level.WARNING
    assert "no unique key on (task_id)" in may_be.message and "by 'newest'" in may_be.message
    tasks.spec(1, number=2)
    [has] = [f for f in checked(tasks) if f.subject == "spec"]
    assert has.level is Level.ERROR and "the job 1 has several" in has.message


def test_check_knows_columns_of_rows_beside_the_job_and_their_types(tasks: Beside) -> None:
    tasks.session.do("ALTER TABLE class DROP COLUMN title")
    tasks.session.do("ALTER TABLE spec DROP COLUMN tries")
    tasks.session.do("ALTER TABLE spec ADD COLUMN tries varchar(9)")
    errors = {f.subject: f.message for f in checked(tasks) if f.level is Level.ERROR}
    assert errors["class.title"].startswith("no such column")
    assert "expected a number" in errors["spec.tries"]


def test_grants_are_for_the_tables_that_hold_the_rows() -> None:
    required = required_privileges(profile(), Workload("fail"))
    assert required["begun"].select == {"task_id", "type", "at", "number"}
    assert required["spec"].select == {"task_id", "sort", "seen", "tries", "most", "held"}
    assert required["class"].select == {"name", "title", "worker"}
    assert required["task"].select == {"id", "made", "state"}
    assert not (required["begun"].update or required["spec"].update or required["spec"].lock_rows_by)


def checked(tasks: Beside) -> list[Finding]:
    return problems(run_check(tasks.database.url, profile=profile()))
