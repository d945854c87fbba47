"""The rule, the evidence and the keys on a real MariaDB: the same as on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

from reaper.model import Evidence, Key, KindThresholds, Threshold, Verdict
from reaper.profile import resolve
from reaper.source import Source
from reaper.sql.expressions import key_in_batch, text_of
from reaper.sql.keys import key_parameters
from reaper.sql.statement import CompiledStatement
from reaper.sql.tables import table_of
from reaper.staleness.downtime import DowntimeTracker
from tests.database.mariadb_protea import NOON, MariaDBProtea, judge
from tests.support.protea import HOUR, MINUTE, PATIENCE, AsOf, Protea, thresholds

# --- the rule --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "sign_age", "verdict"),
    [
        (8 * HOUR, None, Verdict.STALE),
        (8 * HOUR, 31 * MINUTE, Verdict.STALE),
        (8 * HOUR, 29 * MINUTE, Verdict.SPARED),
        (6 * HOUR + MINUTE, 2 * HOUR, Verdict.STALE),
        (6 * HOUR - MINUTE, 2 * HOUR, Verdict.YOUNG),
        (MINUTE, None, Verdict.YOUNG),
    ],
)
def test_job_is_stale_when_it_is_past_its_timeout_and_silent(
    db: MariaDBProtea, age: float, sign_age: float | None, verdict: Verdict
) -> None:
    job = db.job(age=age)
    if sign_age is not None:
        db.event(job, age=sign_age)
    assert db.verdict(job) is verdict


def test_job_without_a_start_counts_from_its_creation(db: MariaDBProtea) -> None:
    old, young = db.job(age=None, created=8 * HOUR), db.job(age=None, created=HOUR)
    assert db.verdict(old) is Verdict.STALE
    assert db.verdict(young) is Verdict.YOUNG
    [evidence] = db.judge(old)
    assert (evidence.started_from, evidence.witness) == ("created_at", "start")


def test_children_keep_their_parent_alive(db: MariaDBProtea) -> None:
    parents = [db.job() for _ in range(4)]
    db.job(age=7 * HOUR, parent=parents[0])
    db.job(age=7 * HOUR, status="succeeded", finished=5 * MINUTE, parent=parents[1])
    db.job(age=7 * HOUR, status="succeeded", finished=2 * HOUR, parent=parents[2])
    verdicts = [db.verdict(parent) for parent in parents]
    assert verdicts == [Verdict.SPARED, Verdict.SPARED, Verdict.STALE, Verdict.STALE]
    [evidence] = db.judge(parents[1])
    assert evidence.witness == "child job"


def test_job_that_does_not_run_has_ended(db: MariaDBProtea) -> None:
    assert db.verdict(db.job(status="succeeded", finished=HOUR)) is Verdict.ENDED


def test_kinds_differ_by_case_accent_and_blank(db: MariaDBProtea) -> None:
    short = Threshold(HOUR, "kind embed")
    source = db.source(thresholds(kinds={"embed": KindThresholds(timeout=short)}))
    jobs = {name: db.job(age=2 * HOUR, operation=name) for name in ("embed", "Embed", "embed ", "émbed")}
    verdicts = {name: db.verdict(job, source) for name, job in jobs.items()}
    assert verdicts.pop("embed") is Verdict.STALE
    assert set(verdicts.values()) == {Verdict.YOUNG}
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            found = source.lookup.list_keys(connection, context, verdict=None, kind="embed", limit=9)
    assert found == [(jobs["embed"],)]


def test_survey_counts_the_verdicts_of_the_rule(db: MariaDBProtea) -> None:
    for age in (MINUTE, 7 * HOUR, 9 * HOUR):
        db.job(age=age)
    source = db.source()
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            census, crossed = source.survey.count(connection, context, None)
            stale = source.survey.count_stale(connection, context)
            newly_spared = source.survey.newly_spared(connection, context, None, 10, 3)
    assert (census.running, census.past_timeout, crossed, stale, newly_spared) == (3, 2, 2, 2, [])
    assert census.oldest_started_epoch == pytest.approx(context.now.timestamp() - 9 * HOUR, abs=5)
    assert census.most_overdue == pytest.approx(1.5, abs=0.01)


def test_survey_finds_the_job_furthest_past_its_own_timeout(db: MariaDBProtea, protea: Protea) -> None:
    """The oldest is far from it: its kind may run for a week."""
    kinds = {
        "train": KindThresholds(Threshold(168 * HOUR, "kind train")),
        "embed": KindThresholds(Threshold(HOUR, "kind embed")),
    }
    limits = thresholds(kinds=kinds)
    rows = resolve(
        "own", {"own": {"extends": "protea", "limits": {"timeout": {"column": "progress_total", "unit": "s"}}}}
    )
    for place in (db, protea):
        place.job(age=100 * HOUR, operation="train")
        place.job(age=9 * HOUR, operation="predict")
        place.job(age=5 * HOUR, operation="embed")
    for execute in (db.run, protea.connection.execute):
        execute("UPDATE job SET progress_total = 3240 WHERE operation = 'predict'")
    answers = []
    for url in (db.url, protea.url):
        for profile in (resolve("protea"), rows):
            source = Source("main", url, profile, limits, PATIENCE)
            with source.connect() as connection:
                context = source.begin_evaluation(connection, DowntimeTracker(0))
                with source.transaction(connection, read_only=True):
                    answers.append(round(source.survey.census(connection, context).most_overdue, 2))
    assert answers == [5.0, 10.0] * 2


def test_zero_date_is_no_moment(db: MariaDBProtea) -> None:
    job = db.job(created=HOUR)
    with db.connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("UPDATE job SET started_at = '0000-00-00' WHERE id = %s", (job,))
    [evidence] = db.judge(job)
    assert evidence.verdict is Verdict.YOUNG
    assert evidence.age_seconds == pytest.approx(HOUR, abs=60)


# --- evidence --------------------------------------------------------------------------------------------------------


ROWS: Sequence[tuple[str, str | None, str]] = (
    ("00000000-0000-0000-0000-000000000001", "2026-07-01 03:00:00.120000", "2026-07-01 02:59:59"),
    ("00000000-0000-0000-0000-000000000002", None, "2026-07-01 02:00:00.000001"),
    ("00000000-0000-0000-0000-000000000003", "2026-07-01 11:00:00", "2026-07-01 11:00:00"),
)
SIGNS = ((ROWS[0][0], "2026-07-01 09:10:50"), (ROWS[1][0], "2026-07-01 11:59:59.999000"))
_FLUENT = {"judged_at", "age_seconds", "silence_seconds"}


def test_evidence_is_the_same_as_on_postgresql(db: MariaDBProtea, protea: Protea) -> None:
    insert = "INSERT INTO job (id, operation, queue_name, status, started_at, created_at) VALUES "
    for row in ROWS:
        db.run(f"{insert} (%s, 'embed', 'q', 'running', %s, %s)", *row)
        protea.connection.execute(f"{insert} (%s, 'embed', 'q', 'running', %s::timestamptz, %s)", row)
    for sign in SIGNS:
        db.run("INSERT INTO job_event (job_id, ts, event) VALUES (%s, %s, 'x')", *sign)
        protea.connection.execute("INSERT INTO job_event (job_id, ts, event) VALUES (%s, %s, 'x')", sign)
    limits = thresholds(kinds={"embed": KindThresholds(stall=Threshold(45 * MINUTE, "kind embed"))})
    keys = [(row[0],) for row in ROWS]
    answers: list[list[dict[str, Any]]] = []
    for url in (db.url, protea.url):
        source = AsOf("main", url, resolve("protea"), limits, PATIENCE)
        source.now = NOON
        found = judge(source, keys)
        assert [evidence.verdict for evidence in found] == [Verdict.STALE, Verdict.SPARED, Verdict.YOUNG]
        answers.append([{name: getattr(each, name) for name in Evidence.__dataclass_fields__} for each in found])
    for mine, theirs in zip(*answers, strict=True):
        for name, value in mine.items():
            if name in _FLUENT | {"stale_in_seconds"}:
                assert type(value) is type(theirs[name]), name
            else:
                assert value == theirs[name], name
        assert str(mine["judged_at"])[-6:] == str(theirs["judged_at"])[-6:] == "+00:00"
        assert mine["age_seconds"] == pytest.approx(theirs["age_seconds"], abs=60)


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def numbered(db: MariaDBProtea) -> MariaDBProtea:
    """A scene with a table whose key is a number and a text."""
    db.run("CREATE TABLE pairs (a BIGINT, b VARCHAR(20), KEY (a, b))")
    db.run(
        "INSERT INTO pairs VALUES (1, 'x'), (1, 'y'), (2, 'x'), (2, 'y'), (9007199254740993, 'x'), (1, 'X'), (1, 'x ')"
    )
    return db


def chosen(db: MariaDBProtea, columns: Sequence[str], keys: Sequence[Key]) -> list[Key]:
    pairs = table_of("pairs", ["a", "b"])
    mine = [pairs.c[name] for name in columns]
    source = db.source()
    with source.connect() as connection, source.transaction(connection, read_only=True):
        query = select(*(text_of(column) for column in (pairs.c.a, pairs.c.b))).where(key_in_batch(mine))
        statement = CompiledStatement(query, connection.dialect)
        return sorted(tuple(row) for row in statement.execute(connection, key_parameters(keys)))


def test_keys_of_several_columns_match_whole_and_exactly(numbered: MariaDBProtea) -> None:
    wanted = [("1", "x"), ("2", "y"), ("2", "'; DROP TABLE pairs; -- %s \\ \""), ("9007199254740993", "x")]
    assert chosen(numbered, ["a", "b"], wanted) == [("1", "x"), ("2", "y"), ("9007199254740993", "x")]
    assert chosen(numbered, ["a"], [("9007199254740992",), ("2x",)]) == []
    assert chosen(numbered, ["b"], [("X",)]) == [("1", "X")]


def test_thousand_keys_are_looked_up_by_the_index(db: MariaDBProtea) -> None:
    db.run("SET max_recursive_iterations = 100000")
    db.run(
        "INSERT INTO job (id, operation, queue_name, status) WITH RECURSIVE n (i) AS"
        " (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        " SELECT CONCAT('k', i), 'x', 'q', 'running' FROM n"
    )
    db.run("ANALYZE TABLE job")
    source = db.source()
    keys = [(f"k{n * 17}",) for n in range(1, 1001)]
    with source.connect() as connection:
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            before = rows_read(connection)
            assert len(source.lookup.evidence(connection, context, keys)) == 1000
            assert rows_read(connection) - before < 20_000


def rows_read(connection: Connection) -> int:
    """How many rows, of tables and of what it works out on its way, the server has handled for this session."""
    return sum(int(row[1]) for row in connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")))


def test_typed_text_names_a_job_only_by_its_whole_key(db: MariaDBProtea) -> None:
    db.run("CREATE TABLE task (id BIGINT PRIMARY KEY, state VARCHAR(9), began DATETIME(6))")
    db.run("INSERT INTO task VALUES (0, 'running', now()), (12, 'running', now())")
    profile = {
        "jobs": {
            "table": "task",
            "key": ["id"],
            "started": ["began"],
            "running": {"column": "state", "in": ["running"]},
        },
        "actions": {"fail": {"set": {"state": "failed"}}},
    }
    source = Source("main", db.url, resolve("mine", {"mine": profile}), thresholds(), PATIENCE)
    with source.connect() as connection, source.transaction(connection, read_only=True):
        named = {name: source.lookup.find(connection, (name,)) for name in ("12", "12abc", "abc", "", "13")}
    assert named == {"12": ("12",), "12abc": None, "abc": None, "": None, "13": None}
