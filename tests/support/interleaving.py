"""Runs a worker and some sweeps on one stale job in every possible order, and checks the invariants after each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from reaper.database.postgresql.search_path import SET_PATH
from reaper.errors import ReaperError
from reaper.source import AuditInfo, Candidate, Claim, Source
from reaper.source.statements import SourceStatements
from reaper.source.survey import candidates_query
from reaper.sql.statement import Values
from reaper.staleness.downtime import DowntimeTracker
from tests.support.protea import HOUR, Protea
from tests.support.thread_schedule import Actor, Gate, Schedule, ScheduleSearch

_SETS_PATH = SET_PATH.partition(":")[0]
MakeClaim = Callable[[SourceStatements, Values, AuditInfo], Claim]


# --- the worker --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transaction:
    """One transaction of a worker: statements about `%(job)s`, and what its commit means.

    With `checks_row_count` the worker stops when a statement changes no row.
    """

    statements: tuple[str, ...]
    end: str = "commit"
    shows_life: bool = False
    finishes: bool = False
    changes_claim: bool = False
    checks_row_count: bool = False
    separate_end: bool = True
    """Whether commit or rollback is a step of its own, so that others run while the row is locked."""


EVENT = "INSERT INTO job_event (job_id, event) VALUES (%(job)s, 'progress')"
CHILD = "INSERT INTO job (operation, queue_name, status, parent_job_id) VALUES ('batch', 'q', 'queued', %(job)s)"
FINISH = "UPDATE job SET status = 'succeeded', finished_at = now() WHERE id = %(job)s AND status = 'running'"
REQUEUE = "UPDATE job SET status = 'queued', started_at = NULL WHERE id = %(job)s AND status = 'running'"
START = "UPDATE job SET status = 'running', started_at = now() WHERE id = %(job)s AND status = 'queued'"
CLAIM = "UPDATE job SET status = 'running' WHERE id = %(job)s AND status = 'queued'"
BLIND = "UPDATE job SET status = 'succeeded', finished_at = now() WHERE id = %(job)s"


def hold_lock(how: str, end: str) -> Transaction:
    """A transaction that only locks the job's row."""
    return Transaction((f"SELECT FROM job WHERE id = %(job)s {how}",), end)


SCRIPTS: dict[str, tuple[Transaction, ...]] = {
    "writes an event": (Transaction((EVENT,), shows_life=True),),
    "writes an event and takes it back": (Transaction((EVENT,), "rollback"),),
    "makes a child": (Transaction((CHILD,), shows_life=True),),
    "finishes": (Transaction((FINISH,), finishes=True, checks_row_count=True),),
    "finishes without looking": (Transaction((BLIND,), finishes=True),),
    "writes an event, then finishes": (
        Transaction((EVENT,), shows_life=True),
        Transaction((FINISH,), finishes=True, checks_row_count=True),
    ),
    "writes an event and finishes in one transaction": (
        Transaction((EVENT, FINISH), finishes=True, checks_row_count=True),
    ),
    "is requeued and started again": (
        Transaction((REQUEUE,), changes_claim=True, checks_row_count=True),
        Transaction((START,), changes_claim=True, checks_row_count=True),
    ),
    "is requeued and started again, each at once": (
        Transaction((REQUEUE,), changes_claim=True, checks_row_count=True, separate_end=False),
        Transaction((START,), changes_claim=True, checks_row_count=True, separate_end=False),
    ),
    "is requeued and claimed, but has not started": (
        Transaction((REQUEUE,), changes_claim=True, checks_row_count=True),
        Transaction((CLAIM,), changes_claim=True, checks_row_count=True),
    ),
    "is requeued and claimed at once": (Transaction((REQUEUE, CLAIM), changes_claim=True, checks_row_count=True),),
    "holds the row for update": (hold_lock("FOR UPDATE", "commit"),),
    "holds the row's key": (hold_lock("FOR KEY SHARE", "rollback"),),
}


@dataclass
class TransactionRun:
    """A transaction that a worker ran: the names of its steps, and whether it changed the row."""

    work: Transaction
    names: list[str]
    changed: bool = False


class Worker:
    """Runs a script. Each statement and each end of a transaction is a step of its own."""

    def __init__(self, connection: psycopg.Connection[Any], job: str, script: Sequence[Transaction]) -> None:
        self.connection, self.job, self.script = connection, job, script
        self.runs: list[TransactionRun] = []

    def play(self, gate: Gate) -> None:
        try:
            for n, work in enumerate(self.script):
                if not self._do(n, work, gate):
                    return
        finally:
            self.connection.rollback()

    def _do(self, n: int, work: Transaction, gate: Gate) -> bool:
        """One transaction; False when the worker found that the job is no longer its own."""
        done = TransactionRun(
            work, [f"{verb.split(' ', 1)[0].lower()} {n}.{i}" for i, verb in enumerate(work.statements)]
        )
        if work.separate_end:
            done.names.append(f"{work.end} {n}")
        self.runs.append(done)
        for name, statement in zip(done.names, work.statements, strict=False):
            gate(name)
            done.changed = self.connection.execute(statement, {"job": self.job}).rowcount > 0
            if work.checks_row_count and not done.changed:
                return False
        if work.separate_end:
            gate(done.names[-1])
        self.connection.commit() if work.end == "commit" else self.connection.rollback()
        return True


# --- a sweep -----------------------------------------------------------------------------------------------


@dataclass
class SweepResult:
    """What one sweep found and did."""

    found: int = 0
    reaped: int = 0
    lost: int = 0
    locked: int = 0
    error: str | None = None


class Sweeper:
    """Base class of the two kinds of sweeps, with the name and the server process that an actor needs."""

    def __init__(self, name: str, protea: Protea) -> None:
        self.name = name
        self.source: Source = protea.source()
        self.result = SweepResult()
        self.pid = 0
        self._gate: Gate | None = None
        self._steps: list[str] = []
        self._claiming = False

    def play(self, gate: Gate) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.source.close()

    def _listen_to(self, target: Connection | Engine) -> None:
        """Make each statement of the claim, and its commit, a step."""
        event.listen(target, "before_cursor_execute", self._before_statement)
        event.listen(target, "commit", self._before_commit)

    def _claim_begins(self) -> None:
        self._steps, self._claiming = ["lock", "judge", "count"], True

    def _before_statement(self, _c: Connection, _r: object, statement: str, *_: object) -> None:
        # These run while the row is locked. A step there would add no order that the commit step does not.
        reads = " AS epoch" in statement or " AS same_0" in statement or statement.startswith(_SETS_PATH)
        if self._gate is not None and self._claiming and not reads:
            self._gate(self._steps.pop(0))

    def _before_commit(self, *_: object) -> None:
        if self._gate is not None and self._claiming:
            self._claiming = False
            self._gate("commit")


class Claimer(Sweeper):
    """Only the statements of survey and claim, on one connection."""

    def __init__(self, name: str, protea: Protea, make: MakeClaim, isolation: str | None) -> None:
        super().__init__(name, protea)
        self.connection: Connection = self.source.engine.connect()
        self.source.connected(self.connection)
        context = self.source.begin_evaluation(self.connection, DowntimeTracker(0))
        driver = self.connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        self.pid = driver.info.backend_pid
        # The same few statements run thousands of times: planning them once halves the duration.
        driver.prepare_threshold = 5
        if isolation:
            self.connection = self.connection.execution_options(isolation_level=isolation)
        self.values = self.source.statements.values(context)
        self.claim = make(self.source.statements, self.values, AuditInfo("main", name, "test-host"))
        self._listen_to(self.connection)

    def play(self, gate: Gate) -> None:
        self.result, self._gate, self._claiming = SweepResult(), gate, False
        gate("survey")
        with self.source.transaction(self.connection, read_only=True):
            rows = self.source.statements.execute(self.connection, self.values, candidates_query)
            batch = [Candidate(row[:1], row[1:]) for row in rows]
        self.result.found = len(batch)
        if batch:
            try:
                self._reap(batch)
            except (DBAPIError, ReaperError) as error:
                self.result.error = str(error)

    def _reap(self, batch: Sequence[Candidate]) -> None:
        with self.source.transaction(self.connection):
            self._claim_begins()
            claimed = self.claim.run(self.connection, batch)
        result = self.result
        result.reaped, result.lost, result.locked = len(claimed.reaped), claimed.lost, len(claimed.locked)

    def close(self) -> None:
        self.connection.close()


class FullSweep(Sweeper):
    """`sweep` as the daemon calls it, with its own connections. It has an additional step before its survey."""

    def __init__(self, name: str, protea: Protea) -> None:
        super().__init__(name, protea)
        self._protea = protea
        self._surveyed = False
        self._listen_to(self.source.engine)

    def play(self, gate: Gate) -> None:
        self.result, self._gate, self._claiming, self._surveyed = SweepResult(), gate, False, False
        gate("meet")
        report = self._protea.sweep(self.source)
        found = report.census.stale if report.census else 0
        problem = report.error or "; ".join(failure.error for failure in report.failures) or None
        self.result = SweepResult(found, report.reaped, report.lost, report.locked_total, problem)

    def _before_statement(self, _c: Connection, _r: object, statement: str, *_: object) -> None:
        assert self._gate is not None
        driver = _c.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        self.pid = driver.info.backend_pid
        if statement == "SET TRANSACTION READ ONLY" and not self._surveyed:
            self._surveyed = True
            self._gate("survey")
        elif "FOR UPDATE" in statement:
            self._claim_begins()
        super()._before_statement(_c, _r, statement)


# --- all orders --------------------------------------------------------------------------------------------


@dataclass
class Summary:
    """How many orders were run, in how many a step had to wait, and how they ended."""

    orders: int = 0
    waited: int = 0
    ends: Counter[str] = field(default_factory=Counter)


def claimers(protea: Protea, count: int, make: MakeClaim = Claim, isolation: str | None = None) -> list[Sweeper]:
    return [Claimer(name, protea, make, isolation) for name in "AB"[:count]]


class Explorer:
    """Runs all orders, each on a new stale job, with the same connections."""

    def __init__(self, protea: Protea, *sweepers: Sweeper) -> None:
        self.protea, self.sweepers = protea, sweepers
        self.worker = protea.connect()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.worker.close()
        for sweeper in self.sweepers:
            sweeper.close()

    def every_order(self, script: Sequence[Transaction]) -> Summary:
        """Run the script and the sweeps in every order. Raises AssertionError when an invariant is broken."""
        summary, orders = Summary(), ScheduleSearch()
        for choose in orders:
            if orders.count % 500 == 0:
                self.protea.connection.execute("VACUUM job, job_event")
            trial = Trial(self, script)
            try:
                trial.run(choose)
                trial.check()
            finally:
                trial.schedule.cancel()
            summary.waited += trial.schedule.waited
            summary.ends[trial.outcome()] += 1
        summary.orders = orders.count
        return summary


class Trial:
    """One order: the actors, their schedule, and the invariants."""

    def __init__(self, stage: Explorer, script: Sequence[Transaction]) -> None:
        self.protea = stage.protea
        self.protea.connection.execute("DELETE FROM job")
        self.job = self.protea.stale(age=8 * HOUR, created=9 * HOUR)
        self.worker = Worker(stage.worker, self.job, script)
        self.sweepers = stage.sweepers
        actors = [Actor(s.name, partial(getattr, s, "pid"), s.play) for s in self.sweepers]
        actors.append(Actor("W", lambda: stage.worker.info.backend_pid, self.worker.play))
        self.schedule = Schedule(actors, self.protea.connection)

    def run(self, choose: Callable[[int, list[str]], str]) -> None:
        while runnable := self._runnable():
            self.schedule.run_step(choose(self.schedule.turn, runnable))
            self.check_visible_state()
        left = [actor.name for actor in self.schedule.actors if actor.step is not None]
        assert not left, f"{left} are blocked for ever: {self.schedule.order}"
        for actor in self.schedule.actors:
            if actor.error is not None:
                raise actor.error

    def _runnable(self) -> list[str]:
        """Sweeps A and B are identical, so only orders in which A starts first are run."""
        return [
            name for name in self.schedule.runnable() if name != "B" or any(n == "A" for n, _ in self.schedule.begun)
        ]

    # --- invariants ----------------------------------------------------------------------------------------

    def check_visible_state(self) -> None:
        """After each step other sessions see both the transition and its audit event, or neither."""
        status, audits = self._state()
        if not self._overwritten_by_worker():
            self._require(
                (status == "failed") == (audits == 1) and audits <= 1, f"half done: {status}, {audits} events"
            )

    def check(self) -> None:
        reaps = [s for s in self.sweepers if s.result.reaped]
        _, audits = self._state()
        self._require(len(reaps) == audits, f"{len(reaps)} reaps, {audits} audit events")
        for sweeper in self.sweepers:
            self._check_sweep(sweeper)
        for done in self.worker.runs:
            if done.work.finishes and done.changed:
                self._require(self._state()[0] == "succeeded", "a finished job was overwritten")
        if reaps:
            self._check_reap(reaps[0].name)

    def _check_sweep(self, sweeper: Sweeper) -> None:
        """The sweep reports the outcome of its candidate, and spares it only for one of the known reasons."""
        swept, name = sweeper.result, sweeper.name
        self._require(swept.error is None, f"{name} failed: {swept.error}")
        if not swept.found:
            return
        self._require(
            swept.reaped + swept.lost + swept.locked == 1, f"{name} did not report its candidate exactly once: {swept}"
        )
        begun = self.schedule.begun
        # The rule is not evaluated for a job that changed after the survey.
        lock, judge = begun[name, "lock"], begun.get((name, "judge"), begun[name, "commit"])
        held = self._locked_by_worker(lock) or self._locked_by_other_sweep(name, lock)
        if swept.locked:
            self._require(held, f"{name} reported a locked row, but the row was free")
        if swept.lost:
            gone = any(s.result.reaped and self._step_ended(s.name, "commit", judge) for s in self.sweepers)
            self._require(gone or self._changed_before(judge), f"{name} spared a job that no one had changed")

    def _check_reap(self, name: str) -> None:
        """At the second evaluation the row was not locked, there was no sign of life, and the claim was the same."""
        judge = self.schedule.begun[name, "judge"]
        self._require(
            not self._locked_by_worker(judge), f"{name} reaped a job whose row was locked when the rule was evaluated"
        )
        surveyed = self.schedule.begun[name, "survey"]
        for done in self.worker.runs:
            committed = self._ended(done, judge) and done.changed and done.work.end == "commit"
            before = self._ended(done, surveyed)
            if done.work.shows_life or done.work.finishes:
                self._require(not committed, f"{name} reaped a job that had shown life: {done.work.statements}")
            if done.work.changes_claim and not before:
                self._require(not committed, f"{name} reaped a job that had moved since its survey")

    # --- facts about steps ---------------------------------------------------------------------------------

    def _state(self) -> tuple[str, int]:
        row = self.protea.connection.execute(
            "SELECT status::text, (SELECT count(*) FROM job_event WHERE job_id = j.id AND event = 'job.timeout')"
            " FROM job j WHERE id = %s",
            [self.job],
        ).fetchone()
        assert row is not None
        return row[0], row[1]

    def _step_ended(self, name: str, step: str, turn: int) -> bool:
        return self.schedule.done.get((name, step), turn) < turn

    def _ended(self, done: TransactionRun, turn: int) -> bool:
        return self._step_ended("W", done.names[-1], turn)

    def _locked_by_worker(self, turn: int) -> bool:
        return any(
            done.changed and self._step_ended("W", done.names[0], turn) and not self._ended(done, turn)
            for done in self.worker.runs
        )

    def _locked_by_other_sweep(self, name: str, turn: int) -> bool:
        others = (s.name for s in self.sweepers if s.name != name)
        return any(self._step_ended(o, "lock", turn) and not self._step_ended(o, "commit", turn) for o in others)

    def _changed_before(self, turn: int) -> bool:
        return any(d.changed and d.work.end == "commit" and self._ended(d, turn) for d in self.worker.runs)

    def _overwritten_by_worker(self) -> bool:
        """A worker that ignores the row count may overwrite a reap with SUCCEEDED: protea has no fence by default."""
        return any(
            d.work.finishes and not d.work.checks_row_count and self._ended(d, self.schedule.turn + 1)
            for d in self.worker.runs
        )

    def outcome(self) -> str:
        swept = [s.result for s in self.sweepers if s.result.found]
        ends = (what for what in ("reaped", "locked", "lost") if any(getattr(s, what) for s in swept))
        return next(ends, "not found")

    def _require(self, holds: bool, message: str) -> None:
        assert holds, f"{message}; order: {' → '.join(self.schedule.order)}"
