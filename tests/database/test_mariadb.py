"""The rule, the evidence and the server's behaviour on a real MariaDB: the same as on PostgreSQL."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymysql
import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError

import reaper
from reaper.database.connections import read_server_clock
from reaper.database.errors import ErrorKind, classify, short_message
from reaper.database.timeouts import MARGIN_SECONDS, Timeouts
from reaper.errors import DatabaseUnavailable
from reaper.model import Evidence, Key, KindThresholds, Threshold, Thresholds, Verdict
from reaper.profile import resolve
from reaper.source import Source
from reaper.sql.expressions import key_in_batch, text_of
from reaper.sql.keys import key_parameters
from reaper.sql.tables import table_of
from reaper.staleness.downtime import DowntimeTracker
from tests.support.mariadb import MariaDB, temporary
from tests.support.protea import HOUR, MINUTE, PATIENCE, AsOf, Protea, eventually, thresholds

TABLES = Path(reaper.__file__).parent / "profiles" / "protea.mariadb.sql"
NOON = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
_numbers = itertools.count()


class Scene:
    """A MariaDB database with the protea tables. Ages are seconds before the database's now."""

    def __init__(self, server: MariaDB, name: str) -> None:
        self.server, self.name, self.url = server, name, server.url(name)
        self.connection = server.connect(name)
        self._names = itertools.count()

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def job(
        self,
        *,
        age: float | None = 8 * HOUR,
        created: float | None = None,
        status: str = "running",
        operation: str = "embed",
        parent: str | None = None,
        finished: float | None = None,
    ) -> str:
        job = f"job-{next(self._names)}"
        ago = "utc_timestamp(6) - INTERVAL %s SECOND"
        self.run(
            "INSERT INTO job (id, operation, queue_name, status, created_at, started_at, finished_at, parent_job_id)"
            f" VALUES (%s, %s, 'q', %s, {ago}, {ago}, {ago}, %s)",
            *(job, operation, status, created if created is not None else age or 0, age, finished, parent),
        )
        return job

    def event(self, job: str, *, age: float = 0) -> None:
        self.run(
            "INSERT INTO job_event (job_id, ts, event) VALUES (%s, utc_timestamp(6) - INTERVAL %s SECOND, 'x')",
            job,
            age,
        )

    def source(self, limits: Thresholds | None = None, timeouts: Timeouts = PATIENCE) -> Source:
        return Source("main", self.url, resolve("protea"), limits or thresholds(), timeouts)

    def judge(self, *jobs: str, source: Source | None = None) -> list[Evidence]:
        return judge(source or self.source(), [(job,) for job in jobs])

    def verdict(self, job: str, source: Source | None = None) -> Verdict:
        """What the rule says of one job, by its key and in the survey of all: they must agree."""
        source = source or self.source()
        [evidence] = self.judge(job, source=source)
        with source.connect() as connection:
            context = source.begin_evaluation(connection, DowntimeTracker(0))
            with source.transaction(connection, read_only=True):
                found = {candidate.key for candidate in source.survey.stream(connection, context)}
        assert ((job,) in found) is (evidence.verdict is Verdict.STALE)
        return evidence.verdict


def judge(source: Source, keys: Sequence[Key]) -> list[Evidence]:
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            return source.lookup.evidence(connection, context, keys)


@pytest.fixture
def scene(mariadb: MariaDB) -> Iterator[Scene]:
    name = f"protea_{next(_numbers)}"
    mariadb.create_database(name, TABLES)
    made = Scene(mariadb, name)
    yield made
    made.connection.close()
    mariadb.drop_database(name)


@contextmanager
def setting(server: MariaDB, name: str, value: object) -> Iterator[None]:
    """A global variable that sessions begin with."""
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT @@GLOBAL.{name}")
        [(before,)] = cursor.fetchall()
        cursor.execute(f"SET GLOBAL {name} = %s", (value,))
        try:
            yield
        finally:
            cursor.execute(f"SET GLOBAL {name} = %s", (before,))


# --- the rule ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "heard", "verdict"),
    [
        (8 * HOUR, None, Verdict.STALE),
        (8 * HOUR, 31 * MINUTE, Verdict.STALE),
        (8 * HOUR, 29 * MINUTE, Verdict.SPARED),
        (6 * HOUR + MINUTE, 2 * HOUR, Verdict.STALE),
        (6 * HOUR - MINUTE, 2 * HOUR, Verdict.YOUNG),
        (MINUTE, None, Verdict.YOUNG),
    ],
)
def test_a_job_is_stale_when_it_is_past_its_timeout_and_silent(
    scene: Scene, age: float, heard: float | None, verdict: Verdict
) -> None:
    job = scene.job(age=age)
    if heard is not None:
        scene.event(job, age=heard)
    assert scene.verdict(job) is verdict


def test_a_job_without_a_start_counts_from_its_creation(scene: Scene) -> None:
    old, young = scene.job(age=None, created=8 * HOUR), scene.job(age=None, created=HOUR)
    assert scene.verdict(old) is Verdict.STALE
    assert scene.verdict(young) is Verdict.YOUNG
    [evidence] = scene.judge(old)
    assert (evidence.started_from, evidence.witness) == ("created_at", "start")


def test_children_keep_their_parent_alive(scene: Scene) -> None:
    parents = [scene.job() for _ in range(4)]
    scene.job(age=7 * HOUR, parent=parents[0])
    scene.job(age=7 * HOUR, status="succeeded", finished=5 * MINUTE, parent=parents[1])
    scene.job(age=7 * HOUR, status="succeeded", finished=2 * HOUR, parent=parents[2])
    verdicts = [scene.verdict(parent) for parent in parents]
    assert verdicts == [Verdict.SPARED, Verdict.SPARED, Verdict.STALE, Verdict.STALE]
    [evidence] = scene.judge(parents[1])
    assert evidence.witness == "child job"


def test_a_job_that_does_not_run_has_ended(scene: Scene) -> None:
    assert scene.verdict(scene.job(status="succeeded", finished=HOUR)) is Verdict.ENDED


def test_kinds_are_told_apart_by_case_accent_and_blank(scene: Scene) -> None:
    short = Threshold(HOUR, "kind embed")
    source = scene.source(thresholds(kinds={"embed": KindThresholds(timeout=short)}))
    jobs = {name: scene.job(age=2 * HOUR, operation=name) for name in ("embed", "Embed", "embed ", "émbed")}
    verdicts = {name: scene.verdict(job, source) for name, job in jobs.items()}
    assert verdicts.pop("embed") is Verdict.STALE
    assert set(verdicts.values()) == {Verdict.YOUNG}
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            found = source.lookup.list_keys(connection, context, verdict=None, kind="embed", limit=9)
    assert found == [(jobs["embed"],)]


def test_a_survey_counts_what_the_rule_says(scene: Scene) -> None:
    for age in (MINUTE, 7 * HOUR, 9 * HOUR):
        scene.job(age=age)
    source = scene.source()
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            census, crossed = source.survey.count(connection, context, None)
            stale = source.survey.count_stale(connection, context)
            heard = connection.execute(source.survey.newly_spared_query(context, None, 10, 3)).all()
    assert (census.running, census.past_timeout, crossed, stale, heard) == (3, 2, 2, 2, [])
    assert census.oldest_started_epoch == pytest.approx(context.now.timestamp() - 9 * HOUR, abs=5)
    assert census.most_overdue == pytest.approx(1.5, abs=0.01)


def test_a_survey_finds_the_job_furthest_past_its_own_timeout(scene: Scene, protea: Protea) -> None:
    """The oldest is far from it: its kind may run for a week."""
    kinds = {
        "train": KindThresholds(Threshold(168 * HOUR, "kind train")),
        "embed": KindThresholds(Threshold(HOUR, "kind embed")),
    }
    limits = thresholds(kinds=kinds)
    rows = resolve(
        "own", {"own": {"extends": "protea", "limits": {"timeout": {"column": "progress_total", "unit": "s"}}}}
    )
    for place in (scene, protea):
        place.job(age=100 * HOUR, operation="train")
        place.job(age=9 * HOUR, operation="predict")
        place.job(age=5 * HOUR, operation="embed")
    for execute in (scene.run, protea.connection.execute):
        execute("UPDATE job SET progress_total = 3240 WHERE operation = 'predict'")
    told = []
    for url in (scene.url, protea.url):
        for profile in (resolve("protea"), rows):
            source = Source("main", url, profile, limits, PATIENCE)
            with source.connect() as connection:
                context = source.begin_evaluation(connection, DowntimeTracker(0))
                with source.transaction(connection, read_only=True):
                    told.append(round(source.survey.census(connection, context).most_overdue, 2))
    assert told == [5.0, 10.0] * 2


def test_a_zero_date_is_no_moment(scene: Scene) -> None:
    job = scene.job(created=HOUR)
    with scene.connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("UPDATE job SET started_at = '0000-00-00' WHERE id = %s", (job,))
    [evidence] = scene.judge(job)
    assert evidence.verdict is Verdict.YOUNG
    assert evidence.age_seconds == pytest.approx(HOUR, abs=60)


# --- evidence ----------------------------------------------------------------------------------------------------

ROWS: Sequence[tuple[str, str | None, str]] = (
    ("00000000-0000-0000-0000-000000000001", "2026-07-01 03:00:00.120000", "2026-07-01 02:59:59"),
    ("00000000-0000-0000-0000-000000000002", None, "2026-07-01 02:00:00.000001"),
    ("00000000-0000-0000-0000-000000000003", "2026-07-01 11:00:00", "2026-07-01 11:00:00"),
)
SIGNS = ((ROWS[0][0], "2026-07-01 09:10:50"), (ROWS[1][0], "2026-07-01 11:59:59.999000"))
_FLUENT = {"judged_at", "age_seconds", "silence_seconds"}


def test_evidence_reads_the_same_as_on_postgresql(scene: Scene, protea: Protea) -> None:
    insert = "INSERT INTO job (id, operation, queue_name, status, started_at, created_at) VALUES "
    for row in ROWS:
        scene.run(f"{insert} (%s, 'embed', 'q', 'running', %s, %s)", *row)
        protea.connection.execute(f"{insert} (%s, 'embed', 'q', 'running', %s::timestamptz, %s)", row)
    for sign in SIGNS:
        scene.run("INSERT INTO job_event (job_id, ts, event) VALUES (%s, %s, 'x')", *sign)
        protea.connection.execute("INSERT INTO job_event (job_id, ts, event) VALUES (%s, %s, 'x')", sign)
    limits = thresholds(kinds={"embed": KindThresholds(stall=Threshold(45 * MINUTE, "kind embed"))})
    keys = [(row[0],) for row in ROWS]
    told: list[list[dict[str, Any]]] = []
    for url in (scene.url, protea.url):
        source = AsOf("main", url, resolve("protea"), limits, PATIENCE)
        source.now = NOON
        found = judge(source, keys)
        assert [evidence.verdict for evidence in found] == [Verdict.STALE, Verdict.SPARED, Verdict.YOUNG]
        told.append([{name: getattr(each, name) for name in Evidence.__dataclass_fields__} for each in found])
    for mine, theirs in zip(*told, strict=True):
        for name, value in mine.items():
            if name in _FLUENT | {"stale_in_seconds"}:
                assert type(value) is type(theirs[name]), name
            else:
                assert value == theirs[name], name
        assert str(mine["judged_at"])[-6:] == str(theirs["judged_at"])[-6:] == "+00:00"
        assert mine["age_seconds"] == pytest.approx(theirs["age_seconds"], abs=60)


# --- keys --------------------------------------------------------------------------------------------------------


@pytest.fixture
def numbered(scene: Scene) -> Scene:
    """A scene with a table whose key is a number and a text."""
    scene.run("CREATE TABLE pairs (a BIGINT, b VARCHAR(20), KEY (a, b))")
    scene.run(
        "INSERT INTO pairs VALUES (1, 'x'), (1, 'y'), (2, 'x'), (2, 'y'), (9007199254740993, 'x'), (1, 'X'), (1, 'x ')"
    )
    return scene


def chosen(scene: Scene, columns: Sequence[str], keys: Sequence[Key]) -> list[Key]:
    pairs = table_of("pairs", ["a", "b"])
    mine = [pairs.c[name] for name in columns]
    source = scene.source()
    with source.connect() as connection, source.transaction(connection, read_only=True):
        query = select(*(text_of(column) for column in (pairs.c.a, pairs.c.b))).where(key_in_batch(mine))
        return sorted(tuple(row) for row in connection.execute(query, key_parameters(keys)))


def test_keys_of_several_columns_are_found_whole_and_exactly(numbered: Scene) -> None:
    wanted = [("1", "x"), ("2", "y"), ("2", "'; DROP TABLE pairs; -- %s \\ \""), ("9007199254740993", "x")]
    assert chosen(numbered, ["a", "b"], wanted) == [("1", "x"), ("2", "y"), ("9007199254740993", "x")]
    assert chosen(numbered, ["a"], [("9007199254740992",), ("2x",)]) == []
    assert chosen(numbered, ["b"], [("X",)]) == [("1", "X")]


def test_a_thousand_keys_are_looked_up_by_the_index(scene: Scene) -> None:
    scene.run("SET max_recursive_iterations = 100000")
    scene.run(
        "INSERT INTO job (id, operation, queue_name, status) WITH RECURSIVE n (i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        " SELECT CONCAT('k', i), 'x', 'q', 'running' FROM n"
    )
    scene.run("ANALYZE TABLE job")
    source = scene.source()
    keys = [(f"k{n * 17}",) for n in range(1, 1001)]
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            before = rows_read(connection)
            assert len(source.lookup.evidence(connection, context, keys)) == 1000
            assert rows_read(connection) - before < 15_000


def rows_read(connection: Connection) -> int:
    """How many rows, of tables and of what it works out on its way, the server has handled for this session."""
    return sum(int(row[1]) for row in connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")))


def test_what_a_person_types_names_a_job_only_by_its_whole_key(scene: Scene) -> None:
    scene.run("CREATE TABLE task (id BIGINT PRIMARY KEY, state VARCHAR(9), began DATETIME(6))")
    scene.run("INSERT INTO task VALUES (0, 'running', now()), (12, 'running', now())")
    profile = {
        "jobs": {
            "table": "task",
            "key": ["id"],
            "started": ["began"],
            "running": {"column": "state", "in": ["running"]},
        },
        "actions": {"fail": {"set": {"state": "failed"}}},
    }
    source = Source("main", scene.url, resolve("mine", {"mine": profile}), thresholds(), PATIENCE)
    with source.connect() as connection, source.transaction(connection, read_only=True):
        named = {name: source.lookup.find(connection, (name,)) for name in ("12", "12abc", "abc", "", "13")}
    assert named == {"12": ("12",), "12abc": None, "abc": None, "": None, "13": None}


# --- the server --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["+05:30", "-11:00"])
def test_a_session_in_another_time_zone_judges_the_same(scene: Scene, zone: str) -> None:
    silent, heard = scene.job(), scene.job()
    scene.event(heard, age=MINUTE)
    with setting(scene.server, "time_zone", zone):
        source = scene.source()
        assert (scene.verdict(silent, source), scene.verdict(heard, source)) == (Verdict.STALE, Verdict.SPARED)
        with source.connect() as connection:
            context = source.begin_evaluation(connection, DowntimeTracker(0))
        [(now,)] = scene.run("SELECT utc_timestamp(6)")
        assert abs(now.replace(tzinfo=UTC) - context.now) < timedelta(seconds=30)


def test_a_server_of_other_habits_is_asked_the_same(scene: Scene) -> None:
    job = scene.job()
    with (
        setting(scene.server, "sql_mode", "ANSI,NO_BACKSLASH_ESCAPES,NO_ZERO_DATE,PIPES_AS_CONCAT"),
        setting(scene.server, "tx_isolation", "SERIALIZABLE"),
        setting(scene.server, "div_precision_increment", 0),
    ):
        assert scene.verdict(job) is Verdict.STALE


def test_a_second_statement_sees_what_was_committed_since_the_first(scene: Scene) -> None:
    """The rule is judged again in a fresh snapshot."""
    job, source = scene.job(), scene.source()
    with source.connect() as connection, source.transaction(connection):
        count = text("SELECT count(*) FROM job_event")
        assert connection.execute(count).scalar_one() == 0
        scene.event(job)
        assert connection.execute(count).scalar_one() == 1


def test_what_only_reads_can_write_nothing(scene: Scene) -> None:
    assert met(scene, "DELETE FROM job", read_only=True)[0] is ErrorKind.UNAVAILABLE


def test_a_servers_start_is_the_same_in_every_look(scene: Scene) -> None:
    source, starts = scene.source(), set()
    with source.connect() as connection:
        deadline = None
        while True:
            with source.transaction(connection):
                contact = read_server_clock(connection)
            starts.add(contact.server_started)
            deadline = deadline or contact.now + timedelta(seconds=2.1)
            if contact.now > deadline:
                break
    assert len(starts) == 1
    assert contact.server_started < contact.now


def test_a_server_that_takes_no_changes_is_away(scene: Scene) -> None:
    source = scene.source()
    with (
        setting(scene.server, "read_only", 1),
        source.connect() as connection,
        pytest.raises(DatabaseUnavailable, match="read-only: it takes no changes"),
    ):
        source.begin_evaluation(connection, DowntimeTracker(0))
    with source.connect() as connection:
        source.begin_evaluation(connection, DowntimeTracker(0))


def test_a_database_or_user_that_there_is_not_is_away(scene: Scene) -> None:
    for url, said in (
        (scene.server.url("nowhere"), "Unknown database 'nowhere'"),
        (scene.server.url(scene.name, user="nobody"), "Access denied for user 'nobody'"),
        ("mariadb+pymysql://x:hunter2@127.0.0.1:1/d", "Can't connect"),
    ):
        source = Source("main", url, resolve("protea"), thresholds(), PATIENCE)
        with pytest.raises(DatabaseUnavailable, match=said) as raised, source.connect():
            pass
        assert "hunter2" not in str(raised.value)


# --- the lease ---------------------------------------------------------------------------------------------------


def test_one_replica_at_a_time_has_the_lease(scene: Scene) -> None:
    mine, theirs = scene.source().lease(60), scene.source().lease(60)
    assert (mine.acquire(), theirs.acquire(), mine.acquire(), mine.renew_if_due()) == (True, False, True, True)
    mine.release()
    assert theirs.acquire()
    theirs.release()


def test_who_loses_the_connection_loses_the_lease(scene: Scene) -> None:
    mine, theirs = scene.source().lease(60), scene.source().lease(60)
    assert mine.acquire()
    [(owner,)] = scene.run(
        "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    )
    scene.run(f"KILL {owner}")
    eventually(theirs.acquire)
    assert not mine.acquire()
    theirs.release()


def test_a_lease_that_is_not_renewed_ends_by_itself(scene: Scene) -> None:
    mine, theirs = scene.source().lease(1), scene.source().lease(60)
    assert mine.acquire()
    assert not theirs.acquire()
    eventually(theirs.acquire)
    theirs.release()
    mine.release()


def test_each_database_has_a_lease_of_its_own(scene: Scene, mariadb: MariaDB) -> None:
    mariadb.create_database("protea_twin", TABLES)
    try:
        mine = scene.source().lease(60)
        twin = Source("main", mariadb.url("protea_twin"), resolve("protea"), thresholds(), PATIENCE).lease(60)
        assert mine.acquire() and twin.acquire()
        mine.release()
        twin.release()
    finally:
        mariadb.drop_database("protea_twin")


# --- trouble -----------------------------------------------------------------------------------------------------


def met(
    scene: Scene, statement: str, *, source: Source | None = None, read_only: bool = False
) -> tuple[ErrorKind, str]:
    """What the server's refusal of a statement means, and its words."""
    source = source or scene.source()
    with (
        source.connect() as connection,
        pytest.raises(DBAPIError) as raised,
        source.transaction(connection, read_only=read_only),
    ):
        connection.exec_driver_sql(statement)
    return classify(raised.value), short_message(raised.value)


def test_errors_are_sorted_by_whom_they_concern(scene: Scene) -> None:
    job = scene.job()
    scene.run("CREATE TABLE once (id INT PRIMARY KEY, n TINYINT CHECK (n > 0))")
    scene.run("INSERT INTO once VALUES (1, 1)")
    scene.run(
        "CREATE TRIGGER careful BEFORE UPDATE ON job FOR EACH ROW"
        " BEGIN IF NEW.operation = 'no' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this one'; END IF; END"
    )
    for statement, expected in {
        "SELECT nothing FROM job": ErrorKind.STATEMENT,
        "SELECT * FROM nowhere": ErrorKind.STATEMENT,
        "SELEC 1": ErrorKind.STATEMENT,
        "INSERT INTO once VALUES (1, 2)": ErrorKind.DUPLICATE,
        "INSERT INTO once VALUES (2, 0)": ErrorKind.ROW,
        "INSERT INTO once VALUES (2, 1000)": ErrorKind.ROW,
        "INSERT INTO job_event (job_id, event) VALUES ('none', 'x')": ErrorKind.ROW,
        f"UPDATE job SET status = 'bogus' WHERE id = '{job}'": ErrorKind.ROW,
        "UPDATE job SET operation = 'no'": ErrorKind.ROW,
        "UPDATE job SET started_at = 'yesterday'": ErrorKind.ROW,
    }.items():
        assert met(scene, statement)[0] is expected, statement
    assert met(scene, "UPDATE job SET operation = 'no'")[1] == "not this one"
    assert met(scene, "UPDATE job SET operation = 'x'", read_only=True)[0] is ErrorKind.UNAVAILABLE


def test_a_privilege_that_is_missing_concerns_the_statement(scene: Scene) -> None:
    scene.run("CREATE USER reader@localhost")
    try:
        scene.run("GRANT SELECT ON job TO reader@localhost")
        source = Source("main", scene.server.url(scene.name, "reader"), resolve("protea"), thresholds(), PATIENCE)
        kind, said = met(scene, "UPDATE job SET status = 'failed'", source=source)
        assert kind is ErrorKind.STATEMENT
        assert "UPDATE command denied" in said
        assert met(scene, "SELECT * FROM job_event", source=source)[0] is ErrorKind.STATEMENT
    finally:
        scene.run("DROP USER reader@localhost")


def test_what_takes_too_long_is_slow(scene: Scene) -> None:
    source = scene.source(timeouts=Timeouts(statement=0.3, connect=5))
    assert (
        met(scene, "SELECT SLEEP(20) FROM job_event UNION SELECT BENCHMARK(1000000000, MD5('x'))", source=source)[0]
        is ErrorKind.TIMEOUT
    )


def test_waiting_too_long_for_a_lock_is_slow(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reaper.database.mariadb.LOCK_SECONDS", 1)
    scene.job()
    with holding(scene, "SELECT * FROM job FOR UPDATE"):
        assert met(scene, "UPDATE job SET operation = 'x'")[0] is ErrorKind.TIMEOUT
    with holding(scene, "SELECT * FROM job"):
        assert met(scene, "ALTER TABLE job ADD COLUMN more INT")[0] is ErrorKind.TIMEOUT


def test_who_is_cut_off_takes_the_database_for_away(scene: Scene) -> None:
    source = scene.source()
    with source.connect() as connection, pytest.raises(DBAPIError) as raised, source.transaction(connection):
        [number] = connection.execute(text("SELECT CONNECTION_ID()")).scalars()
        scene.run(f"KILL {number}")
        connection.execute(text("SELECT 1"))
    assert classify(raised.value) is ErrorKind.UNAVAILABLE


def test_a_deadlock_passes(scene: Scene) -> None:
    one, two = scene.job(), scene.job()
    source, told = scene.source(), list[ErrorKind]()
    update = "UPDATE job SET operation = %s WHERE id = %s"

    def other(first: threading.Event) -> None:
        with scene.server.connect(scene.name) as connection, connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(update, ("theirs", two))
            # Whoever has written less is the one that is sent away.
            cursor.execute("INSERT INTO job_event (job_id, event) SELECT %s, 'x' FROM seq_1_to_500", (two,))
            first.set()
            cursor.execute(update, ("theirs", one))
            cursor.execute("ROLLBACK")

    first = threading.Event()
    with source.connect() as connection:
        try:
            with source.transaction(connection):
                connection.exec_driver_sql(update, ("mine", one))
                thread = threading.Thread(target=other, args=(first,))
                thread.start()
                assert first.wait(10)
                connection.exec_driver_sql(update, ("mine", two))
        except DBAPIError as error:
            told.append(classify(error))
        thread.join(30)
    assert told == [ErrorKind.TRANSIENT]


@contextmanager
def holding(scene: Scene, statement: str) -> Iterator[pymysql.Connection[pymysql.cursors.Cursor]]:
    """Another session's open transaction."""
    with scene.server.connect(scene.name) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(statement)
        yield connection
        connection.rollback()


# --- whoever holds a row -----------------------------------------------------------------------------------------


def test_the_only_one_who_holds_rows_is_named(scene: Scene) -> None:
    job, source = scene.job(), scene.source()

    def named() -> Any:
        # Whoever asks for the transactions more often than ten times a second is shown what he was shown before.
        time.sleep(0.15)
        with source.connect() as connection, source.transaction(connection, read_only=True):
            return source.lock_holder(connection, (job,))

    locked = f"SELECT * FROM job WHERE id = '{job}' FOR UPDATE"
    assert named() is None
    with setting(scene.server, "time_zone", "+07:00"), holding(scene, locked) as other:
        eventually(lambda: named() is not None)
        holder = named()
        with other.cursor() as cursor:
            cursor.execute("SELECT CONNECTION_ID()")
            [(number,)] = cursor.fetchall()
        assert (holder.pid, holder.user, holder.state) == (number, "root", "idle in transaction")
        assert 0 <= holder.held_seconds < 60
        with holding(scene, "INSERT INTO job (id, operation, queue_name) VALUES ('other', 'x', 'q')"):
            eventually(lambda: named() is None)


def test_a_sign_of_life_waits_for_our_lock_on_its_job_and_its_job_is_skipped_while_it_is_written(scene: Scene) -> None:
    """What the claim rests on: the foreign key of an event needs a shared lock on the row of its job."""
    job, other = scene.job(), scene.job()
    skip = f"SELECT id FROM job WHERE id IN ('{job}', '{other}') FOR UPDATE SKIP LOCKED"
    source = scene.source()

    def free() -> set[str]:
        with source.connect() as connection, source.transaction(connection):
            return {row[0] for row in connection.exec_driver_sql(skip)}

    assert free() == {job, other}
    with holding(scene, f"INSERT INTO job_event (job_id, event) VALUES ('{job}', 'x')"):
        assert free() == {other}
    with source.connect() as connection, source.transaction(connection):
        assert len(connection.exec_driver_sql(skip).all()) == 2
        scene.run("SET innodb_lock_wait_timeout = 1")
        with pytest.raises(pymysql.OperationalError, match="Lock wait timeout"):
            scene.event(job)
    scene.event(job)


# --- outages -----------------------------------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[Scene]:
    """A scene on a server that the test may stop."""
    with temporary() as server:
        server.create_database("protea", TABLES)
        made = Scene(server, "protea")
        yield made
        made.connection.close()


def test_a_server_that_was_stopped_is_away_and_one_that_comes_back_has_a_new_start(own: Scene) -> None:
    source, downtime = own.source(), DowntimeTracker(60)
    with source.connect() as connection:
        source.begin_evaluation(connection, downtime)
        own.server.stop()
        with pytest.raises(DBAPIError) as raised, source.transaction(connection):
            pass
        assert classify(raised.value) is ErrorKind.UNAVAILABLE
    with pytest.raises(DatabaseUnavailable, match="Can't connect"), source.connect():
        pass
    with pytest.raises(DatabaseUnavailable, match="Can't connect"), source.cached_connection():
        pass
    own.server.start()
    with source.connect() as connection:
        source.begin_evaluation(connection, downtime)
    assert downtime.excluded_seconds(HOUR) > 0


def test_a_server_that_stands_still_is_hung_up_on(own: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MARGIN_SECONDS > 1
    monkeypatch.setattr("reaper.database.mariadb.MARGIN_SECONDS", 0.5)
    source = own.source(timeouts=Timeouts(statement=0.5, connect=1))
    with source.connect() as connection, own.server.frozen():
        with pytest.raises(DBAPIError) as raised, source.transaction(connection):
            pass
        assert classify(raised.value) is ErrorKind.UNAVAILABLE
        with pytest.raises(DatabaseUnavailable), source.connect():
            pass


def test_a_connection_is_kept_while_its_server_answers(own: Scene) -> None:
    source = own.source(timeouts=Timeouts(statement=30, connect=0.5))
    with source.cached_connection() as connection:
        first = connection.connection.driver_connection
    with source.cached_connection() as connection:
        assert connection.connection.driver_connection is first
        source.begin_evaluation(connection, DowntimeTracker(0))
    with own.server.frozen(), pytest.raises(DatabaseUnavailable), source.cached_connection():
        pass
    with source.cached_connection() as connection:
        assert connection.connection.driver_connection is not first
        source.begin_evaluation(connection, DowntimeTracker(0))
