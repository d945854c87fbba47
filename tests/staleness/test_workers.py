"""The worker that holds a job, as a witness: its heartbeat is a sign of life, and everything that tells of a job names
it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reaper.common.messages import describe_verdict
from reaper.model import Verdict
from tests.support.protea import HOUR, MINUTE
from tests.support.tasks import tasks_in
from tests.support.workers import Workers, held
from tests.support.worlds.servers import database_on

STALE, SPARED, YOUNG = Verdict.STALE, Verdict.SPARED, Verdict.YOUNG
LONG = "w" * 2000


@pytest.fixture(params=["postgresql", "mariadb"])
def workers(request: pytest.FixtureRequest) -> Iterator[Workers]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        yield Workers(made)


def test_job_lives_by_the_heartbeat_of_the_very_worker_that_holds_it(workers: Workers) -> None:
    workers.add("lives", 1, beat=MINUTE)
    workers.add("silent", 1, beat=2 * HOUR)
    workers.add("reused", 2, beat=MINUTE)
    workers.add("left", 1, beat=MINUTE, gone=True)
    workers.add("mute", 1, beat=None)
    expected = {
        workers.task(1, "lives", 1): SPARED,
        workers.task(2, "lives", 1): SPARED,
        workers.task(3, "silent", 1): STALE,
        workers.task(4, "reused", 1): STALE,
        workers.task(5, "left", 1): STALE,
        workers.task(6, "mute", 1): STALE,
        workers.task(7, "never was", 1): STALE,
        workers.task(8, None, 1): STALE,
        workers.task(9, "silent", 1, age=5 * HOUR): YOUNG,
        workers.task(10, "never was", 1, age=5 * HOUR): YOUNG,
    }
    source = workers.tasks.source(held())
    assert workers.tasks.verdicts(source) == expected
    report = workers.tasks.sweep(source)
    assert (report.error, report.failures, report.reaped) == (None, (), 6)
    dead = {key for key, state in workers.tasks.states().items() if state == "dead"}
    assert dead == {key for key, verdict in expected.items() if verdict is STALE}


def test_verdict_evidence_and_message_name_the_worker(workers: Workers) -> None:
    workers.add("db-7", 3, beat=2 * HOUR, pid=4711)
    workers.add(LONG, 3, beat=MINUTE)
    for number, (host, epoch) in enumerate([("db-7", 3), ("gone", 5), (None, None), (LONG, 3)], start=1):
        workers.task(number, host, epoch)
    source = workers.tasks.source(held(name=["host", "pid"]))
    explained = workers.tasks.explained("1", "2", "3", "4", source=source)
    assert [explained[key].worker for key in "123"] == ["db-7 4711", "gone 5", None]
    assert describe_verdict(explained["1"]).endswith("; its worker is db-7 4711")
    assert "worker" not in describe_verdict(explained["3"])
    assert "but alive: worker 1m" in (spared := describe_verdict(explained["4"])) and "; its worker is www" in spared
    assert len(explained["4"].worker or "") < 1100, "what others wrote is cut"
    assert workers.tasks.sweep(source).reaped == 3
    assert [workers.tasks.said(number)["worker"] for number in (1, 2, 3)] == ["db-7 4711", "gone 5", None]
    messages = [workers.tasks.column("note", number) for number in (1, 2, 3)]
    assert [message.partition(" from start.")[2] for message in messages[1:]] == [
        " Its worker was gone 5.",
        " No worker held it.",
    ]
    assert messages[0].endswith(" from worker. Its worker was db-7 4711.")


def test_columns_of_the_job_name_the_worker_without_a_name(workers: Workers) -> None:
    workers.add("db-7", 3, beat=2 * HOUR)
    workers.task(1, "db-7", 3)
    assert workers.tasks.explained("1", source=workers.tasks.source(held()))["1"].worker == "db-7 3"
    by_host = held(match={"host": "note"}, where=[])
    assert workers.tasks.explained("1", source=workers.tasks.source(by_host))["1"].worker == "db-7"
