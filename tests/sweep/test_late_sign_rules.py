"""What counts as a late sign, on tables of our own: rounding, triggers, requeues and other workers."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest

from reaper.model import PostTransitionState
from reaper.profile import resolve
from reaper.source import Sign, Source, SourceOptions
from reaper.source.post_transition_state import snapshot_query
from reaper.sweep.late_signs import newer_than_transition
from tests.support.late_sign_sweeps import Sweeps
from tests.support.protea import HOUR, PATIENCE, thresholds
from tests.support.worlds import Database
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import database_on

TASKS = """
[[alive]]
witness = "heartbeat"
column = "heartbeat_at"
[[alive]]
witness = "line"
events = { table = "task_log", match = { task_id = "id", task_part = "part" }, at = "at" }
[jobs]
table = "tasks"
key = ["id", "part"]
started = ["started_at", "created_at"]
claim = ["worker"]
running = { column = "state", in = ["working"] }
[actions.fail]
set = { state = "dead", heartbeat_at = { is = "now" } }
[actions.requeue.set]
state = "queued"
started_at = { is = "null" }
worker = { is = "null" }
"""
TABLES = (
    "CREATE TABLE tasks (id bigint, part varchar(9), state varchar(20) NOT NULL, created_at {column_type},"
    " started_at {column_type}, heartbeat_at {column_type}, worker varchar(20), PRIMARY KEY (id, part))",
    "CREATE TABLE task_log (task_id bigint, task_part varchar(9), at {column_type})",
)


class Tasks:
    """A table of tasks with a heartbeat column, and a log of their lines."""

    def __init__(self, database: Database, column_type: str, profile: str = TASKS) -> None:
        self.database, self.session = database, database.session(autocommit=True)
        self.now = database.naive_ago.replace("%s", "0")
        self.profile = resolve("tasks", {"tasks": {"time": "naive", **tomllib.loads(profile)}})
        for statement in TABLES:
            self.session.do(statement.format(column_type=column_type))

    def stale(self, number: int) -> None:
        ago = self.database.naive_ago
        self.session.do(
            f"INSERT INTO tasks VALUES (%s, 'a', 'working', {ago}, {ago}, {ago}, 'w1')",
            number,
            9 * HOUR,
            8 * HOUR,
            2 * HOUR,
        )

    def sweeps(self, action: str = "fail") -> Sweeps:
        return Sweeps(Source("main", self.database.url, self.profile, thresholds(), PATIENCE, SourceOptions(action)))

    def sets(self, assignments: str, number: int = 1) -> None:
        assert self.session.do(f"UPDATE tasks SET {assignments.format(now=self.now)} WHERE id = %s", number) == 1

    def writes(self, number: int = 1) -> None:
        self.session.do(f"INSERT INTO task_log VALUES (%s, 'a', {self.now})", number)


SERVERS = [("postgresql", "timestamp"), ("mariadb", "datetime(6)")]


@pytest.fixture(params=SERVERS, ids=[server for server, _ in SERVERS])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    where, column_type = request.param
    with database_on(request, where) as database:
        tasks = Tasks(database, column_type)
        yield tasks
        tasks.session.close()


def test_heartbeat_and_log_line_are_late_signs_each(tasks: Tasks) -> None:
    sweeps = tasks.sweeps()
    for number in (1, 2, 3):
        tasks.stale(number)
    sweeps.reaps(3)
    assert sweeps.late() == []
    tasks.sets("heartbeat_at = {now}", 1)
    tasks.writes(2)
    signs = {sign.key: (sign.witness, sign.what) for sign in sweeps.late()}
    assert signs == {("1", "a"): ("heartbeat", "event"), ("2", "a"): ("line", "event")}


def test_requeued_job_is_tracked_until_it_is_started_again(tasks: Tasks) -> None:
    sweeps = tasks.sweeps("requeue")
    for number in (1, 2, 3):
        tasks.stale(number)
    sweeps.reaps(3)
    assert sweeps.late() == []
    tasks.sets("heartbeat_at = {now}", 1)
    tasks.sets("state = 'working', worker = 'w2', started_at = {now}, heartbeat_at = {now}", 2)
    # Nothing but its state says that it runs again: it was to.
    tasks.sets("state = 'working', heartbeat_at = {now}", 3)
    assert [sign.key for sign in sweeps.late()] == [("1", "a")]
    tasks.sets("state = 'done', heartbeat_at = {now}", 1)
    assert sweeps.late() == [] and len(sweeps.memory.reaped_jobs) == 0


def test_another_worker_of_a_failed_job_is_another_run(tasks: Tasks) -> None:
    sweeps = tasks.sweeps()
    tasks.stale(1)
    sweeps.reaps()
    tasks.sets("worker = 'w2', heartbeat_at = {now}")
    assert sweeps.late() == [] and len(sweeps.memory.reaped_jobs) == 0


@pytest.mark.parametrize("column_type", ["timestamp(0)", "timestamp"])
def test_rounding_by_the_column_type_is_no_late_sign(empty: PostgreSQLDatabase, column_type: str) -> None:
    tasks, many = Tasks(empty, column_type), 8
    sweeps = tasks.sweeps()
    for number in range(many):
        tasks.stale(number)
        sweeps.reaps()  # each at another fraction of a second
        assert sweeps.late() == []
    tasks.session.do("UPDATE tasks SET heartbeat_at = heartbeat_at + interval '2 s'")
    assert len(sweeps.late()) == many
    tasks.session.close()


@pytest.mark.parametrize(
    "epoch, sign, is_later",
    [
        (100.0, 100.0, False),
        (100.0, 99.0, False),
        (100.5, 100.5, False),
        (100.5, 100.6, True),
        (100.5, 101.0, False),  # may be the same moment in whole seconds
        (100.5, 101.5, True),
        (100.0, 101.0, True),
        (100.4567, 100.457, False),  # may be the same in whole milliseconds
        (100.4567, 100.458, True),
        (100.0, float("inf"), False),
    ],
)
def test_sign_is_late_only_beyond_what_rounding_makes_of_the_reap(epoch: float, sign: float, is_later: bool) -> None:
    remains = PostTransitionState(epoch, (), None, requeued=False)
    assert (newer_than_transition(remains, Sign(sign, "then")) is not None) is is_later
    assert newer_than_transition(remains, None) is None


def test_changes_made_by_a_trigger_of_the_reap_are_no_late_sign(empty: PostgreSQLDatabase) -> None:
    tasks = Tasks(empty, "timestamp")
    tasks.session.do(
        "CREATE FUNCTION beat() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01);"
        " INSERT INTO task_log VALUES (NEW.id, NEW.part, timezone('UTC', clock_timestamp())); RETURN NULL; END $$"
    )
    tasks.session.do("CREATE TRIGGER beat AFTER UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION beat()")
    tasks.stale(1)
    sweeps = tasks.sweeps()
    sweeps.reaps()
    assert tasks.session.one("SELECT count(*) FROM task_log") == 1
    assert sweeps.late() == []
    tasks.session.close()


def test_witness_that_the_transition_sets_ahead_gives_no_late_sign() -> None:
    ahead = TASKS.replace('heartbeat_at = { is = "now" }', 'heartbeat_at = { is = "now", plus = "5m" }')
    also = '[[actions.fail.also]]\ninsert = "task_log"\nvalues = {{ task_id = {{ column = "id" }}, at = {{ {0} }} }}\n'
    shared = TASKS.replace('match = { task_id = "id", task_part = "part" }', 'match = { task_id = "id" }')

    def question_of(profile: str) -> str:
        mapped = resolve("tasks", {"tasks": tomllib.loads(profile)})
        source = Source("main", "postgresql+psycopg://x@127.0.0.1/x", mapped, thresholds(), PATIENCE)
        return source.statements.compiled(source.engine.dialect, snapshot_query).text

    assert "heartbeat_at" in question_of(TASKS) and "task_log" in question_of(TASKS)
    assert "heartbeat_at" not in question_of(ahead) and "task_log" in question_of(ahead)
    assert "task_log" in question_of(TASKS + also.format('is = "now"'))
    assert "task_log" not in question_of(TASKS + also.format('is = "now", plus = "5m"'))
    assert "heartbeat_at" in question_of(shared) and "task_log" not in question_of(shared)
