"""The steps of a worker and of sweeps on one job, in every order that can happen, on a real PostgreSQL.

`tests.support.interleaving.Play` checks what must hold after each order, and after each single step.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, CursorResult, Select, text

from reaper.model import ReapedJob
from reaper.source import AuditInfo, Candidate, Claim
from reaper.source.reap import BatchLocks, ClaimResult, still_running_query
from reaper.source.statements import SourceStatements
from reaper.source.transition.second_check import is_any
from reaper.sql.keys import key_parameters
from reaper.sql.statement import CompiledStatement, Values
from reaper.staleness.rule import Rule
from tests.support.interleaving import SCRIPTS, Explorer, FullSweep, MakeClaim, Summary, Sweeper, claimers
from tests.support.protea import Protea

# The least number of orders, a little below the real one: fewer means that a step did not wait for its turn.
ALONE = {
    "writes an event": 12,
    "writes an event and takes it back": 12,
    "makes a child": 12,
    "finishes": 12,
    "finishes without looking": 12,
    "writes an event, then finishes": 40,
    "writes an event and finishes in one transaction": 28,
    "is requeued and started again": 40,
    "is requeued and started again, each at once": 9,
    "is requeued and claimed, but has not started": 40,
    "is requeued and claimed at once": 25,
    "holds the row for update": 12,
    "holds the row's key": 12,
}
TOGETHER = {
    "writes an event": 1000,
    "finishes": 800,
    "is requeued and started again, each at once": 350,
    "holds the row for update": 1100,
}


def in_every_order(protea: Protea, sweepers: Sequence[Sweeper], script: str) -> Summary:
    with Explorer(protea, *sweepers) as explorer:
        return explorer.every_order(SCRIPTS[script])


def show(capsys: pytest.CaptureFixture[str], summary: Summary) -> None:
    with capsys.disabled():
        print(f"\n  {summary.orders} orders, {summary.waited} with a wait for a lock: {dict(summary.ends)}", end=" ")


@pytest.mark.parametrize("script", SCRIPTS)
def test_worker_and_sweep_keep_the_invariants_in_every_order(
    protea: Protea, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = in_every_order(protea, claimers(protea, 1), script)
    show(capsys, summary)
    assert summary.orders >= ALONE[script]
    assert summary.waited > 0 and summary.ends["reaped"] > 0


@pytest.mark.parametrize(
    "script",
    [
        "is requeued and started again, each at once",
        pytest.param("writes an event", marks=pytest.mark.thorough),
        pytest.param("finishes", marks=pytest.mark.thorough),
        pytest.param("holds the row for update", marks=pytest.mark.thorough),
    ],
)
def test_worker_and_two_sweeps_keep_the_invariants_in_every_order(
    protea: Protea, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = in_every_order(protea, claimers(protea, 2), script)
    show(capsys, summary)
    assert summary.orders >= TOGETHER[script]
    assert summary.waited > 0 and summary.ends["reaped"] > 0


@pytest.mark.parametrize(
    "script",
    [
        *("writes an event", "finishes", "is requeued and started again, each at once", "holds the row's key"),
        pytest.param("is requeued and started again", marks=pytest.mark.thorough),
    ],
)
def test_worker_and_daemon_sweep_keep_the_invariants_in_every_order(
    protea: Protea, script: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = in_every_order(protea, [FullSweep("A", protea)], script)
    show(capsys, summary)
    assert summary.orders > ALONE[script]
    assert summary.waited > 0 and summary.ends["reaped"] > 0


# --- what the harness would notice ---------------------------------------------------------------------------


def without_judging_again(statements: SourceStatements, values: Values, audit_info: AuditInfo) -> Claim:
    return Claim(statements, values, audit_info, predicate=is_any)


class WithoutLock(Claim):
    class locks_class(BatchLocks):
        @staticmethod
        def lock_query(rule: Rule) -> Select[Any]:
            return still_running_query(rule)


class LocksTooLittle(Claim):
    """FOR NO KEY UPDATE lets the foreign key of an event pass."""

    class locks_class(BatchLocks):
        @staticmethod
        def lock_query(rule: Rule) -> Select[Any]:
            return still_running_query(rule).with_for_update(skip_locked=True, key_share=True)


class WithValues(CompiledStatement):
    """A statement that has some of its values already."""

    def __init__(self, statement: CompiledStatement, values: Values) -> None:
        self._statement, self._values = statement, values

    def execute(self, connection: Connection, values: Values) -> CursorResult[Any]:
        return self._statement.execute(connection, {**self._values, **values})


class JudgesAsItLocks(Claim):
    """Evaluates the rule in the statement that locks, whose snapshot is older than the lock."""

    class locks_class(BatchLocks):
        @staticmethod
        def lock_query(rule: Rule) -> Select[Any]:
            return still_running_query(rule).where(rule.stale(rule.tables.jobs)).with_for_update()

    def __init__(self, statements: SourceStatements, values: Values, audit_info: AuditInfo) -> None:
        super().__init__(statements, values, audit_info, predicate=is_any)
        self._rule_values = values

    def locks(self, connection: Connection) -> BatchLocks:
        locks = copy(super().locks(connection))
        locks.lock_rows = WithValues(locks.lock_rows, self._rule_values)
        return locks


class TakesAnyVersion(Claim):
    """Does not check that the job still has the version that the survey saw."""

    def run(self, connection: Connection, batch: Sequence[Candidate], *, long_wait: bool = False) -> ClaimResult:
        keys = key_parameters([candidate.key for candidate in batch]) | self._statements.identity_values
        held = [row[:1] for row in self.locks(connection).lock_rows.execute(connection, keys)]
        reaped = self._act(connection, held) if held else []
        return ClaimResult(reaped, len(held) - len(reaped), [c.key for c in batch if c.key not in held])


class _ByHand(Claim):
    UPDATE = (
        "UPDATE public.job SET status = 'failed', finished_at = now(), error_code = 'JobTimeout'"
        " WHERE id = CAST(:id AS uuid)"
    )
    INSERT = "INSERT INTO public.job_event (job_id, level, event) VALUES (CAST(:id AS uuid), 'error', 'job.timeout')"

    def ended(self, key: tuple[str, ...]) -> ClaimResult:
        return ClaimResult([ReapedJob(key, "JobTimeout", None, None, None, None)], 0, [])


class ReadsThenOverwrites(_ByHand):
    """Reads whether the job still runs, and then writes by its key alone."""

    def run(self, connection: Connection, batch: Sequence[Candidate], *, long_wait: bool = False) -> ClaimResult:
        key = batch[0].key
        if not self.current(connection, [key]):
            return ClaimResult([], 1, [])
        connection.execute(text(self.UPDATE), {"id": key[0]})
        connection.execute(text(self.INSERT), {"id": key[0]})
        return self.ended(key)


class AuditsApart(_ByHand):
    """Makes the transition in one transaction, and writes its audit event in the next."""

    def run(self, connection: Connection, batch: Sequence[Candidate], *, long_wait: bool = False) -> ClaimResult:
        key = batch[0].key
        values = key_parameters([key]) | self._statements.identity_values
        if not self.locks(connection).lock_rows.execute(connection, values).all():
            return ClaimResult([], 0, [key])
        connection.execute(text(self.UPDATE), {"id": key[0]})
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        driver.commit()
        connection.execute(text(self.INSERT), {"id": key[0]})
        return self.ended(key)


@pytest.mark.parametrize(
    ("make", "script", "what"),
    [
        (without_judging_again, "writes an event", "shown life"),
        (without_judging_again, "makes a child", "shown life"),
        (WithoutLock, "writes an event", "row was locked"),
        (WithoutLock, "finishes", "interferes"),
        (LocksTooLittle, "writes an event", "row was locked"),
        (JudgesAsItLocks, "writes an event", "shown life"),
        (TakesAnyVersion, "is requeued and claimed at once", "moved since its survey"),
        (ReadsThenOverwrites, "finishes", "a finished job was overwritten"),
        (AuditsApart, "holds the row's key", "half done: failed, 0 events"),
    ],
)
def test_broken_claim_is_noticed_by_the_interleavings(protea: Protea, make: MakeClaim, script: str, what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        in_every_order(protea, claimers(protea, 1, make), script)


def test_second_check_in_the_transactions_snapshot_is_noticed(protea: Protea) -> None:
    with pytest.raises(AssertionError, match="shown life"):
        in_every_order(protea, claimers(protea, 1, isolation="REPEATABLE READ"), "writes an event")
