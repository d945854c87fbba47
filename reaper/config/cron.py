"""Cron expressions: five fields, numbered as crontab(5) does, brought to the form that APScheduler reads.

APScheduler 3 counts the days of the week from Monday = 0, crontab(5) from Sunday = 0 or 7: numbers become names.
Where both day fields are restricted, APScheduler wants both to match, where crontab(5) is content with one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAYS = re.compile(r"(?:\*|(?P<first>\w+?)(?:-(?P<last>\w+))?)(?:/(?P<step>[1-7]))?", re.ASCII)
# The first of a leap year: from here on every day that a calendar can have comes.
_SOMEWHEN = datetime(2024, 1, 1, tzinfo=UTC)


def normalise(text: str) -> str:
    """The expression as `CronTrigger.from_crontab` understands it, its days of the week as names.

    Raises ValueError that names each field that is wrong, and shows no more than those.
    """
    # Only "cron" needs this, and it costs a tenth of a second that every command would pay.
    from apscheduler.triggers.cron import CronTrigger

    fields = text.casefold().split()
    if len(fields) != len(_FIELDS) or not text.isascii():
        raise ValueError(f"expected five fields, such as 30 3 * * *: {', '.join(_FIELDS)}")
    wrong = []
    for position, name in enumerate(_FIELDS):
        try:
            if position == len(_FIELDS) - 1:
                fields[position] = _weekdays(fields[position])
            alone = ["*"] * position + [fields[position]] + ["*"] * (len(_FIELDS) - 1 - position)
            CronTrigger.from_crontab(" ".join(alone), timezone=UTC)
        except ValueError as error:
            reason = re.sub(r"^Error validating expression '.*': ", "", str(error))
            wrong.append(f"{name} {fields[position][:40]!r}: {reason[:1].lower()}{reason[1:]}")
    if wrong:
        raise ValueError("; ".join(wrong))
    whole = " ".join(fields)
    if CronTrigger.from_crontab(whole, timezone=UTC).get_next_fire_time(None, _SOMEWHEN) is None:
        raise ValueError(f"{whole!r} never comes: none of its months has such a day")
    return whole


def _weekdays(field: str) -> str:
    """The days of the week as names, in the order of the week; "*" for all of them."""
    days = sorted({day % 7 for part in field.split(",") for day in _days(part)})
    return "*" if len(days) == len(_DAYS) else ",".join(_DAYS[day] for day in days)


def _days(part: str) -> Iterator[int]:
    """The numbers of the days, Sunday being 0 or 7, that one part of the list means."""
    found = _WEEKDAYS.fullmatch(part)
    if found is None or (found["step"] and found["first"] and not found["last"]):
        raise ValueError("expected days such as mon-fri, sat,sun or 1-5 (0 and 7 are Sunday)")
    first = _day(found["first"]) if found["first"] else 0
    last = _day(found["last"]) if found["last"] else first if found["first"] else 6
    if last == 0 and first > 0:
        last = 7  # a week may end with its Sunday
    if last < first:
        raise ValueError("the first day of a range comes after the last")
    yield from range(first, last + 1, int(found["step"] or 1))


def _day(word: str) -> int:
    if word in _DAYS:
        return _DAYS.index(word)
    if re.fullmatch("[0-7]", word, re.ASCII):
        return int(word)
    raise ValueError("expected days such as mon-fri, sat,sun or 1-5 (0 and 7 are Sunday)")
