"""A sign of life in the future, from a wrong clock or a damaged row, spares a job for a stall window, and not for ever.

It counts from when the reaper first saw it. What a live worker writes is never ignored for it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import Select, literal_column, select

from reaper.memory.future_signs import FutureSignStore
from reaper.memory.memory import FILE, Memory
from reaper.memory.seen_states import ProcessSeenStates
from reaper.memory.state_file import StateFile
from reaper.model import FutureSigns, SweepReport, Verdict
from reaper.profile import Profile
from reaper.source import Source
from reaper.staleness.future_signs import SeenSign
from reaper.sweep.source_state import SourceState
from tests.support.api import ApiDaemon
from tests.support.protea import HOUR, MINUTE, Protea, SweepRecorder
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on

STALE, SPARED = Verdict.STALE, Verdict.SPARED
YEARS = -5 * 365 * 24 * HOUR
"""An age: five years in the future."""


@dataclass
class Ahead:
    """Tasks with two witnesses, a column and a log; and what the reaper remembers of their signs in the future."""

    tasks: Tasks
    profile: Profile
    file: StateFile

    @property
    def source(self) -> Source:
        made = self.tasks.source(self.profile)
        made.options = replace(made.options, future_signs=FutureSignStore(self.file))
        return made

    def sweep(self, recorder: SweepRecorder | None = None) -> SweepReport:
        report = self.tasks.sweep(self.source, recorder=recorder)
        assert (report.error, report.failures) == (None, ())
        return report

    def seen(self, seconds_ago: float) -> None:
        """What is remembered was first seen so long ago."""
        self.file.write(
            lambda connection: connection.exec_driver_sql(
                f"UPDATE future_sign SET first_seen_epoch = first_seen_epoch - {seconds_ago}"
            )
        )

    def said(self, task: int, *, age: float) -> None:
        """An entry of the task's log."""
        self.tasks.session.do(f"INSERT INTO beat_log VALUES (%s, {self.tasks.database.ago})", task, age)


@pytest.fixture(params=["postgresql", "mariadb"])
def ahead(request: pytest.FixtureRequest) -> Iterator[Ahead]:
    with database_on(request, request.param) as database, tasks_in(database) as tasks:
        moment = "datetime(6)" if tasks.mariadb else "timestamptz"
        tasks.session.do(f"CREATE TABLE beat_log (task_id integer NOT NULL, at {moment} NOT NULL)")
        tasks.session.do("CREATE INDEX beat_log_of_task ON beat_log (task_id, at)")
        witnesses = [
            {"witness": "heartbeat", "column": "beat"},
            {"witness": "log", "events": {"table": "beat_log", "job": "task_id", "at": "at"}},
        ]
        yield Ahead(tasks, mapped(alive=witnesses), StateFile(None))


def test_sign_in_the_future_counts_from_when_it_was_first_seen(ahead: Ahead) -> None:
    tasks = ahead.tasks
    tasks.add(1, beat=YEARS)
    tasks.add(2)
    ahead.said(2, age=YEARS)
    ahead.said(2, age=YEARS - HOUR)
    tasks.add(3, beat=MINUTE)
    tasks.add(4, beat=-0.5 * MINUTE)
    assert tasks.verdicts(ahead.source) == dict.fromkeys("1234", SPARED)
    found = ahead.sweep().future_signs
    assert found is not None and (found.jobs, found.complete, found.job, found.witness) == (
        2,
        True,
        "1",
        "heartbeat",
    )
    ahead.seen(29 * MINUTE)
    assert tasks.verdicts(ahead.source) == dict.fromkeys("1234", SPARED)
    assert ahead.sweep().reaped == 0
    ahead.seen(2 * MINUTE)
    assert tasks.verdicts(ahead.source) == {"1": STALE, "2": STALE, "3": SPARED, "4": SPARED}
    explained = tasks.explained("1", "2", "3", source=ahead.source)
    assert [explained[key].witness for key in "12"] == ["heartbeat", "log"]
    for key in "12":
        assert explained[key].silence_seconds == pytest.approx(31 * MINUTE, abs=20)
        assert (explained[key].future_sign or "") > "2031"
    assert explained["3"].future_sign is None
    recorder = SweepRecorder()
    assert ahead.sweep(recorder).reaped == 2
    assert tasks.states() == {"1": "dead", "2": "dead", "3": "working", "4": "working"}
    assert "A sign of life in the future (203" in tasks.column("note", 1)
    assert ", entries: 2) counts from when it was first seen." in tasks.column("note", 2)
    assert tasks.said(2)["witness"] == "log"


def test_sign_that_is_new_is_never_ignored_for_one_in_the_future(ahead: Ahead) -> None:
    """Whether it is of now, or in the future as well but not as far, from a worker whose clock is ahead."""
    tasks = ahead.tasks
    for number in (1, 2, 3):
        tasks.add(number)
        ahead.said(number, age=YEARS)
    assert ahead.sweep().reaped == 0
    ahead.seen(HOUR)
    assert tasks.verdicts(ahead.source) == dict.fromkeys("123", STALE)
    ahead.said(1, age=MINUTE)
    ahead.said(2, age=-HOUR)

    class AfterSurvey(SweepRecorder):
        def surveyed(self, *_: object) -> None:
            ahead.said(3, age=-HOUR)

    assert ahead.sweep(AfterSurvey()).reaped == 0
    ahead.tasks.session.do("DELETE FROM beat_log WHERE task_id = 1 AND at < '2031-01-01'")
    assert tasks.verdicts(ahead.source)["1"] == STALE, "the one that was seen an hour ago is left"
    assert ahead.sweep().reaped == 1
    assert tasks.states() == {"1": "dead", "2": "working", "3": "working"}


def test_column_that_moves_in_the_future_is_a_sign_each_time(ahead: Ahead) -> None:
    ahead.tasks.add(1, beat=YEARS)
    for _ in range(3):
        assert ahead.sweep().reaped == 0
        ahead.seen(HOUR)
        ahead.tasks.session.do(f"UPDATE task SET beat = {ahead.tasks.database.ago}", YEARS - HOUR)
        assert ahead.sweep().reaped == 0
        ahead.tasks.session.do(f"UPDATE task SET beat = {ahead.tasks.database.ago}", YEARS)
    ahead.sweep()
    ahead.seen(HOUR)
    assert ahead.sweep().reaped == 1


def test_sign_in_the_future_of_an_ended_job_is_no_late_sign(ahead: Ahead) -> None:
    ahead.tasks.add(1, beat=YEARS)
    ahead.sweep()
    ahead.seen(HOUR)
    memory = SourceState()
    recorder = SweepRecorder(memory=memory)
    report = ahead.tasks.sweep(ahead.source, recorder=recorder, memory=memory)
    assert report.reaped == 1
    again = ahead.tasks.sweep(ahead.source, recorder=recorder, memory=memory)
    assert (again.looked_back, list(again.late)) == (True, [])


def test_sweep_looks_for_signs_in_the_future_now_and_then(ahead: Ahead) -> None:
    memory = SourceState()
    reports = [ahead.tasks.sweep(ahead.source, memory=memory) for _ in range(3)]
    assert [report.future_signs for report in reports] == [FutureSigns(0, True), None, None]
    memory.next_future_look = 0
    assert ahead.tasks.sweep(ahead.source, memory=memory).future_signs == FutureSigns(0, True)


def test_look_that_fails_leaves_the_sweep_as_it_is(ahead: Ahead, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stale job is ended; the job whose sign could not be looked at is spared; the reason is reported."""
    ahead.tasks.add(1)
    ahead.tasks.add(2, beat=YEARS)
    broken: Select[tuple[str]] = select(literal_column("no_such_column"))
    monkeypatch.setattr("reaper.source.future_signs.future_states_query", lambda _rule, _number: broken)
    report = ahead.sweep()
    assert (report.reaped, report.future_signs) == (1, None)
    assert "no_such_column" in (report.future_signs_trouble or "")
    assert ahead.tasks.states() == {"1": "dead", "2": "working"}


# --- memory --------------------------------------------------------------------------------------------------


def observe(
    store: FutureSignStore | ProcessSeenStates, states: Mapping[str, str], now: float
) -> Mapping[str, SeenSign]:
    return store.observe("a database", "job", states, now)


def test_first_look_is_kept_until_a_sign_is_added(tmp_path: Path) -> None:
    store = Memory.open(tmp_path).future_signs
    assert observe(store, {"log|1": "2031, entries: 3"}, 100) == {"log|1": SeenSign("2031, entries: 3", 100)}
    assert observe(store, {"log|1": "2031, entries: 2"}, 200)["log|1"].first_seen == 100, "one has become the past"
    assert observe(store, {"log|1": "2031, entries: 3"}, 300)["log|1"].first_seen == 300
    assert observe(store, {"log|1": "2032, entries: 1"}, 400)["log|1"].first_seen == 400
    assert observe(store, {"log|1": "2032, entries: 1"}, 350)["log|1"].first_seen == 350, "the clock was put back"
    assert observe(store, {"log|2": "2032"}, 500).keys() == {"log|1", "log|2"}, "another look may see fewer jobs"
    with closing(sqlite3.connect(tmp_path / FILE)) as memory, memory:
        memory.execute("UPDATE future_sign SET recorded_epoch = recorded_epoch - 90000 WHERE job = 'log|1'")
    assert observe(store, {"log|2": "2033"}, 600).keys() == {"log|2"}
    assert store.known("a database", "job") == {"log|2": SeenSign("2033", 600)}
    assert store.known("another database", "job") == {}


def test_processes_share_what_was_seen_where_a_daemon_keeps_a_file(tmp_path: Path) -> None:
    command = ProcessSeenStates(tmp_path / FILE, FutureSignStore)
    observe(command, {"log|1": "2031"}, 100)
    assert not (tmp_path / FILE).exists(), "a command makes no file"
    daemon = Memory.open(tmp_path).future_signs
    assert observe(daemon, {"log|1": "2031"}, 200)["log|1"].first_seen == 200
    assert observe(command, {"log|1": "2031"}, 300)["log|1"].first_seen == 200


def test_what_was_seen_is_bounded_and_the_oldest_stays() -> None:
    store = FutureSignStore(StateFile(None))
    observe(store, {f"log|{n}": "2031" for n in range(FutureSignStore.max_jobs)}, 100)
    seen = observe(store, {f"log|{n}": "2031" for n in range(5 * FutureSignStore.max_jobs)}, 200)
    assert len(seen) == FutureSignStore.max_jobs
    assert {one.first_seen for one in seen.values()} == {100}


# --- what the daemon says ------------------------------------------------------------------------------------


def test_job_with_a_sign_in_the_future_is_named_by_log_metrics_page_and_api_and_ends(
    protea: Protea, tmp_path: Path
) -> None:
    job = protea.stale()
    protea.event(job, age=YEARS)
    with ApiDaemon(tmp_path, database_url=protea.url, state_dir=tmp_path / "state") as daemon:
        daemon.has_swept()
        assert protea.status(job) == "running"
        daemon.shows("reaper_jobs_with_future_signs", 1)
        line = daemon.says("Jobs have signs of life in the future; these count from when the reaper first saw them.")
        assert (line["jobs"], line["job"], line["witness"]) == (1, job, "job_event")
        for path in (daemon.api.at(job), "/api/jobs", f"/jobs/default/{job}"):
            assert "its sign of life in the future (2031" in daemon.api.get(path).text, path
        with closing(sqlite3.connect(tmp_path / "state" / FILE)) as memory, memory:
            memory.execute("UPDATE future_sign SET first_seen_epoch = first_seen_epoch - 7200")
        assert daemon.api.post("/api/sweeps", {}).json["sweeps"][0]["reaped"] == 1
    assert protea.status(job) == "failed"
    [audit] = protea.audits(job)
    assert "A sign of life in the future (2031" in audit["message"]
