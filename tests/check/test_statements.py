"""`reaper check` has the database take what a sweep and a purge would run: what passes the check, they can do."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from psycopg import Connection

from reaper.check import Finding, Level, check_statements
from reaper.profile import Profile, resolve
from reaper.source import Source
from tests.support.checks import connected, create_guest, run_check
from tests.support.databases import TemporaryDatabases
from tests.support.protea import PATIENCE, Protea, thresholds
from tests.support.worlds import Database
from tests.support.worlds.servers import database_on

TABLES = """
CREATE TABLE t (id bigint PRIMARY KEY, state text NOT NULL, started_at timestamptz NOT NULL, lim json, worker text,
                proc text, parent varchar(20), number int);
CREATE INDEX ON t (state, started_at);
CREATE TABLE p (id bigint PRIMARY KEY, at timestamptz);
"""
SWEPT_ELSEWHERE = [
    pytest.param(name, marks=pytest.mark.thorough) for name in ("vuls", "vuls-schedule", "adhese-schedule")
]
"""Other tests sweep with them; the parts of their statements are in other profiles, too."""
PROFILE = """
jobs = { table = "t", key = "id", started = "started_at", running = { column = "state", in = ["on"] } }
actions.fail.set.state = "off"
"""


def profile(more: str = "") -> Profile:
    return resolve("x", {"x": tomllib.loads(PROFILE + more)})


def planned(url: str, mapping: Profile) -> list[Finding]:
    return list(check_statements(Source("main", url, mapping, thresholds(), PATIENCE)))


@pytest.fixture
def tables(database: str) -> str:
    with connected(database, TABLES):
        return database


# --- columns that are compared ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "column", "place", "other"),
    [
        (
            'alive = [{ witness = "p", events = { table = "p", match = { id = "proc" }, at = "at" } }]',
            "p.id", "alive.0.events.match", "t.proc",
        ),
        ('jobs.parts = [{ table = "p", match = { id = "worker" } }]', "p.id", "jobs.parts.0.match", "t.worker"),
        (
            'alive = [{ witness = "c", children = { parent = ["parent"], at = ["started_at"] } }]',
            "t.parent", "alive.0.children.parent", "t.id",
        ),
        (
            'jobs.running.missing = [{ table = "p", match = { at = "number" } }]',
            "p.at", "jobs.running.missing.0.match", "t.number",
        ),
    ],
)  # fmt: skip
def test_columns_that_the_database_cannot_compare_are_errors_with_place_and_types(
    tables: str, more: str, column: str, place: str, other: str
) -> None:
    given = tomllib.loads(PROFILE)
    _merge(given, tomllib.loads(more))
    errors = [f for f in run_check(tables, profile=resolve("x", {"x": given})) if f.level is Level.ERROR]
    [finding] = errors
    assert finding.subject == column
    assert place in finding.message and other in finding.message and "cannot compare" in finding.message
    assert finding.message.count("is of type") == 2


def _merge(given: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict):
            _merge(given.setdefault(name, {}), value)
        else:
            given[name] = value


def test_columns_of_types_that_can_be_compared_are_no_problem(tables: str) -> None:
    more = 'alive = [{ witness = "p", events = { table = "p", match = { id = "number" }, at = "at" } }]'
    assert not [f for f in run_check(tables, profile=profile(more)) if f.level is Level.ERROR]


# --- statements ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["protea", "adhese", "noetl", *SWEPT_ELSEWHERE])
def test_shipped_profiles_have_statements_that_the_database_takes(databases: TemporaryDatabases, name: str) -> None:
    tables = resources.files("reaper.profiles").joinpath(f"{name.removesuffix('-schedule')}.sql").read_text()
    with databases.temporary() as url:
        with connected(url, tables):
            pass
        assert planned(url, resolve(name)) == []


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ("""actions.fail.set.worker = { sql = "1 + 'x'::text" }""", "the transition 'fail'"),
        ("actions.fail.set.worker = { sql = 'no_such_function()' }", "the transition 'fail'"),
        ("""jobs.running.where = [{ sql = "worker + 1 > 0" }]""", "the count of the running jobs"),
    ],
)
def test_statement_that_the_database_refuses_is_an_error_that_names_what_would_fail(
    tables: str, more: str, refused: str
) -> None:
    given = tomllib.loads(PROFILE)
    _merge(given, tomllib.loads(more))
    findings = planned(tables, resolve("x", {"x": given}))
    assert {finding.level for finding in findings} == {Level.ERROR}
    assert any(f"the database refuses {refused}: " in finding.message for finding in findings)


def test_statements_are_planned_with_the_privileges_of_the_role(tables: str) -> None:
    guest = create_guest(tables, "GRANT SELECT ON t TO guest")
    findings = planned(guest.render_as_string(hide_password=False), profile())
    refused = "the database refuses {}: permission denied for table t"
    for purpose in ("the lock of a batch", "the transition 'fail'"):
        assert any(refused.format(purpose) in finding.message for finding in findings)
    assert len(findings) == 2


def test_what_keeps_a_sweep_from_its_first_statement_is_an_error_beside_the_other_findings(tables: str) -> None:
    script = (
        "ALTER TABLE t DROP CONSTRAINT t_pkey",
        "INSERT INTO t SELECT 1, 'on', now() FROM generate_series(1, 2)",
    )
    with connected(tables, *script):
        pass
    [finding] = planned(tables, profile())
    assert finding.level is Level.ERROR and finding.message.startswith("every sweep would fail: ")


def test_planning_runs_nothing(tables: str, protea: Protea) -> None:
    with connected(tables, "CREATE SEQUENCE counted", "INSERT INTO t VALUES (1, 'on', '2020-01-01')"):
        pass
    assert planned(tables, profile("actions.fail.set.number = { sql = \"nextval('public.counted')\" }")) == []
    connection: Connection = protea.connection
    assert connection.execute("SELECT is_called FROM counted").fetchone() == (False,)
    assert connection.execute("SELECT state FROM t").fetchone() == ("on",)


def test_nothing_is_planned_where_that_would_call_a_function_of_the_tables_owner(tables: str) -> None:
    script = (
        "CREATE FUNCTION yes(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'",
        "CREATE INDEX ON t (id) WHERE yes(worker)",
    )
    wrong = profile("actions.fail.set.worker = { sql = 'no_such_function()' }")

    def check(*script: str) -> list[Finding]:
        return run_check(tables, *script, profile=wrong, plan=lambda sound: planned(tables, wrong) if sound else ())

    assert [f.level for f in check() if "the transition 'fail'" in f.message] == [Level.ERROR]
    findings = check(*script)
    assert any("were not planned" in f.message and f.message.endswith("those of t") for f in findings)
    assert not any("the transition 'fail'" in f.message for f in findings)


# --- purges ----------------------------------------------------------------------------------------------------------

PURGE = """
purge.where = [{ column = "state", in = ["off"] }]
purge.at = "started_at"
purge.also = [{ delete = "p", match = { id = "id" }, where = [{ sql = "no_such_function({at})" }] }]
"""


@pytest.mark.parametrize(("purges", "level"), [(True, Level.ERROR), (False, Level.NOTE)])
def test_purge_that_the_database_refuses_is_an_error_where_it_is_scheduled(
    tables: str, purges: bool, level: Level
) -> None:
    source = Source("main", tables, profile(PURGE), thresholds(), PATIENCE)
    [finding] = check_statements(source, purges=purges)
    assert finding.level is level
    assert finding.message.startswith("every purge would fail: the database refuses the delete of purge.also.0: ")


# --- MariaDB ---------------------------------------------------------------------------------------------------------

MARIADB_TABLES = (
    "CREATE TABLE t (id bigint PRIMARY KEY, state varchar(9) NOT NULL, started_at datetime(6) NOT NULL, worker text,"
    " number int)",
    "CREATE INDEX t_state ON t (state, started_at)",
    "CREATE TABLE p (id bigint PRIMARY KEY, at datetime(6))",
    "CREATE TABLE called (n int) ENGINE = MyISAM",  # no rollback hides a call
    "CREATE FUNCTION noted(x int) RETURNS int DETERMINISTIC BEGIN INSERT INTO called VALUES (x); RETURN x; END",
    "INSERT INTO t VALUES (1, 'on', utc_timestamp() - INTERVAL 9 HOUR, NULL, NULL)",
)


@pytest.fixture
def mariadb_tables(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_on(request, "mariadb") as database:
        with database.session(autocommit=True) as session:
            for statement in MARIADB_TABLES:
                session.do(statement)
        yield database


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ("actions.fail.set.worker = { sql = 'no_such_function()' }", "the transition 'fail'"),
        ("actions.fail.set.worker = { sql = '(SELECT nothing FROM p)' }", "the transition 'fail'"),
        ("""jobs.running.where = [{ sql = "no_such_column > 0" }]""", "the count of the running jobs"),
        (PURGE, "the delete of purge.also.0"),
    ],
)
def test_statement_that_mariadb_refuses_is_an_error(mariadb_tables: Database, more: str, refused: str) -> None:
    given = tomllib.loads(PROFILE)
    _merge(given, tomllib.loads(more))
    source = Source("main", mariadb_tables.url, resolve("x", {"x": given}), thresholds(), PATIENCE)
    findings = list(check_statements(source, purges=True))
    assert {finding.level for finding in findings} == {Level.ERROR}
    assert any(f"the database refuses {refused}: " in finding.message for finding in findings)


def test_no_function_is_called_on_mariadb(mariadb_tables: Database) -> None:
    given = tomllib.loads(PROFILE)
    _merge(
        given,
        {
            "jobs": {"running": {"where": [{"sql": "{id} = noted(1)"}]}},
            "actions": {"fail": {"set": {"number": {"sql": "noted(2)"}}}},
            "alive": [{"witness": "w", "events": {"table": "v", "match": {"id": "id"}, "at": "at"}}],
        },
    )
    with mariadb_tables.session(autocommit=True) as session:
        session.do("CREATE VIEW v AS SELECT id, max(at) AS at FROM p WHERE id = noted(3) GROUP BY id")
        source = Source("main", mariadb_tables.url, resolve("x", {"x": given}), thresholds(), PATIENCE)
        assert list(check_statements(source)) == []
        assert session.one("SELECT count(*) FROM called") == 0


@pytest.mark.parametrize("name", ["protea", "adhese", *SWEPT_ELSEWHERE])
def test_shipped_profiles_have_statements_that_mariadb_takes(request: pytest.FixtureRequest, name: str) -> None:
    with database_on(request, "mariadb") as database:
        database.create(name.removesuffix("-schedule"))
        assert list(check_statements(Source("main", database.url, resolve(name), thresholds(), PATIENCE))) == []
