"""`reaper check` on a real MariaDB: one fault per test, its finding, and that the fix works."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from reaper.check import Level
from reaper.cli import exit_codes
from reaper.profile import resolve
from tests.support.checks import only_problem, problems, profile_with_fix
from tests.support.commands import Reaper
from tests.support.mariadb import temporary
from tests.support.mariadb_checks import OWN_PROFILE, CheckedMariaDB, finding_about

# --- nothing to say ---------------------------------------------------------------------------------------------------


def test_shipped_mariadb_tables_give_no_errors_and_no_warnings(checked: CheckedMariaDB, adhese: CheckedMariaDB) -> None:
    assert problems(checked.check()) == []
    for profile in (adhese.profile, resolve("adhese-schedule")):
        assert [f for f in problems(adhese.check(profile=profile)) if "only the reaper's log" not in f.message] == []


def test_check_changes_nothing_and_leaves_nothing_locked_on_mariadb(checked: CheckedMariaDB) -> None:
    checked.stale()
    before = checked.query("SELECT * FROM job"), checked.query("SHOW CREATE TABLE job")
    checked.check()
    assert (checked.query("SELECT * FROM job"), checked.query("SHOW CREATE TABLE job")) == before
    checked.do("ALTER TABLE job ADD COLUMN mark int")


def test_all_errors_are_reported_at_once_on_mariadb(checked: CheckedMariaDB) -> None:
    findings = checked.check(
        "ALTER TABLE job RENAME COLUMN operation TO operations",
        "ALTER TABLE job_event RENAME COLUMN ts TO at_time",
        "ALTER TABLE job DROP INDEX ix_job_status_created_at",
        "ALTER TABLE job MODIFY COLUMN error_code varchar(5)",
    )
    assert {f.subject for f in problems(findings)} == {"job.operation", "job_event.ts", "job.status", "job.error_code"}


# --- names ------------------------------------------------------------------------------------------------------------


def test_missing_mariadb_table_is_reported_with_the_nearest_name(checked: CheckedMariaDB) -> None:
    finding = only_problem(checked.check("RENAME TABLE job_event TO job_events"))
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event")
    assert finding.message == "no such table; did you mean 'job_events'?"
    assert problems(checked.check(profile=profile_with_fix(finding.fix))) == []


def test_missing_mariadb_column_is_reported_with_the_nearest_name(checked: CheckedMariaDB) -> None:
    finding = only_problem(checked.check("ALTER TABLE job RENAME COLUMN started_at TO start_at"))
    assert (finding.subject, finding.message) == ("job.started_at", "no such column; did you mean 'start_at'?")
    assert problems(checked.check(profile=profile_with_fix(finding.fix))) == []


def test_mariadb_view_as_jobs_table_is_an_error_that_names_the_table_behind_it(checked: CheckedMariaDB) -> None:
    finding = only_problem(
        checked.check("RENAME TABLE job TO job_rows", "CREATE VIEW job AS SELECT DISTINCT * FROM job_rows")
    )
    assert finding.level is Level.ERROR and finding.message.endswith("it reads from job_rows")
    assert problems(checked.check(profile=profile_with_fix(finding.fix))) == []


def test_table_in_another_database_is_named_with_that_database(checked: CheckedMariaDB) -> None:
    other = f"other_{checked.name}"
    try:
        finding = finding_about(
            checked.check(f"CREATE DATABASE {other}", f"RENAME TABLE job_event TO {other}.job_event"), "no such table"
        )
        assert finding.message.endswith(f"there is {other}.job_event")
        assert problems(checked.check(profile=profile_with_fix(finding.fix))) == []
    finally:
        checked.do(f"DROP DATABASE {other}")


def test_myisam_table_is_an_error_that_one_statement_fixes(checked: CheckedMariaDB) -> None:
    checked.do(
        "ALTER TABLE job_event DROP FOREIGN KEY job_event_job, DROP INDEX ix_job_event_event_ts",
        "ALTER TABLE job_event ENGINE = MyISAM",
    )
    finding = only_problem(checked.check())
    assert (finding.level, finding.subject) == (Level.ERROR, "job_event")
    assert "table of the engine MyISAM: its rows cannot be locked" in finding.message
    checked.apply_fix(finding)
    assert "no foreign key" in only_problem(checked.check()).message


# --- indexes and keys -------------------------------------------------------------------------------------------------


def test_missing_mariadb_index_is_created_online_by_the_printed_statement(checked: CheckedMariaDB) -> None:
    checked.do(
        "ALTER TABLE job_event DROP FOREIGN KEY job_event_job, DROP INDEX ix_job_event_job_id_ts",
        "ALTER TABLE job DROP INDEX ix_job_status_created_at",
    )
    findings = [finding for finding in problems(checked.check()) if "index" in finding.message]
    assert {f.subject for f in findings} == {"job.status", "job_event"}
    for finding in findings:
        assert finding.fix is not None and "ALGORITHM=INPLACE LOCK=NONE" in finding.fix
        checked.apply_fix(finding)
    assert [finding for finding in problems(checked.check()) if "index" in finding.message] == []


def test_index_on_long_texts_uses_prefixes(checked: CheckedMariaDB) -> None:
    checked.do(f"CREATE TABLE `{ODD}` (id int PRIMARY KEY, `st``ate` text, `at: 50%` datetime(6))")
    jobs = {"table": ODD, "key": "id", "started": "at: 50%", "running": {"column": "st`ate", "in": ["working"]}}
    profile = resolve("own", {"own": {**OWN_PROFILE, "jobs": jobs, "actions": {"fail": {"set": {"st`ate": "dead"}}}}})
    finding = finding_about(problems(checked.check(profile=profile)), "no index finds")
    checked.apply_fix(finding)
    assert not any("no index finds" in finding.message for finding in checked.check(profile=profile))


ODD = "jobs: 100%"


@pytest.mark.thorough
def test_ignored_index_is_reported(checked: CheckedMariaDB) -> None:
    findings = checked.check("ALTER TABLE job ALTER INDEX ix_job_status_created_at IGNORED")
    checked.apply_fix(finding_about(findings, "the index ix_job_status_created_at"))
    assert problems(checked.check()) == []


def test_mariadb_events_without_a_foreign_key_are_a_warning(checked: CheckedMariaDB) -> None:
    checked.do(
        "ALTER TABLE job_event DROP FOREIGN KEY job_event_job",
        "INSERT INTO job_event (job_id, event) VALUES ('nobody', 'left behind')",
    )
    finding = only_problem(checked.check())
    assert finding.level is Level.WARNING and finding.message.startswith("no foreign key from (job_id) to job")
    checked.apply_fix(finding)
    assert problems(checked.check()) == []
    checked.stale()
    assert checked.sweep().reaped == 1


def test_mariadb_key_that_is_not_unique_is_reported(checked: CheckedMariaDB) -> None:
    checked.do(
        "ALTER TABLE job_event DROP FOREIGN KEY job_event_job",
        "ALTER TABLE job DROP FOREIGN KEY job_parent",
        "ALTER TABLE job DROP PRIMARY KEY, MODIFY COLUMN id char(36) CHARACTER SET ascii COLLATE ascii_bin NULL",
    )
    findings = checked.check()
    checked.apply_fix(finding_about(findings, "jobs.key (id) is not unique"))
    checked.apply_fix(finding_about(findings, "may be NULL"))
    assert {f.subject for f in problems(checked.check())} == {"job_event"}


def test_mariadb_trigger_is_a_note(checked: CheckedMariaDB) -> None:
    checked.do("CREATE TRIGGER noisy BEFORE UPDATE ON job FOR EACH ROW SET NEW.meta = NEW.meta")
    assert "noisy" in finding_about(checked.check(), "triggers fire").message


# --- rows -------------------------------------------------------------------------------------------------------------


def test_mariadb_rows_in_the_future_and_parent_cycles_are_reported(checked: CheckedMariaDB) -> None:
    checked.do(
        "INSERT INTO job (id, operation, queue_name, status, started_at) VALUES"
        " ('late', 'embed', 'q', 'running', utc_timestamp() + INTERVAL 2 DAY), ('a', 'e', 'q', 'running', now()),"
        " ('b', 'e', 'q', 'running', now())",
        "UPDATE job SET parent_job_id = IF(id = 'a', 'b', 'a') WHERE id IN ('a', 'b')",
    )
    findings = problems(checked.check())
    assert "the job late cannot become stale for a long time" in finding_about(findings, "late").message
    assert "each other's parents" in finding_about(findings, "parents").message


def test_mariadb_query_that_takes_too_long_is_cut_off_and_noted(checked: CheckedMariaDB) -> None:
    checked.do("INSERT INTO job (operation, queue_name, status) SELECT 'e', 'q', 'running' FROM seq_1_to_20000")
    findings = checked.check(query_seconds=0.001)
    assert any(
        finding.message.startswith("could not check whether ") and finding.message.endswith(": cut off after 0.001 s")
        for finding in findings
    )


def test_locked_mariadb_table_is_noted_and_the_rest_is_checked(checked: CheckedMariaDB) -> None:
    checked.do("ALTER TABLE job_event MODIFY COLUMN event int NOT NULL")
    with checked.server.connect(checked.name) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLES job WRITE")
        findings = checked.check(query_seconds=0.2)
    assert any(
        finding.message.startswith("could not check whether ") and finding.message.endswith(": cut off after 0.2 s")
        for finding in findings
    )
    assert any(finding.subject == "job_event.event" for finding in findings)


# --- the server -------------------------------------------------------------------------------------------------------


def test_mariadb_clock_that_differs_from_the_host_is_a_note(checked: CheckedMariaDB) -> None:
    assert any("behind this host's" in f.message for f in checked.check(host_clock=lambda: time.time() + 90))


@pytest.mark.thorough
def test_read_only_mariadb_server_is_an_error(checked: CheckedMariaDB) -> None:
    checked.do("SET GLOBAL read_only = ON")
    try:
        finding = only_problem(checked.check())
        assert (finding.level, finding.subject) == (Level.ERROR, "server") and "read-only" in finding.message
        checked.apply_fix(finding)
        assert problems(checked.check()) == []
    finally:
        checked.do("SET GLOBAL read_only = OFF")


@pytest.mark.parametrize("version", ["10.5.29-MariaDB", "8.0.40"])
def test_unsupported_server_is_refused_in_one_line(version: str, tmp_path: Path) -> None:
    with temporary() as server:
        server.stop()
        server.start(f"--version={version}")
        server.create_database("app")
        reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": server.url("app")})
        result = reaper("check")
        assert result.exit_code != 0 and version.partition("-")[0] in result.output
        assert "MariaDB 10.6 or later is needed" in result.output
        assert len((result.stderr or result.stdout).strip().splitlines()) <= 2


def test_log_profile_is_refused_on_mariadb_by_settings_and_check(checked: CheckedMariaDB, tmp_path: Path) -> None:
    finding = only_problem(checked.check(profile=resolve("noetl")))
    assert finding.level is Level.ERROR and "need PostgreSQL" in finding.message
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": checked.server.url(checked.name), "REAPER_PROFILE": "noetl"})
    for command in ("check", "sweep", "run", "sql"):
        result = reaper(command)
        assert result.exit_code == exit_codes.CONFIGURATION
        assert (
            "REAPER_PROFILE: the jobs of profile 'noetl' exist only as a log, which needs PostgreSQL" in result.stderr
        )
    reaper.configure(f'[sources.shop]\nprofile = "noetl"\ndatabase_url = "{checked.server.url(checked.name)}"\n')
    del reaper.given["REAPER_PROFILE"], reaper.given["REAPER_DATABASE_URL"]
    result = reaper("sweep", "--yes")
    assert result.exit_code == exit_codes.CONFIGURATION and "reaper.toml" in result.stderr and "shop" in result.stderr


def test_missing_driver_is_reported_in_one_line_with_the_command_that_installs_it() -> None:
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
    assert "pip install 'job-reaper[mysql]'" in done.stderr and "geheim" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_command_shows_each_finding_with_its_statement(checked: CheckedMariaDB, tmp_path: Path) -> None:
    checked.do("ALTER TABLE job DROP INDEX ix_job_status_created_at")
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": checked.server.url(checked.name)})
    result = reaper("check")
    assert (
        result.exit_code == 0
        and f"    CREATE INDEX `ix_job_status_created_at` ON `{checked.name}`.`job`" in result.stdout
    )
