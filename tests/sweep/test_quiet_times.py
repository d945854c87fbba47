"""Quiet times: nothing is ended in a maintenance window, and silence during it does not count."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reaper.common.weekly_times import WeeklyTime, parse_weekly_time
from reaper.model import DISTANT_PAST, Outcome, ServerClock, Verdict
from reaper.profile import resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.quiet_times import QuietTimes
from tests.common.test_weekly_times import at
from tests.support.commands import Reaper
from tests.support.protea import HOUR, MINUTE, PATIENCE, Protea, thresholds


def around(now: datetime, before: float, after: float) -> str:
    """A time of the week from so many seconds before a moment to so many after it, to the minute."""
    start, end = now - timedelta(seconds=before), now + timedelta(seconds=after)
    return f"{start:%a %H:%M}-{end:%H:%M} UTC"


def quiet_source(protea: Protea, *texts: str) -> Source:
    quiet = QuietTimes(tuple(map(parse_weekly_time, texts)), "reaper.toml:3")
    return Source("main", protea.url, resolve("protea"), thresholds(), PATIENCE, SourceOptions(quiet=quiet))


def test_quiet_sweep_surveys_and_ends_nothing(protea: Protea) -> None:
    job, now = protea.stale(), protea.now()
    quiet = quiet_source(protea, around(now, 2 * MINUTE, 2 * HOUR))
    report = protea.sweep(quiet)
    assert (report.outcome, report.reaped, protea.status(job)) == (Outcome.QUIET, 0, "running")
    assert report.census is not None and report.census.stale == 1 and report.succeeded
    assert report.quiet_until is not None and at(report.quiet_until[:19]) > now
    assert protea.sweep(quiet_source(protea, around(now, -2 * HOUR, 3 * HOUR))).reaped == 1


def test_quiet_time_that_begins_during_a_sweep_holds_its_later_batches(protea: Protea) -> None:
    """The sweep's clock is that of its first contact, and what has passed since."""
    jobs = [protea.stale() for _ in range(4)]
    source, downtime = quiet_source(protea), DowntimeTracker(0)
    calls = 0

    def stopping() -> bool:
        nonlocal calls
        calls += 1
        if calls == 3:
            quiet = QuietTimes((parse_weekly_time(around(protea.now(), MINUTE, HOUR)),))
            source.options = SourceOptions(quiet=quiet)
        return False

    report = protea.sweep(source, downtime=downtime, batch_size=1, stopping=stopping)
    assert report.outcome is Outcome.QUIET and 0 < report.reaped < len(jobs)


def test_silence_during_a_quiet_time_does_not_count(protea: Protea) -> None:
    job, now = protea.stale(), protea.now()  # silent for 2 h; the stall window is 30 min
    loud_for = protea.judge(job, quiet_source(protea, around(now, 3 * HOUR, -20 * MINUTE)))
    assert loud_for.verdict is Verdict.SPARED
    assert protea.judge(job, quiet_source(protea, around(now, 3 * HOUR, -40 * MINUTE))).verdict is Verdict.STALE
    # Two quiet times, with 15 and 10 loud minutes beside them.
    two = around(now, 4 * HOUR, -HOUR), around(now, 45 * MINUTE, -10 * MINUTE)
    assert protea.judge(job, quiet_source(protea, *two)).verdict is Verdict.SPARED


def test_workers_get_a_grace_to_reconnect_after_a_quiet_time() -> None:
    now = at("2026-12-06T05:00")
    cutoffs = dict[float, datetime]()
    for grace in (0, 10 * MINUTE):
        tracker = DowntimeTracker(grace)
        tracker.quiet = QuietTimes((parse_weekly_time("Sun 02:00-04:35 UTC"),))
        tracker.record_contact(ServerClock(now=now, server_started=now - timedelta(days=9)))
        cutoffs[grace] = tracker.cutoff(20 * MINUTE).at
    assert cutoffs == {0: at("2026-12-06T04:40"), 10 * MINUTE: at("2026-12-06T01:55")}


@given(
    times=st.lists(
        st.sampled_from(
            [
                "Sun 02:00-04:00 Europe/Berlin",
                "22:00-02:00 America/New_York",
                "Mon-Fri 08:00-20:00 UTC",
                "12:00-12:30 UTC",
            ]
        ),
        max_size=3,
    ),
    minutes=st.integers(0, 14 * 1440),
    stall=st.sampled_from([1, 30, 600, 3 * 1440, 20 * 1440]),
)
def test_cutoff_leaves_just_a_stall_window_of_time_that_was_not_quiet(
    times: list[str], minutes: int, stall: int
) -> None:
    now = at("2026-10-20") + timedelta(minutes=minutes)  # clocks change on 25 October and on 1 November
    weekly = tuple(map(parse_weekly_time, times))
    tracker = DowntimeTracker(0)
    tracker.quiet = QuietTimes(weekly)
    tracker.record_contact(ServerClock(now=now, server_started=now - timedelta(days=400)))
    cutoff = tracker.cutoff(stall * 60).at
    assert loud_minutes(weekly, cutoff, now) == stall and cutoff != DISTANT_PAST


def loud_minutes(times: tuple[WeeklyTime, ...], start: datetime, end: datetime) -> float:
    quiet = QuietTimes(times).between(start, end)
    spent = sum((min(last, end) - max(first, start) for first, last in quiet), timedelta())
    return (end - start - spent) / timedelta(minutes=1)


# --- commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def reaper(tmp_path: Path, database: str) -> Reaper:
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database})


def test_sweep_without_stale_jobs_has_done_its_work_in_a_quiet_time(reaper: Reaper, protea: Protea) -> None:
    reaper.given["REAPER_QUIET"] = around(protea.now(), 2 * MINUTE, 2 * HOUR)
    protea.job(age=MINUTE)
    assert reaper("sweep", "--yes").exit_code == 0
