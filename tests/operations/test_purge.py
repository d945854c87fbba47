"""Retention: what has finished goes, with all that belongs to it; what runs, or is needed by what runs, never does."""

from __future__ import annotations

import itertools
import os
import pty
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from structlog.testing import capture_logs

from reaper.cli import exit_codes
from reaper.dev.postgres import Embedded
from reaper.errors import NotPurgeable
from reaper.model import Outcome, PurgeReport
from reaper.observers.event_log import EventLog
from reaper.operations.purge import PurgeOptions, check, purge
from reaper.profile import resolve
from reaper.scheduling.scheduled_purge import ScheduledPurge
from reaper.scheduling.scheduler import CronTrigger, IntervalTrigger, Supervisor
from reaper.source import Source
from reaper.source.purge import PurgeStatements, purge_cutoff, purge_lease
from tests.scheduling.test_scheduler import Diary, runner
from tests.staleness.test_clocks import faketime
from tests.support.commands import COMMAND, PROJECT, Reaper, environment
from tests.support.daemons import Daemon, closed, until
from tests.support.mariadb import MariaDB
from tests.support.protea import PATIENCE, Protea, thresholds
from tests.support.worlds import Database, Session
from tests.support.worlds.mariadb import MariaDBDatabase
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import database_on

DAY = 86400.0

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

# Says nothing of the state: that no running row goes is the reaper's own word.
[purge]
where = [{ column = "ended", is = "not null" }]
at = ["ended", "made"]
needed = [{ table = "pin", match = { task_id = "id", task_part = "part" } }]
also = [{ delete = "note", match = { task_id = "id", task_part = "part" } }]
"""


@dataclass
class Told:
    """A listener that remembers."""

    batches: list[int] = field(default_factory=list)
    found: list[int | None] = field(default_factory=list)
    reports: list[PurgeReport] = field(default_factory=list)

    def purging(self, source: str, found: int | None) -> None:
        self.found.append(found)

    def purged(self, source: str, rows: int) -> None:
        self.batches.append(rows)

    def purge_ended(self, report: PurgeReport) -> None:
        self.reports.append(report)


class Shed:
    """A job system with a key of two columns, on either server. Ages are days before the database's now."""

    tables = """
    CREATE TABLE task (id integer NOT NULL, part varchar(9) NOT NULL, state varchar(9), ended {moment}, made {moment},
        parent_id integer, parent_part varchar(9), PRIMARY KEY (id, part));
    CREATE INDEX task_parent ON task (parent_id, parent_part);
    CREATE TABLE note (task_id integer, task_part varchar(9));
    CREATE INDEX note_task ON note (task_id, task_part);
    CREATE TABLE pin (task_id integer, task_part varchar(9));
    CREATE TABLE bill (task_id integer, task_part varchar(9), FOREIGN KEY (task_id, task_part)
        REFERENCES task (id, part))
    """

    def __init__(self, database: Database) -> None:
        self.database, self.hand = database, database.session(autocommit=True)
        self._made = itertools.count()
        context = "datetime(6)" if isinstance(database, MariaDBDatabase) else "timestamptz"
        for statement in self.tables.format(context=context).split(";"):
            self.hand.do(statement)

    def task(
        self, *, ended: float | None = 40, made: float = 50, state: str = "done", parent: str | None = None
    ) -> str:
        """Its part, with an id of 7 for each second one: both columns are the key."""
        number = next(self._made)
        part, id_ = f"p{number:04}", 7 + number % 2
        above = self.hand.ask("SELECT id, part FROM task WHERE part = %s", parent)[0] if parent else (None, None)
        self.hand.do(
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
        self.hand.do(f"INSERT INTO task (id, part, state, ended) VALUES {rows}", *[DAY] * tasks)
        maria = isinstance(self.database, MariaDBDatabase)
        self.hand.do("ANALYZE TABLE task" if maria else "ANALYZE task")

    def attach(self, table: str, *parts: str) -> None:
        for part in parts:
            self.hand.do(f"INSERT INTO {table} SELECT id, part FROM task WHERE part = %s", part)

    def left(self, table: str = "task") -> set[str]:
        column = "part" if table == "task" else "task_part"
        return {part for (part,) in self.hand.ask(f"SELECT {column} FROM {table}")}

    def source(self, **changes: Any) -> Source:
        profile = resolve("shed", {"shed": {**tomllib.loads(SHED), **changes}})
        return Source("main", self.database.url, profile, thresholds(), PATIENCE)

    def purge(self, source: Source | None = None, told: Told | None = None, **options: Any) -> PurgeReport:
        return purge(
            source or self.source(), PurgeOptions(**{"days_to_keep": 30, "batch_size": 10, **options}), told or Told()
        )


@pytest.fixture(params=["postgresql", "mariadb"])
def shed(request: pytest.FixtureRequest) -> Iterator[Shed]:
    with database_on(request, request.param) as database:
        made = Shed(database)
        yield made
        made.hand.close()


# --- what goes, and what does not ----------------------------------------------------------------------------


def test_what_finished_before_the_cutoff_goes_and_nothing_else(shed: Shed) -> None:
    old, older = shed.task(ended=30.001), shed.task(ended=4000)
    young, unfinished = shed.task(ended=29.999), shed.task(ended=None, state="queued")
    report = shed.purge()
    assert shed.left() == {young, unfinished}
    assert (report.outcome, report.purged, report.left, report.refusals) == (Outcome.DONE, 2, 0, {})
    assert old != older and report.before is not None
    assert shed.purge(days_to_keep=1).purged == 1
    assert shed.left() == {unfinished}


def test_the_first_end_that_is_known_counts(shed: Shed) -> None:
    where = {"where": [{"column": "state", "in": ["done"]}], "at": ["ended", "made"]}
    unknown = shed.task(ended=None, made=40)
    shed.task(ended=3, made=40)
    assert shed.purge(shed.source(purge=where), dry_run=True).found == 1
    shed.purge(shed.source(purge=where))
    assert unknown not in shed.left() and len(shed.left()) == 1


def test_a_zero_date_of_mariadb_is_no_end(mariadb: MariaDB) -> None:
    shed = Shed(MariaDBDatabase(mariadb.create_database("zero")))
    old, young = shed.task(made=40), shed.task(made=3)
    shed.hand.do("SET sql_mode = ''")
    shed.hand.do("UPDATE task SET ended = '0000-00-00'")
    assert shed.purge().purged == 1
    assert shed.left() == {young} and old != young
    shed.hand.close()
    mariadb.drop_database("zero")


def test_a_running_row_never_goes_whatever_the_profile_says(shed: Shed) -> None:
    running = shed.task(state="running")
    done = shed.task()
    with shed.source().connect() as connection:
        purge = PurgeStatements(shed.source().rule.tables, purge_cutoff(connection, 1))
        keys = [("7", running), ("8", done)]
        assert purge.run(connection, keys) == 1
        connection.commit()
    assert shed.left() == {running}
    assert shed.purge().purged == 0


def test_the_last_statement_by_itself_spares_a_running_row(shed: Shed) -> None:
    running = shed.task(state="running")
    source = shed.source(purge={"where": [{"column": "ended", "is": "not null"}], "at": ["ended"]})
    with source.connect() as connection:
        purge = PurgeStatements(source.rule.tables, purge_cutoff(connection, 1))
        parameters = {"any_0": ["7"], "any_1": [running], "any_key": [("7", running)]}
        assert connection.execute(purge.delete, parameters).rowcount == 0


def test_parents_and_children_of_running_rows_stay(shed: Shed) -> None:
    parent = shed.task()
    child = shed.task(state="running", parent=parent)
    above = shed.task(state="running")
    below = shed.task(parent=above)
    over, under = (both := shed.task()), shed.task(parent=both)
    assert shed.purge().purged == 2
    assert shed.left() == {parent, child, above, below} and not {over, under} & shed.left()


def test_what_is_needed_stays(shed: Shed) -> None:
    needed, free = shed.task(), shed.task()
    shed.attach("pin", needed)
    shed.attach("note", needed, free)
    assert shed.purge().purged == 1
    assert shed.left() == shed.left("note") == {needed}


def test_a_column_that_is_a_number_of_seconds_is_compared_exactly(shed: Shed) -> None:
    now = "unix_timestamp(now(6))" if isinstance(shed.database, MariaDBDatabase) else "extract(epoch FROM now())"
    for unit, name in ((1, "epoch s"), (1000, "epoch ms")):
        shed.hand.do("DROP TABLE IF EXISTS counted")
        shed.hand.do("CREATE TABLE counted (id integer PRIMARY KEY, state varchar(9), ended bigint)")
        for id_, days in ((1, 31), (2, 29), (3, 30.01)):
            shed.hand.do(f"INSERT INTO counted SELECT %s, 'done', ({now} - %s) * %s", id_, days * DAY, unit)
        source = shed.source(
            time=name,
            jobs={"table": "counted", "key": ["id"], "started": ["ended"],
                  "running": {"column": "state", "in": ["running"]}},
            alive=[],
            purge={"where": [{"column": "state", "in": ["done"]}], "at": ["ended"]},
        )  # fmt: skip
        assert shed.purge(source, page_size=1).purged == 2
        assert shed.hand.one("SELECT id FROM counted") == 2


def test_the_database_s_clock_decides(shed: Shed) -> None:
    script = (
        "import sys, tests.operations.test_purge as t\nfrom reaper.operations.purge import purge, Orders\n"
        "profile = t.resolve('shed', {'shed': t.tomllib.loads(t.SHED)})\n"
        "source = t.Source('main', sys.argv[1], profile, t.thresholds(), t.PATIENCE)\n"
        "print(purge(source, Orders(30, 10), t.Told()).purged)"
    )
    shed.task(ended=29)
    shed.task(ended=31)
    for ahead in (400, -400):
        ran = subprocess.run(
            [sys.executable, "-c", script, shed.database.url],
            env={**os.environ, "LD_PRELOAD": faketime(), "FAKETIME": f"{ahead:+d}d", "PYTHONPATH": str(PROJECT)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert int(ran.stdout) == (1 if ahead > 0 else 0)
    assert len(shed.left()) == 1


# --- the walk ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch_size", "page_size"), [(1, 1), (3, 7), (7, 7), (10, 21), (100, 1000)])
def test_every_row_is_met_once_however_the_pages_fall(shed: Shed, batch_size: int, page_size: int) -> None:
    """Rows with the same end are told apart by their keys; those that stay are passed by."""
    parts = [shed.task(ended=40 + number // 9) for number in range(40)]
    pinned = set(parts[::5])
    shed.attach("pin", *pinned)
    shed.hand.do("UPDATE task SET ended = (SELECT * FROM (SELECT min(ended) FROM task) AS t) WHERE part > 'p0020'")
    told = Told()
    report = shed.purge(told=told, batch_size=batch_size, page_size=page_size)
    assert shed.left() == pinned
    assert (report.purged, sum(told.batches), max(told.batches) <= batch_size) == (32, 32, True)


def test_oldest_go_first(shed: Shed) -> None:
    ages = {shed.task(ended=age): age for age in (50, 35, 44, 90)}
    told = Told()
    shed.purge(told=told, batch_size=2, stopping=lambda: len(told.batches) == 1)
    assert sorted(ages[part] for part in shed.left()) == [35, 44]


def test_told_to_stop_it_ends_after_the_batch_and_the_next_one_goes_on(shed: Shed) -> None:
    parts = [shed.task() for _ in range(30)]
    shed.attach("note", *parts)
    told = Told()
    report = shed.purge(told=told, stopping=lambda: len(told.batches) == 2)
    assert (report.outcome, report.purged) == (Outcome.STOPPED, 20)
    assert len(shed.left()) == 10 and shed.left() == shed.left("note")
    assert shed.purge().purged == 10
    assert not shed.left() | shed.left("note")


def test_told_to_stop_before_the_first_batch_it_changes_nothing(shed: Shed) -> None:
    shed.task()
    assert shed.purge(stopping=lambda: True).outcome is Outcome.STOPPED
    assert len(shed.left()) == 1


def test_a_dry_run_counts_and_changes_nothing(shed: Shed) -> None:
    shed.attach("note", shed.task(), shed.task())
    shed.task(ended=1)
    report = shed.purge(dry_run=True)
    assert (report.found, report.purged, report.outcome, report.dry_run) == (2, 0, Outcome.DONE, True)
    assert len(shed.left()) == 3 and len(shed.left("note")) == 2


def test_purges_side_by_side_are_in_nobody_s_way(shed: Shed) -> None:
    shed.attach("note", *(shed.task() for _ in range(120)))
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: shed.purge(batch_size=5), range(3)))
    assert [report.error for report in reports] == [None] * 3
    assert sum(report.purged for report in reports) == 120
    assert not shed.left() | shed.left("note")


# --- what others do meanwhile --------------------------------------------------------------------------------


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


def impatient(shed: Shed) -> Session:
    session = shed.database.session(autocommit=True)
    maria = isinstance(shed.database, MariaDBDatabase)
    session.do("SET innodb_lock_wait_timeout = 0" if maria else "SET lock_timeout = '20ms'")
    return session


def test_a_row_that_runs_again_at_any_moment_stays_or_was_gone_before(shed: Shed) -> None:
    """Whoever starts a finished row anew either finds it gone, or keeps it with all that belongs to it."""
    outcomes = set()
    for place in itertools.count():
        part = shed.task()
        shed.attach("note", part)
        source, restarted = shed.source(), list[bool]()

        def restart(number: int, part: str = part, place: int = place, restarted: list[bool] = restarted) -> None:
            if number == place:
                with impatient(shed) as worker:
                    try:
                        restarted.append(worker.do("UPDATE task SET state = 'running' WHERE part = %s", part) == 1)
                    except Exception as error:  # noqa: BLE001  of either driver: somebody holds the row
                        assert "lock" in str(error).lower()
                        restarted.append(False)

        with before_each(source, restart) as seen:
            report = shed.purge(source)
        if place >= len(seen):
            break
        assert (report.outcome, report.refusals) == (Outcome.DONE, {})
        assert shed.left() == shed.left("note") == ({part} if restarted[0] else set()), seen[place]
        outcomes.add(restarted[0])
        shed.hand.do("DELETE FROM note")
        shed.hand.do("DELETE FROM task")
    assert outcomes == {True, False}


def test_what_is_needed_after_the_lock_is_seen_by_the_second_judgement(shed: Shed) -> None:
    source, needed = shed.source(), shed.task()
    free = shed.task()

    def pin(number: int) -> None:
        if number and "FOR UPDATE SKIP LOCKED" in seen[number - 1]:
            shed.hand.do("INSERT INTO pin VALUES (7, %s)", needed)

    with before_each(source, pin) as seen:
        report = shed.purge(source)
    assert shed.left() == {needed} == shed.left("pin") and free not in shed.left()
    assert (report.purged, report.left, report.refusals) == (1, 1, {})


def test_killed_at_any_moment_it_leaves_each_row_with_all_that_goes_with_it_or_none(shed: Shed) -> None:
    class Killed(BaseException):
        pass

    def die_at(place: int) -> Callable[[int], None]:
        def die(number: int) -> None:
            if number == place:
                raise Killed

        return die

    for place in itertools.count():
        shed.attach("note", *(shed.task() for _ in range(4)))
        source = shed.source()
        with before_each(source, die_at(place)) as seen:
            try:
                shed.purge(source, batch_size=2)
            except Killed:
                pass
            else:
                break
        assert shed.left() == shed.left("note"), seen[-1]
        assert shed.purge().error is None
        assert not shed.left() | shed.left("note")
    assert len(seen) > 10


def test_a_row_that_somebody_holds_is_left_for_the_next_time(shed: Shed) -> None:
    held = shed.task()
    for _ in range(5):
        shed.task()
    shed.fill()
    with shed.database.session() as other:
        other.ask("SELECT * FROM task WHERE id = 7 AND part = %s FOR UPDATE", held)
        report = shed.purge()
        assert (report.outcome, report.purged, report.left) == (Outcome.DONE, 5, 1)
        other.rollback()
    assert shed.purge().purged == 1


def test_a_row_whose_belongings_somebody_holds_is_left_without_waiting_long(shed: Shed) -> None:
    held, *others = (shed.task() for _ in range(6))
    shed.attach("note", held, *others)
    shed.fill()
    with shed.database.session() as other:
        other.ask("SELECT * FROM note WHERE task_id = 7 AND task_part = %s FOR UPDATE", held)
        begun = time.monotonic()
        report = shed.purge()
        assert time.monotonic() - begun < 10
        assert held in shed.left() and (report.outcome, report.refusals) == (Outcome.DONE, {})
        assert report.purged + report.left == 6 and report.left >= 1
        assert shed.left() - {"young"} == shed.left("note")
        other.rollback()
    shed.purge()
    assert shed.left() == {"young"}


# --- what the database refuses -------------------------------------------------------------------------------


def test_a_row_that_others_refer_to_stays_its_reason_is_told_once_and_the_rest_goes(shed: Shed) -> None:
    parts = [shed.task() for _ in range(25)]
    billed = {parts[3], parts[4], parts[17]}
    shed.attach("bill", *billed)
    shed.attach("note", *parts)
    report = shed.purge()
    assert shed.left() == shed.left("note") == billed
    assert (report.outcome, report.purged, list(report.refusals.values())) == (Outcome.DONE, 22, [3])
    assert "foreign key constraint" in next(iter(report.refusals))


def test_a_trigger_that_keeps_a_row_without_a_word_keeps_all_that_belongs_to_it(empty: PostgreSQLDatabase) -> None:
    shed = Shed(empty)
    kept, other = shed.task(), shed.task()
    shed.attach("note", kept, other)
    shed.hand.do(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RETURN CASE WHEN OLD.part = '{kept}' THEN NULL ELSE OLD END; END $$"
    )
    shed.hand.do("CREATE TRIGGER keep BEFORE DELETE ON task FOR EACH ROW EXECUTE FUNCTION keep()")
    report = shed.purge()
    assert shed.left() == shed.left("note") == {kept}
    assert report.refusals == {"task: 0 of 1 finished rows were deleted: a trigger or rule interferes": 1}
    shed.hand.close()


def test_when_one_row_after_the_other_is_refused_it_gives_up_and_says_why(
    shed: Shed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reaper.operations.purge._MOST_REFUSED", 8)
    shed.attach("bill", *(shed.task() for _ in range(12)))
    report = shed.purge()
    assert report.outcome is Outcome.FAILED and report.error is not None
    assert report.error.startswith("the database refused 8 jobs one after the other: ")
    assert not report.database_away


def test_a_role_that_may_not_delete_is_told_at_once(protea: Protea, server: Embedded) -> None:
    protea.job(status="succeeded", finished=40 * DAY, age=41 * DAY)
    protea.connection.execute("CREATE ROLE keeper LOGIN")
    try:
        protea.connection.execute("GRANT SELECT, INSERT, UPDATE ON job, job_event TO keeper")
        url = protea.url.replace("postgres@", "keeper@")
        assert url != protea.url
        source = Source("main", url, resolve("protea"), thresholds(), PATIENCE)
        report = purge(source, PurgeOptions(30, 10), Told())
        assert (report.outcome, report.error) == (Outcome.FAILED, "permission denied for table job")
        assert len(protea.statuses()) == 1
    finally:
        protea.connection.execute("DROP OWNED BY keeper; DROP ROLE keeper")


def test_a_database_that_is_away_is_told_and_not_raised() -> None:
    source = Source("main", "postgresql+psycopg://x@127.0.0.1:1/x", resolve("protea"), thresholds(), PATIENCE)
    report = purge(source, PurgeOptions(30, 10), Told())
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
        check(resolve(profile))


# --- shipped profiles ----------------------------------------------------------------------------------------


def test_protea_s_finished_jobs_go_with_their_events_and_leave_their_children(protea: Protea) -> None:
    parent = protea.job(status="succeeded", finished=40 * DAY, age=41 * DAY)
    protea.event(parent, age=40 * DAY)
    child = protea.job(status="failed", finished=3 * DAY, age=41 * DAY, parent=parent)
    never_began = protea.job(status="cancelled", age=None, created=50 * DAY)
    waiting = protea.job(status="queued", age=None, created=50 * DAY)
    running = protea.job(age=50 * DAY)
    report = purge(protea.source(), PurgeOptions(30, 10), Told())
    assert report.purged == 2 and never_began not in protea.statuses()
    assert protea.statuses().keys() == {child, waiting, running}
    assert protea.row(child)["parent_job_id"] is None
    assert not [row for row in protea.dump() if row.startswith("event ")]


def test_a_page_is_found_by_an_index_on_the_end(protea: Protea) -> None:
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, finished_at) SELECT 'x', 'q', 'succeeded',"
        " now() - make_interval(mins => i) FROM generate_series(1, 20000) i"
    )
    protea.connection.execute("CREATE INDEX ON job (finished_at)")
    protea.connection.execute("ANALYZE")
    profile = resolve("p", {"p": {"extends": "protea", "purge": {"at": ["finished_at"]}}})
    source = Source("main", protea.url, profile, thresholds(), PATIENCE)
    with source.connect() as connection:
        purging = PurgeStatements(source.rule.tables, purge_cutoff(connection, 13))
        page = list(purging.stream(connection, None, 100))
        for after in (None, page[-1]):
            compiled = purging.page(after, 100).compile(connection, compile_kwargs={"render_postcompile": True})
            plan = connection.exec_driver_sql(f"EXPLAIN {compiled.string}", compiled.construct_params()).scalars()
            assert "job_finished_at_idx" in "\n".join(plan)
        assert not {row.key for row in page} & {row.key for row in purging.stream(connection, page[-1], 100)}


# --- on the schedule -----------------------------------------------------------------------------------------


def finished(protea: Protea, jobs: int = 1) -> None:
    for _ in range(jobs):
        protea.job(status="succeeded", finished=40 * DAY, age=41 * DAY)


def slow(protea: Protea, seconds: float) -> None:
    """Every deletion of jobs takes so long."""
    protea.connection.execute(
        f"CREATE FUNCTION slow_purge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep({seconds});"
        " RETURN NULL; END $$; CREATE TRIGGER slow_purge BEFORE DELETE ON job FOR EACH STATEMENT"
        " EXECUTE FUNCTION slow_purge()"
    )


@contextmanager
def keeping(protea: Protea, told: Told, *, batch_size: int = 10, every: float = 0.2) -> Iterator[Supervisor]:
    """A supervisor that sweeps and purges."""
    supervisor, diary = Supervisor(), Diary()
    swept = runner(protea, diary)
    supervisor.add(swept)
    supervisor.add_scheduled_purge(ScheduledPurge(swept.source, 30, batch_size, [told]), IntervalTrigger(0, every))
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop(10)


def test_it_purges_whenever_the_trigger_says(protea: Protea) -> None:
    told = Told()
    with keeping(protea, told):
        for _ in range(2):
            finished(protea)
            until(lambda: not protea.statuses(), "a purge")
        until(lambda: len(told.reports) > 3, "more of them")
    assert {report.outcome for report in told.reports} == {Outcome.DONE}


def test_a_purge_that_takes_long_does_not_delay_the_sweeps_nor_meet_itself(protea: Protea) -> None:
    slow(protea, 0.3)
    finished(protea, 8)
    supervisor, diary, told = Supervisor(), Diary(), Told()
    swept = runner(protea, diary)
    supervisor.add(swept)
    supervisor.add_scheduled_purge(ScheduledPurge(swept.source, 30, 1, [told]), IntervalTrigger(0, 0.1))
    supervisor.start()
    until(lambda: bool(told.batches), "a batch")
    sweeps = len(diary.sweeps)
    until(lambda: bool(told.reports), "the end of the purge")
    assert len(diary.sweeps) - sweeps >= 4
    assert (told.reports[0].purged, told.batches) == (8, [1] * 8)
    assert supervisor.stop(10)


def test_a_stop_ends_a_purge_after_its_batch(protea: Protea) -> None:
    slow(protea, 0.2)
    finished(protea, 40)
    supervisor, told = Supervisor(), Told()
    supervisor.add_scheduled_purge(ScheduledPurge(protea.source(), 30, 2, [told]), IntervalTrigger(0, 0.2))
    supervisor.start()
    until(lambda: len(told.batches) >= 2, "two batches")
    begun = time.monotonic()
    assert supervisor.stop(3)
    assert time.monotonic() - begun < 3
    assert [report.outcome for report in told.reports] == [Outcome.STOPPED]
    assert len(protea.statuses()) == 40 - sum(told.batches) > 0


def test_a_removed_source_is_purged_no_more(protea: Protea) -> None:
    told = Told()
    with keeping(protea, told) as supervisor:
        until(lambda: bool(told.reports), "a purge")
        supervisor.remove(["main"], 5)
        before = len(told.reports)
        finished(protea)
        time.sleep(0.5)  # longer than two of its intervals: nothing is to happen
        assert len(told.reports) == before and len(protea.statuses()) == 1


def test_of_two_replicas_one_purges(protea: Protea) -> None:
    slow(protea, 0.4)
    finished(protea, 4)
    first, second, source = Told(), Told(), protea.source()
    one = ScheduledPurge(source, 30, 1, [first])
    other = ScheduledPurge(protea.source(name="elsewhere"), 30, 1, [second])
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(one.tick)
        until(lambda: bool(first.batches), "a batch")
        assert other.tick() is not None
        assert second.reports[0].outcome is Outcome.STANDBY and not second.batches
        assert (done := working.result()) is not None and done.purged == 4
    finished(protea)
    assert (after := other.tick()) is not None and (after.outcome, after.purged) == (Outcome.DONE, 1)


def test_who_has_lost_the_lease_goes_no_further(protea: Protea) -> None:
    finished(protea, 4)
    source, told = protea.source(), Told()
    lease = purge_lease(source.engine, source.rule.tables, 60)
    rival = purge_lease(source.engine, source.rule.tables, 60)
    lease.renew_if_due = lambda: not told.batches  # type: ignore[method-assign]
    report = purge(source, PurgeOptions(30, 1), told, lease)
    assert (report.outcome, report.purged) == (Outcome.STANDBY, 1)
    assert rival.acquire(), "the lease was not given back"
    rival.release()


@pytest.mark.parametrize(
    ("cron", "now", "then"),
    [
        ("0 3 * * sun", "2026-11-22T02:59:58", "2026-11-22T03:00:00"),
        ("0 3 * * sun", "2026-11-22T03:00:01", "2026-11-29T03:00:00"),
        ("*/5 * * * *", "2026-11-22T10:01:00", "2026-11-22T10:05:00"),
    ],
)
def test_a_cron_expression_is_in_utc(cron: str, now: str, then: str) -> None:
    context = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert CronTrigger(cron).get_next_fire_time(None, context) == datetime.fromisoformat(then).replace(tzinfo=UTC)


def test_after_a_leap_of_the_clock_one_purge_makes_up_for_all() -> None:
    trigger, first = CronTrigger("* * * * *"), datetime(1970, 1, 1, tzinfo=UTC)
    now = datetime(2026, 11, 22, 10, 0, 30, tzinfo=UTC)
    assert trigger.get_next_fire_time(first, now) == datetime(2026, 11, 22, 10, 1, tzinfo=UTC)
    whole = now.replace(second=0)
    assert trigger.get_next_fire_time(whole, whole) == whole + timedelta(minutes=1)


def configured(protea: Protea, cron: str) -> str:
    return (
        f'[sources.main]\ndatabase_url = "{protea.libpq}"\n[sources.main.purge]\ncron = "{cron}"\n'
        "days_to_keep = 35\nbatch_size = 2\n"
    )


def fake_clock(at: str) -> dict[str, Any]:
    """A host whose clock begins at this moment, and goes on."""
    return {"LD_PRELOAD": faketime(), "FAKETIME": f"@{at}", "DONT_FAKE_MONOTONIC": 1, "TZ": "UTC"}


def test_the_daemon_purges_at_three_on_sunday(protea: Protea, tmp_path: Path) -> None:
    finished(protea, 5)
    young = protea.job(status="succeeded", finished=34 * DAY, age=36 * DAY)
    with Daemon(tmp_path, configured(protea, "0 3 * * 0"), **fake_clock("2026-11-22 02:59:45")) as daemon:
        daemon.comes_up()
        assert daemon.value("reaper_purged_total", "main") == 0
        assert len(protea.statuses()) == 6
        told = daemon.says("Purged 5 finished job(s).", 30)
        assert (told["source"], told["purged"], told["refused"], told["outcome"]) == ("main", 5, 0, "done")
        assert protea.statuses().keys() == {young}
        daemon.shows("reaper_purged_total", 5, "main")
        daemon.sweeps_on(source="main")
        assert daemon.stop()[0] == 0


def test_a_reload_changes_when_the_daemon_purges_and_what(protea: Protea, tmp_path: Path) -> None:
    protea.job(status="succeeded", finished=34 * DAY, age=36 * DAY)
    young = protea.job(status="succeeded", finished=32 * DAY, age=34 * DAY)
    with Daemon(tmp_path, configured(protea, "0 4 * * 0"), **fake_clock("2026-11-22 03:00:45")) as daemon:
        daemon.comes_up()
        daemon.reload(configured(protea, "1 3 * * 0").replace("35", "33"))
        daemon.says("Purged 1 finished job(s).", 30)
        assert protea.statuses().keys() == {young}


def test_a_daemon_in_a_purge_stops_in_time_and_half_of_nothing_is_left(protea: Protea, tmp_path: Path) -> None:
    slow(protea, 0.3)
    finished(protea, 60)
    with Daemon(tmp_path, configured(protea, "* * * * *"), **fake_clock("2026-11-22 02:59:55")) as daemon:
        until(lambda: len(protea.statuses()) < 58, "a batch", 80)  # a slow start misses the first minute
        status, seconds = daemon.stop()
        assert (status, seconds < 5) == (0, True)
        left = len(protea.statuses())
        told = daemon.said(f"Purged {60 - left} finished job(s).")
        assert [line["outcome"] for line in told] == ["stopped"]
    assert 0 < left < 58 and left % 2 == 0


def test_trouble_with_the_database_is_told_once_and_the_next_purge_comes(protea: Protea, server: Embedded) -> None:
    with capture_logs() as lines:
        event_log = EventLog()
        scheduled_purge = ScheduledPurge(protea.source(), 30, 10, [event_log])
        finished(protea)
        name = protea.connection.info.dbname
        protea.connection.close()
        with closed(server.url.replace("+psycopg", ""), name):
            scheduled_purge.tick()
            scheduled_purge.tick()
        scheduled_purge.tick()
    failed = [line for line in lines if line["event"] == "Reaper purge failed"]
    assert [(line["database_away"], line["log_level"]) for line in failed] == [(True, "error")]
    assert [line["event"] for line in lines[-1:]] == ["Purged 1 finished job(s)."]


# --- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database})


def test_the_command_purges_and_says_how_many(reaper: Reaper, protea: Protea) -> None:
    finished(protea, 3)
    result = reaper("purge", "--dry-run")
    assert (result.exit_code, len(protea.statuses())) == (0, 3)
    assert result.stdout.startswith("Would purge 3 job(s) that finished before ")
    result = reaper("purge", "--batch-size", "2")
    assert (result.exit_code, result.stdout) == (0, "Purged 3 finished job(s).\n")
    assert not protea.statuses()
    assert reaper("purge").stdout == "Purged 0 finished job(s).\n"


def test_its_document_has_the_report(reaper: Reaper, protea: Protea) -> None:
    finished(protea, 3)
    [source] = reaper.json("purge", "--days-to-keep", "41")["sources"]
    assert source["purged"] == 0
    [source] = reaper.json("purge", "--dry-run")["sources"]
    assert (source["found"], source["dry_run"], source["outcome"]) == (3, True, "done")
    [source] = reaper.json("purge")["sources"]
    assert (source["purged"], source["refusals"], source["error"], source["source"]) == (3, {}, None, "default")


def test_what_the_configuration_says_holds_and_flags_are_above_it(reaper: Reaper, protea: Protea) -> None:
    finished(protea)
    reaper.configure(f'[sources.a]\ndatabase_url = "{protea.libpq}"\n[sources.a.purge]\ndays_to_keep = 60\n')
    del reaper.given["REAPER_DATABASE_URL"]
    assert reaper("purge").stdout == "Purged 0 finished job(s).\n"
    assert reaper("purge", "--days-to-keep", "30").stdout == "Purged 1 finished job(s).\n"


@pytest.mark.parametrize("profile", ["noetl", "adhese-schedule"])
def test_a_source_that_cannot_be_purged_is_wrong_usage(reaper: Reaper, profile: str) -> None:
    result = reaper("purge", REAPER_PROFILE=profile)
    assert (result.exit_code, result.stdout) == (exit_codes.USAGE, "")
    assert result.stderr.startswith(f"reaper: source default: profile '{profile}'") and result.stderr.count("\n") == 1
    assert reaper.json("purge", code=exit_codes.USAGE, REAPER_PROFILE=profile)["error"]


def test_sources_that_cannot_be_purged_do_not_keep_the_others_from_it(reaper: Reaper, protea: Protea) -> None:
    finished(protea)
    reaper.configure(
        f'[sources.a]\ndatabase_url = "{protea.libpq}"\n'
        f'[sources.b]\ndatabase_url = "{protea.libpq}"\nprofile = "noetl"\n'
    )
    del reaper.given["REAPER_DATABASE_URL"]
    result = reaper("purge")
    assert (result.exit_code, result.stdout) == (0, "Purged 1 finished job(s).\n")
    assert result.stderr.startswith("reaper: source b: profile 'noetl': a purge of logs is not supported")
    assert reaper("purge", "--source", "b").exit_code == exit_codes.USAGE


def test_what_the_database_refused_is_told_with_status_1(reaper: Reaper, protea: Protea) -> None:
    finished(protea, 2)
    protea.connection.execute("CREATE TABLE invoice (job uuid REFERENCES job)")
    protea.connection.execute("INSERT INTO invoice SELECT id FROM job LIMIT 1")
    result = reaper("purge")
    assert result.exit_code == exit_codes.FAILED
    assert "Purged 1 finished job(s).\nRefused by the database: 1 job(s): update or delete on table" in result.stdout


def test_a_database_that_is_away_has_its_status(reaper: Reaper) -> None:
    result = reaper("purge", REAPER_DATABASE_URL="postgresql://someone:geheim@127.0.0.1:1/nothing")
    assert result.exit_code == exit_codes.AWAY and result.stderr.startswith("reaper: source default: ")


def test_ctrl_c_ends_it_between_two_batches(reaper: Reaper, protea: Protea) -> None:
    slow(protea, 0.3)
    finished(protea, 60)
    with reaper.process("purge", "--batch-size", "2") as process:
        until(lambda: len(protea.statuses()) < 60, "a batch", 30)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    assert process.returncode == exit_codes.INTERRUPTED
    left = len(protea.statuses())
    assert (
        out == f"Purged {60 - left} finished job(s).\nStopped between two batches; the rest waits for the next purge.\n"
    )
    assert error == "Stopping after this batch; once more to stop at once.\n"
    assert 0 < left < 60 and left % 2 == 0


def test_killed_it_loses_nothing_and_the_next_one_goes_on(reaper: Reaper, protea: Protea) -> None:
    slow(protea, 0.2)
    finished(protea, 30)
    with reaper.process("purge", "--batch-size", "2") as process:
        until(lambda: len(protea.statuses()) < 26, "some batches", 30)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    left = len(protea.statuses())
    assert left % 2 == 0
    protea.connection.execute("DROP TRIGGER slow_purge ON job")
    until(lambda: "Purged" in reaper("purge").stdout and not protea.statuses(), "the rest is gone")


@pytest.mark.parametrize(("words", "answer", "left"), [((), b"n\n", 3), ((), b"y\n", 0), (("--force",), b"", 0)])
def test_on_a_terminal_it_asks_and_shows_a_bar(
    reaper: Reaper, protea: Protea, words: tuple[str, ...], answer: bytes, left: int
) -> None:
    slow(protea, 0.2)
    finished(protea, 3)
    ours, theirs = pty.openpty()
    env = environment({**reaper.given, "TERM": "xterm", "COLUMNS": "100"})
    with subprocess.Popen(
        [*COMMAND, "purge", "--batch-size", "1", *words], env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        screen = Screen(ours)
        if answer:
            until(lambda: b"Delete 3 finished job(s)? [y/N]:" in screen.shown, "the question", 30)
            os.write(ours, answer)
        process.wait(30)
    screen.close()
    assert process.returncode == 0
    assert len(protea.statuses()) == left
    assert (b"Purging default" in screen.shown and b"/3" in screen.shown) or left
    assert (b"Nothing was changed." in screen.shown) is bool(left)


class Screen:
    """What a terminal was sent."""

    def __init__(self, end: int) -> None:
        self.shown, self._end = b"", end
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._end, 4096)
            except OSError:  # the other end is closed
                return
            if not piece:
                return
            self.shown += piece

    def close(self) -> None:
        self._reader.join(5)
        os.close(self._end)
