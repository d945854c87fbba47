"""Jobs that exist only as a log: writers and sweeps on one execution, in every order, on a real PostgreSQL.

There is no row to lock. It must hold all the same that a reap overrules no entry that was committed before it, that an
execution is cancelled once, and that a later entry is refused by the cancellation's number or comes after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, event

from reaper.profile import Profile, resolve
from reaper.source import Source, event_log_lock
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import PATIENCE, SweepRecorder, thresholds
from tests.support.thread_schedule import Actor, Gate, Schedule
from tests.support.thread_schedule import ScheduleSearch as EveryOrder
from tests.support.worlds.postgresql import PostgreSQLDatabase

EXECUTION = 400_000_000_000_000_000
HERE = {"execution": EXECUTION}
NUMBERED = "(SELECT max(event_id) + 1 FROM noetl.event WHERE execution_id = %(execution)s)"
ELSEWHERE = "7000000000"
WRITE = (
    "INSERT INTO noetl.event (execution_id, catalog_id, event_id, event_type, status)"
    " VALUES (%(execution)s, 1, {id}, '{type}', 'running')"
)
PROGRESS, COMPLETED = "step.exit", "playbook.completed"


@dataclass(frozen=True)
class Script:
    """One transaction of a server of the job system."""

    type: str
    id: str = NUMBERED
    end: str = "commit"

    @property
    def sql(self) -> str:
        return WRITE.format(id=self.id, type=self.type)


SCRIPTS = {
    "reports progress": Script(PROGRESS),
    "completes": Script(COMPLETED),
    "reports progress and takes it back": Script(PROGRESS, end="rollback"),
}
ELSEWHERE_NUMBERED = {
    "reports progress with a number of its own": Script(PROGRESS, ELSEWHERE),
    "completes with a number of its own": Script(COMPLETED, ELSEWHERE),
}


class Writer:
    """Plays its script, and stops when the unique key refuses its entry as the second one."""

    def __init__(self, connection: psycopg.Connection[Any], script: Script) -> None:
        self.connection, self.script = connection, script
        self.refused = self.committed = False

    def play(self, gate: Gate) -> None:
        try:
            gate("write")
            try:
                self.connection.execute(self.script.sql, HERE)
            except psycopg.errors.UniqueViolation:
                self.refused = True
                return
            gate("end")
            if self.script.end == "commit":
                self.connection.commit()
                self.committed = True
        finally:
            self.connection.rollback()


class Sweeper:
    """`sweep` itself, as the daemon calls it. It waits for its turn before its survey and each statement of a claim.

    A `brisk` one surveys and locks in one step: two sweeps have enough orders without that.
    """

    def __init__(self, name: str, source: Source, *, brisk: bool) -> None:
        self.name, self.source, self._brisk = name, source, brisk
        self.pid = 0
        self.tries = self.reaped = self.lost = self.locked = 0
        self.error: str | None = None
        self._gate: Gate | None = None
        self._claiming = self._surveyed = False
        event.listen(source.engine, "before_cursor_execute", self._before_statement)
        event.listen(source.engine, "commit", self._before_commit)

    def play(self, gate: Gate) -> None:
        self._gate, self._claiming, self._surveyed = gate, False, False
        self.tries = self.reaped = self.lost = self.locked = 0
        options = SweepOptions(host="test-host", batch_size=10, breaker=Breaker(50, 1.0))
        report = sweep(self.source, DowntimeTracker(0), SourceState(), options, None, SweepRecorder())
        self.reaped, self.lost, self.locked = report.reaped, report.lost, report.locked_total
        self.error = report.error or next((failure.error for failure in report.failures), None)

    def last(self, step: str) -> str:
        return f"{step} {self.tries}"

    def _before_statement(self, c: Connection, _r: object, statement: str, *_: object) -> None:
        assert self._gate is not None
        driver = c.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        self.pid = driver.info.backend_pid
        if statement == "SET TRANSACTION READ ONLY" and not self._surveyed:
            self._surveyed = True
            self._gate("survey")
        elif "pg_try_advisory_xact_lock" in statement:
            self._claiming = True
            self.tries += 1
            if not self._brisk or self.tries > 1:
                self._gate(self.last("lock"))
        elif statement.startswith("LOCK TABLE"):
            self._gate(self.last("close"))
        elif "INSERT INTO" in statement:
            self._gate(self.last("judge"))

    def _before_commit(self, *_: object) -> None:
        if self._gate is not None and self._claiming:
            self._claiming = False
            self._gate(self.last("commit"))


@dataclass
class Outcomes:
    orders: int = 0
    waited: int = 0
    ends: Counter[str] = field(default_factory=Counter)


class Replayer:
    """Plays orders on one stale execution after the other, with the same connections."""

    def __init__(self, url: str, profile: Profile, sweeps: int) -> None:
        plain = url.replace("+psycopg", "")
        self.monitor = psycopg.connect(plain, autocommit=True)
        self.worker = psycopg.connect(plain)
        self.sweepers = [Sweeper(name, self._source(url, profile), brisk=sweeps > 1) for name in "AB"[:sweeps]]

    @staticmethod
    def _source(url: str, profile: Profile) -> Source:
        return Source("main", url, profile, thresholds(), PATIENCE)

    def close(self) -> None:
        self.worker.close()
        self.monitor.close()
        for sweeper in self.sweepers:
            sweeper.source.close()

    def in_every_order(self, script: Script) -> Outcomes:
        tally, orders = Outcomes(), EveryOrder()
        for choose in orders:
            play = Replay(self, script)
            try:
                play.run(choose)
                tally.ends[play.check()] += 1
            finally:
                play.schedule.cancel()
            tally.waited += play.schedule.waited
        tally.orders = orders.count
        return tally


class Replay:
    """One order, and what must hold after it."""

    def __init__(self, stage: Replayer, script: Script) -> None:
        self.monitor = stage.monitor
        self.monitor.execute("DELETE FROM noetl.event")
        self.monitor.execute(
            "INSERT INTO noetl.event (execution_id, catalog_id, event_id, event_type, status, created_at)"
            " VALUES (%(execution)s, 1, 1, 'execution.started', 'started', timezone('UTC', now()) - interval '9 h')",
            HERE,
        )
        self.writer, self.sweepers = Writer(stage.worker, script), stage.sweepers
        actors = [Actor(s.name, partial(getattr, s, "pid"), s.play) for s in self.sweepers]
        actors.append(Actor("W", lambda: stage.worker.info.backend_pid, self.writer.play))
        self.schedule = Schedule(actors, self.monitor)

    def run(self, choose: Callable[[int, list[str]], str]) -> None:
        while able := self._able():
            self.schedule.run_step(choose(self.schedule.turn, able))
            assert self._count("execution.cancelled") <= 1, f"cancelled twice: {self.schedule.order}"
        left = [actor.name for actor in self.schedule.actors if actor.step is not None]
        assert not left, f"{left} wait for ever: {self.schedule.order}"
        for actor in self.schedule.actors:
            if actor.error is not None:
                raise actor.error

    def _able(self) -> list[str]:
        return [
            name for name in self.schedule.runnable() if name != "B" or any(n == "A" for n, _ in self.schedule.begun)
        ]

    def check(self) -> str:
        order = " → ".join(self.schedule.order)
        for sweeper in self.sweepers:
            assert sweeper.error is None, f"{sweeper.name}: {sweeper.error}; {order}"
        reaps = [sweeper for sweeper in self.sweepers if sweeper.reaped]
        assert self._count("execution.cancelled") == len(reaps) <= 1, order
        if reaps and self.writer.committed:
            written = self.schedule.done["W", "end"]
            reaped = self.schedule.begun[reaps[0].name, reaps[0].last("commit")]
            assert written > reaped, f"what was written before the reap was overruled: {order}"
        if not reaps and not self.writer.committed:
            assert any(s.locked for s in self.sweepers) or self.writer.script.end == "rollback", f"spared: {order}"
        return "reaped" if reaps else "spared"

    def _count(self, kind: str) -> int:
        row = self.monitor.execute(
            "SELECT count(*) FROM noetl.event WHERE execution_id = %s AND event_type = %s", [EXECUTION, kind]
        ).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture
def log(empty: PostgreSQLDatabase, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with the tables of noetl. Waits for the log are long, so that each order can be played."""
    monkeypatch.setattr(event_log_lock, "_WAIT_MS", 20_000)
    empty.create("noetl")
    with empty.session(autocommit=True) as session:
        session.do("INSERT INTO noetl.catalog VALUES (1, 'etl/orders')")
    return empty.url


def profile(lock: str) -> Profile:
    return resolve("mine", {"mine": {"extends": "noetl", "jobs": {"log": {"lock": lock}}}})


def played(url: str, lock: str, script: Script, sweeps: int) -> Outcomes:
    stage = Replayer(url, profile(lock), sweeps)
    try:
        return stage.in_every_order(script)
    finally:
        stage.close()


@pytest.mark.parametrize(
    ("script", "sweeps"),
    [
        *((script, 1) for script in {**SCRIPTS, **ELSEWHERE_NUMBERED}),
        pytest.param("completes with a number of its own", 2, marks=pytest.mark.thorough),
    ],
)
def test_table_lock_lets_no_entry_slip_in_however_entries_are_numbered(log: str, script: str, sweeps: int) -> None:
    tally = played(log, "table", {**SCRIPTS, **ELSEWHERE_NUMBERED}[script], sweeps)
    assert tally.waited > 0 and tally.ends["reaped"] > 0
    assert tally.orders >= (10 if sweeps == 1 else 100)
    print(tally)


@pytest.mark.parametrize(
    ("script", "sweeps"),
    [*((script, 1) for script in SCRIPTS), pytest.param("completes", 2, marks=pytest.mark.thorough)],
)
def test_job_lock_lets_the_unique_number_refuse_the_second_entry(log: str, script: str, sweeps: int) -> None:
    tally = played(log, "job", SCRIPTS[script], sweeps)
    assert tally.waited > 0 and tally.ends["reaped"] > 0
    print(tally)


@pytest.mark.parametrize("script", ELSEWHERE_NUMBERED)
def test_job_lock_lets_entries_with_other_numbers_slip_in(log: str, script: str) -> None:
    """The known limit of `lock = "job"`, and the proof that these tests would notice it."""
    with pytest.raises(AssertionError, match="overruled"):
        played(log, "job", ELSEWHERE_NUMBERED[script], 1)
