"""A small job system of the tests' own, on either server: tasks, their parts, and a log for the audit."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from reaper.database.lease import Lease
from reaper.database.timeouts import Timeouts
from reaper.model import Evidence, ServerClock, SweepReport, Thresholds, Verdict
from reaper.profile import Profile, resolve
from reaper.source import Source, SourceOptions
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support import examples
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds import Database
from tests.support.worlds.mariadb import MariaDBDatabase

TABLES = """
    CREATE TABLE task (
        id integer PRIMARY KEY, kind varchar(20), state varchar(20) NOT NULL, made {moment}, started {moment},
        beat {moment}, due {moment}, run_limit numeric(12, 3), tries integer, max_tries integer, twin_of varchar(20),
        note text
    );
    CREATE UNIQUE INDEX task_twin ON task (twin_of, state);
    CREATE TABLE task_log (task_id integer NOT NULL, what varchar(20) NOT NULL, said {document}, tries integer,
        FOREIGN KEY (task_id) REFERENCES task (id));
    CREATE TABLE task_part (id integer PRIMARY KEY, task_id integer NOT NULL, state varchar(20) NOT NULL,
        FOREIGN KEY (task_id) REFERENCES task (id));
"""
PROFILE = """
alive = [{ witness = "heartbeat", column = "beat" }]

[jobs]
table = "task"
key = "id"
kind = "kind"
status = "state"
started = ["started", "made"]
running = { column = "state", in = ["working"] }

[actions.fail]
set = { state = "dead", note = { is = "message" } }

[[actions.fail.also]]
insert = "task_log"
values = { task_id = { column = "id" }, what = "dead", said = { is = "evidence" }, tries = { column = "tries" } }
"""


class AsOf(Source):
    """A source that is judged as of `now`, whatever the database's clock says."""

    now: datetime

    def begin_evaluation(self, connection: Connection, downtime: DowntimeTracker) -> EvaluationContext:
        downtime.record_contact(ServerClock(now=self.now, server_started=self.now))
        return EvaluationContext.of(downtime, self.thresholds)


class Tasks:
    """The tables, with hands to fill them and to look at what became of the tasks. Ages are seconds."""

    def __init__(self, database: Database) -> None:
        self.database, self.session = database, database.session(autocommit=True)
        self.mariadb = isinstance(database, MariaDBDatabase)
        types = {"moment": "datetime(6)", "document": "longtext"} if self.mariadb else {}
        for statement in TABLES.format(**{"moment": "timestamptz", "document": "jsonb", **types}).split(";"):
            if statement.strip():
                self.session.do(statement)

    def without_zones(self) -> None:
        """Make the moments of tasks such as have no zone, and a log of signs of life, `beat_log`, with such moments."""
        if not self.mariadb:
            columns = ("made", "started", "beat", "due")
            retyped = ", ".join(f"ALTER {name} TYPE timestamp USING timezone('UTC', {name})" for name in columns)
            self.session.do(f"ALTER TABLE task {retyped}")
        moment = "datetime(6)" if self.mariadb else "timestamp"
        self.session.do(f"CREATE TABLE beat_log (task_id integer NOT NULL, at {moment} NOT NULL)")

    # --- what there is -------------------------------------------------------------------------------------------

    def add(
        self,
        number: int,
        *,
        age: float | None = 8 * HOUR,
        made: float | None = None,
        beat: float | None = 2 * HOUR,
        due: float | None = None,
        **columns: Any,
    ) -> str:
        """A working task, stale by default; its key. It was made when it started, or `made` ago."""
        moments = {"started": age, "made": age if made is None else made, "beat": beat, "due": due}
        row = {"id": number, "kind": "embed", "state": "working", **columns}
        names = ", ".join([*row, *moments])
        places = ", ".join(["%s"] * len(row) + [self.database.ago] * len(moments))
        self.session.do(f"INSERT INTO task ({names}) VALUES ({places})", *row.values(), *moments.values())
        return str(number)

    def started_at(self, number: int, context: datetime) -> None:
        """It started then, and has not been heard of since."""
        stored = context.replace(tzinfo=None) if self.mariadb else context
        self.session.do("UPDATE task SET started = %s, made = %s, beat = NULL WHERE id = %s", stored, stored, number)

    def beat_at(self, number: int, context: datetime) -> None:
        stored = context.replace(tzinfo=None) if self.mariadb else context
        self.session.do("UPDATE task SET beat = %s WHERE id = %s", stored, number)

    def part(self, number: int, task: int, state: str = "open") -> None:
        self.session.do("INSERT INTO task_part VALUES (%s, %s, %s)", number, task, state)

    # --- what became of it ---------------------------------------------------------------------------------------

    def states(self) -> dict[str, str]:
        return {str(number): state for number, state in self.session.ask("SELECT id, state FROM task ORDER BY id")}

    def column(self, name: str, number: int) -> Any:
        return self.session.one(f"SELECT {name} FROM task WHERE id = %s", number)

    def logged(self) -> list[tuple[int, str]]:
        return self.session.ask("SELECT task_id, what FROM task_log ORDER BY task_id, what")

    def said(self, number: int) -> Mapping[str, Any]:
        """The evidence in the log."""
        said: Mapping[str, Any] = self.database.document(
            self.session.one("SELECT said FROM task_log WHERE task_id = %s", number)
        )
        return said

    def parts(self) -> list[tuple[int, int, str]]:
        return self.session.ask("SELECT id, task_id, state FROM task_part ORDER BY id")

    def dump(self) -> list[str]:
        return [row for table in ("task", "task_log", "task_part") for row in self.database.rows(self.session, table)]

    def interfering(self, table: str, operation: str, when: str, what: str) -> AbstractContextManager[None]:
        """Such a write to a row does that first, meanwhile, when this condition holds."""
        conditional = f"IF {when} THEN {what}; END IF"
        return self.database.with_trigger(
            table, operation, f"BEGIN {conditional}; END" if self.mariadb else conditional
        )

    def putting_back(self) -> AbstractContextManager[None]:
        """A trigger of the user's keeps tasks of the kind 'bad' in the state that they have."""
        assign = "SET NEW.state = OLD.state" if self.mariadb else "NEW.state := OLD.state"
        return self.interfering("task", "UPDATE", "OLD.kind = 'bad'", assign)

    # --- the reaper ----------------------------------------------------------------------------------------------

    def source(
        self,
        profile: Profile | None = None,
        limits: Thresholds | None = None,
        *,
        action: str = "fail",
        timeouts: Timeouts = PATIENCE,
    ) -> Source:
        return Source(
            "main", self.database.url, profile or mapped(), limits or thresholds(), timeouts, SourceOptions(action)
        )

    def as_of(self, now: datetime, profile: Profile | None = None, limits: Thresholds | None = None) -> AsOf:
        source = AsOf("main", self.database.url, profile or mapped(), limits or thresholds(), PATIENCE)
        source.now = now
        return source

    def now(self) -> datetime:
        """The database's clock."""
        source, downtime = self.source(), DowntimeTracker(0)
        with source.connect() as connection:
            source.begin_evaluation(connection, downtime)
        return downtime.now

    def sweep(
        self,
        source: Source | None = None,
        *,
        batch_size: int = 1000,
        downtime: DowntimeTracker | None = None,
        memory: SourceState | None = None,
        lease: Lease | None = None,
        recorder: SweepRecorder | None = None,
        options: SweepOptions | None = None,
    ) -> SweepReport:
        """One sweep, which trusts silence across the restart of the test's own server."""
        options = options or SweepOptions("test-host", batch_size, Breaker(50, 1.0))
        return sweep(
            source or self.source(),
            downtime or DowntimeTracker(0),
            memory or SourceState(),
            options,
            lease,
            recorder or SweepRecorder(),
        )

    def explained(self, *keys: str, source: Source | None = None) -> dict[str, Evidence]:
        """What `explain` would say of each."""
        source = source or self.source()
        with source.connect() as connection:
            context = source.ask_probe(source.begin_evaluation(connection, DowntimeTracker(0)))
            with source.transaction(connection, read_only=True):
                return {e.key[0]: e for e in source.lookup.evidence(connection, context, [(key,) for key in keys])}

    def verdicts(self, source: Source | None = None) -> dict[str, Verdict]:
        """What the rule says of each task, by its key. Its shapes must say the same: the survey of a table and a
        look at jobs by their keys. With --thorough lists and counts must, too, which are made of the same parts.
        """
        source = source or self.source()
        by_key = {key: evidence.verdict for key, evidence in self.explained(*self.states(), source=source).items()}
        with source.connect() as connection:
            context = source.ask_probe(source.begin_evaluation(connection, DowntimeTracker(0)))
            with source.transaction(connection, read_only=True):
                surveyed = {candidate.key[0] for candidate in source.survey.stream(connection, context)}
                assert surveyed == having(by_key, Verdict.STALE)
                if examples.thorough:
                    assert_lists_and_counts_agree(source, connection, context, by_key)
        return by_key


def assert_lists_and_counts_agree(
    source: Source, connection: Connection, context: EvaluationContext, by_key: Mapping[str, Verdict]
) -> None:
    """The lists and the counts of a report say the same as these verdicts on all jobs."""
    for verdict in (Verdict.STALE, Verdict.SPARED, Verdict.YOUNG):
        listed = source.lookup.list_keys(connection, context, verdict=verdict, kind=None, limit=1000)
        assert {key for (key,) in listed} == having(by_key, verdict)
    late = having(by_key, Verdict.STALE) | having(by_key, Verdict.SPARED)
    assert {key for (key,) in source.lookup.overdue_keys(connection, context, 1000)} == late
    assert source.survey.census(connection, context).past_timeout == len(late)
    assert source.survey.count_stale(connection, context) == len(having(by_key, Verdict.STALE))


def having(verdicts: Mapping[str, Verdict], verdict: Verdict) -> set[str]:
    """The keys of those with this verdict."""
    return {key for key, said in verdicts.items() if said is verdict}


def mapped(**changes: Any) -> Profile:
    """The profile of these tables, and what is different in it."""
    return resolve("tasks", {"base": tomllib.loads(PROFILE), "tasks": {"extends": "base", **changes}})


@contextmanager
def tasks_in(database: Database) -> Iterator[Tasks]:
    """The tables in an empty database."""
    made = Tasks(database)
    try:
        yield made
    finally:
        made.session.close()


def before(now: datetime, seconds: float) -> datetime:
    return now - timedelta(seconds=seconds)
