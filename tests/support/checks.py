"""Helpers to run `reaper check` on a real PostgreSQL, and to execute what it prints."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Connection, NullPool, create_engine, make_url

from reaper.check import Finding, Level, check_statements, examine
from reaper.model import SweepReport
from reaper.profile import Profile, resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import PATIENCE, SweepRecorder, thresholds
from tests.support.worlds import Database

PROTEA = resolve("protea")
STALL = 1800.0
JOB = "INSERT INTO job (id, operation, queue_name, status, started_at, parent_job_id) VALUES "
A, B, C = (f"00000000-0000-0000-0000-00000000000{n}" for n in "abc")


@contextmanager
def connected(url: str | URL, *script: str) -> Iterator[Connection]:
    """A connection. The statements of `script` are committed first."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        for statement in script:
            connection.exec_driver_sql(statement.replace("%", "%%"))
        connection.commit()
        yield connection
    engine.dispose()


def run_check(url: str | URL, *script: str, profile: Profile = PROTEA, **options: Any) -> list[Finding]:
    """All findings, after the statements of `script`."""
    with connected(url, *script) as connection:
        return examine(connection, profile, STALL, **options)


def problems(findings: list[Finding]) -> list[Finding]:
    """The errors and warnings."""
    return [finding for finding in findings if finding.level is not Level.NOTE]


def only_problem(findings: list[Finding]) -> Finding:
    """The only error or warning."""
    (finding,) = problems(findings)
    return finding


def execute(url: str, statement: str | None) -> None:
    """Executes a printed statement as it is, outside a transaction, which CONCURRENTLY needs."""
    assert statement is not None
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement.replace("%", "%%"))
    engine.dispose()


def profile_with_fix(lines: str | None, name: str = "protea") -> Profile:
    """The profile with these lines in the configuration file."""
    assert lines is not None
    return resolve(name, tomllib.loads(lines)["profiles"])


def protea_with(**changes: Any) -> Profile:
    """The profile protea with these changes, under the name `mine`."""
    return resolve("mine", {"mine": {"extends": "protea", **changes}})


def create_guest(url: str, *grants: str, role: str = "guest") -> URL:
    """Creates a role with these privileges only, and returns the URL with which it connects."""
    quoted = '"' + role.replace('"', '""') + '"'
    with connected(url, f"DROP ROLE IF EXISTS {quoted}", f"CREATE ROLE {quoted} LOGIN", *grants):
        return make_url(url).set(username=role)


def guest_url(database: str, role: str = "guest") -> URL:
    return make_url(database).set(username=role)


# --- a profile with all of the vocabulary ----------------------------------------------------------------------------

SHOP_TABLES = """
CREATE TYPE piece_state AS ENUM ('Open', 'Closed');
CREATE TABLE team (id int PRIMARY KEY, last text, "when" timestamptz);
CREATE TABLE task (
    id int PRIMARY KEY, team_id int REFERENCES team, locked_at timestamptz, lease timestamptz, begun timestamptz,
    done timestamptz, tries int NOT NULL DEFAULT 0, max_tries int, limit_ms int, quiet_ms int, errors jsonb, note text,
    code text
);
CREATE INDEX task_locked ON task (begun) WHERE locked_at IS NOT NULL;
CREATE INDEX ON task (done);
CREATE TABLE piece (id int PRIMARY KEY, task_id int REFERENCES task, state piece_state, at timestamptz);
CREATE INDEX ON piece (task_id);
CREATE TABLE claim (task_id int PRIMARY KEY REFERENCES task);
CREATE TABLE audit (no int PRIMARY KEY, task_id int, at timestamptz, why jsonb);
CREATE INDEX ON audit (task_id);
"""
SHOP = """
[jobs]
table = "task"
key = "id"
started = "begun"
running.where = [{ column = "locked_at", is = "not null" }, { sql = "{done} IS NULL" }, { any_of = [
    { column = "lease", is = "null" }, { column = "lease", greater_than = { column = "begun" } } ] }]
running.exists = [{ table = "claim", match = { task_id = "id" } }]
parts = [{ table = "piece", match = { task_id = "id" }, where = [{ column = "state", in = ["Open"] }] }]

[[alive]]
witness = "piece"
events = { table = "piece", match = { task_id = "id" }, at = "at", where = [{ column = "state", not_in = ["Closed"] }] }
[[alive]]
witness = "lease"
deadline = "lease"

[limits]
timeout = { column = "limit_ms", unit = "ms" }
stall = { column = "quiet_ms", unit = "ms" }
[attempts]
column = "tries"
limit_column = "max_tries"

[actions.fail]
set = { locked_at = { is = "null" }, done = { is = "now" }, tries = { column = "tries", plus = 1 }, \
        errors = { column = "errors", append = { json = { at = { is = "now" }, why = { is = "reason" } } } } }
[[actions.fail.also]]
insert = "audit"
values.no = { next = { table = "audit", column = "no", match = { task_id = "id" }, step = 1 } }
values.task_id = { column = "id" }
values.at = { is = "now" }
values.why = { is = "evidence" }
[[actions.fail.also]]
update = "team"
match = { id = "team_id" }
when = [{ column = "note", not_in = ["silent"] }]
where = [{ column = "when", less_than = { is = "now" } }]
set = { last = { first = [{ column = "note" }, "unknown"] } }
[[actions.fail.also]]
update = "piece"
match = { task_id = "id" }
set = { state = "Closed" }
[[actions.fail.also]]
delete = "claim"
match = { task_id = "id" }

[actions.requeue]
set = { locked_at = { is = "null" }, lease = { is = "null" } }
also = [{ delete = "claim", match = { task_id = "id" } }]

[purge]
where = [{ column = "locked_at", is = "null" }]
at = "done"
also = [{ delete = "piece", match = { task_id = "id" } }]
"""


# --- names that must be quoted ----------------------------------------------------------------------------------------

AWKWARD = {
    "jobs": {
        "table": 'My "App.Job Table',
        "key": ["Group", "select"],
        "kind": "a kind%s",
        "started": ['be"gun', "made:at"],
        "running": {"column": "State's", "in": ["it's ru\ning%"]},
    },
    "alive": [
        {"witness": "log", "events": {"table": 'My "App.Log', "job": ["Group", "user"], "at": "When"}},
        {"witness": "kids", "children": {"parent": ["Up Group", "up"], "at": ["made:at"]}},
    ],
    "actions": {
        "fail": {
            "set": {"State's": "de%ad"},
            "also": [
                {
                    "insert": 'My "App.Log',
                    "values": {
                        "Group": {"column": "Group"},
                        "user": {"column": "select"},
                        "Pro;of": {"is": "evidence"},
                    },
                }
            ],
        }
    },
}
AWKWARD_TABLES = (
    'CREATE SCHEMA "My ""App"',
    """CREATE TYPE "My ""App"."State?" AS ENUM (E'it''s ru\\ning%', 'DE%AD!')""",
    """CREATE TABLE "My ""App"."Job Table" ("Group" int, "select" text, "a kind%s" text, "be""gun" timestamptz,
       "made:at" timestamptz, "State's" "My ""App"."State?", "Up Group" int, "up" text, UNIQUE ("Group", "select"),
       CHECK ("State's" IS NOT NULL AND ("State's" = E'it''s ru\\ning%' OR "State's" <> E'it''s ru\\ning%')))""",
    """CREATE TABLE "My ""App"."Log" ("Group" int, "user" text, "When" timestamptz, "No" int NOT NULL,
       "Pro;of" jsonb)""",
    '''CREATE SEQUENCE "My ""App"."Seq:%"''',
    """ALTER TABLE "My ""App"."Log" ALTER "No" SET DEFAULT nextval('"My ""App"."Seq:%"')""",
)


# --- tables of a test's own, on either server -------------------------------------------------------------------------


@dataclass
class OwnTables:
    """Tables that a test makes on a server, and what `check` and a sweep do with a profile for them."""

    database: Database

    @property
    def on_mariadb(self) -> bool:
        return make_url(self.database.url).get_backend_name() != "postgresql"

    def do(self, *statements: str) -> None:
        """Statements in the SQL of both servers. MOMENT is the type of moments, and AGO one of 9 hours ago."""
        moment = "datetime(6)" if self.on_mariadb else "timestamptz"
        with self.database.session(autocommit=True) as session:
            for statement in statements:
                session.do(statement.replace("MOMENT", moment).replace("AGO", "(now() - INTERVAL '9' HOUR)"))

    def rows(self, question: str) -> list[tuple[Any, ...]]:
        with self.database.session(autocommit=True) as session:
            return session.ask(question)

    def source(self, mapping: Profile) -> Source:
        return Source("main", self.database.reaper, mapping, thresholds(), PATIENCE)

    def all_findings(self, mapping: Profile) -> list[Finding]:
        source = self.source(mapping)
        with source.connect(prepared=False) as connection:
            return examine(connection, mapping, STALL, plan=lambda sound: check_statements(source) if sound else ())

    def check(self, mapping: Profile) -> list[Finding]:
        """The errors and warnings of `reaper check`, but for zones, evidence and a missing witness."""
        usual = ("has no time zone", "the profile has no witness", 'no { is = "evidence" }')
        found = problems(self.all_findings(mapping))
        return [finding for finding in found if not any(words in finding.message for words in usual)]

    def sweep(self, mapping: Profile) -> SweepReport:
        options = SweepOptions("test-host", 100, Breaker(50, 1.0))
        return sweep(self.source(mapping), DowntimeTracker(0), SourceState(), options, None, SweepRecorder())


def profile_of(toml: str) -> Profile:
    return resolve("own", {"own": tomllib.loads(toml)})
