"""How columns store moments: on both databases the same instants go in and come out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, column, literal, literal_column, select, table
from sqlalchemy.types import NullType

from reaper.database.connections import make_engine, transaction
from reaper.database.timeouts import Timeouts
from reaper.dev.postgres import PrivatePostgreSQL
from reaper.model import DISTANT_PAST, StoredTime, TimestampFormat
from reaper.sql import expressions as sql
from tests.support.examples import examples
from tests.support.mariadb import MariaDB

pytestmark = pytest.mark.every_server

_1970 = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)
STORED: dict[TimestampFormat, Any] = {
    TimestampFormat.TIMESTAMPTZ: "'2026-07-01 12:00:00.123456'",
    TimestampFormat.NAIVE: "'2026-07-01 12:00:00.123456'",
    TimestampFormat.EPOCH_S: "1782907200.123456",
    TimestampFormat.EPOCH_MS: "1782907200123.456",
    TimestampFormat.ISO_TEXT: "'2026-07-01T12:00:00.123456Z'",
}
TYPES = {
    "postgresql": ("timestamptz", "timestamp", "numeric", "double precision", "bigint", "text"),
    "mariadb": ("timestamp(6) null", "datetime(6)", "decimal(20,6)", "double", "bigint", "varchar(40)"),
}
COLUMNS = ("zoned", "naive", "exact", "floating", "whole", "texts")
BY_TIME = {
    TimestampFormat.TIMESTAMPTZ: "zoned",
    TimestampFormat.NAIVE: "naive",
    TimestampFormat.EPOCH_S: "exact",
    TimestampFormat.EPOCH_MS: "exact",
    TimestampFormat.ISO_TEXT: "texts",
}


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A connection to a database whose table `times` has a column of each type."""
    with ExitStack() as stack:
        server: PrivatePostgreSQL | MariaDB = request.getfixturevalue(
            "server" if request.param == "postgresql" else "mariadb"
        )
        url = (
            server.create_database("times", tables=False)
            if isinstance(server, PrivatePostgreSQL)
            else server.create_database("times")
        )
        stack.callback(server.drop_database, "times")
        timeouts = Timeouts(statement=30, connect=5)
        made = stack.enter_context(make_engine(url, "times", timeouts).connect())
        with made.begin():
            columns = ", ".join(f"{n} {t}" for n, t in zip(COLUMNS, TYPES[request.param], strict=True))
            made.exec_driver_sql(f"CREATE TABLE times ({columns})")
        with transaction(made, timeouts, lookup_schemas=["public"]):
            yield made


TABLE = table("times", *(column(name) for name in COLUMNS))


def ask(connection: Connection, element: Any) -> Any:
    return connection.execute(select(element.label("it"))).scalar_one()


def stored(connection: Connection, name: str, value: str) -> Any:
    """A column that holds one value."""
    connection.exec_driver_sql("DELETE FROM times")
    connection.exec_driver_sql(f"INSERT INTO times ({name}) VALUES ({value})")
    return TABLE.c[name]


@pytest.mark.parametrize("time", list(TimestampFormat))
def test_stored_moments_are_read_to_the_microsecond(connection: Connection, time: TimestampFormat) -> None:
    kept = stored(connection, BY_TIME[time], STORED[time])
    assert ask(connection, sql.to_instant(kept, StoredTime(time))) == NOON


@pytest.mark.parametrize("time", list(TimestampFormat))
def test_null_is_no_moment(connection: Connection, time: TimestampFormat) -> None:
    kept = stored(connection, BY_TIME[time], "NULL")
    assert ask(connection, sql.to_instant(kept, StoredTime(time))) is None
    assert ask(connection, sql.from_instant(sql.null_instant(), StoredTime(time))) is None


@pytest.mark.parametrize("time", list(TimestampFormat))
def test_written_moments_are_read_again(connection: Connection, time: TimestampFormat) -> None:
    connection.exec_driver_sql("DELETE FROM times")
    moment = sql.from_instant(sql.instant(NOON), StoredTime(time))
    connection.execute(TABLE.insert().from_select([BY_TIME[time]], select(moment), include_defaults=False))
    assert ask(connection, sql.to_instant(TABLE.c[BY_TIME[time]], StoredTime(time))) == NOON


@pytest.mark.parametrize(
    ("time", "name"), [*BY_TIME.items(), (TimestampFormat.EPOCH_S, "floating"), (TimestampFormat.EPOCH_MS, "floating")]
)
@pytest.mark.parametrize("later", [-0.000002, 0.0, 0.000002, 3600.0])
def test_stored_values_compare_as_their_moments_do(
    connection: Connection, time: TimestampFormat, name: str, later: float
) -> None:
    kept = stored(connection, name, STORED[time])
    limit = sql.from_instant(sql.instant(NOON + timedelta(seconds=later)), StoredTime(time))
    assert bool(ask(connection, kept < limit)) is (later > 0)
    assert bool(ask(connection, kept >= limit)) is (later <= 0)


@pytest.mark.parametrize(
    ("time", "value"), [(TimestampFormat.EPOCH_S, 1782907200), (TimestampFormat.EPOCH_MS, 1782907200123)]
)
def test_whole_numbers_compare_exactly_with_fractions(
    connection: Connection, time: TimestampFormat, value: int
) -> None:
    kept = stored(connection, "whole", str(value))
    moment = datetime.fromtimestamp(value / (1 if time is TimestampFormat.EPOCH_S else 1000), UTC)
    assert ask(connection, sql.to_instant(kept, StoredTime(time))) == moment
    for later in (-1, 0, 1):
        limit = sql.from_instant(sql.instant(moment + timedelta(microseconds=later)), StoredTime(time))
        assert bool(ask(connection, kept < limit)) is (later > 0)


@pytest.mark.parametrize("time", [time for time in TimestampFormat if sql.compares_as_stored(StoredTime(time))])
def test_infinities_lie_beyond_all_other_moments(connection: Connection, time: TimestampFormat) -> None:
    kept = stored(connection, BY_TIME[time], STORED[time])
    assert ask(connection, kept > sql.from_instant(sql.instant(DISTANT_PAST), StoredTime(time)))
    assert ask(connection, kept < sql.from_instant(sql.infinity(), StoredTime(time)))


def test_moments_compared_with_timestamptz_are_not_converted() -> None:
    moment = sql.instant(NOON)
    assert sql.from_instant(moment, StoredTime(TimestampFormat.TIMESTAMPTZ)) is moment


@settings(
    max_examples=examples(40, all_of_them=60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    moment=st.integers(100_000_000_000_000, 2_100_000_000_000_000).map(
        lambda after: _1970 + timedelta(microseconds=after)
    ),
    time=st.sampled_from(list(TimestampFormat)),
)
def test_moments_since_1973_survive_conversion_to_each_format_and_back(
    connection: Connection, moment: datetime, time: TimestampFormat
) -> None:
    there: Any = sql.from_instant(sql.instant(moment), StoredTime(time))
    assert ask(connection, sql.to_instant(there, StoredTime(time))) == moment


def test_newest_ignores_nulls(connection: Connection) -> None:
    earlier, nothing = sql.instant(NOON - timedelta(hours=1)), sql.null_instant()
    assert ask(connection, sql.newest(nothing, sql.instant(NOON), earlier, nothing)) == NOON
    assert ask(connection, sql.newest(nothing, nothing)) is None


def test_seconds_between_are_exact_to_the_millisecond_and_null_for_infinities(connection: Connection) -> None:
    noon, earlier = sql.instant(NOON), sql.instant(NOON - timedelta(seconds=61, microseconds=1500))
    assert float(ask(connection, sql.seconds_between(noon, earlier))) == 61.002
    for infinite in (sql.instant(DISTANT_PAST), sql.infinity(), sql.null_instant()):
        assert ask(connection, sql.seconds_between(noon, infinite)) is None
        assert ask(connection, sql.seconds_between(infinite, noon)) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [("111599.9", "30h 59m"), ("3600", "1h 0m"), ("3599.999", "59m 59s"), ("60", "1m 0s"), ("5.9", "5s"), ("0", "0s")],
)
def test_duration_texts_are_equal_on_each_database(connection: Connection, seconds: str, words: str) -> None:
    duration: Any = literal_column(seconds, NullType())
    assert ask(connection, sql.duration_text(duration)) == words


def test_moments_are_equal_in_json_and_in_text_on_each_database(connection: Connection) -> None:
    tenth, second = NOON.replace(microsecond=100000), NOON.replace(microsecond=0, second=50)
    members = {"all": NOON, "tenth": tenth, "second": second}
    found = ask(connection, sql.json_object({name: sql.instant(value) for name, value in members.items()}))
    assert found == {
        "all": "2026-07-01T12:00:00.123456+00:00",
        "tenth": "2026-07-01T12:00:00.1+00:00",
        "second": "2026-07-01T12:00:50+00:00",
    }
    assert ask(connection, sql.utc_text(sql.instant(NOON))) == "2026-07-01T12:00:00Z"


def test_added_seconds_epochs_and_json_are_equal_on_each_database(connection: Connection) -> None:
    assert ask(connection, sql.add_seconds(sql.instant(NOON), 90.5)) == NOON + timedelta(seconds=90.5)
    assert ask(connection, sql.epoch(sql.instant(NOON))) == NOON.timestamp()
    document = sql.json_object({"a": sql.json_object({"b": sql.text_of(literal_column("1"))})})
    assert ask(connection, sql.json_member(document, ("a", "b"))) == "1"
    assert ask(connection, sql.json_member(document)) == {"a": {"b": "1"}}


def test_text_in_matches_only_the_very_same_text(connection: Connection) -> None:
    text = sql.text_of(literal_column("'Käse'"))
    for values, found in {("Käse",): True, ("käse", "Kase", "Käse "): False, (): False, ("a", "Käse"): True}.items():
        assert bool(ask(connection, sql.text_in(text, literal(list(values), sql.TEXTS)))) is found


def test_clock_is_utc_and_constant_within_a_statement(connection: Connection) -> None:
    row = connection.execute(select(sql.now().label("one"), sql.now().label("two"))).one()
    assert row.one == row.two and row.one.utcoffset() == timedelta(0)


def test_raw_sql_is_written_as_it_is(connection: Connection) -> None:
    kept = stored(connection, "whole", "7")
    assert ask(connection, sql.raw_sql(["", kept, " % 4 = 3 AND '50%' LIKE '%\\%'"])) in (True, 1)
