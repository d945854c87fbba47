"""A database decides once how the names and values of a profile are spelled: at the first contact of a source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reaper.errors import DatabaseUnavailable, SpellingUnclear
from reaper.model import Outcome, SweepReport
from reaper.profile import Profile, resolve
from reaper.source import Source, SpellingDecision
from reaper.source.name_spelling_decision import SAMPLE_ROWS
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds.database import Database, Session
from tests.support.worlds.servers import database_on

OLD = 9 * HOUR
JOBS = {"table": "tasks", "key": "id", "started": "begun", "running": {"column": "state", "in": ["running"]}}
PROFILE = {
    "time": "naive",
    "jobs": JOBS,
    "actions": {"fail": {"set": {"state": "failed"}}},
}
TASKS = "CREATE TABLE {} (id integer PRIMARY KEY, {} varchar(20){} NOT NULL {}, begun {} NOT NULL)"
BINARY = {"postgresql": "", "mariadb": " COLLATE utf8mb4_bin"}
"""What makes the case of texts matter."""
TIMESTAMP = {"postgresql": "timestamp", "mariadb": "datetime(6)"}


def profile(**changes: Any) -> Profile:
    return resolve("tasks", {"tasks": {**PROFILE, **changes}})


class Tasks:
    """A database with tasks, and sweeps of it."""

    def __init__(self, database: Database, session: Session, server: str) -> None:
        self.database, self.session, self.server = database, session, server

    def create(self, table: str = '"tasks"', state: str = '"state"') -> None:
        self.session.do(TASKS.format(table, state, BINARY[self.server], "", TIMESTAMP[self.server]))
        self.table = table

    def add(self, *states: str) -> None:
        for state in states:
            number = self.session.one(f"SELECT coalesce(max(id), 0) + 1 FROM {self.table}")
            ago = self.database.naive_ago
            self.session.do(f"INSERT INTO {self.table} VALUES (%s, %s, {ago})", number, state, OLD)

    def source(self, decision: SpellingDecision | None = None, own: Profile | None = None) -> Source:
        return Source("main", self.database.url, own or profile(), thresholds(), PATIENCE, decision=decision)

    def sweep(self, source: Source) -> SweepReport:
        options = SweepOptions("test-host", 100, Breaker(50, 1.0))
        return sweep(source, DowntimeTracker(0), SourceState(), options, None, SweepRecorder())

    def states(self) -> list[str]:
        return [state for _, state, _ in self.session.ask(f"SELECT * FROM {self.table} ORDER BY id")]


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, database.session(autocommit=True) as session:
        yield Tasks(database, session, request.param)


def test_states_in_capitals_are_found_and_written(tasks: Tasks) -> None:
    tasks.create()
    tasks.add("RUNNING", "WAITING")
    report = tasks.sweep(tasks.source())
    assert (report.error, report.reaped) == (None, 1)
    assert tasks.states() == ["FAILED", "WAITING"]


def test_names_in_another_case_are_found(tasks: Tasks) -> None:
    tasks.create('"TASKS"', '"State"')
    tasks.add("running")
    source = tasks.source()
    report = tasks.sweep(source)
    assert (report.error, report.reaped, tasks.states()) == (None, 1, ["failed"])
    assert source.profile.jobs.table == "TASKS" and source.configured_profile.jobs.table == "tasks"


def test_value_that_a_stranger_writes_later_changes_nothing(tasks: Tasks) -> None:
    tasks.create()
    tasks.add("RUNNING", "DONE")
    source = tasks.source()
    assert tasks.sweep(source).reaped == 1
    tasks.add("running", "RUNNING")
    assert tasks.sweep(source).reaped == 1
    assert tasks.states() == ["FAILED", "DONE", "running", "FAILED"]
    # A new source, as a start or a reload makes it, decides again: now the exact value is there.
    assert tasks.sweep(tasks.source()).reaped == 1
    assert tasks.states() == ["FAILED", "DONE", "failed", "FAILED"]


def test_sources_that_share_a_decision_have_one_spelling(tasks: Tasks) -> None:
    tasks.create()
    tasks.add("RUNNING")
    first = tasks.source()
    assert tasks.sweep(first).reaped == 1
    tasks.add("running", "RUNNING")
    second = tasks.source(first.decision, profile(jobs={**JOBS, "kind": "id"}))
    assert tasks.sweep(second).census.running == 1  # type: ignore[union-attr]


def test_running_value_beyond_the_sampled_rows_is_found_by_an_index(tasks: Tasks) -> None:
    tasks.create()
    tasks.session.do("CREATE INDEX tasks_state ON tasks (state)")
    tasks.add("Running")
    numbers = "generate_series(2, %s)" if tasks.server == "postgresql" else "seq_2_to_1500"
    column = "generate_series" if tasks.server == "postgresql" else "seq"
    values = (SAMPLE_ROWS + 500,) if tasks.server == "postgresql" else ()
    tasks.session.do(
        f"INSERT INTO tasks SELECT {column}, 'odd ONE', {tasks.database.naive_ago} FROM {numbers}",
        OLD,
        *values,
    )
    assert tasks.sweep(tasks.source()).reaped == 1
    assert tasks.states()[0] == "Failed"


def test_exact_value_wins(tasks: Tasks) -> None:
    tasks.create()
    tasks.add("RUNNING", "running")
    assert tasks.sweep(tasks.source()).reaped == 1
    assert tasks.states() == ["RUNNING", "failed"]


def test_unclear_case_fails_the_sweep_until_the_profile_says_it(tasks: Tasks) -> None:
    tasks.create()
    tasks.add("rUNNING")
    source = tasks.source()
    report = tasks.sweep(source)
    assert report.outcome is Outcome.FAILED and not report.database_away
    assert report.error == (
        "tasks.state: actions.fail.set.state: the case of 'failed' cannot be determined from the values that the "
        "column has ('rUNNING'): set it in the profile"
    )
    assert tasks.states() == ["rUNNING"]
    jobs = {**JOBS, "running": {"column": "state", "in": ["rUNNING"]}}
    assert tasks.sweep(tasks.source(own=profile(jobs=jobs))).reaped == 1


@pytest.mark.parametrize("tasks", ["postgresql"], indirect=True)  # on MariaDB columns never differ only by case
def test_ambiguous_columns_fail_the_sweep(tasks: Tasks) -> None:
    tasks.create(state='"State"')
    tasks.session.do('ALTER TABLE tasks ADD "STATE" text')
    with pytest.raises(SpellingUnclear), tasks.source().connect():
        pass


def test_decision_waits_for_the_table_of_jobs(tasks: Tasks) -> None:
    source = tasks.source()
    assert tasks.sweep(source).outcome is Outcome.FAILED
    tasks.create('"TASKS"')
    tasks.add("RUNNING")
    report = tasks.sweep(source)
    assert (report.error, report.reaped, tasks.states()) == (None, 1, ["FAILED"])


def test_decision_waits_for_the_first_state(tasks: Tasks) -> None:
    """A reaper that was installed before the first job ran would else never see one."""
    tasks.create()
    source = tasks.source()
    assert (tasks.sweep(source).outcome, source.decision.current) == (Outcome.DONE, None)
    tasks.add("RUNNING", "DONE")
    assert tasks.sweep(source).reaped == 1 and source.decision.current is not None
    tasks.add("running")
    assert tasks.sweep(source).reaped == 0
    assert tasks.states() == ["FAILED", "DONE", "running"]


def test_decision_waits_for_a_database_that_is_away(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.create()
    tasks.add("RUNNING")
    source = tasks.source()
    connect = source.engine.connect

    def refuse() -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(source.engine, "connect", refuse)
    assert tasks.sweep(source).database_away and not source.spelling.decided
    monkeypatch.setattr(source.engine, "connect", connect)
    assert tasks.sweep(source).reaped == 1


# --- values that the database lists ----------------------------------------------------------------------------------


def listed(server: str, kind: str) -> tuple[str, ...]:
    states = "'RUNNING', 'FAILED'"
    if kind == "check":
        return (TASKS.format("tasks", "state", BINARY[server], f"CHECK (state IN ({states}))", TIMESTAMP[server]),)
    table = "CREATE TABLE tasks (id integer PRIMARY KEY, state {} NOT NULL, begun {} NOT NULL)"
    if server == "mariadb":
        return (table.format(f"enum ({states})", TIMESTAMP[server]),)
    made = {
        "enum": f"CREATE TYPE task_state AS ENUM ({states})",
        "domain": f"CREATE DOMAIN task_state AS text CHECK (VALUE IN ({states}))",
    }
    return (made[kind], table.format("task_state", TIMESTAMP[server]))


@pytest.mark.parametrize(
    "tasks, kind",
    [
        ("postgresql", "enum"),
        ("postgresql", "check"),
        ("postgresql", "domain"),
        ("mariadb", "enum"),
        ("mariadb", "check"),
    ],
    indirect=["tasks"],
)
def test_listed_values_decide_for_an_empty_table(tasks: Tasks, kind: str) -> None:
    for statement in listed(tasks.server, kind):
        tasks.session.do(statement)
    source = tasks.source()
    with source.connect():
        assert source.profile.jobs.running is not None and source.profile.jobs.running.values == ("RUNNING",)
    tasks.table = "tasks"
    tasks.add("RUNNING")
    assert tasks.sweep(source).reaped == 1 and tasks.states() == ["FAILED"]
