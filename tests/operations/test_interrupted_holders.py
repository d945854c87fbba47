"""The proof of `close-interrupted`, the column with a job's holder: on both servers, in each type of column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from reaper.operations.close_interrupted import CloseInterruptedOptions, CloseInterruptedResult, close_interrupted
from reaper.operations.end_in_batches import BulkOptions
from reaper.source import Claim, Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from tests.support.protea import HOUR, MINUTE, SweepRecorder
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.worlds.servers import database_on

ONE, OTHER = "019a7c1e-0000-7000-8000-0000000000aa", "019a7c1e-0000-7000-8000-0000000000ab"
HOLDERS: dict[str, dict[str, tuple[Any, list[Any]]]] = {
    "postgresql": {
        "varchar(40)": ("app-1", ["App-1", "app-10", "app-1 ", ""]),
        "integer": (7, [70, 17]),
        "uuid": (ONE, [OTHER]),
    },
    "mariadb": {
        # Collations of MariaDB take these for equal.
        "varchar(40)": ("app-1", ["App-1", "app-10", "app-1 ", ""]),
        "varchar(40) COLLATE utf8mb4_bin": ("app-1", ["APP-1", "app-1 "]),
        "integer": (7, [70, 17]),
        "uuid": (ONE, [OTHER]),
    },
}
CASES = [(server, column) for server, columns in HOLDERS.items() for column in columns]


@pytest.fixture
def tasks(request: pytest.FixtureRequest, server_name: str) -> Iterator[Tasks]:
    with database_on(request, server_name) as database, tasks_in(database) as made:
        yield made


def close(source: Source, holder: Any, started_ago: float = 20) -> CloseInterruptedResult:
    options = CloseInterruptedOptions(
        5 * MINUTE, 0, lambda _: False, Breaker(50, 0.5), holder=str(holder), started_ago_seconds=started_ago
    )
    found = close_interrupted(source, DowntimeTracker(0), options, BulkOptions("test-host", 10, SweepRecorder()))
    assert found is not None
    return found


@pytest.mark.parametrize(("server_name", "column"), CASES)
def test_only_jobs_of_the_very_holder_that_began_before_its_start_are_closed(
    tasks: Tasks, server_name: str, column: str
) -> None:
    ours, others = HOLDERS[server_name][column]
    tasks.session.do(f"ALTER TABLE task ADD holder {column}")
    tasks.add(1, age=HOUR, beat=MINUTE, holder=ours)
    tasks.add(2, age=HOUR, beat=MINUTE, holder=None)
    tasks.add(3, age=10, beat=None, holder=ours)
    tasks.add(4, age=HOUR, beat=5, holder=ours)
    for number, other in enumerate(others, 10):
        tasks.add(number, age=HOUR, beat=MINUTE, holder=other)
    source = tasks.source(mapped(jobs={"holder": "holder"}))
    assert close(source, ours).bulk_result.reaped == 1
    assert [key for key, state in tasks.states().items() if state == "dead"] == ["1"]


@pytest.mark.parametrize("server_name", ["mariadb"])
def test_change_of_the_holder_before_the_lock_saves_the_job(tasks: Tasks) -> None:
    """As on PostgreSQL: the claim judges the holder again behind its lock."""
    tasks.session.do("ALTER TABLE task ADD holder varchar(40)")
    tasks.add(1, age=HOUR, beat=MINUTE, holder="app-1")
    source = tasks.source(mapped(jobs={"holder": "holder"}))
    claim = source.claim

    def take_over_and_claim(*arguments: Any, **given: Any) -> Claim:
        tasks.session.do("UPDATE task SET holder = 'app-2' WHERE id = 1")
        return claim(*arguments, **given)

    source.claim = take_over_and_claim  # type: ignore[method-assign]
    found = close(source, "app-1")
    assert (found.interrupted, found.bulk_result.reaped, found.bulk_result.lost) == (1, 0, 1)
    assert tasks.states() == {"1": "working"}
