"""A candidate whose row another session has locked is alive: it is left alone, and the lock holder is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, make_url

from reaper.dev.postgres import PrivatePostgreSQL
from reaper.model import Key, LockedCandidate, LockHolder, SweepReport
from reaper.profile import resolve
from reaper.source import Source
from reaper.sweep import sweep as sweep_module
from reaper.sweep.source_state import SourceState
from tests.support.protea import HOUR, PATIENCE, Protea, thresholds
from tests.support.waiting import wait_until

EVENT = "INSERT INTO job_event (job_id, event) VALUES (%s, 'progress')"
FOR_UPDATE = "SELECT FROM job WHERE id = %s FOR UPDATE"
KEY_SHARE = "SELECT FROM job WHERE id = %s FOR KEY SHARE"
SHORT = 0.2


def holding(protea: Protea, job: str, *statements: str, application: str = "worker-7") -> psycopg.Connection[Any]:
    """A session that has executed this on the job's row, and has not committed."""
    session = psycopg.connect(protea.libpq, application_name=application)
    for statement in statements:
        session.execute(statement, [job] if "%s" in statement else None)
    return session


def locked_in(report: SweepReport) -> LockedCandidate:
    assert (report.reaped, report.lost, report.locked_total) == (0, 0, 1), report
    [locked] = report.locked
    return locked


def holder_in(report: SweepReport) -> LockHolder:
    holder = locked_in(report).holder
    assert holder is not None
    return holder


def is_untouched(protea: Protea, job: str) -> bool:
    return protea.status(job) == "running" and protea.audits(job) == []


@pytest.mark.parametrize(
    "statements",
    [
        (FOR_UPDATE,),
        ("SELECT FROM job WHERE id = %s FOR NO KEY UPDATE",),
        ("SELECT FROM job WHERE id = %s FOR SHARE",),
        (KEY_SHARE,),
        (EVENT,),
        ("INSERT INTO job (operation, queue_name, parent_job_id) VALUES ('batch', 'q', %s)",),
        ("UPDATE job SET progress_current = 1 WHERE id = %s",),
        ("DELETE FROM job WHERE id = %s",),
        ("SAVEPOINT attempt", FOR_UPDATE),
        ("SAVEPOINT attempt", EVENT, "RELEASE attempt"),
        (KEY_SHARE, "SAVEPOINT attempt", FOR_UPDATE),
        (EVENT, "SAVEPOINT attempt", FOR_UPDATE, "ROLLBACK TO attempt"),
    ],
    ids=lambda statements: " + ".join(statement[:24] for statement in statements),
)
def test_locked_job_is_spared_and_its_lock_holder_named(protea: Protea, statements: tuple[str, ...]) -> None:
    job, free = protea.stale(), protea.stale()
    with holding(protea, job, *statements) as session:
        report = protea.sweep()
        assert (report.reaped, report.locked_total) == (1, 1)
        assert protea.status(free) == "failed" and is_untouched(protea, job)
        [locked] = report.locked
        assert locked.key == (job,) and locked.holder is not None
        assert (locked.holder.pid, locked.holder.application) == (session.info.backend_pid, "worker-7")
        assert (locked.holder.user, locked.holder.state) == ("postgres", "idle in transaction")
        assert locked.holder.since is not None and locked.holder.since.endswith("Z")
        session.rollback()


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_job_that_was_locked_is_ended_by_the_next_sweep(protea: Protea, end: str) -> None:
    job, memory = protea.stale(), SourceState()
    with holding(protea, job, FOR_UPDATE) as session:
        assert locked_in(protea.sweep(memory=memory)).key == (job,)
        session.execute(end)
        report = protea.sweep(memory=memory)
    assert (report.reaped, report.locked_total, report.locked) == (1, 0, ())
    assert memory.locked_since == {}
    assert protea.status(job) == "failed" and len(protea.audits(job)) == 1


def test_event_that_waits_for_its_commit_spares_the_job(protea: Protea) -> None:
    job = protea.stale()
    with holding(protea, job, EVENT) as session:
        assert locked_in(protea.sweep()).key == (job,)
        session.commit()
    report = protea.sweep()
    assert (report.reaped, report.locked_total) == (0, 0)
    assert is_untouched(protea, job)


def test_row_locked_for_longer_than_the_stall_window_is_overdue(protea: Protea) -> None:
    job = protea.stale()
    with holding(protea, job, FOR_UPDATE) as session:
        assert not locked_in(protea.sweep()).overdue
        wait_until(lambda: _age(protea, session) > SHORT, "the row has been held for longer than the stall window")
        locked = locked_in(protea.sweep(protea.source(thresholds(stall=SHORT))))
        assert locked.overdue and locked.held_seconds > SHORT
        assert is_untouched(protea, job)
        session.rollback()


def _age(protea: Protea, session: psycopg.Connection[Any]) -> float:
    row = protea.connection.execute(
        "SELECT extract(epoch FROM clock_timestamp() - xact_start)::float FROM pg_stat_activity WHERE pid = %s",
        [session.info.backend_pid],
    ).fetchone()
    assert row is not None
    return float(row[0])


def test_longest_of_several_lock_holders_is_named(protea: Protea) -> None:
    job = protea.stale()
    with (
        holding(protea, job, EVENT, application="first") as first,
        holding(protea, job, EVENT, application="second") as second,
        holding(protea, job, KEY_SHARE, application="third") as third,
    ):
        assert holder_in(protea.sweep()).application == "first"
        first.rollback()
        assert holder_in(protea.sweep()).application == "second"
        second.rollback()
        third.rollback()
    assert protea.sweep().reaped == 1


def test_prepared_transaction_is_named_as_lock_holder(protea: Protea) -> None:
    job = protea.stale()
    with holding(protea, job, FOR_UPDATE) as session:
        session.execute("PREPARE TRANSACTION 'left behind'")
    try:
        holder = holder_in(protea.sweep())
        assert (holder.pid, holder.state) == (None, "prepared transaction left behind")
        assert holder.since is not None and holder.held_seconds is not None
        assert is_untouched(protea, job)
    finally:
        protea.connection.execute("ROLLBACK PREPARED 'left behind'")
    assert protea.sweep().reaped == 1


# --- a role that may not look ----------------------------------------------------------------------------------


@pytest.fixture
def narrow(server: PrivatePostgreSQL, protea: Protea) -> Iterator[Source]:
    """The source for a role that has the privileges that the reaper needs, and no others."""
    role = f"narrow_{make_url(protea.url).database}"
    protea.connection.execute(f"CREATE ROLE {role} LOGIN")
    protea.connection.execute(f"GRANT SELECT, UPDATE ON job TO {role}")
    protea.connection.execute(f"GRANT SELECT, INSERT ON job_event TO {role}")
    url = make_url(protea.url).set(username=role).render_as_string(hide_password=False)
    yield Source("main", url, resolve("protea"), thresholds(), PATIENCE)
    protea.connection.execute(f"DROP OWNED BY {role}")
    protea.connection.execute(f"DROP ROLE {role}")


def test_role_without_pg_monitor_still_names_the_process(protea: Protea, narrow: Source) -> None:
    job, free = protea.stale(), protea.stale()
    with holding(protea, job, FOR_UPDATE) as session:
        report = protea.sweep(narrow)
        assert (report.reaped, report.locked_total) == (1, 1), report
        assert protea.status(free) == "failed"
        [locked] = report.locked
        assert locked.holder is not None
        assert (locked.holder.pid, locked.holder.user) == (session.info.backend_pid, "postgres")
        assert (locked.holder.state, locked.holder.since, locked.holder.held_seconds) == (None, None, None)
        session.rollback()


def test_role_without_pg_monitor_counts_from_the_sweep_that_first_met_the_lock(protea: Protea, narrow: Source) -> None:
    job, memory = protea.stale(), SourceState()
    with holding(protea, job, FOR_UPDATE) as session:
        assert not locked_in(protea.sweep(narrow, memory=memory)).overdue
        memory.locked_since[(job,)] -= HOUR
        locked = locked_in(protea.sweep(narrow, memory=memory))
        assert locked.overdue and locked.held_seconds >= HOUR
        session.rollback()


# --- many ------------------------------------------------------------------------------------------------------


def test_many_locked_jobs_are_counted_and_some_are_named(protea: Protea) -> None:
    with protea.connect() as session:
        jobs = [protea.stale() for _ in range(30)]
        free = [protea.stale() for _ in range(5)]
        session.execute("SELECT FROM job WHERE id = ANY (%s::uuid[]) FOR UPDATE", [jobs])
        report = protea.sweep(batch_size=7)
        assert (report.reaped, report.locked_total) == (5, 30)
        assert 0 < len(report.locked) <= 30 and {locked.key[0] for locked in report.locked} <= set(jobs)
        assert all(is_untouched(protea, job) for job in jobs)
        assert all(protea.status(job) == "failed" for job in free)
        session.rollback()


def test_locked_job_that_is_deleted_before_its_lock_holder_is_named_is_not_overdue(protea: Protea) -> None:
    """Without the row nothing says how long its stall window is."""
    job = protea.stale()
    protea.connection.execute("DELETE FROM job_event")
    source = protea.source()
    name_holder = source.lock_holder
    with holding(protea, job, "DELETE FROM job WHERE id = %s") as session:

        def name_holder_and_delete(connection: Connection, key: Key) -> LockHolder | None:
            holder = name_holder(connection, key)
            session.commit()
            return holder

        source.lock_holder = name_holder_and_delete  # type: ignore[method-assign]
        locked = locked_in(protea.sweep(source))
    assert (locked.key, locked.overdue) == ((job,), False)
    assert locked.held_seconds > 0


@pytest.mark.parametrize("first_locked", [0, 1])
def test_rows_that_are_locked_for_longest_are_named_first(
    protea: Protea, first_locked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more locked rows than a report lists, new ones must not hide the row that stands still."""
    monkeypatch.setattr(sweep_module, "MAX_LISTED", 1)
    jobs, memory = [protea.stale(age=9 * HOUR), protea.stale(age=8 * HOUR)], SourceState()
    longest, newest = jobs[first_locked], jobs[1 - first_locked]
    with holding(protea, longest, FOR_UPDATE):
        protea.event(newest)
        assert locked_in(protea.sweep(memory=memory)).key == (longest,)
        protea.connection.execute("UPDATE job_event SET ts = now() - interval '2 hours'")
        with holding(protea, newest, FOR_UPDATE):
            report = protea.sweep(memory=memory)
    assert report.locked_total == 2
    assert [locked.key for locked in report.locked] == [(longest,)]
