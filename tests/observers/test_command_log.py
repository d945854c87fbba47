"""What is ended by hand leaves its evidence: in the database, or in the log where that has no place for it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reaper import celery_tasks
from reaper.cli import exit_codes
from reaper.memory import Memory
from tests.support.commands import Reaper
from tests.support.daemons import free_port
from tests.support.protea import HOUR, Protea
from tests.support.terminals import interrupted
from tests.support.worlds.adhese import AdheseWorld
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.vuls import VulsWorld
from tests.support.worlds.world import State

HOST = socket.gethostname()


@pytest.fixture
def adhese(empty: PostgreSQLDatabase) -> Iterator[AdheseWorld]:
    with AdheseWorld.create(empty) as world:
        yield world


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reaper:
    """Beside a daemon that is not halted: stderr has nothing but what a test is about."""
    monkeypatch.chdir(tmp_path)
    Memory.open(tmp_path / "state")
    return Reaper(tmp_path, {"REAPER_STATE_DIR": str(tmp_path / "state")})


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def of_adhese(reaper: Reaper, adhese: AdheseWorld, **more: str) -> None:
    reaper.given |= {"REAPER_DATABASE_URL": adhese.database.url, "REAPER_PROFILE": "adhese", **more}


# --- sweeps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("sweep", "--yes"), ("clear", "--force"), ("cleanup", "--older-than-minutes", "45")])
def test_log_file_has_one_line_with_the_whole_evidence(
    reaper: Reaper, adhese: AdheseWorld, words: tuple[str, ...]
) -> None:
    of_adhese(reaper, adhese, REAPER_LOG_FILE="reaper.log", REAPER_STALL_SECONDS="40m")
    stale = adhese.stale_job()
    result = reaper(*words)
    assert (result.exit_code, result.stderr) == (0, "") and adhese.state(stale) is State.REAPED
    [line] = lines((reaper.folder / "reaper.log").read_text())
    assert (line["event"], line["level"], line["job"]) == ("Reaped stale job.", "warning", stale)
    evidence = line["evidence"]
    assert (evidence["sweep_id"], evidence["host"]) == (line["sweep_id"], HOST)
    minutes = "--older-than-minutes" if words[0] == "cleanup" else ""
    assert evidence["timeout_from"] == (minutes or "default")
    assert evidence["stall_from"] == (minutes or "REAPER_STALL_SECONDS")
    assert evidence["timeout_seconds"] == (45 * 60 if minutes else 6 * HOUR)
    assert evidence["stall_seconds"] == (45 if minutes else 40) * 60
    assert evidence["reason"] == "JobTimeout" and evidence["silence_seconds"] > evidence["stall_seconds"]


def test_evidence_goes_to_stderr_without_a_log_file_and_the_document_is_whole(
    reaper: Reaper, adhese: AdheseWorld
) -> None:
    of_adhese(reaper, adhese)
    stale = adhese.stale_job()
    result = reaper("sweep", "--yes", "--json")
    [line] = lines(result.stderr)
    assert line["job"] == stale and line["evidence"]["host"] == HOST
    assert json.loads(result.stdout)["sources"][0]["reaped"] == 1


def test_log_format_is_the_configured_one(reaper: Reaper, adhese: AdheseWorld) -> None:
    of_adhese(reaper, adhese, REAPER_LOG_FORMAT="console")
    stale = adhese.stale_job()
    [line] = reaper("sweep", "--yes").stderr.splitlines()
    assert "Reaped stale job." in line and f"job={stale}" in line and not line.startswith("{")


def test_unwritable_log_file_is_reported_and_stderr_has_the_evidence(reaper: Reaper, adhese: AdheseWorld) -> None:
    of_adhese(reaper, adhese, REAPER_LOG_FILE="none/reaper.log")
    stale = adhese.stale_job()
    result = reaper("sweep", "--yes")
    answer_line, line = result.stderr.splitlines()
    assert result.exit_code == 0 and adhese.state(stale) is State.REAPED
    assert answer_line.startswith("reaper: cannot write the log none/reaper.log: No such file or directory")
    assert json.loads(line)["evidence"]["host"] == HOST


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")
def test_log_that_root_creates_in_a_services_folder_belongs_to_the_service(reaper: Reaper, adhese: AdheseWorld) -> None:
    folder, log = reaper.folder / "log", reaper.folder / "log/reaper.log"
    folder.mkdir()
    os.chown(folder, 1234, 4321)
    of_adhese(reaper, adhese, REAPER_LOG_FILE=str(log))
    adhese.stale_job()
    assert reaper("sweep", "--yes").exit_code == 0
    made = log.stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (1234, 4321, 0o600)
    # A file that is there keeps its owner.
    os.chown(log, 0, 0)
    adhese.stale_job()
    assert reaper("sweep", "--yes").exit_code == 0
    assert (log.stat().st_uid, len(lines(log.read_text()))) == (0, 2)


def test_dry_run_writes_no_log(reaper: Reaper, adhese: AdheseWorld) -> None:
    of_adhese(reaper, adhese, REAPER_LOG_FILE="reaper.log")
    adhese.stale_job()
    for words in (("sweep", "--yes"), ("clear",), ("cleanup",)):
        assert reaper(*words, "--dry-run").exit_code == 0
    assert not (reaper.folder / "reaper.log").exists()


def test_jobs_with_audit_events_are_logged_only_to_a_log_file(reaper: Reaper, protea: Protea, database: str) -> None:
    reaper.given["REAPER_DATABASE_URL"] = database
    protea.stale()
    assert reaper("sweep", "--yes").stderr == ""
    stale = protea.stale()
    assert reaper("sweep", "--yes", REAPER_LOG_FILE="reaper.log").stderr == ""
    [line] = lines((reaper.folder / "reaper.log").read_text())
    assert line["job"] == stale and "evidence" not in line


def test_celery_task_writes_the_log_and_leaves_the_workers_own_logging_alone(
    reaper: Reaper, adhese: AdheseWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_adhese(reaper, adhese, REAPER_LOG_FILE="reaper.log")
    for name, value in reaper.given.items():
        monkeypatch.setenv(name, value)
    jobs = [adhese.stale_job()]
    assert celery_tasks.clear_stuck_scheduler_jobs(max_age_hours=2)["summary"]["cleared"] == 1
    jobs.append(adhese.alive_job())
    assert celery_tasks.reset_scheduler_state(force=True, all_sources=True)["summary"]["ended"] == 1
    swept, reset = lines((reaper.folder / "reaper.log").read_text())
    assert [swept["job"], reset["job"]] == jobs
    assert (swept["evidence"]["timeout_from"], swept["evidence"]["timeout_seconds"]) == ("max_age_hours", 2 * HOUR)
    assert reset["evidence"]["operator"] == f"Celery task called by hand@{HOST}"


# --- decisions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["reset", "fail"])
def test_operator_of_fail_is_named_in_the_row_and_in_the_log(reaper: Reaper, vuls: VulsWorld, command: str) -> None:
    broker = f"redis://127.0.0.1:{free_port()}/0"
    reaper.configure(
        f"log_file = 'reaper.log'\n[sources.main]\ndatabase_url = '{vuls.database.url}'\n"
        f"profile = 'vuls'\nbroker_url = '{broker}'\n"
    )
    job = vuls.alive_job()
    chosen = ["reset", "--source", "main", "--confirm", "main"] if command == "reset" else ["fail", "--yes", job]
    # A reset fails where the tasks of the jobs that it has ended cannot be removed; a reap by hand removes none.
    status = exit_codes.FAILED if command == "reset" else exit_codes.DONE
    document = reaper.json(*chosen, "--reason", "the rack burns", code=status)
    operator = document["operator"]
    assert operator.endswith(f"@{HOST}")
    message = f"Manually marked FAILED by operator: the rack burns ({operator})"
    assert vuls.message(job) == message == document["message"]
    [line] = lines((reaper.folder / "reaper.log").read_text())
    evidence = line["evidence"]
    assert (line["job"], evidence["operator"], evidence["message"]) == (job, operator, message)
    assert (evidence["host"], evidence["sweep_id"]) == (HOST, line["sweep_id"])


# --- Ctrl-C instead of an answer --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["Ctrl-C", "Ctrl-D"])
@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Type main to end all of them", ("reset", "--source", "main")),
        ("End 1 stale job(s)?", ("clear",)),
        ("Delete 1 finished job(s)?", ("purge",)),
    ],
    ids=["reset", "clear", "purge"],
)
def test_ctrl_c_at_a_question_is_an_interruption_logged_in_one_line(
    reaper: Reaper, protea: Protea, database: str, question: str, words: tuple[str, ...], key: bytes
) -> None:
    reaper.configure(f"[sources.main]\ndatabase_url = '{database}'\n")
    protea.stale()
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, started_at, finished_at)"
        " VALUES ('embed', 'q', 'succeeded', now() - interval '99 days', now() - interval '98 days')"
    )
    before = protea.dump()
    status, errors = interrupted(reaper, question, *words, key=key)
    assert status == exit_codes.INTERRUPTED
    asked, answer_line = errors.splitlines()
    assert asked.lstrip().startswith(question) and answer_line == "reaper: interrupted: nothing was changed"
    assert protea.dump() == before
