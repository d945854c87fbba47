"""Cron expressions of five fields with the meaning of crontab(5), as Debian's cron has it; times are UTC.

Where neither day field begins with `*`, a day matches when one of the two does: `0 3 13 * 5` is every 13th and every
Friday. 0 and 7 are Sunday. `cronsim` parses and evaluates them; beyond crontab(5) it knows `L` (the last day of the
month), `LW` (its last weekday), `fri#2` (the second Friday) and `5L` (the last Friday).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

_EXAMPLE = "30 3 * * mon-fri"
_FIELDS = {
    "minute": "0-59",
    "hour": "0-23",
    "day of the month": "1-31, or L for the last one",
    "month": "1-12 or jan-dec",
    "day of the week": "0-7 or sun-sat, where 0 and 7 are Sunday",
}
_SYNTAX = "a value, a list (1,15), a range (1-5, the smaller value first) or steps (*/10)"
# A range of days may end with its Sunday: sat-sun, 5-0. Ranges that begin with Sunday are left alone.
_TO_SUNDAY = re.compile(r"(?<!sun)(?<!\b0)-(?:sun|0)\b")
_LONGEST_SHOWN = 40  # characters
_LEAP_YEAR = datetime(2024, 1, 1, tzinfo=UTC)


def normalise_cron(text: str) -> str:
    """The expression in small letters, with single blanks between its fields.

    Raises ValueError for an expression that is wrong, which names each wrong field, and for one that never fires.
    """
    fields = text.casefold().split()
    if len(fields) != len(_FIELDS) or not text.isascii():
        raise ValueError(f"expected five fields, such as {_EXAMPLE}: {', '.join(_FIELDS)}")
    problems = []
    for position, (name, values) in enumerate(_FIELDS.items()):
        if not _is_valid(fields[position], position):
            problems.append(f"{name} {fields[position][:_LONGEST_SHOWN]!r}: expected {values}")
    if problems:
        raise ValueError(f"{'; '.join(problems)}. A field is {_SYNTAX}; example: {_EXAMPLE}")
    expression = " ".join(fields)
    if next_fire_time(expression, _LEAP_YEAR) is None:
        raise ValueError(
            f"{expression!r} never fires: there is no such day in its months; "
            "expected a day that exists, such as 0 3 28 2 *"
        )
    return expression


def next_fire_time(expression: str, after: datetime) -> datetime | None:
    """The first time after `after`, in UTC; None when there is none within 50 years.

    Raises ValueError for what is no expression.
    """
    try:
        return next(CronSim(_for_cronsim(expression), after.astimezone(UTC)), None)
    except CronSimError as error:
        if _is_impossible_day(expression):
            return None
        raise ValueError(str(error)) from None


def _is_valid(field: str, position: int) -> bool:
    """Whether the field can be read, whatever the others say."""
    fields = ["*"] * len(_FIELDS)
    fields[position] = field
    try:
        CronSim(_for_cronsim(" ".join(fields)), _LEAP_YEAR)
    except (CronSimError, ValueError):  # ValueError: more digits than Python converts
        return False
    return True


def _is_impossible_day(expression: str) -> bool:
    """cronsim refuses a day that none of the months has (30 February) as it refuses a field that it cannot read."""
    return all(_is_valid(field, position) for position, field in enumerate(expression.split()))


def _for_cronsim(expression: str) -> str:
    """The expression with `last` (accepted for the last day of the month) and ranges to Sunday as cronsim has them."""
    minute, hour, day, month, weekday = expression.casefold().split()
    day = ",".join("L" if part == "last" else part for part in day.split(","))
    return " ".join((minute, hour, day, month, _TO_SUNDAY.sub("-7", weekday)))
