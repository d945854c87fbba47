"""Cron expressions: they mean what crontab(5) says, and wrong ones are refused in clear words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reaper.config.cron import next_fire_time, normalise_cron

SUNDAY = datetime(2024, 1, 7, tzinfo=UTC)


def days_of(expression: str, begin: datetime, days: int) -> list[int]:
    """The days of the month in which the expression fires within `days` from `begin`."""
    found, moment = list[int](), next_fire_time(normalise_cron(expression), begin - timedelta(seconds=1))
    while moment is not None and moment < begin + timedelta(days=days):
        found.append(moment.day)
        moment = next_fire_time(normalise_cron(expression), moment)
    return found


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("* * * * *", "* * * * *"),
        ("  */5  0-6/2 1,15 JAN-mar  Mon ", "*/5 0-6/2 1,15 jan-mar mon"),
        ("5/10 * * * *", "5/10 * * * *"),
        ("0 3 last * *", "0 3 last * *"),
        ("0 3 L * *", "0 3 l * *"),
        ("0 3 29 2 *", "0 3 29 2 *"),
        ("0 3 * * 0-6", "0 3 * * 0-6"),
    ],
)
def test_cron_expression_stays_as_written_but_for_case_and_blanks(text: str, normal: str) -> None:
    assert normalise_cron(text) == normal


@pytest.mark.parametrize(
    ("expression", "days"),
    [
        # November 2026 begins with a Sunday; its 13th is a Friday.
        ("0 3 13 * *", [13]),
        ("0 3 * * 5", [6, 13, 20, 27]),
        ("0 3 13 * 5", [6, 13, 20, 27]),
        ("0 3 14 * fri", [6, 13, 14, 20, 27]),
        ("0 3 1,15 * 1-2", [1, 2, 3, 9, 10, 15, 16, 17, 23, 24, 30]),
        # A field that begins with a star does not restrict by itself: both must match.
        ("0 3 */13 * 5", [27]),
        ("0 3 13 * */5", [13]),
        ("0 3 14 * */5", []),
    ],
)
def test_cron_day_matches_when_either_restricted_day_field_does(expression: str, days: list[int]) -> None:
    assert days_of(expression, datetime(2026, 11, 1, tzinfo=UTC), 30) == days


@pytest.mark.parametrize(
    ("weekdays", "expected"),
    [
        ("0", {"sun"}),
        ("7", {"sun"}),
        ("1-5", {"mon", "tue", "wed", "thu", "fri"}),
        ("sun-tue", {"sun", "mon", "tue"}),
        ("sat-sun", {"sun", "sat"}),
        ("5-0", {"sun", "fri", "sat"}),
        ("5-7", {"sun", "fri", "sat"}),
        ("0-0", {"sun"}),
        ("sun-sun", {"sun"}),
        ("*/2", {"sun", "tue", "thu", "sat"}),
        ("1-5/2", {"mon", "wed", "fri"}),
        ("6,sun,0", {"sun", "sat"}),
        ("0-6", {"sun", "mon", "tue", "wed", "thu", "fri", "sat"}),
        ("1-7", {"sun", "mon", "tue", "wed", "thu", "fri", "sat"}),
    ],
)
def test_cron_days_of_the_week_begin_with_sunday_which_is_0_and_7(weekdays: str, expected: set[str]) -> None:
    fired = days_of(f"0 0 * * {weekdays}", SUNDAY, 7)
    assert {(SUNDAY + timedelta(days=day - SUNDAY.day)).strftime("%a").lower() for day in fired} == expected


@given(st.lists(st.integers(0, 7), min_size=1), st.integers(0, 6))
def test_cron_fires_on_the_next_of_its_days(days: list[int], ahead: int) -> None:
    now = SUNDAY + timedelta(days=ahead, hours=12)
    coming = (now.replace(hour=0) + timedelta(days=n) for n in range(1, 8))
    expected = next(day for day in coming if day.isoweekday() % 7 in {number % 7 for number in days})
    assert next_fire_time(normalise_cron(f"0 0 * * {','.join(map(str, days))}"), now) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 3 29 2 *", "2028-02-29T03:00"),
        ("0 3 30 2 1", "2027-02-01T03:00"),  # never on the 30th, but on Mondays
        ("0 3 last * *", "2026-11-30T03:00"),
        ("0 3 15,last 12 *", "2026-12-15T03:00"),
        ("0 3 l 2 *", "2027-02-28T03:00"),
        ("0 3 * 2 mon#5", "2044-02-29T03:00"),
    ],
)
def test_cron_fires_on_rare_days(expression: str, expected: str) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert next_fire_time(normalise_cron(expression), now) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "* * * *",
            "expected five fields, such as 30 3 * * mon-fri: minute, hour, day of the month, month, day of the week",
        ),
        ("@daily", "expected five fields"),
        ("0 0 * * * *", "expected five fields"),
        ("٣ * * * *", "expected five fields"),
        ("60 * * * *", "minute '60': expected 0-59. A field is a value, a list (1,15), a range (1-5, the smaller"),
        ("* 24 * * *", "hour '24': expected 0-23. "),
        ("* * 0 * *", "day of the month '0': expected 1-31, or L for the last one. "),
        ("* * lastly * *", "day of the month 'lastly': expected 1-31"),
        ("* * * 13 *", "month '13': expected 1-12 or jan-dec. "),
        ("* * * foo *", "month 'foo': expected 1-12 or jan-dec. "),
        ("* * * * 8", "day of the week '8': expected 0-7 or sun-sat, where 0 and 7 are Sunday. "),
        ("* * * * fri-mon", "day of the week 'fri-mon': expected 0-7 or sun-sat"),
        ("* * * * montag", "day of the week 'montag': expected 0-7 or sun-sat"),
        ("*/0 * * * *", "minute '*/0': expected 0-59. "),
        ("5-1 * * * *", "minute '5-1': expected 0-59. A field is a value, a list (1,15), a range (1-5, the smaller"),
        (f"{'9' * 5000} * * * *", f"minute '{'9' * 40}': expected 0-59. "),
        ("61 25 * * 9", "minute '61': expected 0-59; hour '25': expected 0-23; day of the week '9': expected 0-7"),
        ("0 3 30 2 *", "'0 3 30 2 *' never fires: there is no such day in its months; expected a day that exists"),
        ("0 3 31 4,6 *", "'0 3 31 4,6 *' never fires: there is no such day in its months"),
        ("0 3 31 * fri#6", "day of the week 'fri#6': expected 0-7"),
    ],
)
def test_wrong_cron_expression_is_refused_with_its_field_and_what_was_expected(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        normalise_cron(text)
    assert str(caught.value).startswith(expected)
