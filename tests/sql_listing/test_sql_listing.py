"""`reaper sql` prints exactly the statements that a sweep executes, for every profile and on every server."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy.event import listens_for

from reaper.database.lease import ttl_for
from reaper.memory import FirstSeenJobStore
from reaper.memory.state_file import StateFile
from reaper.model import SweepReport
from reaper.profile import Profile, resolve
from reaper.profile.related_tables import liveness_tables
from reaper.source import AuditInfo, Source, SourceOptions
from reaper.sql.keys import key_parameters
from reaper.sql_listing import ListingOptions, Statement, list_statements
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import MAX_LISTED, SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import HOUR, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds import World
from tests.support.worlds.servers import database_on, only_where, repeats_a_shape
from tests.support.worlds.world import LATELY

OPTIONS = ListingOptions(interval_seconds=60, statement_timeout_seconds=PATIENCE.statement, max_named_jobs=MAX_LISTED)


def printed(source: Source) -> dict[str, Statement]:
    return {statement.name: statement for statement in list_statements(source, OPTIONS)}


def bare(statement: str) -> str:
    """The statement with parameters as :name, in one line, and with one key in place of several."""
    named = re.sub(r"%\((\w+)\)s", r":\1", statement).replace("%%", "%")
    return " ".join(re.sub(r"(:any_0_1)(, :any_0_\d+)+", r"\1", named).split())


def repeats_listing(world: type[World]) -> bool:
    """Whether another world's statements have the same parts."""
    return repeats_a_shape(world) or world.profile == "vuls-schedule"


class Sweeps:
    """Sweeps of one source in batches of one job, and the statements that they executed."""

    def __init__(self, source: Source) -> None:
        self.source, self.memory = source, SourceState()
        self.recorder = SweepRecorder(memory=self.memory)
        self.seen: set[str] = set()
        self.lease = source.lease(ttl_for(OPTIONS.interval_seconds))

        @listens_for(source.engine, "before_cursor_execute")
        def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            self.seen.add(bare(statement))

    def once(self) -> SweepReport:
        options = SweepOptions("test-host", 1, Breaker(50, 1.0))
        return sweep(self.source, DowntimeTracker(0), self.memory, options, self.lease, self.recorder)

    def over(self) -> None:
        self.lease.release()
        self.source.close()

    def executed(self) -> set[str]:
        savepoints = ("SAVEPOINT", "ROLLBACK TO", "RELEASE")
        return {statement for statement in self.seen if not statement.startswith(savepoints)}


@contextmanager
def held(source: Source, job: str) -> Iterator[None]:
    """Another session holds the job through a released savepoint: its row names no transaction that can be found."""
    with source.connect() as connection:
        claim = source.claim(
            source.begin_evaluation(connection, DowntimeTracker(0)),
            AuditInfo(source="other", sweep_id="other", host="other"),
        )
        with source.transaction(connection):
            with connection.begin_nested():
                lock_rows = claim.locks(connection).lock_rows
                values = key_parameters([(job,)]) | source.statements.identity_values
                assert lock_rows.execute(connection, values).all()
            yield


@only_where(lambda world: world.action == "fail", long=True, repeats=repeats_listing)
def test_sweep_executes_exactly_the_printed_statements(world: World) -> None:
    """Except the survey on PostgreSQL, which the driver streams."""
    sweeps = Sweeps(world.source())
    if sweeps.source.engine.dialect.name == "postgresql":
        # Row-level security does not apply to the owner, but makes the sweep ask about it.
        for table in liveness_tables(sweeps.source.profile):
            quoted = ".".join(f'"{part}"' for part in table.split("."))
            world.session.do(f"ALTER TABLE {quoted} ENABLE ROW LEVEL SECURITY")
    # With a state in the table, the case of states is decided in the first sweep.
    world.alive_job()
    sweeps.once()
    sweeps.memory.next_future_look = 0
    sweeps.memory.may_lack_starts, sweeps.memory.local_look = True, None
    sweeps.source.options = replace(sweeps.source.options, first_seen=FirstSeenJobStore(StateFile(None)))
    sweeps.seen.clear()
    # It passed its timeout after the first sweep.
    world.job(age=6 * HOUR, sign=LATELY)
    jobs = [world.stale_job() for _ in range(3)]
    with held(world.source(), jobs[-1]):
        report = sweeps.once()
    sweeps.over()
    assert (report.error, report.failures) == (None, ())
    assert (report.reaped, report.locked_total, report.newly_spared_total) == (2, 1, 1)
    known = {name: bare(each.sql) for name, each in printed(sweeps.source).items()}
    if sweeps.source.engine.dialect.name == "postgresql":
        del known["survey"]
        # The rows that belong to a job are looked at only where its own row is not held.
        known = {name: statement for name, statement in known.items() if not name.startswith("part_row_")}
    known.pop("shared", None)  # the keys of all these tables are unique
    assert sweeps.executed() == set(known.values())


# --- what becomes of a job ---------------------------------------------------------------------------------------

QUEUE = """
alive = [{ witness = "heartbeat", column = "heartbeat_at" }]
attempts = { column = "tries", limit = 2 }
time = "naive"

[jobs]
table = "tasks"
key = ["id"]
started = ["started_at"]
running = { column = "state", in = ["working"] }

[actions.fail]
set = { state = "dead" }
also = [{ insert = "task_log", values = { task_id = { column = "id" }, said = { is = "evidence" } } }]

[actions.requeue]
unique_violation = "fail"
set = { state = "queued", started_at = { is = "null" }, tries = { column = "tries", plus = 1 }, twin_of = "mail" }
"""
TABLES = (
    "CREATE TABLE tasks (id bigint PRIMARY KEY, state varchar(20) NOT NULL, started_at {timestamp} NULL,"
    " heartbeat_at {timestamp} NULL, tries int NOT NULL, twin_of varchar(20) UNIQUE)",
    "CREATE TABLE task_log (task_id bigint NOT NULL REFERENCES tasks (id), said text NOT NULL)",
)


def queue() -> Profile:
    return resolve("tasks", {"tasks": tomllib.loads(QUEUE)})


@pytest.mark.parametrize("where, timestamp", [("postgresql", "timestamp"), ("mariadb", "datetime(6)")])
def test_requeue_fail_and_fallback_transitions_are_printed(
    request: pytest.FixtureRequest, where: str, timestamp: str
) -> None:
    with database_on(request, where) as place, place.session(autocommit=True) as session:
        for statement in TABLES:
            session.do(statement.format(timestamp=timestamp))
        sweeps = Sweeps(Source("main", place.url, queue(), thresholds(), PATIENCE, SourceOptions("requeue_else_fail")))
        ago = f"{place.naive_ago}, {place.naive_ago}"
        # With a state in the table, the case of states is decided in the first sweep.
        session.do(f"INSERT INTO tasks VALUES (9, 'working', {ago}, 0, NULL)", 1, 1)
        sweeps.once()
        session.do("DELETE FROM tasks")
        sweeps.seen.clear()
        for number, tries, twin in ((1, 1, None), (2, 2, None), (3, 1, None), (4, 0, "of another")):
            session.do(
                f"INSERT INTO tasks VALUES (%s, 'working', {ago}, %s, %s)", number, 9 * HOUR, 2 * HOUR, tries, twin
            )
        report = sweeps.once()
        sweeps.over()
        assert (report.error, report.failures, report.reaped) == (None, (), 4)
        # Three had an attempt left, and only one could be queued beside the others.
        assert sorted(session.ask("SELECT state FROM tasks")) == [("dead",), ("dead",), ("dead",), ("queued",)]
        known = {name: bare(each.sql) for name, each in printed(sweeps.source).items()}
        ends = {name for name in known if name.startswith(("end", "instead", "judge", "transition", "also", "undone"))}
        assert {"end", "instead"} == ends if where == "postgresql" else "transition_1" in ends
        assert {known[name] for name in ends} <= sweeps.executed()
        assert sweeps.executed() <= set(known.values())


@only_where(lambda _: True, long=True, repeats=repeats_listing)
def test_printed_action_is_the_sources_and_its_parameters_are_all_explained(world: World) -> None:
    statements = printed(world.source()).values()
    shown = " ".join(each.sql for each in statements)
    assert ("DELETE FROM" in shown) is (world.action == "delete")
    for each in statements:
        named = set(re.findall(r"(?<![:\w]):(?!:)([a-z]\w*)", re.sub(r"'[^']*'", "", each.sql)))
        assert set(each.parameters) == named, each.name
        assert not {"None", "True", "False", ""} & set(each.parameters.values()), each
        assert each.purpose.endswith(".") and each.locks and not each.locks.endswith("."), each.name


def test_tasks_of_live_workers_are_explained_parameters() -> None:
    habits = SourceOptions(queues=("celery",), max_age=9 * HOUR)
    source = Source("main", "postgresql+psycopg://x@127.0.0.1/x", resolve("vuls"), thresholds(), PATIENCE, habits)
    said = set(printed(source)["survey"].parameters.values())
    assert "the ids of the tasks that live workers have, an array" in said
    assert "the ids of the tasks that live workers execute, an array" in said and "the database's now - 9h" in said


def locks(profile: str, action: str, server: str) -> dict[str, str]:
    url = "postgresql+psycopg://x@127.0.0.1/x" if server == "postgresql" else "mariadb+pymysql://x@127.0.0.1/x"
    source = Source("main", url, resolve(profile), thresholds(), PATIENCE, SourceOptions(action))
    return {name: each.locks for name, each in printed(source).items()}


def test_locks_are_listed_per_server_without_asking_a_database() -> None:
    postgresql, mariadb = locks("adhese", "delete", "postgresql"), locks("adhese", "delete", "mariadb")
    assert "FOR UPDATE" in postgresql["lock"] and "ROW EXCLUSIVE" in postgresql["end"]
    assert "record locks" in mariadb["lock"] and "metadata lock" in mariadb["transition_0"] + mariadb["also_0_0"]
    assert "ROW" not in " ".join(mariadb.values())
    # The rows that refer to the job go before it.
    assert list(mariadb).index("also_0_0") < list(mariadb).index("transition_0")


def test_log_is_listed_with_a_table_lock_and_without_row_holders() -> None:
    found = locks("noetl", "fail", "postgresql")
    assert "advisory lock" in found["lock"] and "SHARE ROW EXCLUSIVE" in found["close"]
    assert "holder" not in found and "patience" in found
