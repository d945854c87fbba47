"""A witness that only SQL can say: its moment is judged like that of any other witness."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reaper.common.messages import describe_verdict
from reaper.model import KindThresholds, Outcome, Threshold, Verdict
from reaper.profile import Profile
from reaper.source import AuditInfo
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from tests.support.protea import HOUR, MINUTE, thresholds
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on

STALE, SPARED, YOUNG = Verdict.STALE, Verdict.SPARED, Verdict.YOUNG
STEPS = "(SELECT max(s.at) FROM step s WHERE s.run = concat('run-', {note}) AND s.what <> '{{}}')"


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        moment = "datetime(6)" if made.mariadb else "timestamptz"
        made.session.do(f"CREATE TABLE step (run varchar(20), what varchar(20), at {moment})")
        yield made


def stepping(tasks: Tasks) -> Profile:
    steps = STEPS if tasks.mariadb else STEPS.replace("step s", "public.step s")
    return mapped(alive=[{"witness": "step", "sql": steps}])


def step(tasks: Tasks, run: str, seconds: float, what: str = "done") -> None:
    tasks.session.do(f"INSERT INTO step VALUES (%s, %s, {tasks.database.ago})", f"run-{run}", what, seconds)


def test_moment_of_the_expression_is_the_sign_of_life(tasks: Tasks) -> None:
    expected = {
        tasks.add(1, beat=None, note="a"): SPARED,
        tasks.add(2, beat=MINUTE, note="b"): STALE,
        tasks.add(3, beat=None, note="c"): STALE,
        tasks.add(4, beat=None, note=None): STALE,
        tasks.add(5, beat=None, note="c", age=5 * HOUR): YOUNG,
        tasks.add(6, beat=None, note="d"): STALE,
        tasks.add(7, beat=None, note="f", kind="slow"): SPARED,
    }
    for run, seconds in {"a": MINUTE, "b": 2 * HOUR, "f": 40 * MINUTE}.items():
        step(tasks, run, seconds)
    step(tasks, "a", 3 * HOUR)
    step(tasks, "d", MINUTE, "{}")
    kinds = {"slow": KindThresholds(stall=Threshold(HOUR, "kind"))}
    source = tasks.source(stepping(tasks), thresholds(kinds=kinds))
    assert tasks.verdicts(source) == expected
    explained = tasks.explained("1", "2", "3", source=source)
    assert "but alive: step 1m" in describe_verdict(explained["1"])
    assert (explained["2"].witness, explained["3"].witness) == ("step", "start")
    report = tasks.sweep(source)
    assert (report.error, report.failures, report.reaped) == (None, (), 4)
    assert {key for key, state in tasks.states().items() if state == "dead"} == {"2", "3", "4", "6"}
    assert tasks.said(2)["signs"]["step"] is not None


def test_breaker_and_time_in_which_the_database_was_away_hold_for_it_too(tasks: Tasks) -> None:
    for number in range(1, 6):
        step(tasks, str(tasks.add(number, beat=None, note=f"{number}")), 2 * HOUR)
    source = tasks.source(stepping(tasks))
    held = tasks.sweep(source, options=SweepOptions("test-host", 1000, Breaker(2, 0.5)))
    assert held.outcome is Outcome.HELD
    deaf = tasks.sweep(source, downtime=DowntimeTracker(4 * HOUR))
    assert (deaf.outcome, deaf.reaped) == (Outcome.DONE, 0), "the server was started just now"


def test_sign_in_the_future_counts_from_when_it_was_first_seen(tasks: Tasks) -> None:
    tasks.add(1, beat=None, note="a")
    step(tasks, "a", -HOUR)
    source = tasks.source(stepping(tasks))
    assert tasks.verdicts(source) == {"1": SPARED}
    assert tasks.explained("1", source=source)["1"].future_sign is not None


def test_sign_between_the_survey_and_the_lock_spares_the_job(tasks: Tasks) -> None:
    tasks.add(1, beat=None, note="a")
    source, downtime = tasks.source(stepping(tasks)), DowntimeTracker(0)
    with source.connect() as connection:
        context = source.ask_probe(source.begin_evaluation(connection, downtime))
        with source.transaction(connection, read_only=True):
            candidates = list(source.survey.stream(connection, context))
        step(tasks, "a", MINUTE)
        with source.transaction(connection):
            result = source.claim(context, AuditInfo("main", "1", "test-host")).run(connection, candidates)
    assert (len(candidates), len(result.reaped), tasks.states()) == (1, 0, {"1": "working"})
