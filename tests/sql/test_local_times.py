"""Moments in local time, and as texts, are those that zoneinfo makes of them; a time that comes twice is the later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, column, select, table

from reaper.common.time_zones import OffsetChanges, fixed_offset, offset_changes, zone_name
from reaper.database.connections import make_engine, transaction
from reaper.database.timeouts import Timeouts
from reaper.model import StoredTime, TimestampFormat
from reaper.sql import expressions as sql
from tests.support.examples import examples
from tests.support.worlds.servers import database_on

pytestmark = pytest.mark.every_server

ZONES = (
    "America/New_York",
    "Europe/Berlin",
    "Europe/Dublin",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "America/St_Johns",
    "Pacific/Apia",
    "UTC",
    "-05:00",
    "+05:45",
)
FORMATS = (TimestampFormat.NAIVE, TimestampFormat.ISO_TEXT)
TABLE = table("local", *(column(name) for name in ("n", "moment", "words")))


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A session in UTC, with a table of moments without a zone."""
    with database_on(request, request.param) as database:
        timeouts = Timeouts(statement=30, connect=5)
        with make_engine(database.url, "local", timeouts).connect() as made:
            with made.begin():
                moment = "datetime(6)" if request.param == "mariadb" else "timestamp"
                made.exec_driver_sql(f"CREATE TABLE local (n integer, moment {moment}, words varchar(60))")
            with transaction(made, timeouts, lookup_schemas=["public"]):
                yield made


def of_zone(zone: str, local: datetime) -> datetime:
    """The later moment at which the clocks of the zone show this; a time that is left out is as if it were not."""
    if (offset := fixed_offset(zone)) is not None:
        return (local - timedelta(seconds=offset)).replace(tzinfo=UTC)
    return max(local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1))


def in_zone(zone: str, moment: datetime) -> datetime:
    if (offset := fixed_offset(zone)) is not None:
        return (moment + timedelta(seconds=offset)).replace(tzinfo=None)
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def converted(connection: Connection, locals_: Sequence[str], format: TimestampFormat, zone: str) -> list[Any]:
    """The moments of these stored values."""
    name = "moment" if format is TimestampFormat.NAIVE else "words"
    connection.exec_driver_sql("DELETE FROM local")
    rows = ", ".join(f"({n}, '{local}')" for n, local in enumerate(locals_))
    connection.exec_driver_sql(f"INSERT INTO local (n, {name}) VALUES {rows}")
    moment = sql.to_instant(TABLE.c[name], StoredTime(format, zone))
    return list(connection.execute(select(moment).order_by(TABLE.c.n)).scalars())


@st.composite
def nights(draw: st.DrawFn) -> tuple[str, list[datetime]]:
    """A zone, and moments of a night in which its clocks are changed, or of any other time."""
    zone = draw(st.sampled_from(ZONES))
    changes = offset_changes(zone).at
    around = draw(st.sampled_from(changes)) if changes else draw(st.integers(946_684_800, 2_200_000_000))
    minutes = draw(st.lists(st.integers(-26 * 60, 26 * 60), min_size=1, max_size=25))
    seconds = draw(st.sampled_from([0, 1, 59.999999]))
    start = datetime.fromtimestamp(around, UTC) + timedelta(seconds=seconds)
    return zone, [start, *(start + timedelta(minutes=minute) for minute in minutes)]


@settings(
    max_examples=examples(40, all_of_them=400),
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(night=nights(), format=st.sampled_from(FORMATS), separator=st.sampled_from("T "))
def test_local_times_are_the_later_moment_that_zoneinfo_gives_them(
    connection: Connection, night: tuple[str, list[datetime]], format: TimestampFormat, separator: str
) -> None:
    zone, moments = night
    shown = [in_zone(zone, moment) for moment in moments]
    texts = [local.isoformat(separator) for local in shown]
    assert converted(connection, texts, format, zone) == [of_zone(zone, local) for local in shown]
    if format is TimestampFormat.NAIVE:
        there = [sql.from_instant(sql.instant(moment), StoredTime(format, zone)) for moment in moments]
        written = connection.execute(select(*(one.label(f"m{n}") for n, one in enumerate(there)))).one()
        assert [value.replace(tzinfo=None) for value in written] == shown


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-07-01T12:00:00Z", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("2026-07-01 12:00z", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("2026-07-01T12:00:00.5+05:45", datetime(2026, 7, 1, 6, 15, 0, 500000, tzinfo=UTC)),
        ("2026-07-01T12:00:00-0330", datetime(2026, 7, 1, 15, 30, tzinfo=UTC)),
        ("2026-07-01T12:00:00.123456789+02", datetime(2026, 7, 1, 10, 0, 0, 123456, tzinfo=UTC)),
        ("2026-07-01T12:00:00", datetime(2026, 7, 1, 16, tzinfo=UTC)),
        ("2026-02-30T12:00:00Z", datetime(2026, 3, 2, 12, tzinfo=UTC)),
        ("", None),
        ("   ", None),
        ("0000-00-00 00:00:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00+00:00", None),
        ("yesterday", "later"),
        ("2026-13-01T00:00:00Z", "later"),
        ("2026-07-01T25:61:00Z", "later"),
        ("1782907200", "later"),
    ],
)
def test_texts_are_moments_none_or_in_the_future(connection: Connection, text: str, moment: object) -> None:
    made = sql.to_instant(TABLE.c.words, StoredTime(TimestampFormat.ISO_TEXT, "America/New_York"))
    connection.exec_driver_sql("DELETE FROM local")
    connection.exec_driver_sql(f"INSERT INTO local (n, words) VALUES (1, '{text}')")
    later = connection.execute(select((made > sql.now()).label("it"))).scalar_one()
    if moment == "later":
        assert later
    else:
        assert connection.execute(select(made)).scalar_one() == moment


@pytest.mark.parametrize("zone", ["America/New_Yrok", "EST5", "-5", "+15:00", "", "'; DROP TABLE job; --"])
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="expected the name of a time zone, such as America/New_York"):
        zone_name(zone)


def test_names_of_utc_are_one_zone_and_offsets_have_no_changes() -> None:
    assert {zone_name(name) for name in ("UTC", "Etc/UTC", "GMT", "+00:00", "Zulu")} == {"UTC"}
    assert offset_changes("-05:00") == OffsetChanges((), (-18000,))
    assert offset_changes("UTC") == OffsetChanges((), (0,))
