"""`reaper check` on a real MariaDB: one broken thing per test, what is said of it, and that its remedy works."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import reaper
from reaper.check import Finding, Level, Workload, examine
from reaper.cli import exit_codes
from reaper.grants.facts import from_database
from reaper.grants.statements import granting
from reaper.model import SweepReport
from reaper.profile import Profile, resolve
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from tests.support.commands import Reaper
from tests.support.mariadb import MariaDB, temporary
from tests.support.protea import PATIENCE, Heard, thresholds

PROTEA = resolve("protea")
STALL = 1800.0
_numbers = itertools.count()


@dataclass
class Place:
    """A database with the tables of a shipped profile."""

    server: MariaDB
    name: str
    profile: Profile = PROTEA

    def do(self, *script: str) -> None:
        with self.server.connect(self.name) as connection, connection.cursor() as cursor:
            for statement in script:
                cursor.execute(statement)

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        with self.server.connect(self.name) as connection, connection.cursor() as cursor:
            cursor.execute(question)
            return list(cursor.fetchall())

    def source(self, user: str = "root", profile: Profile | None = None) -> Source:
        return Source("main", self.server.url(self.name, user), profile or self.profile, thresholds(), PATIENCE)

    def found(self, *script: str, user: str = "root", profile: Profile | None = None, **options: Any) -> list[Finding]:
        self.do(*script)
        source = self.source(user, profile)
        with source.connect() as connection:
            return examine(connection, source.profile, STALL, **options)

    def mend(self, finding: Finding) -> None:
        """Execute a printed statement just as it stands."""
        assert finding.fix is not None and finding.fix.endswith(";"), finding
        self.do(finding.fix)

    def guest(self, *privileges: str) -> str:
        """A user that may nothing but this."""
        name = f"guest{next(_numbers)}"
        self.do(f"CREATE USER {name}@localhost", *(f"GRANT {what} TO {name}@localhost" for what in privileges))
        return name

    def sweep(self, user: str = "root") -> SweepReport:
        options = SweepOptions("test-host", 10, Breaker(50, 1.0))
        return sweep(self.source(user), DowntimeTracker(0), SourceState(), options, None, Heard())

    def stale(self) -> None:
        self.do(
            "INSERT INTO job (operation, queue_name, status, created_at, started_at)"
            " VALUES ('embed', 'q', 'running', utc_timestamp() - INTERVAL 9 HOUR, utc_timestamp() - INTERVAL 9 HOUR)"
        )


def made(server: MariaDB, script: str) -> Iterator[Place]:
    name = f"check_{next(_numbers)}"
    server.create_database(name, Path(reaper.__file__).parent / "profiles" / f"{script}.mariadb.sql")
    yield Place(server, name, resolve(script))
    server.drop_database(name)


@pytest.fixture
def place(mariadb: MariaDB) -> Iterator[Place]:
    yield from made(mariadb, "protea")


@pytest.fixture
def adhese(mariadb: MariaDB) -> Iterator[Place]:
    yield from made(mariadb, "adhese")


def grave(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.NOTE]


def only(findings: list[Finding]) -> Finding:
    """The one error or warning."""
    (finding,) = grave(findings)
    return finding


def about(findings: list[Finding], words: str) -> Finding:
    """The one that says so."""
    (finding,) = [finding for finding in findings if words in finding.message]
    return finding


def pasted(lines: str | None) -> Profile:
    assert lines is not None
    return resolve("protea", tomllib.loads(lines)["profiles"])


def mine(**changes: Any) -> Profile:
    return resolve("mine", {"mine": {"extends": "protea", **changes}})


# --- nothing to say ----------------------------------------------------------------------------------------------


def test_the_tables_the_profiles_are_written_for_give_no_errors_and_no_warnings(place: Place, adhese: Place) -> None:
    assert grave(place.found()) == []
    for profile in (adhese.profile, resolve("adhese-schedule")):
        assert [f for f in grave(adhese.found(profile=profile)) if "the reaper's log alone" not in f.message] == []


def test_nothing_is_changed_and_nothing_stays_locked(place: Place) -> None:
    place.stale()
    before = place.ask("SELECT * FROM job"), place.ask("SHOW CREATE TABLE job")
    place.found()
    assert (place.ask("SELECT * FROM job"), place.ask("SHOW CREATE TABLE job")) == before
    place.do("ALTER TABLE job ADD COLUMN mark int")


def test_everything_wrong_is_said_at_once(place: Place) -> None:
    findings = place.found(
        "ALTER TABLE job RENAME COLUMN operation TO operations",
        "ALTER TABLE job_event RENAME COLUMN ts TO at_time",
        "ALTER TABLE job DROP INDEX ix_job_status_created_at",
        "ALTER TABLE job MODIFY COLUMN error_code varchar(5)",
    )
    assert {f.subject for f in grave(findings)} == {"job.operation", "job_event.ts", "job.status", "job.error_code"}


# --- names -------------------------------------------------------------------------------------------------------


def test_a_missing_table_is_told_with_the_nearest_name(place: Place) -> None:
    finding = only(place.found("RENAME TABLE job_event TO job_events"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event")
    assert finding.message == "no such table; did you mean 'job_events'?"
    assert grave(place.found(profile=pasted(finding.fix))) == []


def test_a_missing_column_is_told_with_the_nearest_name(place: Place) -> None:
    finding = only(place.found("ALTER TABLE job RENAME COLUMN started_at TO start_at"))
    assert (finding.subject, finding.message) == ("job.started_at", "no such column; did you mean 'start_at'?")
    assert grave(place.found(profile=pasted(finding.fix))) == []


def test_a_view_is_no_table_and_the_one_behind_it_is_named(place: Place) -> None:
    finding = only(place.found("RENAME TABLE job TO job_rows", "CREATE VIEW job AS SELECT * FROM job_rows"))
    assert finding.level is Level.ERROR and finding.message.endswith("it reads from job_rows")
    assert grave(place.found(profile=pasted(finding.fix))) == []


def test_a_table_in_another_database_is_named_with_it(place: Place) -> None:
    other = f"other_{place.name}"
    try:
        finding = about(
            place.found(f"CREATE DATABASE {other}", f"RENAME TABLE job_event TO {other}.job_event"), "no such table"
        )
        assert finding.message.endswith(f"there is {other}.job_event")
        assert grave(place.found(profile=pasted(finding.fix))) == []
    finally:
        place.do(f"DROP DATABASE {other}")


def test_a_table_whose_rows_cannot_be_locked_is_an_error_that_one_statement_mends(place: Place) -> None:
    place.do(
        "ALTER TABLE job_event DROP FOREIGN KEY job_event_job, DROP INDEX ix_job_event_event_ts",
        "ALTER TABLE job_event ENGINE = MyISAM",
    )
    finding = only(place.found())
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event")
    assert "table of the engine MyISAM: its rows cannot be locked" in finding.message
    place.mend(finding)
    assert "no foreign key" in only(place.found()).message


# --- what columns hold -------------------------------------------------------------------------------------------


def test_a_moment_without_its_fractions_is_a_note(place: Place) -> None:
    findings = place.found(
        "ALTER TABLE job_event MODIFY COLUMN ts datetime NOT NULL DEFAULT current_timestamp() COMMENT 'it''s \\\\ so'",
        "ALTER TABLE job MODIFY COLUMN started_at timestamp NULL",
    )
    assert grave(findings) == []
    cut = [finding for finding in findings if "fractions" in finding.message]
    assert [(f.subject, f.level) for f in cut] == [("job.started_at", Level.NOTE), ("job_event.ts", Level.NOTE)]
    for finding in cut:
        place.mend(finding)
    assert [finding for finding in place.found() if "fractions" in finding.message] == []
    [(kind, value, comment)] = place.ask(
        "SELECT column_type, column_default, column_comment FROM information_schema.columns"
        f" WHERE table_schema = '{place.name}' AND table_name = 'job_event' AND column_name = 'ts'"
    )
    assert (kind, value, comment) == ("datetime(6)", "current_timestamp(6)", "it's \\ so")


def test_a_timestamp_fits_as_well_as_a_datetime(place: Place) -> None:
    place.do("ALTER TABLE job MODIFY COLUMN started_at timestamp(6) NULL")
    assert grave(place.found()) == []
    assert grave(place.found(profile=mine(time="naive"))) == []


@pytest.mark.parametrize("kind", ["date", "varchar(40)", "time"])
def test_a_column_that_holds_no_moments_is_told(place: Place, kind: str) -> None:
    finding = only(place.found(f"ALTER TABLE job MODIFY COLUMN started_at {kind} NULL"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job.started_at")
    assert (
        finding.message.startswith(f"is {kind}, and")
        and "'timestamptz', a DATETIME or TIMESTAMP in UTC" in finding.message
    )


def test_seconds_since_1970_are_recognised(place: Place) -> None:
    finding = only(
        place.found(
            "ALTER TABLE job_event DROP COLUMN ts, ADD COLUMN ts bigint NOT NULL DEFAULT 0, ADD INDEX (job_id, ts)",
            "INSERT INTO job (id, operation, queue_name) VALUES ('j', 'embed', 'q')",
            "INSERT INTO job_event (job_id, ts, event) VALUES ('j', 1700000000, 'x')",
        )
    )
    assert finding.message.endswith("did you mean 'epoch s'?")
    assert grave(place.found(profile=pasted(finding.fix))) == []


def test_a_label_that_the_enum_has_not_is_told_with_the_nearest(place: Place) -> None:
    findings = grave(place.found(profile=mine(jobs={"running": {"column": "status", "in": ["runing"]}})))
    assert [f.subject for f in findings] == ["job.status"]
    assert "'runing' is no label of the enum" in findings[0].message and "'running'?" in findings[0].message


def test_a_label_in_another_case_is_one_where_the_collation_says_so(place: Place) -> None:
    shouted = mine(jobs={"running": {"column": "status", "in": ["RUNNING"]}})
    assert grave(place.found(profile=shouted)) == []
    labels = "enum('queued', 'running', 'succeeded', 'failed', 'cancelled')"
    exact = f"ALTER TABLE job MODIFY COLUMN status {labels} COLLATE utf8mb4_bin NOT NULL DEFAULT 'queued'"
    assert "'RUNNING' is no label" in only(place.found(exact, profile=shouted)).message


def test_a_value_that_a_constraint_refuses_is_told(place: Place) -> None:
    place.do("ALTER TABLE job ADD CONSTRAINT codes CHECK (error_code IN ('Broken', '50%: x'))")
    finding = only(place.found())
    assert "'JobTimeout' is refused by the constraint codes" in finding.message


def test_too_short_a_column_is_lengthened_by_the_printed_statement(place: Place) -> None:
    place.do(
        "ALTER TABLE job MODIFY COLUMN error_message varchar(60) NOT NULL DEFAULT 'it''s' COMMENT 'why'",
        "ALTER TABLE job MODIFY COLUMN error_code varchar(3), ADD INDEX (error_code)",
    )
    findings = grave(place.found())
    assert {f.subject for f in findings} == {"job.error_message", "job.error_code"}
    for fix in {finding.fix: finding for finding in findings}.values():
        place.mend(fix)
    assert grave(place.found()) == []
    [(value, nullable, comment)] = place.ask(
        "SELECT column_default, is_nullable, column_comment FROM information_schema.columns"
        f" WHERE table_schema = '{place.name}' AND column_name = 'error_message'"
    )
    assert (value, nullable, comment) == ("'it''s'", "NO", "why") or (value, nullable) == ("'it\\'s'", "NO")


def test_a_column_that_must_have_a_value_and_gets_none_is_told(place: Place) -> None:
    finding = only(place.found("ALTER TABLE job_event ADD COLUMN tenant int NOT NULL"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event.tenant")
    assert "NOT NULL without a default" in finding.message


def test_a_generated_column_takes_no_value(place: Place) -> None:
    finding = only(
        place.found("ALTER TABLE job DROP COLUMN error_code", "ALTER TABLE job ADD COLUMN error_code int AS (1 + 1)")
    )
    assert "generated column" in finding.message


def test_bytes_are_no_keys(place: Place) -> None:
    place.do("CREATE TABLE tasks (id binary(16) PRIMARY KEY, state varchar(9), at datetime(6), KEY (state, at))")
    profile = resolve("own", {"own": OWN})
    finding = next(f for f in grave(place.found(profile=profile)) if f.level is Level.ERROR)
    assert (finding.subject, finding.message) == (
        "tasks.id",
        "is binary(16), and part of jobs.key: keys travel as text, which bytes are not",
    )


OWN: Mapping[str, Any] = {
    "jobs": {"table": "tasks", "key": "id", "started": "at", "running": {"column": "state", "in": ["working"]}},
    "actions": {"fail": {"set": {"state": "dead"}}},
}


def test_evidence_may_go_into_plain_text(place: Place) -> None:
    assert grave(place.found("ALTER TABLE job_event DROP COLUMN fields, ADD COLUMN fields longtext")) == []


# --- comparing ---------------------------------------------------------------------------------------------------


def test_columns_that_the_server_does_not_compare_are_told_and_brought_together(place: Place) -> None:
    place.do(
        "ALTER TABLE job_event DROP FOREIGN KEY job_event_job",
        "ALTER TABLE job DROP FOREIGN KEY job_parent",
        *(f"ALTER TABLE job MODIFY COLUMN {name}" for name in KEYS),
        "ALTER TABLE job_event MODIFY COLUMN job_id char(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci NOT NULL",
    )
    place.stale()
    assert place.sweep().error is not None
    finding = about(grave(place.found()), "cannot be compared with job.id")
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event.job_id")
    assert about(place.found(), "no foreign key").fix is None
    place.mend(finding)
    assert place.sweep().reaped == 1
    place.mend(about(place.found(), "no foreign key"))
    assert grave(place.found()) == []


KEYS = (
    "id char(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL DEFAULT (uuid())",
    "parent_job_id char(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
)


def test_loose_collations_are_a_note(place: Place) -> None:
    finding = about(place.found(), "collations")
    assert finding.level is Level.NOTE and finding.message.endswith("differ in case: job.status")


# --- indexes and keys --------------------------------------------------------------------------------------------


def test_a_missing_index_is_made_by_the_printed_statement_beside_its_writers(place: Place) -> None:
    place.do(
        "ALTER TABLE job_event DROP FOREIGN KEY job_event_job, DROP INDEX ix_job_event_job_id_ts",
        "ALTER TABLE job DROP INDEX ix_job_status_created_at",
    )
    findings = [finding for finding in grave(place.found()) if "index" in finding.message]
    assert {f.subject for f in findings} == {"job.status", "job_event"}
    for finding in findings:
        assert finding.fix is not None and "ALGORITHM=INPLACE LOCK=NONE" in finding.fix
        place.mend(finding)
    assert [finding for finding in grave(place.found()) if "index" in finding.message] == []


def test_an_index_on_long_texts_takes_their_beginnings(place: Place) -> None:
    place.do(f"CREATE TABLE `{ODD}` (id int PRIMARY KEY, `st``ate` text, `at: 50%` datetime(6))")
    jobs = {"table": ODD, "key": "id", "started": "at: 50%", "running": {"column": "st`ate", "in": ["working"]}}
    profile = resolve("own", {"own": {**OWN, "jobs": jobs, "actions": {"fail": {"set": {"st`ate": "dead"}}}}})
    finding = about(grave(place.found(profile=profile)), "no index finds")
    place.mend(finding)
    assert not any("no index finds" in each.message for each in place.found(profile=profile))


ODD = "jobs: 100%"


def test_an_index_that_the_optimizer_ignores_is_told(place: Place) -> None:
    findings = place.found("ALTER TABLE job ALTER INDEX ix_job_status_created_at IGNORED")
    place.mend(about(findings, "the index ix_job_status_created_at"))
    assert grave(place.found()) == []


def test_without_a_foreign_key_a_sign_of_life_can_slip_in(place: Place) -> None:
    place.do(
        "ALTER TABLE job_event DROP FOREIGN KEY job_event_job",
        "INSERT INTO job_event (job_id, event) VALUES ('nobody', 'left behind')",
    )
    finding = only(place.found())
    assert finding.level is Level.WARNING and finding.message.startswith("no foreign key from (job_id) to job")
    place.mend(finding)
    assert grave(place.found()) == []
    place.stale()
    assert place.sweep().reaped == 1


def test_a_key_that_is_not_unique_is_told(place: Place) -> None:
    place.do(
        "ALTER TABLE job_event DROP FOREIGN KEY job_event_job",
        "ALTER TABLE job DROP FOREIGN KEY job_parent",
        "ALTER TABLE job DROP PRIMARY KEY, MODIFY COLUMN id char(36) CHARACTER SET ascii COLLATE ascii_bin NULL",
    )
    findings = place.found()
    place.mend(about(findings, "jobs.key (id) is not unique"))
    place.mend(about(findings, "may be NULL"))
    assert {f.subject for f in grave(place.found())} == {"job_event"}


def test_a_trigger_is_a_note(place: Place) -> None:
    place.do("CREATE TRIGGER noisy BEFORE UPDATE ON job FOR EACH ROW SET NEW.meta = NEW.meta")
    assert "noisy" in about(place.found(), "triggers fire").message


# --- privileges --------------------------------------------------------------------------------------------------


def test_a_user_with_the_printed_grants_and_no_others_can_sweep_and_explain(place: Place) -> None:
    user = place.guest(f"CREATE TEMPORARY TABLES ON {place.name}.*")
    findings = grave(place.found(user=user))
    assert [(f.level, f.subject) for f in findings] == [(Level.ERROR, "job"), (Level.ERROR, "job_event")]
    assert f"'{user}@localhost' may not see it" in findings[0].message
    for finding in findings:
        place.mend(finding)
    assert grave(place.found(user=user)) == []
    place.stale()
    report = place.sweep(user)
    assert (report.error, report.failures, report.reaped) == (None, (), 1)
    with place.source(user).connect() as connection:
        source = place.source(user)
        context = source.begin_evaluation(connection, DowntimeTracker(0))
        with source.transaction(connection, read_only=True):
            [(job,)] = place.ask("SELECT id FROM job")
            assert source.lookup.evidence(connection, context, [(job,)])
            assert source.lookup.audits(connection, (job,))


def test_a_view_that_is_read_with_the_user_s_own_rights_is_told(place: Place) -> None:
    related = {"table": "finished", "match": {"job_id": "id"}}
    profile = mine(jobs={"running": {"column": "status", "in": ["running"], "missing": [related]}})
    place.do(
        "CREATE TABLE raw (job_id uuid)",
        "CREATE VIEW finished AS SELECT job_id FROM raw",
    )
    user = place.guest(f"CREATE TEMPORARY TABLES ON {place.name}.*")
    for rights in ("DEFINER", "INVOKER"):
        place.do(f"CREATE OR REPLACE SQL SECURITY {rights} VIEW finished AS SELECT job_id FROM raw")
        with place.source(profile=profile).connect() as connection:
            grants = granting(profile, Workload(), from_database(connection, profile, f"{user}@localhost"))
        place.do(*list(grants.statements())[1:])
        told = [note for note in grants.notes if note.startswith("finished: a view, read with the role's own rights")]
        errors = grave(place.found(user=user, profile=profile))
        assert bool(told) == bool(errors) == (rights == "INVOKER")
    assert "SELECT on what it reads from" in only(errors).message
    place.do(f"GRANT SELECT ON {place.name}.raw TO {user}@localhost")
    assert grave(place.found(user=user, profile=profile)) == []


def test_the_sequence_of_a_default_is_granted_for_every_insert(place: Place) -> None:
    """Even where a value is given; not what merely looks like one."""
    place.do(
        "CREATE SEQUENCE numbers",
        "CREATE SEQUENCE `it``s`",
        "CREATE SEQUENCE of_job",
        "ALTER TABLE job_event ADD num bigint NOT NULL DEFAULT (NEXT VALUE FOR numbers)",
        "ALTER TABLE job_event MODIFY level varchar(16) DEFAULT (concat('\\'nextval(`a`.`b`)', nextval(`it``s`)))",
        "ALTER TABLE job ADD num bigint NOT NULL DEFAULT (NEXT VALUE FOR of_job)",
    )
    user = place.guest(f"CREATE TEMPORARY TABLES ON {place.name}.*")
    with place.source().connect() as connection:
        ground = from_database(connection, PROTEA, f"{user}@localhost")
    mine = list(granting(PROTEA, Workload(), ground).statements())[1:]
    drawn = {
        f"GRANT SELECT, INSERT ON `{place.name}`.`{name}` TO `{user}`@`localhost`;" for name in ("numbers", "it``s")
    }
    assert {statement for statement in mine if "GRANT SELECT, INSERT ON" in statement} == drawn
    place.do(*mine)
    place.stale()
    for statement in drawn:
        for privilege in ("SELECT", "INSERT"):
            less = statement.replace("SELECT, INSERT", privilege)
            place.do(less.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
            assert only(place.found(user=user)).fix == statement
            report = place.sweep(user)
            assert report.error or report.failures
            place.do(less)
    assert grave(place.found(user=user)) == [] and place.sweep(user).reaped == 1


def test_missing_privileges_are_named_with_their_columns_and_granted_as_printed(place: Place) -> None:
    user = place.guest(f"SELECT ON {place.name}.*", f"UPDATE (status) ON {place.name}.job")
    findings = grave(place.found(user=user))
    assert [f.message.partition(" may not ")[2] for f in findings] == [
        "UPDATE error_code, error_message, finished_at",
        "INSERT event, fields, job_id, level, message, ts",
    ]
    for finding in findings:
        place.mend(finding)
    assert grave(place.found(user=user)) == []


def test_privileges_that_come_by_a_role_count(place: Place) -> None:
    user, role = place.guest(), f"role{next(_numbers)}"
    place.do(
        f"CREATE ROLE {role}",
        f"GRANT SELECT, INSERT, UPDATE ON {place.name}.* TO {role}",
        f"GRANT {role} TO {user}@localhost",
        f"SET DEFAULT ROLE {role} FOR {user}@localhost",
    )
    assert grave(place.found(user=user)) == []


def test_a_table_of_which_only_columns_may_be_read_is_not_judged(place: Place) -> None:
    user = place.guest(f"SELECT, INSERT ON {place.name}.job_event", f"SELECT (id, status) ON {place.name}.job")
    finding = only(place.found(user=user))
    assert (finding.level, finding.subject) == (Level.WARNING, "job")
    assert "no more than single columns" in finding.message
    place.mend(finding)
    assert grave(place.found(user=user)) == []


def test_deleting_needs_a_privilege_of_its_own(adhese: Place) -> None:
    user = adhese.guest(f"SELECT, UPDATE, INSERT ON {adhese.name}.*")
    findings = [finding for finding in grave(adhese.found(user=user)) if finding.level is Level.ERROR]
    assert {f.message.partition(" may not ")[2] for f in findings} == {"DELETE"}
    assert {f.subject for f in findings} == {"JOB_RESULTS", "PARTIAL_JOB_RESULTS"}
    for finding in findings:
        adhese.mend(finding)
    assert not any(finding.level is Level.ERROR for finding in adhese.found(user=user))


def test_who_holds_a_row_is_told_to_those_who_see_processes(place: Place) -> None:
    user = place.guest(f"ALL ON {place.name}.*")
    place.mend(about(place.found(user=user), "PROCESS"))
    assert not any("PROCESS" in finding.message for finding in place.found(user=user))


# --- rows --------------------------------------------------------------------------------------------------------


def test_rows_that_start_in_the_future_and_circles_of_parents_are_told(place: Place) -> None:
    place.do(
        "INSERT INTO job (id, operation, queue_name, status, started_at) VALUES"
        " ('late', 'embed', 'q', 'running', utc_timestamp() + INTERVAL 2 DAY), ('a', 'e', 'q', 'running', now()),"
        " ('b', 'e', 'q', 'running', now())",
        "UPDATE job SET parent_job_id = IF(id = 'a', 'b', 'a') WHERE id IN ('a', 'b')",
    )
    findings = grave(place.found())
    assert "the job late cannot become stale for long" in about(findings, "late").message
    assert "each other's parents" in about(findings, "parents").message


def test_a_question_that_takes_too_long_is_cut_off_and_said(place: Place) -> None:
    place.do("INSERT INTO job (operation, queue_name, status) SELECT 'e', 'q', 'running' FROM seq_1_to_20000")
    findings = place.found(patience_seconds=0.001)
    assert any("could not be told: cut off after 0.001 s" in finding.message for finding in findings)


def test_a_table_that_somebody_keeps_locked_is_said_and_the_rest_is_examined(place: Place) -> None:
    place.do("ALTER TABLE job_event MODIFY COLUMN event int NOT NULL")
    with place.server.connect(place.name) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES job WRITE")
        findings = place.found(patience_seconds=0.2)
    assert any("could not be told: cut off after 0.2 s" in finding.message for finding in findings)
    assert any(finding.subject == "job_event.event" for finding in findings)


# --- the server --------------------------------------------------------------------------------------------------


def test_a_clock_that_differs_from_this_hosts_is_a_note(place: Place) -> None:
    assert any("behind this host's" in f.message for f in place.found(host_clock=lambda: time.time() + 90))


def test_a_server_that_takes_no_changes_is_an_error(place: Place) -> None:
    place.do("SET GLOBAL read_only = ON")
    try:
        finding = only(place.found())
        assert (finding.level, finding.subject) == (Level.ERROR, "server") and "read-only" in finding.message
        place.mend(finding)
        assert grave(place.found()) == []
    finally:
        place.do("SET GLOBAL read_only = OFF")


@pytest.mark.parametrize("version", ["10.5.29-MariaDB", "8.0.40"])
def test_another_server_is_refused_in_one_line(version: str, tmp_path: Path) -> None:
    with temporary() as server:
        server.stop()
        server.start(f"--version={version}")
        server.create_database("app")
        reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": server.url("app")})
        result = reaper("check")
        assert result.exit_code != 0 and version.partition("-")[0] in result.output
        assert "MariaDB 10.6 or later is needed" in result.output
        assert len((result.stderr or result.stdout).strip().splitlines()) <= 2


def test_a_log_is_refused_by_the_settings_and_by_the_examination(place: Place, tmp_path: Path) -> None:
    finding = only(place.found(profile=resolve("noetl")))
    assert finding.level is Level.ERROR and "need PostgreSQL" in finding.message
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": place.server.url(place.name), "REAPER_PROFILE": "noetl"})
    for command in ("check", "sweep", "run", "sql"):
        result = reaper(command)
        assert result.exit_code == exit_codes.CONFIGURATION
        assert (
            "REAPER_PROFILE: the jobs of profile 'noetl' exist only as a log, which needs PostgreSQL" in result.stderr
        )
    reaper.configure(f'[sources.shop]\nprofile = "noetl"\ndatabase_url = "{place.server.url(place.name)}"\n')
    del reaper.given["REAPER_PROFILE"], reaper.given["REAPER_DATABASE_URL"]
    result = reaper("sweep")
    assert result.exit_code == exit_codes.CONFIGURATION and "reaper.toml" in result.stderr and "shop" in result.stderr


def test_without_the_driver_one_line_says_how_to_install_it() -> None:
    code = "import sys; sys.modules['pymysql'] = None; from reaper.cli import main; main()"
    url = "mysql://someone:geheim@127.0.0.1/app"
    done = subprocess.run(
        [sys.executable, "-c", code, "check"],
        env={"REAPER_DATABASE_URL": url, "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exit_codes.CONFIGURATION, done.stderr
    assert "pip install 'reaper[mysql]'" in done.stderr and "geheim" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_command_shows_each_finding_with_its_statement(place: Place, tmp_path: Path) -> None:
    place.do("ALTER TABLE job DROP INDEX ix_job_status_created_at")
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": place.server.url(place.name)})
    result = reaper("check")
    assert (
        result.exit_code == 0
        and f"    CREATE INDEX `ix_job_status_created_at` ON `{place.name}`.`job`" in result.stdout
    )
