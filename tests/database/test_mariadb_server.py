"""Transactions, leases, row locks and outages of a real MariaDB."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any

import pymysql
import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from reaper.common.messages import describe_holder
from reaper.database.connections import read_server_clock
from reaper.database.errors import ErrorKind, classify
from reaper.database.timeouts import MARGIN_SECONDS, Timeouts
from reaper.errors import DatabaseUnavailable
from reaper.model import Verdict
from reaper.profile import resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from tests.database.mariadb_protea import TABLES, MariaDBProtea, error_of, holding, setting
from tests.support.mariadb import MariaDB, temporary
from tests.support.protea import HOUR, MINUTE, PATIENCE, thresholds
from tests.support.waiting import wait_until

# --- transactions and the clock --------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["+05:30", "-11:00"])
def test_session_in_another_time_zone_judges_the_same(db: MariaDBProtea, zone: str) -> None:
    silent, alive = db.job(), db.job()
    db.event(alive, age=MINUTE)
    with setting(db.server, "time_zone", zone):
        source = db.source()
        assert (db.verdict(silent, source), db.verdict(alive, source)) == (Verdict.STALE, Verdict.SPARED)
        with source.connect() as connection:
            context = source.begin_evaluation(connection, DowntimeTracker(0))
        [(now,)] = db.run("SELECT utc_timestamp(6)")
        assert abs(now.replace(tzinfo=UTC) - context.now) < timedelta(seconds=30)


def test_server_with_other_settings_answers_the_same(db: MariaDBProtea) -> None:
    job = db.job()
    with (
        setting(db.server, "sql_mode", "ANSI,NO_BACKSLASH_ESCAPES,NO_ZERO_DATE,PIPES_AS_CONCAT"),
        setting(db.server, "tx_isolation", "SERIALIZABLE"),
        setting(db.server, "div_precision_increment", 0),
    ):
        assert db.verdict(job) is Verdict.STALE


def test_second_statement_sees_what_was_committed_since_the_first(db: MariaDBProtea) -> None:
    """The rule is judged again in a fresh snapshot."""
    job, source = db.job(), db.source()
    with source.connect() as connection, source.transaction(connection):
        count = text("SELECT count(*) FROM job_event")
        assert connection.execute(count).scalar_one() == 0
        db.event(job)
        assert connection.execute(count).scalar_one() == 1


def test_read_only_transaction_can_write_nothing(db: MariaDBProtea) -> None:
    assert error_of(db, "DELETE FROM job", read_only=True)[0] is ErrorKind.UNAVAILABLE


def test_server_start_is_the_same_in_each_reading(db: MariaDBProtea) -> None:
    source, starts = db.source(), set()
    with source.connect() as connection:
        deadline = None
        while True:
            with source.transaction(connection):
                contact = read_server_clock(connection)
            starts.add(contact.server_started)
            deadline = deadline or contact.now + timedelta(seconds=2.1)
            if contact.now > deadline:
                break
    assert len(starts) == 1
    assert contact.server_started < contact.now


def test_server_that_takes_no_changes_is_unavailable(db: MariaDBProtea) -> None:
    source = db.source()
    with (
        setting(db.server, "read_only", 1),
        source.connect() as connection,
        pytest.raises(DatabaseUnavailable, match="read-only: it takes no changes"),
    ):
        source.begin_evaluation(connection, DowntimeTracker(0))
    with source.connect() as connection:
        source.begin_evaluation(connection, DowntimeTracker(0))


def test_missing_database_or_user_is_unavailable(db: MariaDBProtea) -> None:
    for url, said in (
        (db.server.url("nowhere"), "Unknown database 'nowhere'"),
        (db.server.url(db.name, user="nobody"), "Access denied for user 'nobody'"),
        ("mariadb+pymysql://x:hunter2@127.0.0.1:1/d", "Can't connect"),
    ):
        source = Source("main", url, resolve("protea"), thresholds(), PATIENCE)
        with pytest.raises(DatabaseUnavailable, match=said) as raised, source.connect():
            pass
        assert "hunter2" not in str(raised.value)


# --- the lease -------------------------------------------------------------------------------------------------------


def test_lease_is_held_by_one_replica_at_a_time(db: MariaDBProtea) -> None:
    mine, theirs = db.source().lease(60), db.source().lease(60)
    assert (mine.acquire(), theirs.acquire(), mine.acquire(), mine.renew_if_due()) == (True, False, True, True)
    mine.release()
    assert theirs.acquire()
    theirs.release()


def test_lease_is_lost_with_its_connection(db: MariaDBProtea) -> None:
    mine, theirs = db.source().lease(60), db.source().lease(60)
    assert mine.acquire()
    [(owner,)] = db.run("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
    db.run(f"KILL {owner}")
    wait_until(theirs.acquire, "the other replica has the lease")
    assert not mine.acquire()
    theirs.release()


def test_lease_that_is_not_renewed_ends_by_itself(db: MariaDBProtea) -> None:
    mine, theirs = db.source().lease(1), db.source().lease(60)
    assert mine.acquire()
    assert not theirs.acquire()
    wait_until(theirs.acquire, "the other replica has the lease")
    theirs.release()
    mine.release()


def test_lease_is_separate_for_each_database(db: MariaDBProtea, mariadb: MariaDB) -> None:
    mariadb.create_database("protea_twin", TABLES)
    try:
        mine = db.source().lease(60)
        twin = Source("main", mariadb.url("protea_twin"), resolve("protea"), thresholds(), PATIENCE).lease(60)
        assert mine.acquire() and twin.acquire()
        mine.release()
        twin.release()
    finally:
        mariadb.drop_database("protea_twin")


def test_lease_is_separate_for_each_profile_of_a_table(db: MariaDBProtea) -> None:
    ours = resolve("ours", {"ours": {"extends": "protea"}})
    mine, theirs = db.source().lease(60), Source("other", db.url, ours, thresholds(), PATIENCE).lease(60)
    try:
        assert mine.acquire() and theirs.acquire()
    finally:
        mine.release()
        theirs.release()


# --- row locks -------------------------------------------------------------------------------------------------------


def test_lock_holder_is_named_when_it_is_the_only_transaction_with_row_locks(db: MariaDBProtea) -> None:
    job, source = db.job(), db.source()

    def named() -> Any:
        # A client that asks for the transactions more often than ten times a second gets the earlier answer again.
        time.sleep(0.15)
        with source.connect() as connection:
            return source.lock_holder(connection, (job,))

    locked = f"SELECT * FROM job WHERE id = '{job}' FOR UPDATE"
    assert named() is None
    with setting(db.server, "time_zone", "+07:00"), holding(db, locked) as other:
        wait_until(lambda: named() is not None, "the lock has a holder")
        holder = named()
        with other.cursor() as cursor:
            cursor.execute("SELECT CONNECTION_ID()")
            [(number,)] = cursor.fetchall()
        assert (holder.pid, holder.user, holder.state) == (number, "root", "idle in transaction")
        assert 0 <= holder.held_seconds < 60
        with holding(db, "INSERT INTO job (id, operation, queue_name) VALUES ('other', 'x', 'q')"):
            wait_until(lambda: named().pid is None, "the holder is one of several")
            assert describe_holder(named()) == "one of several sessions, which cannot be told apart"


def test_row_that_is_not_locked_has_no_holder_whatever_else_is_locked(db: MariaDBProtea) -> None:
    job, other = db.job(), db.job()
    source = db.source()
    with holding(db, f"SELECT * FROM job WHERE id = '{other}' FOR UPDATE"), source.connect() as connection:
        wait_until(lambda: _holders(source, connection, job, other).keys() == {(other,)}, "only one row has a holder")


def _holders(source: Source, connection: Connection, *jobs: str) -> Any:
    time.sleep(0.15)
    return source.lock_holders(connection, [(job,) for job in jobs])


def test_sign_of_life_waits_for_our_lock_and_its_job_is_skipped_while_it_is_written(db: MariaDBProtea) -> None:
    """What the claim rests on: the foreign key of an event needs a shared lock on the row of its job."""
    job, other = db.job(), db.job()
    skip = f"SELECT id FROM job WHERE id IN ('{job}', '{other}') FOR UPDATE SKIP LOCKED"
    source = db.source()

    def free() -> set[str]:
        with source.connect() as connection, source.transaction(connection):
            return {row[0] for row in connection.exec_driver_sql(skip)}

    assert free() == {job, other}
    with holding(db, f"INSERT INTO job_event (job_id, event) VALUES ('{job}', 'x')"):
        assert free() == {other}
    with source.connect() as connection, source.transaction(connection):
        assert len(connection.exec_driver_sql(skip).all()) == 2
        db.run("SET innodb_lock_wait_timeout = 1")
        with pytest.raises(pymysql.OperationalError, match="Lock wait timeout"):
            db.event(job)
    db.event(job)


# --- outages ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[MariaDBProtea]:
    """A scene on a server that the test may stop."""
    with temporary() as server:
        server.create_database("protea", TABLES)
        made = MariaDBProtea(server, "protea")
        yield made
        made.connection.close()


def test_stopped_server_is_unavailable_and_has_a_new_start_when_it_is_back(own: MariaDBProtea) -> None:
    source, downtime = own.source(), DowntimeTracker(60)
    with source.connect() as connection:
        source.begin_evaluation(connection, downtime)
        own.server.stop()
        with pytest.raises(DBAPIError) as raised, source.transaction(connection):
            pass
        assert classify(raised.value) is ErrorKind.UNAVAILABLE
    with pytest.raises(DatabaseUnavailable, match="Can't connect"), source.connect():
        pass
    with pytest.raises(DatabaseUnavailable, match="Can't connect"), source.cached_connection():
        pass
    own.server.start()
    with source.connect() as connection:
        source.begin_evaluation(connection, downtime)
    assert downtime.excluded_seconds(HOUR) > 0


def test_connection_to_a_server_that_stands_still_is_closed(
    own: MariaDBProtea, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MARGIN_SECONDS > 1
    monkeypatch.setattr("reaper.database.mariadb.MARGIN_SECONDS", 0.5)
    source = own.source(timeouts=Timeouts(statement=0.5, connect=1))
    with source.connect() as connection, own.server.frozen():
        with pytest.raises(DBAPIError) as raised, source.transaction(connection):
            pass
        assert classify(raised.value) is ErrorKind.UNAVAILABLE
        with pytest.raises(DatabaseUnavailable), source.connect():
            pass


def test_connection_is_kept_while_its_server_answers(own: MariaDBProtea) -> None:
    source = own.source(timeouts=Timeouts(statement=30, connect=0.5))
    with source.cached_connection() as connection:
        first = connection.connection.driver_connection
    with source.cached_connection() as connection:
        assert connection.connection.driver_connection is first
        source.begin_evaluation(connection, DowntimeTracker(0))
    with own.server.frozen(), pytest.raises(DatabaseUnavailable), source.cached_connection():
        pass
    with source.cached_connection() as connection:
        assert connection.connection.driver_connection is not first
        source.begin_evaluation(connection, DowntimeTracker(0))
