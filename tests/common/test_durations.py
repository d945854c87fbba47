"""Durations as people write and read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reaper.common.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("21600", 21600),
        ("1.5", 1.5),
        ("6h", 21600),
        ("30m", 1800),
        ("1h30m", 5400),
        (" 1h 30m ", 5400),
        ("45s", 45),
        ("2d", 172800),
        ("1d2h3m4s", 93784),
        ("0.5h", 1800),
    ],
)
def test_duration_is_parsed(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "h", "-1", "+1", "6H", "1h1h", "30m1h", "1e3", "nan", "inf", "1,5h", "6 hours", "٣", "9" * 400]
)
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (0.25, "0.2s"),
        (9.99, "9.9s"),
        (59.9, "59s"),
        (60, "1m"),
        (3600, "1h"),
        (3601, "1h"),
        (25952, "7h 12m"),
        (86399, "23h 59m"),
        (190000, "2d 4h"),
        (-90, "-1m 30s"),
    ],
)
def test_duration_is_formatted(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@given(st.floats(min_value=0, max_value=1e9))
def test_formatted_duration_is_rounded_down_by_less_than_a_unit(seconds: float) -> None:
    said = parse_duration(format_duration(seconds))
    unit = next(u for limit, u in ((10, 0.1), (3600, 1), (86400, 60), (math.inf, 3600)) if seconds < limit)
    assert said <= seconds < said + unit * 1.001
