"""A job that the database refuses to end is reported and left alone for a while; all others are ended, none in part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from reaper.dev.postgres import PrivatePostgreSQL
from reaper.model import FailedTransition, Outcome, SweepReport
from reaper.sweep.breaker import Breaker
from reaper.sweep.refused_jobs import LONGEST_PAUSE_SECONDS, RefusedJobs
from reaper.sweep.source_state import SourceState
from tests.support.interleaving import SCRIPTS, Explorer, claimers
from tests.support.protea import Protea
from tests.support.waiting import wait_until


def trigger(protea: Protea, when: str, body: str, *, each: str = "FOR EACH ROW", kind: str = "") -> None:
    """A trigger of the user's, whose `body` runs for the job with the operation 'bad'."""
    protea.connection.execute(
        f"CREATE OR REPLACE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
    )
    protea.connection.execute(f"CREATE {kind} TRIGGER interfering {when} {each} EXECUTE FUNCTION interfere()")


def on_update(protea: Protea, what: str) -> None:
    trigger(protea, "BEFORE UPDATE ON job", f"IF OLD.operation = 'bad' THEN {what} END IF; RETURN NEW;")


def on_event(protea: Protea, what: str) -> None:
    bad = "NEW.event = 'job.timeout' AND EXISTS (SELECT FROM job WHERE id = NEW.job_id AND operation = 'bad')"
    trigger(protea, "BEFORE INSERT ON job_event", f"IF {bad} THEN {what} END IF; RETURN NEW;")


def check_constraint(protea: Protea, _: str) -> None:
    protea.connection.execute("ALTER TABLE job ADD CONSTRAINT never CHECK (operation <> 'bad' OR status <> 'failed')")


def at_commit(protea: Protea, what: str) -> None:
    trigger(
        protea,
        "AFTER UPDATE ON job DEFERRABLE INITIALLY DEFERRED",
        f"IF NEW.operation = 'bad' THEN {what} END IF; RETURN NULL;",
        kind="CONSTRAINT",
    )


RAISE = "RAISE EXCEPTION 'not this one';"
REFUSALS = {
    "a trigger raises": (on_update, RAISE, "not this one"),
    "a trigger raises on the audit event": (on_event, RAISE, "not this one"),
    "a check constraint refuses": (check_constraint, "", "never"),
    "a trigger swallows the update": (on_update, "RETURN NULL;", "a trigger or rule interferes"),
    "a trigger swallows the audit event": (on_event, "RETURN NULL;", "a trigger or rule interferes"),
    "a trigger keeps it running": (on_update, "NEW.status := 'running';", "a trigger or rule interferes"),
    "a deferred trigger raises at the commit": (at_commit, RAISE, "not this one"),
    "a trigger divides by zero": (on_update, "PERFORM 1 / (SELECT 0);", "division by zero"),
    "a trigger misses a table": (on_update, "PERFORM FROM nowhere;", "nowhere"),
    "a trigger says that it is not supported": (on_update, "RAISE feature_not_supported;", "feature_not_supported"),
    "a trigger says that it would not serialize": (on_update, "RAISE serialization_failure;", "serialization_failure"),
    "a trigger says that something is internally wrong": (on_update, "RAISE internal_error;", "internal_error"),
}


def refused(protea: Protea, report: SweepReport, bad: str, others: list[str]) -> str:
    """Asserts what holds for every refusal; returns the error in the report."""
    assert (report.outcome, report.error) == (Outcome.DONE, None)
    assert report.reaped == len(others)
    for job in others:
        assert protea.status(job) == "failed" and len(protea.audits(job)) == 1
    assert protea.status(bad) == "running" and protea.audits(bad) == []
    [failure] = report.failures
    assert failure.key == (bad,)
    return failure.error


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("batch_size", [1000, 3])
def test_refused_job_is_reported_and_all_others_are_ended(protea: Protea, refusal: str, batch_size: int) -> None:
    others = [protea.stale() for _ in range(6)]
    bad = protea.stale(operation="bad")
    others += [protea.stale() for _ in range(6)]
    interfere, what, said = REFUSALS[refusal]
    interfere(protea, what)
    assert said in refused(protea, protea.sweep(batch_size=batch_size), bad, others)


def test_two_refused_jobs_of_one_batch_are_both_reported(protea: Protea) -> None:
    bad = {protea.stale(operation="bad") for _ in range(2)}
    others = [protea.stale() for _ in range(9)]
    on_update(protea, RAISE)
    report = protea.sweep()
    assert report.reaped == len(others)
    assert {failure.key[0] for failure in report.failures} == bad


def test_sweep_goes_on_when_every_job_is_refused(protea: Protea) -> None:
    for _ in range(120):
        protea.stale(operation="bad")
    on_update(protea, RAISE)
    report = protea.sweep(batch_size=10, breaker=Breaker(10**6, 1.0))
    assert (report.outcome, report.error, report.reaped, report.refused_now) == (Outcome.DONE, None, 0, 120)
    assert len(report.failures) == 100
    [cause] = report.refusals
    assert ("not this one" in cause.error, cause.jobs) == (True, 120)


class Clock:
    """A monotonic clock that the test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_refused_job_is_left_alone_for_a_growing_pause(protea: Protea) -> None:
    protea.connection.execute("CREATE SEQUENCE tries")
    clock = Clock()
    bad, memory = protea.stale(operation="bad"), SourceState(refused_jobs=RefusedJobs(monotonic=clock))
    # What a sequence gave is not taken back with the transaction.
    on_update(protea, f"PERFORM nextval('tries'); {RAISE}")
    assert len(protea.sweep(memory=memory).failures) == 1
    tried = _tries(protea)
    assert tried >= 1

    for pause in (600.0, 1200.0, 2400.0):
        clock.now += pause - 1
        report = protea.sweep(memory=memory)
        assert (report.reaped, report.failures, report.refused_total, _tries(protea)) == (0, (), 1, tried)
        clock.now += 1
        assert len(protea.sweep(memory=memory).failures) == 1 and _tries(protea) > tried
        tried = _tries(protea)

    protea.connection.execute("DROP TRIGGER interfering ON job")
    clock.now += 4799
    assert protea.sweep(memory=memory).reaped == 0
    clock.now += 1
    assert protea.sweep(memory=memory).reaped == 1
    assert protea.status(bad) == "failed" and len(protea.audits(bad)) == 1
    assert len(memory.refused_jobs) == 0


def test_longest_pause_is_six_hours() -> None:
    clock = Clock()
    jobs = RefusedJobs(monotonic=clock)
    for _ in range(40):
        jobs.record_refused([FailedTransition(("1",), "no")])
        clock.now += 1
    [cause] = jobs.causes()
    assert cause.due_in_seconds == LONGEST_PAUSE_SECONDS - 1


def _tries(protea: Protea) -> int:
    row = protea.connection.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM tries").fetchone()
    assert row is not None
    return int(row[0])


# --- what may pass ---------------------------------------------------------------------------------------------


def test_deadlock_with_a_worker_is_tried_again(protea: Protea, server: PrivatePostgreSQL) -> None:
    protea.connection.execute("CREATE TABLE tally (n int)")
    protea.connection.execute("INSERT INTO tally VALUES (0)")
    on_update(protea, "UPDATE tally SET n = n + 1;")
    wanted, counted = protea.stale(), protea.stale(operation="bad")
    database = protea.connection.info.dbname
    # It is the sweep that looks for deadlocks, once the worker waits as well; within its own lock_timeout of 5 s.
    protea.connection.execute(f"ALTER DATABASE {database} SET deadlock_timeout = '2s'")
    before = server.log.read_text().count("deadlock detected")
    with protea.connect() as worker, ThreadPoolExecutor(1) as pool:
        worker.execute("SET deadlock_timeout = '1min'")
        worker.execute("UPDATE tally SET n = 100")
        sweeping = pool.submit(protea.sweep)
        wait_until(lambda: _is_waiting(protea), "a session waits for a lock")
        worker.execute("SELECT FROM job WHERE id = %s FOR UPDATE", [wanted])
        worker.commit()
        report = sweeping.result()
    # Once, or again: set free by the first, the sweep may lock the row before the worker wakes up.
    assert server.log.read_text().count("deadlock detected") > before
    assert (report.outcome, report.failures, report.lost) == (Outcome.DONE, (), 0)
    assert report.reaped + report.locked_total == 2 and protea.status(counted) == "failed"
    protea.sweep()
    for job in (wanted, counted):
        assert protea.status(job) == "failed" and len(protea.audits(job)) == 1


def _is_waiting(protea: Protea) -> bool:
    return bool(
        protea.connection.execute(
            "SELECT FROM pg_stat_activity WHERE application_name LIKE 'reaper/%' AND wait_event_type = 'Lock'"
        ).fetchall()
    )


def test_serialization_failure_that_passes_is_no_failure(protea: Protea) -> None:
    protea.connection.execute("CREATE SEQUENCE tries")
    bad, other = protea.stale(operation="bad"), protea.stale()
    on_update(protea, "IF nextval('tries') < 3 THEN RAISE serialization_failure; END IF;")
    report = protea.sweep()
    assert (report.reaped, report.failures) == (2, ())
    assert protea.status(bad) == protea.status(other) == "failed"
    assert _tries(protea) == 3


# --- roles with another isolation ------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["writes an event", "finishes", "is requeued and claimed at once"])
@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_second_check_sees_a_fresh_snapshot_whatever_the_roles_isolation(
    protea: Protea, isolation: str, script: str
) -> None:
    database = protea.connection.info.dbname
    protea.connection.execute(f"ALTER DATABASE {database} SET default_transaction_isolation = '{isolation}'")
    with Explorer(protea, *claimers(protea, 1)) as stage:
        assert stage.worker.execute("SHOW transaction_isolation").fetchone() == (isolation,)
        stage.worker.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
        stage.worker.commit()
        tally = stage.every_order(SCRIPTS[script])
    assert tally.orders >= 12 and tally.ends["reaped"] > 0
