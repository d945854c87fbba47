"""The configuration reaches each command that ends or deletes jobs; nothing that is printed steers a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from reaper import celery_tasks
from tests.support.commands import Reaper
from tests.support.protea import HOUR, MINUTE, Protea

ALL = ("sweep", "cleanup", "clear", "reset", "close-interrupted", "task clear", "task reset")
SILENT = ("sweep", "cleanup", "clear", "close-interrupted", "task clear")
"""Those that end a job for its silence."""
HELD = ("sweep", "cleanup", "clear", "task clear")
"""Those that the breaker holds."""

CLOSE = ("close-interrupted", "--source", "default", "--only-server", "--started-ago", "0s", "--yes")
WORDS: Mapping[str, tuple[str, ...]] = {
    "sweep": ("sweep", "--yes"),
    "cleanup": ("cleanup", "--older-than-minutes", "60"),
    "clear": ("clear", "--force"),
    "reset": ("reset", "--source", "default", "--confirm", "default"),
    "close-interrupted": (*CLOSE, "--listen", "0.3s", "--window", "1d"),
    "purge": ("purge", "--yes"),
}


@pytest.fixture
def reaper(protea: Protea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url})


def run(reaper: Reaper, command: str, monkeypatch: pytest.MonkeyPatch, **given: str) -> str:
    """What the command printed, or the task returned."""
    if not command.startswith("task "):
        return reaper(*WORDS[command], **given).output
    with monkeypatch.context() as patch:
        for name, value in {**reaper.given, **given}.items():
            patch.setenv(name, value)
        if command == "task clear":
            return json.dumps(celery_tasks.clear_stuck_scheduler_jobs(max_age_hours=4))
        return json.dumps(celery_tasks.reset_scheduler_state(force=True, all_sources=True))


def watch_batches(protea: Protea, event: str) -> None:
    """Note how many jobs each statement changes or deletes."""
    rows = "NEW" if event == "UPDATE" else "OLD"
    protea.connection.execute(
        "CREATE TABLE batch (jobs int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO batch SELECT count(*) FROM touched; RETURN NULL; END $$; CREATE TRIGGER note AFTER"
        f" {event} ON job REFERENCING {rows} TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION note()"
    )


def batches(protea: Protea) -> list[int]:
    found = protea.connection.execute("SELECT jobs FROM batch WHERE jobs > 0 ORDER BY jobs DESC").fetchall()
    return [jobs for (jobs,) in found]


def test_batch_size_is_the_configured_one(reaper: Reaper, protea: Protea, monkeypatch: pytest.MonkeyPatch) -> None:
    watch_batches(protea, "UPDATE")
    for command in ALL:
        protea.connection.execute("TRUNCATE batch")
        for _ in range(5):
            protea.stale()
        said = run(reaper, command, monkeypatch, REAPER_BATCH_SIZE="2")
        assert batches(protea) == [2, 2, 1], (command, said)


def test_batch_size_and_days_of_a_purge_are_the_configured_ones(reaper: Reaper, protea: Protea) -> None:
    for days in (10, 10, 10, 5):
        protea.job(status="succeeded", age=20 * 24 * HOUR, finished=days * 24 * HOUR)
    watch_batches(protea, "DELETE")
    reaper.configure(
        f'[sources.default]\ndatabase_url = "{protea.url}"\n[sources.default.purge]\nbatch_size = 2\ndays_to_keep = 7\n'
    )
    assert reaper("purge", "--yes", REAPER_DATABASE_URL="").stdout == "Purged 3 finished job(s).\n"
    assert batches(protea) == [2, 1]


def test_restart_grace_is_the_configured_one(reaper: Reaper, protea: Protea, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's server has just been started: no sign of life could be seen before, nor missed so soon."""
    for command in SILENT:
        job = protea.stale()
        if command != "close-interrupted":  # it would go on listening
            run(reaper, command, monkeypatch, REAPER_RESTART_GRACE="12h")
            assert protea.status(job) == "running", command
        run(reaper, command, monkeypatch, REAPER_RESTART_GRACE="0")
        assert protea.status(job) == "failed", command


def test_explain_and_report_judge_with_the_configured_grace(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    assert "no sign of life for 2h" in reaper("explain", job).stdout
    assert "has not been reachable" in reaper("explain", job, REAPER_RESTART_GRACE="12h").stdout
    for grace, verdict in (("0", "stale"), ("12h", "spared")):
        [source] = reaper.json("report", REAPER_RESTART_GRACE=grace)["sources"]
        assert [found["verdict"] for found in source["jobs"]] == [verdict]


def test_breaker_is_the_configured_one(reaper: Reaper, protea: Protea, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(20):
        protea.job(age=MINUTE)
    for command in HELD:
        _run_60(protea)
        run(reaper, command, monkeypatch)
        assert _ended(protea) == 0, command
        for setting, value in (("REAPER_BREAKER_SHARE", "0.9"), ("REAPER_BREAKER_MIN", "70")):
            _run_60(protea)
            run(reaper, command, monkeypatch, **{setting: value})
            assert _ended(protea) == 60, (command, setting)


def _run_60(protea: Protea) -> None:
    """Sixty silent jobs, and none that has ended."""
    protea.connection.execute("DELETE FROM job_event; DELETE FROM job WHERE started_at < now() - interval '1 h'")
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, started_at)"
        " SELECT 'embed', 'q', 'running', now() - interval '8 h' FROM generate_series(1, 60)"
    )


def _ended(protea: Protea) -> int:
    return list(protea.statuses().values()).count("failed")


@pytest.mark.parametrize(("setting", "seconds"), [("REAPER_STATEMENT_TIMEOUT_SECONDS", 1.0)])
def test_statements_are_given_the_configured_time(setting: str, seconds: float, reaper: Reaper, protea: Protea) -> None:
    protea.stale()
    protea.connection.execute(
        "ALTER TABLE job RENAME TO job_; CREATE VIEW job AS SELECT * FROM job_ WHERE pg_sleep(30) IS NOT NULL"
    )
    document: Any = reaper.json("sweep", "--yes", code=1, **{setting: f"{seconds:g}s"})
    assert "statement timeout" in document["sources"][0]["error"]
    assert document["sources"][0]["duration_seconds"] < 15


# --- what is printed ---------------------------------------------------------------------------------------------

EVIL = "evil\x1b[2J\x1b]0;title\x07\x9b31m\r\u202e\nforged line"
STEERING = "\x1b\x07\x9b\r\u202e\x08"


def harmless(text: str) -> None:
    assert not [character for character in text if character in STEERING], repr(text)


PRINTING: Sequence[tuple[str, ...]] = [
    ("report",),
    ("report", "--json"),
    ("report", "--kind", EVIL),
    ("explain", "JOB"),
    ("explain", "JOB", "--json"),
    ("explain", EVIL),
    ("sweep", "--dry-run"),
    ("sweep", "--yes"),
    ("sweep", "--yes", "--json"),
    ("cleanup", "--older-than-minutes", "60", "--dry-run"),
    ("cleanup", "--older-than-minutes", "60"),
    ("clear", "--dry-run"),
    ("clear", "--force"),
    ("clear", "--force", "--action", EVIL),
    ("reset", "--source", "default", "--dry-run"),
    ("reset", "--source", "default", "--confirm", "default", "--reason", EVIL),
    ("reset", "--source", EVIL, "--dry-run"),
    (*CLOSE, "--listen", "0.3s", "--window", "1d", "--dry-run"),
    (*CLOSE, "--listen", "0.3s", "--window", "1d"),
    ("fail", "--yes", "JOB", "--reason", EVIL),
    ("fail", "--yes", EVIL, "--reason", "x"),
    ("purge", "--yes", "--source", EVIL),
    ("check",),
    ("state", "--url", f"http://{EVIL}"),
    ("config",),
]


def test_output_of_commands_cannot_control_a_terminal(reaper: Reaper, protea: Protea) -> None:
    for words in PRINTING:
        job = protea.stale(operation=EVIL)
        protea.event(job, age=3 * HOUR, event="job.timeout", fields={"reason": EVIL, "message": EVIL, "operator": EVIL})
        protea.event(job, age=2 * HOUR, event=EVIL)
        protea.connection.execute("UPDATE job_event SET level = 'error' WHERE event = 'job.timeout'")
        result = reaper(*(job if word == "JOB" else word for word in words))
        harmless(result.stdout)
        harmless(result.stderr)


def test_key_of_a_job_steers_no_terminal(reaper: Reaper, protea: Protea) -> None:
    """A key may be any text."""
    protea.connection.execute(
        "DO $$ DECLARE found record; BEGIN FOR found IN SELECT conname, conrelid::regclass AS place FROM pg_constraint"
        " WHERE contype = 'f' LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', found.place, found.conname);"
        " END LOOP; END $$"
    )
    for column in ("job.id", "job.parent_job_id", "job_event.job_id"):
        table, _, name = column.partition(".")
        protea.connection.execute(f"ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT")
        protea.connection.execute(f"ALTER TABLE {table} ALTER COLUMN {name} TYPE text")
    for words in (
        ("report",),
        ("sweep", "--yes"),
        ("explain", EVIL),
        ("fail", "--yes", EVIL, "--reason", "x"),
        (*WORDS["cleanup"], "--dry-run"),
        WORDS["cleanup"],
        WORDS["reset"],
        WORDS["close-interrupted"],
        ("clear", "--dry-run"),
    ):
        protea.connection.execute("DELETE FROM job_event; DELETE FROM job")
        protea.connection.execute(
            "INSERT INTO job (id, operation, queue_name, status, started_at)"
            " VALUES (%s, 'embed', 'q', 'running', now() - interval '8 h')",
            (EVIL,),
        )
        result = reaper(*words)
        assert result.exit_code == 0, (words, result.output)
        harmless(result.stdout)
        harmless(result.stderr)


def test_database_error_cannot_control_a_terminal(reaper: Reaper, protea: Protea) -> None:
    protea.stale()
    protea.connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION"
        " E'evil\\x1b[2J\\x07\\r\\nforged' USING ERRCODE = '23514'; END $$;"
        " CREATE TRIGGER refuse BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    for words in (
        ("sweep", "--yes"),
        ("sweep", "--yes", "--json"),
        WORDS["cleanup"],
        WORDS["clear"],
        WORDS["reset"],
        WORDS["close-interrupted"],
    ):
        result = reaper(*words)
        assert "evil" in result.output
        harmless(result.stdout)
        harmless(result.stderr)


def test_error_of_a_database_steers_no_terminal(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    protea.connection.execute(
        "CREATE FUNCTION fail_() RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$ BEGIN RAISE EXCEPTION"
        " E'evil\\x1b[2J\\x07\\u202e'; END $$;"
        " ALTER TABLE job RENAME TO job_; CREATE VIEW job AS SELECT * FROM job_ WHERE fail_()"
    )
    for words in (("sweep", "--yes"), ("report",), ("explain", job), WORDS["cleanup"],
                  WORDS["clear"], WORDS["reset"], WORDS["close-interrupted"]):  # fmt: skip
        result = reaper(*words)
        assert "evil" in result.output, words
        harmless(result.stdout)
        harmless(result.stderr)


def test_name_of_a_lock_holder_steers_no_terminal(reaper: Reaper, protea: Protea) -> None:
    job = protea.stale()
    with psycopg.connect(protea.libpq, application_name="evil\x1b[2J\x07") as other:
        other.execute("SELECT 1 FROM job FOR UPDATE")
        for words in (("sweep", "--yes"), ("explain", job)):
            result = reaper(*words)
            assert "evil" in result.output
            harmless(result.output)
