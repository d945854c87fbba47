"""Plans of the survey: independent of the age of statistics, of the number of kinds, and of how many jobs are stale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Dialect, column, select, table
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from reaper.model import KindThresholds, ServerClock, Threshold
from reaper.source import Source
from reaper.source.survey import candidates_query
from reaper.source.survey_counts import count_query, past_timeout_query
from reaper.sql import expressions as sql
from reaper.sql.statement import CompiledStatement
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.future_signs import SeenSign
from tests.support.protea import HOUR, MINUTE, Protea, thresholds
from tests.support.tasks import Tasks, mapped, tasks_in
from tests.support.waiting import wait_until
from tests.support.worlds.servers import database_on

POSTGRESQL, MARIADB = PGDialect_psycopg(), MySQLDialect_pymysql()  # type: ignore[no-untyped-call]
ROWS = 9_000


@pytest.mark.parametrize(
    ("stored", "moment"),
    [
        ("timestamptz", "now() - interval '1 h'"),
        ("timestamp", "now()::timestamp - interval '1 h'"),
        ("bigint", "extract(epoch FROM now())::bigint - 3600"),
    ],
)
def test_planner_never_takes_a_cutoff_for_one_that_no_row_has_reached(protea: Protea, stored: str, moment: str) -> None:
    """With an estimate of one row, it compares each job with each row since the cutoff: a hundred thousand of each."""
    session = protea.connection
    session.execute(f"CREATE TABLE beat (at {stored})")
    insert = f"INSERT INTO beat SELECT {moment} - {{}} FROM generate_series(1, {ROWS})"
    old = "(10000 + generate_series)" + ("" if stored == "bigint" else " * interval '1 s'")
    session.execute(insert.format(old))
    session.execute("VACUUM ANALYZE beat")
    beats = table("beat", column("at"))
    condition = sql.not_before(beats.c.at, sql.raw_sql([moment]))
    query = CompiledStatement(select(beats).where(condition), POSTGRESQL)
    plan = session.execute(f"EXPLAIN (FORMAT JSON) {query.text}", query.bound({})[1]).fetchone()
    assert plan is not None
    assert plan[0][0]["Plan"]["Plan Rows"] >= ROWS / 10
    assert session.execute(query.text, query.bound({})[1]).fetchall() == []


@pytest.mark.parametrize("kinds", [0, 2])
def test_children_of_a_batch_are_read_once_without_an_index_on_their_parent(protea: Protea, kinds: int) -> None:
    """A hundred stale jobs, and a hundred that are spared, cost as many reads of the whole table as one of each."""
    limits = thresholds(kinds={"embed": KindThresholds(None, Threshold(HOUR, "here"))} if kinds else {})
    protea.connection.execute("DROP INDEX ix_job_parent_job_id")
    scans = []
    for count in (1, 100):
        parents = [protea.stale() for _ in range(count)]
        for n in range(count):
            protea.job(parent=protea.job(), age=MINUTE)
            protea.job(parent=parents[n], status="succeeded", age=9 * HOUR, created=9 * HOUR, finished=7 * HOUR)
        protea.connection.execute("ANALYZE job, job_event")
        before, source = _scans(protea), protea.source(limits)
        report = protea.sweep(source)
        source.close()
        assert (report.reaped, report.error) == (count, None)
        scans.append(_scans(protea) - before)
    assert scans[1] <= scans[0] + 5


def _scans(protea: Protea) -> int:
    """How often the table of jobs was read as a whole. A session counts its last reads when it ends."""
    sessions = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    wait_until(lambda: not protea.connection.execute(sessions).fetchall(), "the sweep's session has ended")
    protea.connection.execute("SELECT pg_stat_force_next_flush()")
    row = protea.connection.execute("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'job'").fetchone()
    assert row is not None
    return int(row[0])


# --- kinds -----------------------------------------------------------------------------------------------------


def own_limits(kinds: int) -> dict[str, KindThresholds]:
    return {
        f"kind {n}": KindThresholds(Threshold((n + 1) * HOUR, "here"), Threshold((n + 1) * 60 * MINUTE / 10, "here"))
        for n in range(kinds)
    }


NOW = datetime(2021, 4, 1, 12, tzinfo=UTC)


def context(source: Source, count: int) -> EvaluationContext:
    """So often the database was away, and so many jobs without a start, or with signs in the future, were seen."""
    tick = 0.0
    downtime = DowntimeTracker(0, lambda: tick)
    for tick in (50.0 * n for n in range(2 * count + 1)):
        downtime.record_contact(ServerClock(NOW + timedelta(seconds=tick), NOW))
        if tick % 100 == 0:
            downtime.record_failure()
    downtime.record_contact(ServerClock(NOW + timedelta(seconds=tick), NOW))
    assert len(downtime.audible_spans()) == count + 1
    seen = {str(n): SeenSign("state", 1.0 * n) for n in range(count)}
    return replace(EvaluationContext.of(downtime, source.thresholds), first_seen=seen, future_signs=seen)


@pytest.mark.parametrize("dialect", [POSTGRESQL, MARIADB], ids=lambda it: it.name)
def test_statements_do_not_grow_with_kinds_outages_and_jobs_that_are_remembered(
    protea: Protea, dialect: Dialect
) -> None:
    bound = []
    for count in (2, 500):
        source = protea.source(thresholds(kinds=own_limits(count)))
        values = source.statements.values(context(source, count))
        queries = (candidates_query, count_query, past_timeout_query)
        bound.append([source.statements.compiled(dialect, query).bound(values) for query in queries])
    for (few, few_parameters), (many, many_parameters) in zip(*bound, strict=True):
        # The longest of the kinds' names.
        assert few.replace("VARCHAR(6)", "VARCHAR(8)") == many
        assert few_parameters.keys() == many_parameters.keys()


@pytest.fixture(params=["postgresql", "mariadb"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    with database_on(request, request.param) as database, tasks_in(database) as made:
        yield made


def test_each_of_many_kinds_is_judged_by_its_own_thresholds(tasks: Tasks) -> None:
    """Timeouts of 1 to 60 h, stall windows of 6 min to 6 h: around each there is a job on either side."""
    kinds = 60
    source = tasks.source(mapped(), thresholds(kinds=own_limits(kinds)))
    stale, number = set[str](), 0
    for n in range(kinds):
        timeout, stall = (n + 1) * HOUR, (n + 1) * 6 * MINUTE
        for age, silence in ((MINUTE, MINUTE), (MINUTE, -MINUTE), (-MINUTE, MINUTE)):
            number += 1
            key = tasks.add(number, kind=f"kind {n}", age=timeout + age, beat=stall + silence)
            stale |= {key} if min(age, silence) > 0 else set()
    other = tasks.add(number + 1, kind="another", age=7 * HOUR, beat=31 * MINUTE)
    tasks.add(number + 2, kind="another", age=7 * HOUR, beat=29 * MINUTE)
    tasks.add(number + 3, kind=None, age=5 * HOUR, beat=31 * MINUTE)
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            found = {candidate.key[0] for candidate in source.survey.stream(connection, context)}
            census = source.survey.census(connection, context)
            counted = source.survey.count_stale(connection, context)
    assert found == stale | {other}
    assert (counted, census.running, census.past_timeout) == (kinds + 1, number + 3, 2 * kinds + 2)
    assert tasks.sweep(source).reaped == kinds + 1
