"""The counts of the running jobs, where kinds have thresholds of their own: a plain count of the jobs says the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import event

from reaper.model import KindThresholds, Threshold, Thresholds
from reaper.staleness.downtime import DowntimeTracker
from tests.support.protea import HOUR, MINUTE, thresholds
from tests.support.tasks import AsOf, Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on

NOW = datetime(2021, 4, 1, 12, tzinfo=UTC)
BEFORE = 10 * MINUTE
"""How long before NOW the previous sweep was."""
KINDS = {"short": HOUR, "long": 9 * HOUR, "usual": None}
DEFAULT = 6 * HOUR


def limits() -> Thresholds:
    own = {kind: KindThresholds(Threshold(timeout, "here"), None) for kind, timeout in KINDS.items() if timeout}
    return thresholds(timeout=DEFAULT, kinds={**own, "usual": KindThresholds(None, Threshold(HOUR, "here"))})


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        yield made


def put(tasks: Tasks, jobs: list[tuple[str | None, float | None]]) -> None:
    """Working tasks of these kinds and ages at NOW, in place of the others; one without an age has no start."""
    tasks.session.do("DELETE FROM task")
    for number, (kind, age) in enumerate(jobs):
        tasks.add(number, kind=kind, age=None)
        if age is not None:
            tasks.started_at(number, NOW - timedelta(seconds=age))


def counted(tasks: Tasks, source: AsOf) -> tuple[int, int, int, int, float]:
    with source.connect() as connection:
        source.now = NOW - timedelta(seconds=BEFORE)
        previous = source.begin_evaluation(connection, DowntimeTracker(0))
        source.now = NOW
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            census, crossed = source.survey.count(connection, context, previous)
    return census.running, census.past_timeout, crossed, census.without_start, round(census.most_overdue, 6)


def expected(jobs: list[tuple[str | None, float | None]]) -> tuple[int, int, int, int, float]:
    ages = [(age, KINDS.get(kind or "") or DEFAULT) for kind, age in jobs if age is not None]
    past = [(age, timeout) for age, timeout in ages if age > timeout]
    crossed = [age for age, timeout in past if age - BEFORE <= timeout]
    overdue = max((age / timeout for age, timeout in past), default=0.0)
    return len(jobs), len(past), len(crossed), len(jobs) - len(ages), round(overdue, 6)


def drawn(random: Random) -> list[tuple[str | None, float | None]]:
    """Jobs around the timeouts, of a few kinds: some of them all young, or all past their timeout."""
    kinds = random.sample([*KINDS, "another", None], random.randint(1, 5))
    sides = {kind: random.choice([[-1], [1], [0, 1], [-1, 0, 1]]) for kind in kinds}
    jobs: list[tuple[str | None, float | None]] = []
    for _ in range(random.randint(1, 12)):
        kind = random.choice(kinds)
        timeout = KINDS.get(kind or "") or DEFAULT
        # Exactly at the timeout, and at the previous sweep's, too.
        age = timeout + random.choice(sides[kind]) * random.choice([0.0, MINUTE, BEFORE, 2 * BEFORE, HOUR / 2])
        jobs.append((kind, None if random.random() < 0.1 else age))
    return jobs


def test_counts_are_those_of_a_plain_count(tasks: Tasks) -> None:
    source, random = tasks.as_of(NOW, mapped(), limits()), Random(20)
    for _ in range(25):
        jobs = drawn(random)
        put(tasks, jobs)
        assert counted(tasks, source) == expected(jobs), jobs
    put(tasks, [])
    assert counted(tasks, source) == (0, 0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("ages", "statements"),
    [({"short": [1, 2], "long": [1]}, 1), ({"short": [61, 62], "long": [30], None: [30]}, 1), ({"short": [1, 62]}, 2)],
)
def test_jobs_are_compared_with_their_limits_only_where_those_of_a_kind_are_not_alike(
    tasks: Tasks, ages: dict[str | None, list[int]], statements: int
) -> None:
    jobs: list[tuple[str | None, float | None]] = [
        (kind, minutes * MINUTE) for kind, of_kind in ages.items() for minutes in of_kind
    ]
    put(tasks, jobs)
    source = tasks.as_of(NOW, mapped(), limits())
    texts: list[str] = []
    event.listen(source.engine, "before_cursor_execute", lambda *arguments: texts.append(arguments[2]))
    assert counted(tasks, source) == expected(jobs)
    assert len([text for text in texts if "AS past_timeout" in text]) == statements
