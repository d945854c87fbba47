"""How far back stall windows in rows reach, as each database computes it: as the downtime tracker says of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, Float, column, select, table

from reaper.model import DISTANT_PAST, ServerClock
from reaper.sql import expressions as sql
from reaper.sql.statement import CompiledStatement
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.silence_cutoffs import SilenceCutoffs, values
from tests.support.checks import connected
from tests.support.worlds import Database
from tests.support.worlds.servers import database_on

NOW = datetime(2021, 4, 1, 12, tzinfo=UTC)
LONG_AGO = DISTANT_PAST.timestamp()
WINDOWS = (0.001, 1.0, 59.5, 60.0, 61.0, 599.999999, 600.0, 1800.0, 3600.0, 5400.25, 86_400.0, 604_800.0, 1e9)


@pytest.fixture(params=["postgresql", "mariadb"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_on(request, request.param) as made:
        yield made


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with connected(database.url) as made:
        yield made


def put(database: Database, windows: Sequence[float | None]) -> None:
    with database.session(autocommit=True) as session:
        session.do("CREATE TABLE job (number int PRIMARY KEY, stall double precision)")
        for number, window in enumerate(windows):
            session.do("INSERT INTO job VALUES (%s, %s)", number, window)


def outages(random: Random, count: int, *, unknown_start: bool) -> DowntimeTracker:
    """A tracker at NOW that went through so many outages; of the time before the first, it may know nothing."""
    tick = 0.0
    downtime = DowntimeTracker(30.0 if unknown_start else 0.0, lambda: tick)
    lengths = [(random.choice([1.0, 60.0, 600.5]), random.choice([1.0, 60.0, 900.25])) for _ in range(count)]
    start = NOW - timedelta(seconds=sum(map(sum, lengths)))
    server_started = start - timedelta(seconds=random.choice([10.0, 5000.0]))

    def meet(after: float) -> None:
        nonlocal tick
        tick += after
        downtime.record_contact(ServerClock(start + timedelta(seconds=tick), server_started))

    meet(0)
    for away, back in lengths:
        downtime.record_failure()
        meet(away)
        meet(back)
    return downtime


def statement(connection: Connection) -> CompiledStatement:
    jobs = table("job", column("number"), column("stall", Float))
    cutoffs = SilenceCutoffs("audible", jobs.c.stall)
    moments = (sql.epoch(moment) for moment in (cutoffs.cutoff, cutoffs.floor, cutoffs.estimate))
    query = select(*moments).select_from(cutoffs.joined(jobs)).order_by(jobs.c.number)
    return CompiledStatement(query, connection.dialect)


def epoch(moment: datetime) -> Any:
    return moment.timestamp() if moment != DISTANT_PAST else LONG_AGO


@pytest.mark.parametrize("count", [0, 1, 3, 300])
@pytest.mark.parametrize("unknown_start", [False, True], ids=["start seen", "start not seen"])
def test_window_in_each_row_reaches_as_far_back_as_the_tracker_says(
    database: Database, connection: Connection, count: int, unknown_start: bool
) -> None:
    zone = "SET TIME ZONE 'UTC'" if connection.dialect.name == "postgresql" else "SET time_zone = '+00:00'"
    connection.exec_driver_sql(zone)
    downtime = outages(Random(count), count, unknown_start=unknown_start)
    spans = downtime.audible_spans()
    # Also windows that end where the database came back.
    windows = *WINDOWS, *(span.longer_than.total_seconds() for span in spans[1:20])
    put(database, (*windows, None))
    rows = statement(connection).execute(connection, values(spans)).all()
    assert tuple(rows[-1]) == (None, None, None)
    # PostgreSQL has a moment before all others, MariaDB the first of its calendar.
    found = [tuple(max(float(value), LONG_AGO) for value in row) for row in rows[:-1]]
    expected = [downtime.cutoff(window) for window in windows]
    moments = [(epoch(one.at), epoch(one.not_before), epoch(one.earliest_possible)) for one in expected]
    assert found == [pytest.approx(row, abs=1e-5) for row in moments]
    if count > 1:
        assert len({one.at for one in expected}) > 2
