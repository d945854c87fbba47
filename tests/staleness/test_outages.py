"""Outages of a real server: a job that was alive before one is not ended after it, and a dead one is, later.

The stall window is a second or so, so that a server needs not be left alone for long; what is asserted compares
moments of the database's clock, never the speed of this machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from reaper.database.connections import read_server_clock
from reaper.dev.postgres import PrivatePostgreSQL, temporary
from reaper.errors import ReaperError
from reaper.model import Outcome, SweepReport, Thresholds
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from tests.support.protea import HOUR, Protea, thresholds
from tests.support.waiting import wait_until

STALL = 1.0
LIMITS: Thresholds = thresholds(timeout=60, stall=STALL)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PrivatePostgreSQL]:
    """A server of its own that the tests stop, crash, or rob of a process."""
    with temporary() as running:
        running.create_database("outages")
        yield running


@pytest.fixture
def protea(own_server: PrivatePostgreSQL) -> Iterator[Protea]:
    """An empty database of that server, with a connection that is reopened after each outage."""
    reach = ReconnectingProtea(own_server.url_of("outages"))
    reach.connection.execute("TRUNCATE job, job_event")
    yield reach
    reach.connection.close()


class ReconnectingProtea(Protea):
    def __init__(self, url: str) -> None:
        super().__init__(url, psycopg.connect(url.replace("+psycopg", ""), autocommit=True))

    def again(self) -> None:
        self.connection.close()
        self.connection = psycopg.connect(self.libpq, autocommit=True)


def server_started(source: Source) -> datetime:
    with source.connect() as connection, source.transaction(connection):
        return read_server_clock(connection).server_started


def sign(protea: Protea, job: str, at: datetime) -> None:
    protea.connection.execute("INSERT INTO job_event (job_id, ts, event) VALUES (%s, %s, 'progress')", (job, at))


def wait_until_past(protea: Protea, moment: datetime) -> None:
    wait_until(lambda: protea.now() > moment, f"the database's clock is past {moment}")


def stop(server: PrivatePostgreSQL) -> None:
    server.stop()


def crash(server: PrivatePostgreSQL) -> None:
    server.stop(immediate=True)


def lose_a_backend(server: PrivatePostgreSQL) -> None:
    """Kill one session's process: the server closes all sessions and recovers, without a restart."""
    with psycopg.connect(server.url.replace("+psycopg", "")) as victim:
        os.kill(victim.info.backend_pid, signal.SIGKILL)


def is_back(source: Source, before: datetime) -> bool:
    try:
        return server_started(source) > before
    except (ReaperError, DBAPIError):
        return False


@pytest.mark.parametrize(("away", "allowance"), [(stop, 0.3), (crash, 0.0)])
def test_outage_that_was_seen_is_not_silence(
    protea: ReconnectingProtea,
    own_server: PrivatePostgreSQL,
    away: Callable[[PrivatePostgreSQL], None],
    allowance: float,
) -> None:
    downtime, source = DowntimeTracker(allowance), protea.source(LIMITS)
    # What happened while the server was away is unknown: it has been up for a stall window and the allowance.
    wait_until_past(protea, server_started(source) + timedelta(seconds=STALL + allowance + 0.1))
    alive, dead = protea.job(age=HOUR), protea.job(age=HOUR)
    protea.event(alive)
    sign(protea, dead, protea.now() + timedelta(days=1))
    assert protea.sweep(source, downtime=downtime).reaped == 0
    seen = downtime.now
    protea.connection.execute("DELETE FROM job_event")
    sign(protea, alive, seen - timedelta(seconds=STALL - 0.2))
    sign(protea, dead, seen - timedelta(seconds=STALL + 0.2))

    away(own_server)
    for _ in range(2):
        report = protea.sweep(source, downtime=downtime)
        assert (report.outcome, report.database_away, report.reaped) == (Outcome.FAILED, True, 0)
        assert report.error
    own_server.start()
    protea.again()
    # By now both have been silent for longer than the stall window, by the clock.
    wait_until_past(protea, seen + timedelta(seconds=0.5))
    report = protea.sweep(source, downtime=downtime)
    assert (report.outcome, report.reaped) == (Outcome.DONE, 1)
    assert (protea.status(alive), protea.status(dead)) == ("running", "failed")
    [event] = protea.audits(dead)
    assert datetime.fromisoformat(event["fields"]["audible_since"]) == seen - timedelta(seconds=STALL)

    # And who stays silent is ended in the end.
    wait_until(lambda: protea.sweep(source, downtime=downtime).reaped == 1, "the silent job is reaped")
    back = downtime.now
    assert back - seen > timedelta(seconds=0.5 + 0.2 + allowance)
    assert protea.status(alive) == "failed"


@pytest.mark.parametrize("restart", [stop, crash, lose_a_backend])
def test_restart_seen_only_afterwards_ends_no_job_until_a_stall_window_has_passed(
    protea: ReconnectingProtea, own_server: PrivatePostgreSQL, restart: Callable[[PrivatePostgreSQL], None]
) -> None:
    source = protea.source(LIMITS)
    job = protea.stale()
    before = server_started(source)
    restart(own_server)
    own_server.start()
    wait_until(lambda: is_back(source, before), "the server is back")
    protea.again()
    back = server_started(source)
    downtime, allowance = DowntimeTracker(0.3), timedelta(seconds=0.3)

    first = protea.sweep(source, downtime=downtime)
    assert first.census is not None
    too_early = downtime.now < back + allowance + timedelta(seconds=STALL)
    if too_early:
        assert (first.reaped, first.census.spared) == (0, 1)
        evidence = protea.judge(job, source, downtime)
        too_early = downtime.now < back + allowance + timedelta(seconds=STALL)
    if too_early:
        assert evidence.audible_since is None or evidence.audible_since >= str(evidence.deaf_until)
        assert evidence.deaf_until is not None
        assert datetime.fromisoformat(evidence.deaf_until) == back + allowance
    wait_until(lambda: protea.sweep(source, downtime=downtime).reaped == 1, "the silent job is reaped")
    assert protea.row(job)["finished_at"] >= back + allowance + timedelta(seconds=STALL)
    [event] = protea.audits(job)
    assert datetime.fromisoformat(event["fields"]["audible_since"]) >= back + allowance
    assert event["fields"]["silence_seconds"] > HOUR


def test_restart_between_two_sweeps_is_noticed(protea: ReconnectingProtea, own_server: PrivatePostgreSQL) -> None:
    downtime, source = DowntimeTracker(0.3), protea.source(LIMITS)
    wait_until_past(protea, server_started(source) + timedelta(seconds=STALL + 0.4))
    protea.sweep(source, downtime=downtime)
    seen = downtime.now
    job = protea.job(age=HOUR)
    sign(protea, job, seen)
    own_server.restart(immediate=True)
    protea.again()
    back = server_started(source)
    wait_until(lambda: protea.sweep(source, downtime=downtime).reaped == 1, "the silent job is reaped")
    assert protea.row(job)["finished_at"] >= back + timedelta(seconds=0.3 + STALL)


def test_grace_of_zero_trusts_silence_across_a_restart(
    protea: ReconnectingProtea, own_server: PrivatePostgreSQL
) -> None:
    job = protea.stale()
    own_server.restart()
    protea.again()
    report = protea.sweep(protea.source(), downtime=DowntimeTracker(0))
    assert (report.reaped, protea.status(job)) == (1, "failed")
    [event] = protea.audits(job)
    assert event["fields"]["deaf_until"] is None


def away(report: SweepReport, why: str) -> bool:
    assert report.error is not None and why in report.error, report.error
    return report.outcome is Outcome.FAILED and report.database_away and report.reaped == 0


def read_only(protea: Protea) -> bool:
    """Whether a new session is read-only."""
    with protea.connect() as connection:
        return connection.execute("SHOW transaction_read_only").fetchone() == ("on",)


@pytest.mark.parametrize("whose", ["DATABASE outages", "SYSTEM"])
def test_read_only_database_is_unavailable(protea: ReconnectingProtea, whose: str) -> None:
    downtime, source = DowntimeTracker(0), protea.source(LIMITS)
    protea.sweep(source, downtime=downtime)
    seen = downtime.now
    alive = protea.job(age=HOUR)
    sign(protea, alive, seen - timedelta(seconds=STALL - 0.2))
    stale = protea.job(age=HOUR)

    def configure(words: str) -> None:
        protea.connection.execute("SET default_transaction_read_only = off")
        protea.connection.execute(f"ALTER {whose} {words}".encode())
        protea.connection.execute("SELECT pg_reload_conf()")

    configure("SET default_transaction_read_only = on")
    try:
        wait_until(lambda: read_only(protea), "the database is read-only")
        assert away(protea.sweep(source, downtime=downtime), "read-only: nothing can be written there")
        assert protea.status(stale) == "running"
    finally:
        configure("RESET default_transaction_read_only")
    wait_until_past(protea, seen + timedelta(seconds=0.5))
    wait_until(lambda: protea.sweep(source, downtime=downtime).outcome is Outcome.DONE, "a sweep is done")
    assert (protea.status(alive), protea.status(stale)) == ("running", "failed")


def test_standby_is_unavailable_until_it_is_promoted(protea: ReconnectingProtea, own_server: PrivatePostgreSQL) -> None:
    downtime, source = DowntimeTracker(0), protea.source(LIMITS)
    job = protea.stale()
    own_server.stop()
    Path(own_server.data / "standby.signal").touch()
    own_server.start()
    protea.again()
    assert away(protea.sweep(source, downtime=downtime), "standby in recovery: nothing can be written there")
    protea.connection.execute("SELECT pg_promote()")
    # It was away when we came, and nothing is known of before.
    since = protea.now()
    wait_until(lambda: protea.sweep(source, downtime=downtime).reaped == 1, "the silent job is reaped")
    assert protea.row(job)["finished_at"] > since


def test_missing_database_is_unavailable_and_named_without_its_password(own_server: PrivatePostgreSQL) -> None:
    url = own_server.url_of("nowhere").replace("postgres@", "postgres:hunter2@")
    protea = Protea(url, None)  # type: ignore[arg-type]
    report = protea.sweep()
    assert away(report, 'database "nowhere" does not exist')
    assert "hunter2" not in repr(report)
