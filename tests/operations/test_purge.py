"""A purge deletes finished jobs with all that belongs to them; never jobs that run, or that a running job needs."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from reaper.dev.postgres import PrivatePostgreSQL
from reaper.errors import NotPurgeable
from reaper.memory import Memory
from reaper.model import Outcome, PurgeReport
from reaper.operations.purge import PurgeOptions, purge, refused_by_purges, require_purgeable
from reaper.profile import resolve
from reaper.source import Source
from reaper.source.purge import JobPurge, purge_cutoff
from reaper.source.purge_statements import PurgeStatements, page_query
from reaper.sql.expressions import OWN_PATH
from reaper.sql.keys import key_parameters
from reaper.sweep.refused_jobs import FIRST_PAUSE_SECONDS, RefusedJobs
from tests.staleness.test_clocks import faketime
from tests.support.commands import PROJECT
from tests.support.mariadb import MariaDB
from tests.support.protea import PATIENCE, Protea, thresholds
from tests.support.purges import DAY, PurgeRecorder
from tests.support.worlds import Database, Session
from tests.support.worlds.mariadb import MariaDBDatabase
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import database_on, mostly_on

SHED = """
description = "tasks with notes, bills and pins"

[jobs]
table = "task"
key = ["id", "part"]
started = ["made"]
running = { column = "state", in = ["running"] }

[[alive]]
witness = "child"
children = { parent = ["parent_id", "parent_part"], at = ["made"] }

[actions.fail.set]
state = "failed"

# Does not mention the state: the reaper itself keeps every running row.
[purge]
where = [{ column = "ended", is = "not null" }]
at = ["ended", "made"]
needed = [{ table = "pin", match = { task_id = "id", task_part = "part" } }]
also = [{ delete = "note", match = { task_id = "id", task_part = "part" } }]
"""


class TaskSystem:
    """A job system with a key of two columns, on either server. Ages are days before the database's now."""

    tables = """
    CREATE TABLE task (id integer NOT NULL, part varchar(9) NOT NULL, state varchar(9), ended {column_type},
        made {column_type}, parent_id integer, parent_part varchar(9), PRIMARY KEY (id, part));
    CREATE INDEX task_parent ON task (parent_id, parent_part);
    CREATE TABLE note (task_id integer, task_part varchar(9));
    CREATE INDEX note_task ON note (task_id, task_part);
    CREATE TABLE pin (task_id integer, task_part varchar(9));
    CREATE TABLE bill (task_id integer, task_part varchar(9), FOREIGN KEY (task_id, task_part)
        REFERENCES task (id, part))
    """

    def __init__(self, database: Database) -> None:
        self.database, self.session = database, database.session(autocommit=True)
        self._made = itertools.count()
        column_type = "datetime(6)" if isinstance(database, MariaDBDatabase) else "timestamptz"
        for statement in self.tables.format(column_type=column_type).split(";"):
            self.session.do(statement)

    def task(
        self, *, ended: float | None = 40, made: float = 50, state: str = "done", parent: str | None = None
    ) -> str:
        """Its part, with an id of 7 for each second one: both columns are the key."""
        number = next(self._made)
        part, id_ = f"p{number:04}", 7 + number % 2
        above = self.session.ask("SELECT id, part FROM task WHERE part = %s", parent)[0] if parent else (None, None)
        self.session.do(
            f"INSERT INTO task VALUES (%s, %s, %s, {self.database.ago}, {self.database.ago}, %s, %s)",
            id_,
            part,
            state,
            ended if ended is None else ended * DAY,
            made * DAY,
            *above,
        )
        return part

    def fill(self, tasks: int = 500) -> None:
        """Young tasks, so that no server finds it quicker to read the whole table: MariaDB waits for all it reads."""
        rows = ", ".join(f"({number}, 'young', 'done', {self.database.ago})" for number in range(100, 100 + tasks))
        self.session.do(f"INSERT INTO task (id, part, state, ended) VALUES {rows}", *[DAY] * tasks)
        maria = isinstance(self.database, MariaDBDatabase)
        self.session.do("ANALYZE TABLE task" if maria else "ANALYZE task")

    def attach(self, table: str, *parts: str) -> None:
        for part in parts:
            self.session.do(f"INSERT INTO {table} SELECT id, part FROM task WHERE part = %s", part)

    def left(self, table: str = "task") -> set[str]:
        column = "part" if table == "task" else "task_part"
        return {part for (part,) in self.session.ask(f"SELECT {column} FROM {table}")}

    def source(self, **changes: Any) -> Source:
        """Its moments are in UTC, which MariaDB's DATETIME does not say."""
        said = {"time": {"naive": "UTC"}} if isinstance(self.database, MariaDBDatabase) else {}
        profile = resolve("shed", {"shed": {**tomllib.loads(SHED), **said, **changes}})
        return Source("main", self.database.url, profile, thresholds(), PATIENCE)

    def purge(self, source: Source | None = None, recorder: PurgeRecorder | None = None, **options: Any) -> PurgeReport:
        return purge(
            source or self.source(),
            PurgeOptions(**{"days_to_keep": 30, "batch_size": 10, **options}),
            recorder or PurgeRecorder(),
        )


@pytest.fixture(params=["postgresql", "mariadb"])
def system(request: pytest.FixtureRequest) -> Iterator[TaskSystem]:
    with database_on(request, request.param) as database:
        system = TaskSystem(database)
        yield system
        system.session.close()


# --- which rows are deleted ----------------------------------------------------------------------------


def test_purge_deletes_what_finished_before_the_cutoff_and_nothing_else(system: TaskSystem) -> None:
    old, older = system.task(ended=30.001), system.task(ended=4000)
    young, unfinished = system.task(ended=29.999), system.task(ended=None, state="queued")
    report = system.purge()
    assert system.left() == {young, unfinished}
    assert (report.outcome, report.purged, report.left, report.refusals) == (Outcome.DONE, 2, 0, {})
    assert old != older and report.before is not None
    assert system.purge(days_to_keep=1).purged == 1
    assert system.left() == {unfinished}


@mostly_on("postgresql", "system")
def test_first_known_end_counts(system: TaskSystem) -> None:
    where = {"where": [{"column": "state", "in": ["done"]}], "at": ["ended", "made"]}
    unknown = system.task(ended=None, made=40)
    system.task(ended=3, made=40)
    assert system.purge(system.source(purge=where), dry_run=True).found == 1
    system.purge(system.source(purge=where))
    assert unknown not in system.left() and len(system.left()) == 1


def test_zero_date_of_mariadb_is_no_end(mariadb: MariaDB) -> None:
    system = TaskSystem(MariaDBDatabase(mariadb.create_database("zero")))
    old, young = system.task(made=40), system.task(made=3)
    system.session.do("SET sql_mode = ''")
    system.session.do("UPDATE task SET ended = '0000-00-00'")
    assert system.purge().purged == 1
    assert system.left() == {young} and old != young
    system.session.close()
    mariadb.drop_database("zero")


@mostly_on("postgresql", "system")
def test_running_row_is_never_deleted_whatever_the_profile_says(system: TaskSystem) -> None:
    running = system.task(state="running")
    done = system.task()
    source = system.source()
    with source.connect() as connection, source.transaction(connection):
        purge = JobPurge(source.statements, purge_cutoff(connection, 1))
        keys = [("7", running), ("8", done)]
        assert purge.run(connection, keys) == 1
    assert system.left() == {running}
    assert system.purge().purged == 0


def test_delete_statement_by_itself_spares_a_running_row(system: TaskSystem) -> None:
    running = system.task(state="running")
    source = system.source(purge={"where": [{"column": "ended", "is": "not null"}], "at": ["ended"]})
    with source.connect() as connection:
        delete = source.statements.get(connection.dialect, PurgeStatements).delete
        values = {**key_parameters([("7", running)]), OWN_PATH: "public"}
        assert delete.execute(connection, values).rowcount == 0


def test_parents_and_children_of_running_rows_stay(system: TaskSystem) -> None:
    parent = system.task()
    child = system.task(state="running", parent=parent)
    above = system.task(state="running")
    below = system.task(parent=above)
    over, under = (both := system.task()), system.task(parent=both)
    assert system.purge().purged == 2
    assert system.left() == {parent, child, above, below} and not {over, under} & system.left()


def test_needed_rows_stay(system: TaskSystem) -> None:
    needed, free = system.task(), system.task()
    system.attach("pin", needed)
    system.attach("note", needed, free)
    assert system.purge().purged == 1
    assert system.left() == system.left("note") == {needed}


def test_epoch_column_is_compared_exactly(system: TaskSystem) -> None:
    now = "unix_timestamp(now(6))" if isinstance(system.database, MariaDBDatabase) else "extract(epoch FROM now())"
    for unit, name in ((1, "epoch s"), (1000, "epoch ms")):
        system.session.do("DROP TABLE IF EXISTS counted")
        system.session.do("CREATE TABLE counted (id integer PRIMARY KEY, state varchar(9), ended bigint)")
        for id_, days in ((1, 31), (2, 29), (3, 30.01)):
            system.session.do(f"INSERT INTO counted SELECT %s, 'done', ({now} - %s) * %s", id_, days * DAY, unit)
        source = system.source(
            time=name,
            jobs={"table": "counted", "key": ["id"], "started": ["ended"],
                  "running": {"column": "state", "in": ["running"]}},
            alive=[],
            purge={"where": [{"column": "state", "in": ["done"]}], "at": ["ended"]},
        )  # fmt: skip
        assert system.purge(source, page_size=1).purged == 2
        assert system.session.one("SELECT id FROM counted") == 2


NUMBERED = {
    "jobs": {"table": "numbered", "key": ["id"], "started": ["made"],
             "running": {"column": "state", "in": ["running"]}},
    "alive": [],
    "purge": {"where": [{"column": "state", "in": ["done"]}], "at": ["ended", "made"]},
}  # fmt: skip


def test_end_in_another_unit_is_unknown_and_its_job_stays(system: TaskSystem) -> None:
    """Seconds that are read as milliseconds are moments of January 1970; no other column stands for such an end."""
    now = "unix_timestamp(now(6))" if isinstance(system.database, MariaDBDatabase) else "extract(epoch FROM now())"
    moment = f"({now} - %s) * %s"
    for unit, other, name in ((1000, 1, "epoch ms"), (1, 1000, "epoch s")):
        system.session.do("DROP TABLE IF EXISTS numbered")
        system.session.do("CREATE TABLE numbered (id integer PRIMARY KEY, state varchar(9), ended bigint, made bigint)")
        for id_, (ended, ended_unit, made, made_unit) in enumerate(
            [(1, other, 40, unit), (40, other, 41, other), (40, unit, 41, other), (1, unit, 40, unit)]
        ):
            values = id_, ended * DAY, ended_unit, made * DAY, made_unit
            system.session.do(f"INSERT INTO numbered SELECT %s, 'done', {moment}, {moment}", *values)
        source = system.source(time=name, **NUMBERED)
        assert system.purge(source, dry_run=True).found == 1
        assert system.purge(source).purged == 1
        assert {id_ for (id_,) in system.session.ask("SELECT id FROM numbered")} == {0, 1, 3}


def test_values_that_mean_none_are_no_end_of_long_ago(system: TaskSystem) -> None:
    """They are as NULL: the next column counts, and where there is none, the job stays."""
    maria = isinstance(system.database, MariaDBDatabase)
    system.session.do("CREATE TABLE numbered (id integer PRIMARY KEY, state varchar(9), ended bigint, made bigint)")
    for id_, none in enumerate((0, -1, None)):
        system.session.do("INSERT INTO numbered VALUES (%s, 'done', %s, 0)", id_, none)
    for name in ("epoch ms", "epoch s"):
        assert system.purge(system.source(time=name, **NUMBERED)).purged == 0
    for nothing in ("0001-01-01", "1970-01-01") if maria else ("0001-01-01", "-infinity", "1970-01-01"):
        system.task()
        system.session.do("UPDATE task SET ended = %s, made = %s", nothing, nothing)
    assert system.purge().purged == 0


def test_end_in_a_column_without_a_zone_is_old_once_it_is_old_in_every_zone(system: TaskSystem) -> None:
    """Local time west of UTC, read as UTC, looks up to twelve hours older than it is. A zone that is said is exact."""
    column = "datetime(6)" if isinstance(system.database, MariaDBDatabase) else "timestamp"
    system.session.do(
        f"CREATE TABLE numbered (id integer PRIMARY KEY, state varchar(9), ended {column}, made {column})"
    )
    utc = "utc_timestamp(6)" if isinstance(system.database, MariaDBDatabase) else "now() AT TIME ZONE 'UTC'"
    for id_, hours in enumerate((720 + 12.1, 720 + 11.9, 720 + 0.1, 720 - 0.1)):
        ago = f"{utc} - INTERVAL {hours * 3600:.0f} SECOND" if "utc_" in utc else f"{utc} - interval '{hours} hours'"
        system.session.do(f"INSERT INTO numbered SELECT %s, 'done', {ago}, {ago}", id_)
    assert system.purge(system.source(time="naive", **NUMBERED)).purged == 1
    assert system.purge(system.source(time={"naive": "UTC"}, **NUMBERED)).purged == 2
    assert system.session.one("SELECT id FROM numbered") == 3


@mostly_on("postgresql", "system")
def test_cutoff_is_by_the_clock_of_the_database(system: TaskSystem) -> None:
    """With the process's clock, the first purge would delete nothing and the second one the younger row, too."""
    script = (
        "import datetime, os, sys, tests.operations.test_purge as t\n"
        "from reaper.operations.purge import PurgeOptions, purge\n"
        "profile = t.resolve('shed', {'shed': t.tomllib.loads(t.SHED)})\n"
        "source = t.Source('main', sys.argv[1], profile, t.thresholds(), t.PATIENCE)\n"
        "for days in ('-400d', '+400d'):\n"
        "    os.environ['FAKETIME'] = days\n"
        "    print(datetime.date.today(), purge(source, PurgeOptions(30, 10), t.PurgeRecorder()).purged)"
    )
    system.task(ended=29)
    system.task(ended=31)
    ran = subprocess.run(
        [sys.executable, "-c", script, system.database.url],
        env={**os.environ, "LD_PRELOAD": faketime(), "FAKETIME_NO_CACHE": "1", "PYTHONPATH": str(PROJECT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    before, purged, after, purged_again = ran.stdout.split()
    assert date.fromisoformat(after) - date.fromisoformat(before) >= timedelta(days=800)
    assert (purged, purged_again) == ("1", "0")
    assert len(system.left()) == 1


# --- pages and batches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "page_size"),
    [(3, 7), (10, 21), *(pytest.param(*sizes, marks=pytest.mark.thorough) for sizes in [(1, 1), (7, 7), (100, 1000)])],
)
def test_rows_are_met_once_however_the_pages_fall(system: TaskSystem, batch_size: int, page_size: int) -> None:
    """Rows with the same end are ordered by their keys; rows that may not be deleted are skipped."""
    parts = [system.task(ended=40 + number // 9) for number in range(40)]
    pinned = set(parts[::5])
    system.attach("pin", *pinned)
    system.session.do("UPDATE task SET ended = (SELECT * FROM (SELECT min(ended) FROM task) AS t) WHERE part > 'p0020'")
    recorder = PurgeRecorder()
    report = system.purge(recorder=recorder, batch_size=batch_size, page_size=page_size)
    assert system.left() == pinned
    assert (report.purged, sum(recorder.batches), max(recorder.batches) <= batch_size) == (32, 32, True)


@mostly_on("postgresql", "system")
def test_oldest_rows_are_deleted_first(system: TaskSystem) -> None:
    ages = {system.task(ended=age): age for age in (50, 35, 44, 90)}
    recorder = PurgeRecorder()
    system.purge(recorder=recorder, batch_size=2, should_stop=lambda: len(recorder.batches) == 1)
    assert sorted(ages[part] for part in system.left()) == [35, 44]


@mostly_on("postgresql", "system")
def test_stopped_purge_ends_after_its_batch_and_the_next_one_goes_on(system: TaskSystem) -> None:
    parts = [system.task() for _ in range(30)]
    system.attach("note", *parts)
    recorder = PurgeRecorder()
    report = system.purge(recorder=recorder, should_stop=lambda: len(recorder.batches) == 2)
    assert (report.outcome, report.purged) == (Outcome.STOPPED, 20)
    assert len(system.left()) == 10 and system.left() == system.left("note")
    assert system.purge().purged == 10
    assert not system.left() | system.left("note")


@mostly_on("postgresql", "system")
def test_purge_that_is_stopped_before_the_first_batch_changes_nothing(system: TaskSystem) -> None:
    system.task()
    assert system.purge(should_stop=lambda: True).outcome is Outcome.STOPPED
    assert len(system.left()) == 1


@mostly_on("postgresql", "system")
def test_dry_run_of_a_purge_counts_and_changes_nothing(system: TaskSystem) -> None:
    system.attach("note", system.task(), system.task())
    system.task(ended=1)
    report = system.purge(dry_run=True)
    assert (report.found, report.purged, report.outcome, report.dry_run) == (2, 0, Outcome.DONE, True)
    assert len(system.left()) == 3 and len(system.left("note")) == 2


def test_purges_side_by_side_do_not_block_each_other(system: TaskSystem) -> None:
    """Each row is deleted once. One that another purge holds is left, and the next purge deletes it.

    MariaDB locks rows for a moment that a statement only reads past. All purges may have met a row in such a moment.
    """
    system.attach("note", *(system.task() for _ in range(120)))
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: system.purge(batch_size=5), range(3)))
    assert [(report.outcome, report.error, report.refusals) for report in reports] == [(Outcome.DONE, None, {})] * 3
    left = system.left()
    assert left == system.left("note")
    assert sum(report.purged for report in reports) == 120 - len(left) > 0
    assert min(report.left for report in reports) >= len(left)
    if not isinstance(system.database, MariaDBDatabase):
        assert not left
    assert system.purge().purged == len(left)
    assert not system.left() | system.left("note")


# --- other sessions meanwhile --------------------------------------------------------------------------------


@contextmanager
def before_each(source: Source, act: Callable[[int], None]) -> Iterator[list[str]]:
    """Call `act` with the number of each statement before it runs; commits are counted too."""
    seen: list[str] = []

    def step(what: str) -> None:
        seen.append(what)
        act(len(seen) - 1)

    def statement(_c: object, _cursor: object, said: str, *_: object) -> None:
        step(said)

    def commit(_c: object) -> None:
        step("COMMIT")

    event.listen(source.engine, "before_cursor_execute", statement)
    event.listen(source.engine, "commit", commit)
    yield seen
    event.remove(source.engine, "before_cursor_execute", statement)
    event.remove(source.engine, "commit", commit)


def impatient(system: TaskSystem) -> Session:
    session = system.database.session(autocommit=True)
    maria = isinstance(system.database, MariaDBDatabase)
    session.do("SET innodb_lock_wait_timeout = 0" if maria else "SET lock_timeout = '20ms'")
    return session


@mostly_on("postgresql", "system")
def test_row_that_runs_again_at_any_moment_stays_or_was_deleted_before(system: TaskSystem) -> None:
    """A session that starts a finished row again finds it deleted, or keeps it with all that belongs to it."""
    outcomes = set()
    for place in itertools.count():
        part = system.task()
        system.attach("note", part)
        source, restarted = system.source(), list[bool]()

        def restart(number: int, part: str = part, place: int = place, restarted: list[bool] = restarted) -> None:
            if number == place:
                with impatient(system) as worker:
                    try:
                        restarted.append(worker.do("UPDATE task SET state = 'running' WHERE part = %s", part) == 1)
                    except Exception as error:  # noqa: BLE001  of either driver: another session holds the row
                        assert "lock" in str(error).lower()
                        restarted.append(False)

        with before_each(source, restart) as seen:
            report = system.purge(source)
        if place >= len(seen):
            break
        assert (report.outcome, report.refusals) == (Outcome.DONE, {})
        assert system.left() == system.left("note") == ({part} if restarted[0] else set()), seen[place]
        outcomes.add(restarted[0])
        system.session.do("DELETE FROM note")
        system.session.do("DELETE FROM task")
    assert outcomes == {True, False}


def test_need_that_appears_after_the_lock_is_seen_by_the_second_check(system: TaskSystem) -> None:
    source, needed = system.source(), system.task()
    free = system.task()

    def pin(number: int) -> None:
        if number and "FOR UPDATE SKIP LOCKED" in seen[number - 1]:
            system.session.do("INSERT INTO pin VALUES (7, %s)", needed)

    with before_each(source, pin) as seen:
        report = system.purge(source)
    assert system.left() == {needed} == system.left("pin") and free not in system.left()
    assert (report.purged, report.left, report.refusals) == (1, 1, {})


@mostly_on("postgresql", "system")
def test_kill_at_any_moment_leaves_each_row_with_all_that_belongs_to_it_or_none(system: TaskSystem) -> None:
    class Killed(BaseException):
        pass

    def die_at(place: int) -> Callable[[int], None]:
        def die(number: int) -> None:
            if number == place:
                raise Killed

        return die

    for place in itertools.count():
        system.attach("note", *(system.task() for _ in range(4)))
        source = system.source()
        with before_each(source, die_at(place)) as seen:
            try:
                system.purge(source, batch_size=2)
            except Killed:
                pass
            else:
                break
        assert system.left() == system.left("note"), seen[-1]
        assert system.purge().error is None
        assert not system.left() | system.left("note")
    assert len(seen) > 10


def test_locked_row_is_left_for_the_next_purge(system: TaskSystem) -> None:
    held = system.task()
    for _ in range(5):
        system.task()
    system.fill()
    with system.database.session() as other:
        other.ask("SELECT * FROM task WHERE id = 7 AND part = %s FOR UPDATE", held)
        report = system.purge()
        assert (report.outcome, report.purged, report.left) == (Outcome.DONE, 5, 1)
        other.rollback()
    assert system.purge().purged == 1


def test_row_with_locked_belongings_is_left_without_a_long_wait(system: TaskSystem) -> None:
    held, *others = (system.task() for _ in range(6))
    system.attach("note", held, *others)
    system.fill()
    with system.database.session() as other:
        other.ask("SELECT * FROM note WHERE task_id = 7 AND task_part = %s FOR UPDATE", held)
        begun = time.monotonic()
        report = system.purge()
        assert time.monotonic() - begun < 10
        assert held in system.left() and (report.outcome, report.refusals) == (Outcome.DONE, {})
        assert report.purged + report.left == 6 and report.left >= 1
        assert system.left() - {"young"} == system.left("note")
        other.rollback()
    system.purge()
    assert system.left() == {"young"}


# --- what the database refuses -------------------------------------------------------------------------------


def test_row_that_others_refer_to_stays_with_its_reason_counted_and_the_rest_is_deleted(system: TaskSystem) -> None:
    parts = [system.task() for _ in range(25)]
    billed = {parts[3], parts[4], parts[17]}
    system.attach("bill", *billed)
    system.attach("note", *parts)
    report = system.purge()
    assert system.left() == system.left("note") == billed
    assert (report.outcome, report.purged, list(report.refusals.values())) == (Outcome.DONE, 22, [3])
    assert "foreign key constraint" in next(iter(report.refusals))


def test_trigger_that_silently_keeps_a_row_keeps_all_that_belongs_to_it(empty: PostgreSQLDatabase) -> None:
    system = TaskSystem(empty)
    kept, other = system.task(), system.task()
    system.attach("note", kept, other)
    system.session.do(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RETURN CASE WHEN OLD.part = '{kept}' THEN NULL ELSE OLD END; END $$"
    )
    system.session.do("CREATE TRIGGER keep BEFORE DELETE ON task FOR EACH ROW EXECUTE FUNCTION keep()")
    report = system.purge()
    assert system.left() == system.left("note") == {kept}
    assert report.refusals == {"task: 0 of 1 finished rows were deleted: a trigger or rule interferes": 1}
    system.session.close()


@mostly_on("postgresql", "system")
def test_refused_rows_are_set_aside_and_tried_again_when_they_are_due(system: TaskSystem, tmp_path: Path) -> None:
    """Also by the next process. When one of them is deleted, the others with its cause are tried at once."""
    refused = {system.task(ended=90) for _ in range(15)}
    system.attach("bill", *refused)
    for _ in range(5):
        system.task()
    now, memory, source = [1000.0], Memory.open(tmp_path), system.source()
    deletions = list[str]()

    @event.listens_for(source.engine, "before_cursor_execute")
    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        deletions.extend([statement] if "DELETE FROM" in statement else [])

    def purged(refused_jobs: RefusedJobs) -> PurgeReport:
        deletions.clear()
        return purge(source, PurgeOptions(30, 10), PurgeRecorder(), refused=refused_jobs)

    first = purged(refused_by_purges(memory.refused_jobs, "main"))
    assert (first.outcome, first.purged, list(first.refusals.values())) == (Outcome.DONE, 5, [15])
    assert system.left() == refused and len(deletions) > 15
    kept = RefusedJobs(memory.refused_jobs, "main purge", lambda: now[0])
    second = purged(kept)
    assert (second.outcome, list(second.refusals.values()), deletions) == (Outcome.DONE, [15], [])
    now[0] += FIRST_PAUSE_SECONDS
    assert list(purged(kept).refusals.values()) == [15] and deletions
    system.session.do("DELETE FROM bill")
    now[0] += FIRST_PAUSE_SECONDS
    assert list(purged(kept).refusals.values()) == [15] and not deletions  # the pause grows
    now[0] += FIRST_PAUSE_SECONDS
    last = purged(kept)
    assert (last.purged, last.refusals, system.left()) == (15, {}, set())
    assert not memory.refused_jobs.load("main purge")


@mostly_on("postgresql", "system")
def test_purge_deletes_good_rows_behind_many_refused_ones(system: TaskSystem) -> None:
    """Whatever their order; what is refused is counted by cause."""
    maria = isinstance(system.database, MariaDBDatabase)
    rows = ", ".join(f"({n}, 'bad', 'done', {system.database.ago})" for n in range(100, 220))
    system.session.do(f"INSERT INTO task (id, part, state, ended) VALUES {rows}", *[90 * DAY] * 120)
    good = [system.task() for _ in range(3)]
    body = (
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'"
        if maria
        else "RAISE EXCEPTION 'not this one: %', OLD.id"
    )
    with system.database.with_trigger("task", "DELETE", f"IF OLD.part = 'bad' THEN {body}; END IF"):
        report = system.purge(batch_size=50)
    assert (report.outcome, report.purged, list(report.refusals.values())) == (Outcome.DONE, 3, [120])
    assert next(iter(report.refusals)).startswith("not this one") and not system.left() & {*good}


@pytest.mark.parametrize("limit", ["MAX_REFUSED", "MAX_REFUSED_SECONDS"])
def test_purge_with_too_many_or_too_slow_refusals_leaves_the_rest_to_the_next(
    empty: PostgreSQLDatabase, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Whole batches are still deleted."""
    monkeypatch.setattr(f"reaper.operations.purge.{limit}", 2 if limit == "MAX_REFUSED" else 0)
    monkeypatch.setattr("reaper.sweep.batch_bisection.SLOW_SECONDS", 0)
    system = TaskSystem(empty)
    refused = [system.task(ended=90) for _ in range(8)]
    system.attach("bill", *refused)
    good = [system.task() for _ in range(8)]
    jobs = refused_by_purges(None, "main")
    reports = [purge(system.source(), PurgeOptions(30, 4), PurgeRecorder(), refused=jobs) for _ in range(9)]
    assert reports[0].outcome is Outcome.FAILED and reports[0].error is not None
    assert "wait for the next purge: refusals of the database were too many" in reports[0].error
    assert reports[0].purged == len(good)
    if limit == "MAX_REFUSED":
        assert reports[-1].outcome is Outcome.DONE and sum(reports[-1].refusals.values()) == 8
    system.session.close()


def test_refusals_with_one_cause_are_counted_together(empty: PostgreSQLDatabase) -> None:
    system = TaskSystem(empty)
    for number in range(5):
        system.task(ended=60 - number)
    with empty.with_trigger("task", "DELETE", "RAISE EXCEPTION 'kept: %', OLD.part"):
        report = system.purge()
    system.session.close()
    # The words are those of the row that the database has come to first.
    [(words, count)] = report.refusals.items()
    assert re.fullmatch(r"kept: p000\d", words) and count == 5


def test_role_that_may_not_delete_fails_the_purge_at_once(protea: Protea, server: PrivatePostgreSQL) -> None:
    protea.job(status="succeeded", finished=40 * DAY, age=41 * DAY)
    protea.connection.execute("CREATE ROLE keeper LOGIN")
    try:
        protea.connection.execute("GRANT SELECT, INSERT, UPDATE ON job, job_event TO keeper")
        url = protea.url.replace("postgres@", "keeper@")
        assert url != protea.url
        source = Source("main", url, resolve("protea"), thresholds(), PATIENCE)
        report = purge(source, PurgeOptions(30, 10), PurgeRecorder())
        assert (report.outcome, report.error) == (Outcome.FAILED, "permission denied for table job")
        assert len(protea.statuses()) == 1
    finally:
        protea.connection.execute("DROP OWNED BY keeper; DROP ROLE keeper")


def test_database_that_is_away_is_in_the_report_and_not_raised() -> None:
    source = Source("main", "postgresql+psycopg://x@127.0.0.1:1/x", resolve("protea"), thresholds(), PATIENCE)
    report = purge(source, PurgeOptions(30, 10), PurgeRecorder())
    assert (report.outcome, report.database_away, report.purged) == (Outcome.FAILED, True, 0)


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        ("noetl", "a purge of logs is not supported; drop old partitions of noetl.event instead"),
        ("adhese-schedule", "has no [purge]: it does not say which jobs are finished"),
    ],
)
def test_profiles_that_cannot_be_purged_say_why(profile: str, why: str) -> None:
    with pytest.raises(NotPurgeable, match=why.replace("[", r"\[").replace(".", r"\.")):
        require_purgeable(resolve(profile))


# --- shipped profiles ----------------------------------------------------------------------------------------


def test_finished_protea_jobs_are_deleted_with_their_events_and_without_their_children(protea: Protea) -> None:
    parent = protea.job(status="succeeded", finished=40 * DAY, age=41 * DAY)
    protea.event(parent, age=40 * DAY)
    child = protea.job(status="failed", finished=3 * DAY, age=41 * DAY, parent=parent)
    never_began = protea.job(status="cancelled", age=None, created=50 * DAY)
    waiting = protea.job(status="queued", age=None, created=50 * DAY)
    running = protea.job(age=50 * DAY)
    report = purge(protea.source(), PurgeOptions(30, 10), PurgeRecorder())
    assert report.purged == 2 and never_began not in protea.statuses()
    assert protea.statuses().keys() == {child, waiting, running}
    assert protea.row(child)["parent_job_id"] is None
    assert not [row for row in protea.dump() if row.startswith("event ")]


def test_page_is_read_by_an_index_on_the_end(protea: Protea) -> None:
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, finished_at) SELECT 'x', 'q', 'succeeded',"
        " now() - make_interval(mins => i) FROM generate_series(1, 20000) i"
    )
    protea.connection.execute("CREATE INDEX ON job (finished_at)")
    protea.connection.execute("ANALYZE")
    profile = resolve("p", {"p": {"extends": "protea", "purge": {"at": ["finished_at"]}}})
    source = Source("main", protea.url, profile, thresholds(), PATIENCE)
    with source.connect() as connection:
        purging = JobPurge(source.statements, purge_cutoff(connection, 13))
        page = list(purging.stream(connection, None, 100))
        for after in (None, page[-1]):
            statement = source.statements.compiled(connection.dialect, page_query, after is not None)
            text, values = statement.bound(purging.page_values(after, 100))
            plan = connection.exec_driver_sql(f"EXPLAIN {text}", values).scalars()
            assert "job_finished_at_idx" in "\n".join(plan)
        assert not {row.key for row in page} & {row.key for row in purging.stream(connection, page[-1], 100)}
