"""Signs of life that vanish are no silence: the sweep is held and says so, until signs come back or it is released."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from reaper.model import Outcome, SweepReport
from reaper.observers.daemon_log import DaemonLog
from reaper.profile import Profile
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on

OPTIONS = SweepOptions("test-host", 1000, Breaker(50, 1.0))


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        moment = "datetime(6)" if made.mariadb else "timestamptz"
        made.session.do(f"CREATE TABLE task_event (task_id integer NOT NULL, at {moment} NOT NULL)")
        made.session.do("CREATE INDEX task_event_task ON task_event (task_id, at)")
        yield made


def profile() -> Profile:
    events = {"witness": "events", "events": {"table": "task_event", "job": "task_id", "at": "at"}}
    return mapped(alive=[events])


def event(tasks: Tasks, number: int, ago: float = 60.0) -> None:
    tasks.session.do(f"INSERT INTO task_event VALUES (%s, {tasks.database.ago})", number, ago)


class Sweeps:
    """Sweeps of one source, one after the other, as in a daemon."""

    def __init__(self, tasks: Tasks) -> None:
        self.tasks, self.source, self.state = tasks, tasks.source(profile()), SourceState()

    def __call__(self, release: int = 0) -> SweepReport:
        options = replace(OPTIONS, override_breaker_up_to=release)
        report = self.tasks.sweep(self.source, memory=self.state, options=options)
        self.source.close()
        return report


def swap(tasks: Tasks) -> None:
    like = "LIKE task_event_old" if tasks.mariadb else "(LIKE task_event_old INCLUDING ALL)"
    tasks.session.do("ALTER TABLE task_event RENAME TO task_event_old")
    tasks.session.do(f"CREATE TABLE task_event {like}")


def truncate(tasks: Tasks) -> None:
    tasks.session.do("TRUNCATE TABLE task_event")


@pytest.mark.parametrize("vanish", [swap, truncate])
def test_jobs_whose_signs_vanish_are_held_until_signs_are_seen_again(
    tasks: Tasks, vanish: Callable[[Tasks], None]
) -> None:
    for number in range(1, 6):
        tasks.add(number)
        event(tasks, number)
    sweeps, log = Sweeps(tasks), DaemonLog()
    with capture_logs() as lines:
        assert sweeps().outcome is Outcome.DONE
        vanish(tasks)
        if vanish is swap and not tasks.mariadb:
            # Another table in its place: silence begins again, so that no job is stale in this sweep.
            assert sweeps().reaped == 0
        for _ in range(3):
            report = sweeps()
            log.swept(report)
            assert (report.outcome, report.reaped) == (Outcome.HELD, 0)
            assert report.census is not None and report.census.vanished == ("events",)
        assert report.census is not None
        assert "the signs of life of events have vanished" in OPTIONS.breaker.reason(report.census)
        event(tasks, 1)
        event(tasks, 2, ago=7 * 3600.0)
        report = sweeps()
        log.swept(report)
    # The others are silent now: since the table is written to again, they could have been heard.
    assert (report.outcome, tasks.states()["1"]) == (Outcome.DONE, "working")
    said = [line["event"] for line in lines if "breaker" in line["event"]]
    assert said == [
        "Reaper breaker is open: signs of life have vanished, which is no silence; no job is ended.",
        "Reaper breaker is closed: sweeps end jobs again.",
    ]


def test_jobs_that_begin_while_signs_are_gone_are_held_too(tasks: Tasks) -> None:
    tasks.add(1, age=60.0)
    event(tasks, 1)
    sweeps = Sweeps(tasks)
    sweeps()
    truncate(tasks)
    sweeps()
    # The only job that had signs ends, and another one becomes stale.
    tasks.session.do("UPDATE task SET state = 'over' WHERE id = 1")
    tasks.add(2)
    assert sweeps().outcome is Outcome.HELD


def test_operator_who_releases_the_jobs_ends_them(tasks: Tasks) -> None:
    tasks.add(1)
    event(tasks, 1)
    sweeps = Sweeps(tasks)
    sweeps()
    truncate(tasks)
    assert sweeps().outcome is Outcome.HELD
    assert (sweeps(release=1).reaped, tasks.states()) == (1, {"1": "dead"})


def test_job_without_signs_from_the_beginning_is_ended(tasks: Tasks) -> None:
    tasks.add(1)
    tasks.add(2)
    event(tasks, 2)
    sweeps = Sweeps(tasks)
    assert sweeps().reaped == 1
    assert (sweeps().outcome, tasks.states()) == (Outcome.DONE, {"1": "dead", "2": "working"})


def test_job_that_is_started_again_may_have_no_signs_yet(tasks: Tasks) -> None:
    tasks.add(1)
    event(tasks, 1)
    sweeps = Sweeps(tasks)
    sweeps()
    truncate(tasks)
    tasks.session.do(f"UPDATE task SET started = {tasks.database.ago}, made = {tasks.database.ago}", 60.0, 60.0)
    tasks.add(2)
    assert (sweeps().outcome, tasks.states()) == (Outcome.DONE, {"1": "working", "2": "dead"})


def test_sample_costs_one_small_statement_and_none_without_rows_of_signs(tasks: Tasks) -> None:
    source = tasks.source()
    assert source.survey.row_witnesses == ()
    assert tasks.source(profile()).survey.row_witnesses == ("events",)
