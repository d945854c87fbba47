"""Times of the week: what lies within them by the wall clock of their zone, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reaper.common.time_zones import fixed_offset
from reaper.common.weekly_times import intervals, leaves_time, parse_weekly_time

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia", "-05:30"]
DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
NIGHTS = [
    datetime(2026, 3, 29, tzinfo=UTC),  # Europe: forward
    datetime(2026, 10, 25, tzinfo=UTC),  # Europe: back
    datetime(2026, 3, 8, 7, tzinfo=UTC),  # America: forward
    datetime(2026, 11, 1, 6, tzinfo=UTC),  # America: back
    datetime(2026, 4, 4, 15, tzinfo=UTC),  # Lord Howe: back by half an hour
    datetime(2011, 12, 30, 10, tzinfo=UTC),  # Apia: a day is left out
    datetime(2026, 12, 1, tzinfo=UTC),
]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def lies_within(days: list[int], start: int, end: int, zone: str, moment: datetime) -> bool:
    """What the wall clock shows, in minutes of the week."""
    offset = fixed_offset(zone)
    local = moment + timedelta(seconds=offset) if offset is not None else moment.astimezone(ZoneInfo(zone))
    shown = (local.weekday() * 24 + local.hour) * 60 + local.minute
    length = (end - start) % 1440 or 1440
    return any((shown - (day * 1440 + start)) % (7 * 1440) < length for day in days)


# No deadline: the first example of a zone reads its changes from a file, which takes long under load.
@settings(deadline=None)
@given(
    days=st.lists(st.integers(0, 6), min_size=1, max_size=3, unique=True),
    start=st.integers(0, 1439),
    end=st.integers(0, 1440),
    zone=st.sampled_from(ZONES),
    night=st.sampled_from(NIGHTS),
    minutes=st.integers(-36 * 60, 36 * 60),
)
def test_moment_lies_within_when_the_wall_clock_says_so(
    days: list[int], start: int, end: int, zone: str, night: datetime, minutes: int
) -> None:
    if start == end:
        end = 1440 if start == 0 else start - 1
    text = f"{','.join(DAYS[day] for day in days)} {clock(start)}-{clock(end)} {zone}"
    moment = night + timedelta(minutes=minutes)
    found = intervals([parse_weekly_time(text)], moment, moment + timedelta(seconds=1))
    within = any(first <= moment < last for first, last in found)
    assert within == lies_within(days, start, end, zone, moment), text


def clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@pytest.mark.parametrize(
    ("text", "first", "last", "expected"),
    [
        # Clocks go forward at 02:00: an hour of the time is left out.
        ("Sun 01:00-04:00 Europe/Berlin", "2026-03-29", "2026-03-30", [("2026-03-29T00:00", "2026-03-29T02:00")]),
        # Clocks go back at 03:00: the hour from 2 to 3 comes twice.
        ("Sun 02:00-04:00 Europe/Berlin", "2026-10-25", "2026-10-26", [("2026-10-25T00:00", "2026-10-25T03:00")]),
        # A time within the hour that comes twice comes twice, and one that is left out does not come.
        (
            "Sun 02:15-02:30 Europe/Berlin",
            "2026-10-25",
            "2026-10-26",
            [("2026-10-25T00:15", "2026-10-25T00:30"), ("2026-10-25T01:15", "2026-10-25T01:30")],
        ),
        ("Sun 02:15-02:30 Europe/Berlin", "2026-03-29", "2026-03-30", []),
        # Over midnight, and over the end of the week.
        ("Sun 23:00-01:00 UTC", "2026-12-06", "2026-12-08", [("2026-12-06T23:00", "2026-12-07T01:00")]),
        # Of several days, what touches is one time.
        ("Sat-Sun 00:00-24:00 UTC", "2026-12-05", "2026-12-07", [("2026-12-05T00:00", "2026-12-07T00:00")]),
        ("Fri-Mon 12:00-13:00 UTC", "2026-12-07", "2026-12-08", [("2026-12-07T12:00", "2026-12-07T13:00")]),
        ("12:00-12:30 -05:00", "2026-12-01", "2026-12-02", [("2026-12-01T17:00", "2026-12-01T17:30")]),
    ],
)
def test_intervals_of_nights_in_which_the_clocks_change(
    text: str, first: str, last: str, expected: list[tuple[str, str]]
) -> None:
    assert intervals([parse_weekly_time(text)], at(first), at(last)) == [(at(a), at(b)) for a, b in expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Sun 02:00-04:00", "expected a time zone after the time"),
        ("Sun 02:00-04:00 Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("Sum 02:00-04:00 UTC", "expected a day of the week"),
        ("Sun 02:00-02:00 UTC", "a time that ends after its start"),
        ("Sun 24:00-02:00 UTC", "a time that ends after its start"),
        ("Sun 02:60-04:00 UTC", "expected a time of day from 00:00 to 24:00, not '02:60'"),
        ("Sun 02:00-25:00 UTC", "expected a time of day"),
        ("Sun-Mon-Tue 02:00-04:00 UTC", "a range of two days"),
        ("on Sundays", "expected days, a time and a time zone"),
        (7, "expected days, a time and a time zone"),
        ("", "expected days, a time and a time zone"),
    ],
)
def test_refusal_says_what_is_wrong(text: object, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        parse_weekly_time(text)


def test_times_that_leave_no_time_are_known() -> None:
    assert leaves_time([])
    assert leaves_time([parse_weekly_time("Mon-Sat 00:00-24:00 UTC")])
    assert not leaves_time([parse_weekly_time("00:00-24:00 UTC")])
    halves = ["00:00-12:00 Europe/Berlin", "12:00-23:58 Europe/Berlin"]
    assert not leaves_time([parse_weekly_time(half) for half in halves])
