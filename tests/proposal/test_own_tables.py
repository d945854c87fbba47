"""`reaper init --table`: tables of different styles of naming, whose mapping follows from names, types and rows."""

from __future__ import annotations

import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import make_url

from reaper.profile import resolve
from tests.support.commands import Reaper
from tests.support.databases import TemporaryDatabases
from tests.support.documents import DOCS, blocks
from tests.support.terminals import typed
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import postgresql_database
from tests.support.worlds.world import new_role

TABLES = """
-- CamelCase, an enum without any usual word, and a column whose name does not say that it is a heartbeat.
CREATE TYPE "PrintState" AS ENUM ('SPOOLED', 'PRINTING', 'PRINTED', 'JAMMED');
CREATE TABLE "PrintJob" (
    "jobId" uuid PRIMARY KEY DEFAULT gen_random_uuid(), "jobType" text NOT NULL, "jobStatus" "PrintState" NOT NULL,
    "createdAt" timestamptz NOT NULL, "startedAt" timestamptz, "stamp" timestamptz, "endedAt" timestamptz,
    "errorText" text
);
INSERT INTO "PrintJob" ("jobType", "jobStatus", "createdAt", "startedAt", "stamp", "endedAt", "errorText") VALUES
    ('label', 'SPOOLED', now() - interval '9 h', NULL, NULL, NULL, NULL),
    ('label', 'PRINTING', now() - interval '9 h', now() - interval '8 h', now() - interval '1 m', NULL, NULL),
    ('label', 'PRINTING', now() - interval '9 m', now() - interval '8 m', now() - interval '8 m', NULL, NULL),
    ('DEAD', 'PRINTING', now() - interval '9 h', now() - interval '8 h', now() - interval '2 h', NULL, NULL),
    ('label', 'PRINTED', now() - interval '9 h', now() - interval '8 h', now() - interval '7 h', now(), NULL),
    ('label', 'JAMMED', now() - interval '9 h', now() - interval '8 h', now() - interval '7 h', now(), 'paper');

-- A number as the state, NULL before the start; moments without a zone; a log that refers to the runs.
CREATE TABLE etl_run (
    id serial PRIMARY KEY, pipeline varchar(40), state smallint, begun timestamp, ended timestamp,
    error_text varchar(80)
);
CREATE TABLE etl_run_log (
    id bigserial PRIMARY KEY, run integer NOT NULL REFERENCES etl_run (id), logged timestamptz NOT NULL, line text
);
CREATE INDEX ON etl_run_log (run, logged);
INSERT INTO etl_run (pipeline, state, begun, ended, error_text)
    SELECT 'nightly', s, now() AT TIME ZONE 'UTC' - b * interval '1 h', now() AT TIME ZONE 'UTC' - e * interval '1 h', t
    FROM (VALUES (NULL, NULL, NULL, NULL), (7, 8, NULL, NULL), (7, 9, NULL, NULL), (7, 1, NULL, NULL),
                 (8, 9, 6, NULL), (8, 20, 13, NULL), (9, 8, 7, 'out of disk')) AS v (s, b, e, t);
INSERT INTO etl_run_log (run, logged, line) VALUES
    (2, now() - interval '1 m', 'still here'), (3, now() - interval '2 h', 'DEAD'), (5, now() - interval '6 h', 'bye');

-- Milliseconds since 1970, a CHECK that lists the states, a worker's name, a limit in minutes in each row.
CREATE TABLE render_queue (
    render_no bigint PRIMARY KEY, phase text NOT NULL CHECK (phase IN ('to do', 'in progress', 'finished', 'broken')),
    queue_name text, enqueued_ms bigint NOT NULL, picked_up_ms bigint, heartbeat_ms bigint, finished_ms bigint,
    picked_by text, failure_reason text, max_runtime_minutes integer, deleted_at timestamptz
);
INSERT INTO render_queue
    SELECT n, p, 'gpu', ms - 32400000, ms - b * 3600000, ms - h * 60000, ms - f * 3600000, w, NULL, m, d
    FROM (SELECT (extract(epoch FROM now()) * 1000)::bigint AS ms) AS clock, (VALUES
        (1, 'to do', NULL, NULL, NULL, NULL, NULL, NULL::timestamptz),
        (2, 'in progress', 8, 1, NULL, 'gpu-1', NULL, NULL),
        (3, 'in progress', 8, 120, NULL, 'gpu-2', NULL, NULL), (4, 'in progress', 1, 45, NULL, 'gpu-1', NULL, NULL),
        (5, 'in progress', 1, 45, NULL, 'gpu-1', 30, NULL), (6, 'in progress', 8, 120, NULL, 'gpu-2', NULL, now()),
        (7, 'finished', 8, 300, 5, 'gpu-1', NULL, NULL),
        (8, 'in progress', 1, 45, NULL, 'gpu-2', 120, NULL)) AS v (n, p, b, h, f, w, m, d);
"""
QUIET_TABLES = """
-- No state: a job runs from its start to its end.
CREATE TABLE plain (uid text PRIMARY KEY, start_time timestamptz, end_time timestamptz);
INSERT INTO plain VALUES ('dead', now() - interval '8 h', NULL), ('waits', NULL, NULL),
    ('done', now() - interval '8 h', now() - interval '7 h');
-- Nothing shows which of these numbers means what.
CREATE TABLE etl_asked (id integer PRIMARY KEY, state integer NOT NULL, begun timestamp);
INSERT INTO etl_asked VALUES (1, 1, now()), (2, 2, now()), (3, 3, now());
-- A program writes its own local time.
CREATE TABLE local_job (id integer PRIMARY KEY, state text, started_at timestamp, beat timestamp);
INSERT INTO local_job SELECT n, 'working', t - interval '8 h', t - b FROM timezone('America/New_York', now()) AS t,
    (VALUES (1, interval '0 h'), (2, interval '2 h')) AS v (n, b);
-- The server fills in its own local time.
CREATE TABLE filled (id integer PRIMARY KEY, state text, started_at timestamp DEFAULT now());
INSERT INTO filled VALUES (1, 'running', now());
-- No row.
CREATE TABLE empty (id integer PRIMARY KEY, status text, created timestamptz, message text);
-- No unique key, and nothing that is called one.
CREATE TABLE keyless (status text, started_at timestamptz);
-- The exit code is NULL until a job ends; moments that are none.
CREATE TABLE exits (id integer PRIMARY KEY, status integer, started_at timestamptz, finished_at timestamptz);
INSERT INTO exits VALUES (1, NULL, NULL, NULL), (2, NULL, now() - interval '8 h', NULL), (3, NULL, now(), NULL),
    (4, 0, '-infinity', 'infinity'), (5, 137, now() - interval '8 h', now() - interval '7 h');
"""
MOVING = """
UPDATE local_job SET beat = timezone('America/New_York', clock_timestamp()) WHERE id = 1;
UPDATE "PrintJob" SET stamp = clock_timestamp()
WHERE "jobStatus" = 'PRINTING' AND stamp > now() - interval '1 h' AND "startedAt" < now() - interval '1 h'
"""


@pytest.fixture(scope="module")
def database(databases: TemporaryDatabases) -> Iterator[PostgreSQLDatabase]:
    with postgresql_database(databases) as made, made.session(autocommit=True) as session:
        session.do(TABLES + QUIET_TABLES)
        # The table of the tutorial, and of the README.
        [statements] = [
            block.text for block in blocks(DOCS / "tutorial.md", "sh") if "CREATE TABLE tasks" in block.text
        ]
        session.do(statements.split("SQL'\n")[1].removesuffix("SQL").rstrip().removesuffix("SQL"))
        yield made


@contextmanager
def moving(database: PostgreSQLDatabase) -> Iterator[None]:
    """A worker writes its stamp, again and again."""
    done = threading.Event()

    def work() -> None:
        with database.session(autocommit=True) as session:
            while not done.wait(0.1):
                session.do(MOVING)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        done.set()
        worker.join()


@pytest.fixture
def reaper(database: PostgreSQLDatabase, tmp_path: Any) -> Reaper:
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database.url})


def proposed(reaper: Reaper, table: str, *, watch: str = "0s", checks: bool = True) -> Mapping[str, Any]:
    """The file, put in force: it is a configuration, and fits the database."""
    path = reaper.folder / "proposed.toml"
    result = reaper("init", "--table", table, "--watch", watch, "--write", str(path))
    assert result.exit_code == 0, result.output
    reaper.given["REAPER_CONFIG"] = str(path)
    for command in (["config", "check"], *([["check"]] if checks else [])):
        checked = reaper(*command)
        assert checked.exit_code == 0, checked.output
    file = tomllib.loads(path.read_text())
    assert file["observe"] is True
    return file


def would_reap(reaper: Reaper) -> set[str]:
    [source] = reaper.json("sweep", "--dry-run")["sources"]
    return {job["key"] for job in source["would_reap"]}


def test_table_of_the_tutorial_becomes_the_profile_of_the_tutorial(reaper: Reaper) -> None:
    file = proposed(reaper, "tasks")
    assert would_reap(reaper) == {"3"}
    [block] = blocks(DOCS / "tutorial.md", "toml")
    taught = tomllib.loads(block.text.replace('column = "heartbeat"', 'column = "heartbeat_at"'))["profiles"]["shop"]
    mine, theirs = resolve("tasks", file["profiles"]), resolve("shop", {"shop": taught})
    assert mine.jobs == theirs.jobs
    assert [w.column for w in mine.alive] == [w.column for w in theirs.alive]
    assert set(mine.actions["fail"].assign or ()) == set(theirs.actions["fail"].assign or ())


def test_state_and_heartbeat_without_a_usual_word_are_found_by_what_moves(
    reaper: Reaper, database: PostgreSQLDatabase
) -> None:
    with moving(database):
        file = proposed(reaper, "PrintJob", watch="1s")
    profile = file["profiles"]["PrintJob"]
    assert profile["jobs"]["running"]["in"] == ["PRINTING"]
    assert [witness["column"] for witness in profile["alive"]] == ["stamp"]
    assert profile["actions"]["fail"]["set"]["jobStatus"] == "JAMMED"
    with database.session(autocommit=True) as session:
        [[dead]] = session.ask("""SELECT "jobId"::text FROM "PrintJob" WHERE "jobType" = 'DEAD'""")
    assert would_reap(reaper) == {dead}


def test_number_as_the_state_is_told_by_start_and_end_and_a_log_with_a_foreign_key_is_a_witness(reaper: Reaper) -> None:
    profile = proposed(reaper, "etl_run")["profiles"]["etl_run"]
    assert profile["jobs"]["running"] == {"column": "state", "in": [7]}
    assert profile["actions"]["fail"]["set"] == {
        "state": 9,
        "ended": {"is": "now"},
        "error_text": {"is": "message", "most": 80},
    }
    assert would_reap(reaper) == {"3"}


def test_milliseconds_listed_states_limits_and_deleted_rows_are_seen(reaper: Reaper) -> None:
    profile = proposed(reaper, "render_queue")["profiles"]["render_queue"]
    assert profile["time"] == "epoch ms"
    assert profile["jobs"]["claim"] == ["picked_by"]
    assert would_reap(reaper) == {"3", "5"}


def test_jobs_without_a_state_run_from_their_start_to_their_end(reaper: Reaper) -> None:
    profile = proposed(reaper, "plain", checks=False)["profiles"]["plain"]
    assert would_reap(reaper) == {"dead"}
    assert profile["actions"]["fail"]["set"] == {"end_time": {"is": "now"}}


def test_null_as_the_state_means_running_only_after_the_start(reaper: Reaper) -> None:
    profile = proposed(reaper, "exits", checks=False)["profiles"]["exits"]
    assert {"column": "started_at", "is": "not null"} in profile["jobs"]["running"]["where"]
    assert would_reap(reaper) == {"2"}


def test_guesses_are_marked_in_the_file(reaper: Reaper) -> None:
    text = reaper("init", "--table", "empty", "--watch", "0s").stdout
    assert tomllib.loads(text)["profiles"]["empty"]["jobs"]["running"] == {"column": "status", "in": ["running"]}
    assert "# ? no value of it was seen, so the word is a guess\nrunning = " in text


def test_table_without_anything_that_tells_its_jobs_apart_gets_no_profile(reaper: Reaper) -> None:
    result = reaper("init", "--table", "keyless", "--watch", "0s")
    assert result.exit_code == 1
    assert "no profile can be proposed for the table keyless: nothing tells one job from another" in result.stderr


def test_name_that_no_table_has_is_answered_with_the_nearest_one(reaper: Reaper) -> None:
    result = reaper("init", "--table", "taks")
    assert result.exit_code == 1
    assert "there is no table 'taks'; did you mean 'tasks'?" in result.stderr


def test_without_a_table_those_that_look_like_one_are_named(reaper: Reaper) -> None:
    result = reaper("init")
    assert result.exit_code == 1
    assert "public.PrintJob" in result.stderr and "public.etl_run_log" not in result.stderr


def test_questions_on_a_terminal_decide_what_is_unsure(reaper: Reaper) -> None:
    # The value of a running job: the second; what becomes of it: as proposed; the zone: wrong, then right.
    code, output, errors = typed(
        reaper, "2\n\nEurope/Berln\nEurope/Berlin\n", "init", "--table", "etl_asked", "--watch", "0s"
    )
    assert code == 0, errors
    file = tomllib.loads(output)
    assert "did you mean 'Europe/Berlin'?" in errors
    assert file["sources"]["etl_asked"]["time_zone"] == "Europe/Berlin"
    assert file["profiles"]["etl_asked"]["jobs"]["running"]["in"] == [2]


def test_local_time_is_proposed_where_a_column_that_moves_is_hours_away_from_the_clock(
    reaper: Reaper, database: PostgreSQLDatabase
) -> None:
    with moving(database):
        source = proposed(reaper, "local_job", watch="1s", checks=False)["sources"]["local_job"]
    assert source["time_zone"] in ("-05:00", "-04:00")
    assert would_reap(reaper) == {"2"}


def test_zone_of_the_server_is_proposed_where_it_fills_the_column(reaper: Reaper, database: PostgreSQLDatabase) -> None:
    with database.session(autocommit=True) as session:
        name = session.one("SELECT current_database()")
        session.do(f"ALTER DATABASE {name} SET timezone = 'Asia/Tokyo'")
        try:
            file = proposed(reaper, "filled")
        finally:
            session.do(f"ALTER DATABASE {name} RESET timezone")
    assert file["sources"]["filled"]["time_zone"] == "Asia/Tokyo"


def test_role_that_may_read_nothing_gets_a_profile_by_names_and_types(
    reaper: Reaper, database: PostgreSQLDatabase
) -> None:
    role = new_role()
    grant = f"GRANT CONNECT ON DATABASE {make_url(database.url).database} TO {role}"
    database.restrict_to_role(role, [f"CREATE ROLE {role} LOGIN", grant])
    try:
        text = reaper("init", "--table", "render_queue", REAPER_DATABASE_URL=database.reaper).stdout
    finally:
        database.drop_role(role)
    assert "its rows were not read: the connected role may not read all of its columns" in text
    assert tomllib.loads(text)["profiles"]["render_queue"]["jobs"]["running"]["in"] == ["in progress"]
