"""Scheduled purges run at their times, one at a time and by one replica, beside the sweeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from reaper.dev.postgres import PrivatePostgreSQL
from reaper.model import Outcome
from reaper.observers.daemon_log import DaemonLog
from reaper.operations.purge import PurgeOptions, purge
from reaper.scheduling.cron_trigger import CronTrigger
from reaper.scheduling.scheduled_purge import ScheduledPurge
from reaper.scheduling.scheduler import IntervalTrigger, Supervisor
from reaper.source.purge import purge_lease
from tests.scheduling.test_scheduler import SweepLog, runner
from tests.staleness.test_clocks import faketime
from tests.support.daemons import Daemon, closed
from tests.support.protea import Protea
from tests.support.purges import DAY, PurgeRecorder, finished, slow
from tests.support.waiting import wait_until


@contextmanager
def keeping(
    protea: Protea, recorder: PurgeRecorder, *, batch_size: int = 10, every: float = 0.2
) -> Iterator[Supervisor]:
    """A supervisor that sweeps and purges."""
    supervisor, sweep_log = Supervisor(), SweepLog()
    swept = runner(protea, sweep_log)
    supervisor.add(swept)
    supervisor.add_scheduled_purge(ScheduledPurge(swept.source, 30, batch_size, [recorder]), IntervalTrigger(0, every))
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop(10)


def test_scheduled_purge_runs_at_the_times_of_its_trigger(protea: Protea) -> None:
    recorder = PurgeRecorder()
    with keeping(protea, recorder):
        for _ in range(2):
            finished(protea)
            wait_until(lambda: not protea.statuses(), "a purge")
        wait_until(lambda: len(recorder.reports) > 3, "more of them")
    assert {report.outcome for report in recorder.reports} == {Outcome.DONE}


def test_long_purge_does_not_delay_sweeps_nor_overlap_itself(protea: Protea) -> None:
    slow(protea, 0.3)
    finished(protea, 8)
    supervisor, sweep_log, recorder = Supervisor(), SweepLog(), PurgeRecorder()
    swept = runner(protea, sweep_log)
    supervisor.add(swept)
    supervisor.add_scheduled_purge(ScheduledPurge(swept.source, 30, 1, [recorder]), IntervalTrigger(0, 0.1))
    supervisor.start()
    wait_until(lambda: bool(recorder.batches), "a batch")
    sweeps = len(sweep_log.sweeps)
    wait_until(lambda: bool(recorder.reports), "the end of the purge")
    assert len(sweep_log.sweeps) - sweeps >= 4
    assert (recorder.reports[0].purged, recorder.batches) == (8, [1] * 8)
    assert supervisor.stop(10)


def test_stop_ends_a_purge_after_its_batch(protea: Protea) -> None:
    slow(protea, 0.2)
    finished(protea, 40)
    supervisor, recorder = Supervisor(), PurgeRecorder()
    supervisor.add_scheduled_purge(ScheduledPurge(protea.source(), 30, 2, [recorder]), IntervalTrigger(0, 0.2))
    supervisor.start()
    wait_until(lambda: len(recorder.batches) >= 2, "two batches")
    begun = time.monotonic()
    assert supervisor.stop(3)
    assert time.monotonic() - begun < 3
    assert [report.outcome for report in recorder.reports] == [Outcome.STOPPED]
    assert len(protea.statuses()) == 40 - sum(recorder.batches) > 0


def test_removed_source_is_purged_no_more(protea: Protea) -> None:
    recorder = PurgeRecorder()
    with keeping(protea, recorder) as supervisor:
        wait_until(lambda: bool(recorder.reports), "a purge")
        supervisor.remove(["main"], 5)
        before = len(recorder.reports)
        finished(protea)
        time.sleep(0.5)  # longer than two of its intervals: nothing is to happen
        assert len(recorder.reports) == before and len(protea.statuses()) == 1


def test_replica_without_the_lease_does_not_purge(protea: Protea) -> None:
    slow(protea, 0.4)
    finished(protea, 4)
    first, second, source = PurgeRecorder(), PurgeRecorder(), protea.source()
    one = ScheduledPurge(source, 30, 1, [first])
    other = ScheduledPurge(protea.source(name="elsewhere"), 30, 1, [second])
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(one.tick)
        wait_until(lambda: bool(first.batches), "a batch")
        assert other.tick() is not None
        assert second.reports[0].outcome is Outcome.STANDBY and not second.batches
        assert (done := working.result()) is not None and done.purged == 4
    finished(protea)
    assert (after := other.tick()) is not None and (after.outcome, after.purged) == (Outcome.DONE, 1)


def test_purge_that_has_lost_its_lease_stops(protea: Protea) -> None:
    finished(protea, 4)
    source, recorder = protea.source(), PurgeRecorder()
    lease = purge_lease(source.engine, lambda: source.tables, 60)
    rival = purge_lease(source.engine, lambda: source.tables, 60)
    lease.renew_if_due = lambda: not recorder.batches  # type: ignore[method-assign]
    report = purge(source, PurgeOptions(30, 1), recorder, lease)
    assert (report.outcome, report.purged) == (Outcome.STANDBY, 1)
    # The server ends the session of a closed connection a moment later.
    wait_until(rival.acquire, "the lease is given back")
    rival.release()


@pytest.mark.parametrize(
    ("cron", "now", "then"),
    [
        ("0 3 * * sun", "2026-11-22T02:59:58", "2026-11-22T03:00:00"),
        ("0 3 * * sun", "2026-11-22T03:00:01", "2026-11-29T03:00:00"),
        ("*/5 * * * *", "2026-11-22T10:01:00", "2026-11-22T10:05:00"),
    ],
)
def test_cron_expression_is_in_utc(cron: str, now: str, then: str) -> None:
    context = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert CronTrigger(cron).get_next_fire_time(None, context) == datetime.fromisoformat(then).replace(tzinfo=UTC)


def test_clock_that_jumps_ahead_is_made_up_for_by_one_purge() -> None:
    trigger, first = CronTrigger("* * * * *"), datetime(1970, 1, 1, tzinfo=UTC)
    now = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC)
    assert trigger.get_next_fire_time(first, now) == datetime(2026, 11, 22, 10, 1, tzinfo=UTC)
    whole = now.replace(second=0)
    assert trigger.get_next_fire_time(whole, whole) == whole + timedelta(minutes=1)


def configured(protea: Protea, cron: str, *, days: int = 35) -> str:
    return (
        f'[sources.main]\ndatabase_url = "{protea.libpq}"\n[sources.main.purge]\ncron = "{cron}"\n'
        f"days_to_keep = {days}\nbatch_size = 2\n"
    )


class FakeClock:
    """The clock of a daemon, which can be put forward while it runs: a start may take longer than any time that is set.

    The daemon notices it at its next sweep. Its monotonic clock is the machine's.
    """

    def __init__(self, folder: Path, at: str) -> None:
        self._file = folder / "clock"
        self.set(at)
        self.environment: dict[str, Any] = {
            "LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": self._file, "FAKETIME_CACHE_DURATION": 1,
            "DONT_FAKE_MONOTONIC": 1, "TZ": "UTC",
        }  # fmt: skip

    def set(self, at: str) -> None:
        """Let it be that time of 2026-11-22, a Sunday, in UTC."""
        ahead = datetime.fromisoformat(f"2026-11-22T{at}+00:00") - datetime.now(UTC)
        written = self._file.with_suffix(".new")
        written.write_text(f"{ahead.total_seconds():+.0f}")
        written.replace(self._file)


def test_daemon_purges_at_its_times_and_as_it_was_reloaded_and_stops_in_time_during_a_purge(
    protea: Protea, tmp_path: Path
) -> None:
    """One daemon for all three: under a clock of its own it cannot be forked."""
    finished(protea, 5)
    middle = protea.job(status="succeeded", finished=34 * DAY, age=36 * DAY)
    young = protea.job(status="succeeded", finished=32 * DAY, age=34 * DAY)
    clock = FakeClock(tmp_path, "02:30:00")
    with Daemon(tmp_path, configured(protea, "0 3 * * 0"), **clock.environment) as daemon:
        daemon.comes_up()
        daemon.sweeps_on(source="main")
        assert daemon.value("reaper_purged_total", "main") == 0
        assert len(protea.statuses()) == 7
        clock.set("02:59:57")
        recorder = daemon.says("Purged 5 finished job(s).", 30)
        assert (recorder["source"], recorder["purged"], recorder["refused"], recorder["outcome"]) == (
            "main",
            5,
            0,
            "done",
        )
        assert protea.statuses().keys() == {middle, young}
        daemon.shows("reaper_purged_total", 5, "main")
        daemon.sweeps_on(source="main")

        # A time that the first configuration does not have, and fewer days.
        daemon.reload(configured(protea, "10 3 * * 0", days=33))
        clock.set("03:10:01")
        daemon.says("Purged 1 finished job(s).", 30)
        assert protea.statuses().keys() == {young}

        slow(protea, 0.3)
        finished(protea, 60)
        daemon.reload(configured(protea, "20 3 * * 0"))
        clock.set("03:20:01")
        wait_until(lambda: len(protea.statuses()) < 59, "a batch")
        status, seconds = daemon.stop()
        assert (status, seconds < 5) == (0, True)
        left = len(protea.statuses()) - 1
        said = daemon.said(f"Purged {60 - left} finished job(s).")
        assert [line["outcome"] for line in said] == ["stopped"]
    assert 0 < left < 58 and left % 2 == 0 and young in protea.statuses()


def test_database_trouble_of_a_purge_is_logged_once_and_the_next_purge_comes(
    protea: Protea, server: PrivatePostgreSQL
) -> None:
    with capture_logs() as lines:
        event_log = DaemonLog()
        scheduled_purge = ScheduledPurge(protea.source(), 30, 10, [event_log])
        finished(protea)
        name = protea.connection.info.dbname
        protea.connection.close()
        with closed(server.url.replace("+psycopg", ""), name):
            scheduled_purge.tick()
            scheduled_purge.tick()
        scheduled_purge.tick()
    failed = [line for line in lines if line["event"] == "Reaper purge failed"]
    assert [(line["database_away"], line["log_level"]) for line in failed] == [(True, "error")]
    assert [line["event"] for line in lines[-1:]] == ["Purged 1 finished job(s)."]
