"""The trigger of scheduled purges: the times of crontab(5), in UTC, each once."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from reaper.scheduling.cron_trigger import CronTrigger


def moments(cron: str, now: datetime, count: int) -> list[str]:
    """The first times at which the trigger fires from `now` on."""
    trigger, previous, fired = CronTrigger(cron), None, list[str]()
    for _ in range(count):
        previous = trigger.get_next_fire_time(previous, now)
        assert previous is not None
        fired.append(previous.isoformat())
    return fired


def test_purge_fires_on_every_friday_and_every_13th() -> None:
    assert moments("0 3 13 * 5", datetime(2026, 12, 1, 12, tzinfo=UTC), 6) == [
        "2026-12-04T03:00:00+00:00",
        "2026-12-11T03:00:00+00:00",
        "2026-12-13T03:00:00+00:00",
        "2026-12-18T03:00:00+00:00",
        "2026-12-25T03:00:00+00:00",
        "2027-01-01T03:00:00+00:00",
    ]


def test_purge_fires_at_the_utc_time_in_any_zone_of_the_host() -> None:
    now = datetime(2026, 3, 28, 12, tzinfo=ZoneInfo("Europe/Brussels"))  # its clocks skip 02:30 of the next day
    assert moments("30 2 * * *", now, 2) == ["2026-03-29T02:30:00+00:00", "2026-03-30T02:30:00+00:00"]


@pytest.mark.parametrize("now", ["2026-11-22T10:04:00.000001", "2026-11-22T10:04:59.999999", "2026-11-22T10:05:00"])
def test_purge_fires_at_the_first_whole_minute_from_now_on(now: str) -> None:
    assert moments("* * * * *", datetime.fromisoformat(now).replace(tzinfo=UTC), 2) == [
        "2026-11-22T10:05:00+00:00",
        "2026-11-22T10:06:00+00:00",
    ]


def test_purge_that_never_fires_again_has_no_next_time() -> None:
    assert CronTrigger("0 3 30 2 *").get_next_fire_time(None, datetime(2026, 11, 22, tzinfo=UTC)) is None
