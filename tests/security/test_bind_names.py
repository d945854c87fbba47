"""A column may be called what a statement of the reaper calls a parameter, a label or an alias of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from sqlalchemy import event

from reaper.model import Outcome, SweepReport
from reaper.profile import Profile, resolve
from reaper.source import Source
from reaper.sql_listing import ListingOptions, list_statements
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.protea import HOUR, MINUTE, PATIENCE, SweepRecorder, thresholds
from tests.support.worlds import Database
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.servers import database_on, mostly_on

OTHER_NAMES = frozenset(
    {"age", "ended", "evidence", "key_0", "message", "one", "row_0", "silence", "wanted", "witness"}
)
"""Names that are no parameters, but stand in our statements beside the user's columns."""


@pytest.fixture(params=["postgresql", "mariadb"])
def empty_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    with database_on(request, request.param) as database:
        yield database


class Jobs:
    """Jobs and their log, with further columns of these names, each of which is read, compared, written and copied."""

    def __init__(self, database: Database, prefix: str, names: Iterable[str], roles: dict[str, str]) -> None:
        self.names, self.roles = sorted(set(names) - {*roles.values(), "id"}), roles
        self._database, self._prefix = database, prefix
        self._quote = '"' if isinstance(database, PostgreSQLDatabase) else "`"
        self._create()

    def _listed(self, names: Iterable[str], form: str = "{}") -> str:
        return ", ".join(form.format(f"{self._quote}{name}{self._quote}") for name in names)

    def _create(self) -> None:
        on_postgresql = isinstance(self._database, PostgreSQLDatabase)
        moment, document = ("timestamptz", "jsonb") if on_postgresql else ("datetime(6)", "longtext")
        moments, texts = [self.roles[r] for r in ("started", "seen")], [self.roles[r] for r in ("kind", "state")]
        more = self._listed(self.names, "{} varchar(3) DEFAULT 'old'")
        columns = f"{self._listed(moments, '{} ' + moment)}, {self._listed(texts, '{} varchar(20)')}, {more}"
        with self._database.session(autocommit=True) as session:
            session.do(f"CREATE TABLE {self._prefix}_jobs (id integer PRIMARY KEY, {columns})")
            session.do(f"CREATE TABLE {self._prefix}_log (job integer, said {document}, {more})")
            ago = self._database.ago
            insert = f"INSERT INTO {self._prefix}_jobs (id, {self._listed([*moments, *texts])}) VALUES"
            for number, seen in (1, MINUTE), (2, 9 * HOUR), (3, 9 * HOUR):
                session.do(f"{insert} (%s, {ago}, {ago}, 'k', 'running')", number, 9 * HOUR, seen)

    @property
    def profile(self) -> Profile:
        changed, copied = dict.fromkeys(self.names, "new"), {name: {"column": name} for name in self.names}
        log = {"job": {"column": "id"}, "said": {"is": "evidence"}, **copied}
        jobs = {
            "table": f"{self._prefix}_jobs",
            "key": "id",
            "kind": self.roles["kind"],
            "status": self.roles["state"],
            "started": [self.roles["started"]],
            "claim": self.names,
            "running": {
                "column": self.roles["state"],
                "in": ["running"],
                "where": [{"column": name, "in": ["old"]} for name in self.names],
            },
        }
        fail = {
            "set": {self.roles["state"]: "failed", **changed},
            "also": [{"insert": f"{self._prefix}_log", "values": log}],
        }
        alive = [{"witness": "heartbeat", "column": self.roles["seen"]}]
        return resolve("jobs", {"jobs": {"jobs": jobs, "alive": alive, "actions": {"fail": fail}}})

    def sweep(self) -> tuple[SweepReport, set[str]]:
        """The report, and the names of all parameters of its statements."""
        source, bound = Source("main", self._database.url, self.profile, thresholds(), PATIENCE), set[str]()

        def note(*arguments: Any) -> None:
            parameters = arguments[3]
            for row in parameters if isinstance(parameters, list) else [parameters]:
                bound.update(row)

        event.listen(source.engine, "before_cursor_execute", note)
        options = SweepOptions("test-host", 1000, Breaker(50, 1.0))
        report = sweep(source, DowntimeTracker(0), SourceState(), options, None, SweepRecorder())
        source.close()
        return report, bound

    def assert_ended_well(self) -> set[str]:
        """Two of the three jobs have ended, with each value in its column. Returns the names of all parameters."""
        report, bound = self.sweep()
        assert (report.outcome, report.error, report.failures, report.reaped) == (Outcome.DONE, None, (), 2)
        with self._database.session(autocommit=True) as session:
            state, more = self._listed([self.roles["state"]]), self._listed(self.names)
            jobs = session.ask(f"SELECT id, {state}, {more} FROM {self._prefix}_jobs ORDER BY id")
            log = session.ask(f"SELECT job, {more} FROM {self._prefix}_log ORDER BY job")
        width = len(self.names)
        assert jobs == [(1, "running", *["old"] * width), *((n, "failed", *["new"] * width) for n in (2, 3))]
        assert log == [(n, *["old"] * width) for n in (2, 3)]
        return bound


ROLES = {"kind": "kind", "state": "state", "started": "started", "seen": "seen"}


@mostly_on("mariadb", "empty_database")
def test_no_name_of_a_parameter_meets_the_name_of_a_column(empty_database: Database) -> None:
    plain = Jobs(empty_database, "plain", ["note"], ROLES).assert_ended_well()
    assert len(plain) > 15
    without_numbers = {name.rstrip("0123456789_") for name in plain}
    Jobs(empty_database, "odd", plain | without_numbers | OTHER_NAMES, ROLES).assert_ended_well()


@mostly_on("mariadb", "empty_database")
def test_columns_that_the_rule_reads_may_be_called_like_parameters(empty_database: Database, thorough: bool) -> None:
    bound = Jobs(empty_database, "plain", ["note"], ROLES).assert_ended_well()
    # One of those that differ only by their number.
    names = sorted(bound | OTHER_NAMES if thorough else {name.rstrip("0123456789"): name for name in bound}.values())
    for n in range(0, len(names), 4):
        roles = dict(zip(ROLES, names[n : n + 4], strict=False))
        Jobs(empty_database, f"odd_{n}", ["note"], {**ROLES, **roles}).assert_ended_well()


def test_column_called_like_the_place_of_a_parameter(empty_database: Database) -> None:
    """It is read and written by its name, and `reaper sql` prints it as it is."""
    on_postgresql = isinstance(empty_database, PostgreSQLDatabase)
    key, state, started = "%(any_key)s", "100%(reaper_now)s", "%%(any_0)s"
    moment, ago = "timestamptz" if on_postgresql else "datetime(6)", empty_database.ago
    quoted = [(f'"{name}"' if on_postgresql else f"`{name}`") for name in (key, state, started)]
    doubled = [name.replace("%", "%%") for name in quoted]
    with empty_database.session(autocommit=True) as session:
        session.do(f"CREATE TABLE j ({quoted[0]} integer PRIMARY KEY, {quoted[1]} text, {quoted[2]} {moment})")
        session.do(f"INSERT INTO j ({', '.join(doubled)}) VALUES (1, 'running', {ago})", 9 * HOUR)
    own = {
        "jobs": {"table": "j", "key": key, "started": [started], "running": {"column": state, "in": ["running"]}},
        "actions": {"fail": {"set": {state: "failed"}}},
    }
    profile = resolve("own", {"own": own})
    source = Source("main", empty_database.url, profile, thresholds(), PATIENCE)
    options = SweepOptions("test-host", 1000, Breaker(50, 1.0))
    swept = sweep(source, DowntimeTracker(0), SourceState(), options, None, SweepRecorder())
    assert (swept.error, swept.reaped) == (None, 1)
    with empty_database.session(autocommit=True) as session:
        assert session.ask(f"SELECT {quoted[1]} FROM j") == [("failed",)]
    printed = [statement.sql for statement in list_statements(source, ListingOptions(60, 30, 10))]
    of_jobs = [sql for sql in printed if "reaper_now" in sql or "any_key" in sql]
    assert of_jobs and not any(":any_key)" in sql or "%%(reaper" in sql for sql in of_jobs)
    assert any(all(name in sql for name in quoted) for sql in printed)
    source.close()
