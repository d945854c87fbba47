"""What holds the commands that end or delete jobs, and what passes it: a question, a halt, the breaker, a restart."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reaper.cli import exit_codes
from reaper.memory import HaltRecord, Memory
from tests.support.api import OPERATOR, ApiDaemon
from tests.support.commands import COMMAND, Reaper, environment
from tests.support.protea import MINUTE, Protea
from tests.support.purges import finished
from tests.support.terminals import asked, interrupted, typed
from tests.support.waiting import wait_until
from tests.support.worlds.noetl import NoetlWorld
from tests.support.worlds.postgresql import PostgreSQLDatabase
from tests.support.worlds.world import State

ALICE = HaltRecord("alice", "look first")
CLEAR, RESET, SWEEP, PURGE = (
    ("clear", "--yes"),
    ("reset", "--source", "main", "--yes"),
    ("sweep", "--yes"),
    ("purge", "--yes"),
)
CLOSE = (
    "close-interrupted", "--source", "main", "--only-server", "--started-ago", "0s", "--listen", "0.1s",
    "--window", "1d", "--release", "100", "--yes",
)  # fmt: skip


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Reaper:
    monkeypatch.chdir(tmp_path)
    reaper = Reaper(tmp_path, {"REAPER_STATE_DIR": str(tmp_path / "state")})
    reaper.configure(f"[sources.main]\ndatabase_url = '{database}'\n")
    return reaper


@pytest.fixture
def noetl(empty: PostgreSQLDatabase) -> Iterator[NoetlWorld]:
    with NoetlWorld.create(empty) as world:
        yield world


@pytest.fixture
def cleaner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noetl: NoetlWorld) -> Reaper:
    monkeypatch.chdir(tmp_path)
    given = {"REAPER_DATABASE_URL": noetl.database.url, "REAPER_PROFILE": "noetl"}
    return Reaper(tmp_path, {**given, "REAPER_STATE_DIR": str(tmp_path / "state")})


def halt(folder: Path, record: HaltRecord = ALICE) -> None:
    Memory.open(folder / "state").halt.save(record)


def many(protea: Protea, jobs: int) -> None:
    protea.connection.execute(
        "INSERT INTO job (operation, queue_name, status, started_at)"
        " SELECT 'embed', 'q', 'running', now() - interval '8h' FROM generate_series(1, %s)",
        [jobs],
    )


def ended(protea: Protea) -> int:
    return list(protea.statuses().values()).count("failed")


# --- halt -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [CLEAR, PURGE, *(pytest.param(words, marks=pytest.mark.thorough) for words in (RESET, SWEEP, CLOSE))],
    ids=lambda words: words[0],
)
def test_halt_holds_a_command_that_says_who_and_is_passed_by_while_halted(
    reaper: Reaper, protea: Protea, tmp_path: Path, words: tuple[str, ...]
) -> None:
    if words == PURGE:
        finished(protea)
    else:
        protea.stale()
    halt(tmp_path)
    before = protea.dump()
    result = reaper(*words)
    assert (result.exit_code, result.stdout) == (exit_codes.FAILED, "")
    assert result.stderr.startswith("reaper: halted by alice (look first): nothing was changed")
    assert "reaper restart" in result.stderr and "--while-halted" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and protea.dump() == before
    looking = [word for word in words if word != "--yes"]
    assert reaper(*looking, "--dry-run").exit_code == 0, "a look is not held"
    assert reaper(*words, "--while-halted").exit_code == 0
    assert ended(protea) == 1 if words != PURGE else not protea.statuses()


def test_halt_of_a_daemon_without_a_state_directory_holds_a_sweep_by_hand(
    protea: Protea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with ApiDaemon(tmp_path, database_url=protea.url) as daemon:
        daemon.has_swept()
        assert daemon.api.post("/api/supervisor/halt?reason=look").status == 200
        protea.stale()
        reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url, "REAPER_HTTP_PORT": str(daemon.port)})
        held = reaper("sweep", "--yes")
        assert (held.exit_code, ended(protea)) == (exit_codes.FAILED, 0)
        assert held.stderr.startswith(f"reaper: halted by {OPERATOR} over HTTP from 127.0.0.1:")
        daemon.api.post("/api/supervisor/restart")
        wait_until(lambda: ended(protea) == 1, "the daemon sweeps again")
    passed = reaper("sweep", "--yes")
    assert passed.exit_code == 0
    assert passed.stderr.startswith("reaper: no halt could be seen: no state directory is set (REAPER_STATE_DIR)")


def test_halted_clear_asks_no_question(reaper: Reaper, protea: Protea, tmp_path: Path) -> None:
    protea.stale()
    halt(tmp_path)
    status, _, errors = typed(reaper, "y\n", "clear")
    assert status == exit_codes.FAILED and "halted by alice" in errors and "?" not in errors
    assert ended(protea) == 0


@pytest.mark.parametrize(
    "words",
    [
        CLEAR,
        SWEEP,
        *((*words, "--json") for words in (RESET, CLOSE)),
        *(
            pytest.param(words, marks=pytest.mark.thorough)
            for words in (RESET, CLOSE, (*CLEAR, "--while-halted"), (*CLEAR, "--json"), (*SWEEP, "--json"))
        ),
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_halt_that_follows_ends_it_between_two_batches(
    reaper: Reaper, protea: Protea, tmp_path: Path, words: tuple[str, ...]
) -> None:
    if "--while-halted" in words:
        halt(tmp_path)
    many(protea, 40)
    for _ in range(60):
        protea.job(age=MINUTE)
    protea.connection.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$"
    )
    protea.connection.execute("CREATE TRIGGER slow BEFORE UPDATE ON job FOR EACH ROW EXECUTE FUNCTION slow()")
    with reaper.process(*words, REAPER_BATCH_SIZE="2") as process:
        wait_until(lambda: ended(protea) > 0, "the first batch is committed")
        halt(tmp_path, HaltRecord("bob", "stop this"))
        output, errors = process.communicate(timeout=60)
    assert process.returncode == exit_codes.FAILED, errors
    assert 0 < ended(protea) < (100 if words[0] == CLOSE[0] else 40) and ended(protea) % 2 == 0
    if "--json" in words:
        document = json.loads(output)
        assert document["halted"] == {"by": "bob", "reason": "stop this", "persistent": False}
        stopped = [source["outcome"] == "halted" for source in document.get("sources", ())]
        assert document.get("stopped") or stopped == [True]
    else:
        assert "halted by bob (stop this)" in output


def test_halt_holds_cleanup_and_its_document_says_why(cleaner: Reaper, noetl: NoetlWorld, tmp_path: Path) -> None:
    job = noetl.job(age=6 * MINUTE, sign=None)
    halt(tmp_path)
    document = cleaner.json("cleanup", code=exit_codes.FAILED)
    assert (document["outcome"], document["cancelled_count"], document["execution_ids"]) == ("halted", 0, [])
    [note] = document["notes"]
    assert "halted by alice (look first)" in note and "--while-halted" in note
    assert cleaner.json("cleanup", "--dry-run")["execution_ids"] == [int(job)]
    assert noetl.state(job) is State.RUNNING
    assert cleaner.json("cleanup", "--while-halted")["execution_ids"] == [int(job)]


# --- breaker ----------------------------------------------------------------------------------------------------


def test_release_lets_so_many_jobs_of_clear_pass_or_fewer_and_no_more(reaper: Reaper, protea: Protea) -> None:
    many(protea, 60)
    held = reaper("clear", "--yes")
    assert held.exit_code == exit_codes.FAILED and "Held by the breaker" in held.stdout
    assert "`reaper clear --release 60` ends as many, or fewer." in held.stdout
    assert reaper("clear", "--yes", "--release", "59").exit_code == exit_codes.FAILED and ended(protea) == 0
    assert reaper("clear", "--yes", "--release", "61").exit_code == 0 and ended(protea) == 60
    assert reaper("clear", "--yes", "--release", "0").exit_code == exit_codes.USAGE


def test_yes_to_the_question_releases_what_it_named_and_not_what_fell_silent_since(
    reaper: Reaper, protea: Protea
) -> None:
    many(protea, 60)
    with asked(reaper, "End 60 stale job(s)? [y/N]", "clear") as (process, answer):
        many(protea, 1)
        answer(b"y\n")
        output, _ = process.communicate(timeout=30)
    assert process.returncode == exit_codes.FAILED
    assert "Held by the breaker: 61 of 61 running jobs" in output and ended(protea) == 0


def test_release_lets_cleanup_pass_the_breaker(cleaner: Reaper, noetl: NoetlWorld) -> None:
    jobs = [noetl.job(age=6 * MINUTE, sign=None) for _ in range(51)]
    held = cleaner.json("cleanup", code=exit_codes.FAILED)
    assert "--release 51" in held["notes"][0] and held["cancelled_count"] == 0
    assert cleaner.json("cleanup", "--release", "50", code=exit_codes.FAILED)["cancelled_count"] == 0
    assert cleaner.json("cleanup", "--release", "51")["cancelled_count"] == 51
    assert {noetl.state(job) for job in jobs} == {State.REAPED}


# --- silence across a restart -------------------------------------------------------------------------------------


def test_trust_silence_counts_silence_from_before_the_server_was_started(reaper: Reaper, protea: Protea) -> None:
    protea.stale()
    careful = "60s"  # the tests' own server has been up for less than the jobs are old
    assert reaper.json("clear", "--yes", REAPER_RESTART_GRACE=careful)["sources"][0]["reaped"] == 0
    assert reaper.json("clear", "--yes", "--trust-silence", REAPER_RESTART_GRACE=careful)["sources"][0]["reaped"] == 1


def test_trust_silence_of_cleanup_does_not_pass_the_breaker(cleaner: Reaper, noetl: NoetlWorld) -> None:
    words, careful = ["cleanup", "--older-than-minutes", "600"], "60s"
    for _ in range(51):
        noetl.job(age=601 * MINUTE, sign=None)
    assert cleaner.json(*words, REAPER_RESTART_GRACE=careful)["cancelled_count"] == 0
    assert (
        cleaner.json(*words, "--trust-silence", code=exit_codes.FAILED, REAPER_RESTART_GRACE=careful)["outcome"]
        == "held"
    )
    assert (
        cleaner.json(*words, "--trust-silence", "--release", "51", REAPER_RESTART_GRACE=careful)["cancelled_count"]
        == 51
    )


# --- question -----------------------------------------------------------------------------------------------------


def test_sweep_at_a_terminal_shows_the_jobs_and_asks_and_leaves_held_ones_out(reaper: Reaper, protea: Protea) -> None:
    many(protea, 51)
    held = protea.stale()
    (reaper.folder / "state").mkdir()
    assert reaper("hold", held, "--for", "1h", "--reason", "Ann looks").exit_code == 0
    status, shown, errors = typed(reaper, "n\n", "sweep")
    assert status == 0 and "Would reap 51 stale job(s)" in shown and "The breaker would hold this sweep" in shown
    assert "End 51 stale job(s)? [y/N]" in errors and ended(protea) == 0
    status, shown, errors = typed(reaper, "y\n", "clear")
    assert "End 51 stale job(s)? [y/N]" in errors and ended(protea) == 51
    many(protea, 51)
    status, shown, _ = typed(reaper, "y\n", "sweep")
    assert status == 0 and "Reaped 51 stale job(s)." in shown, "the yes has released as many"
    status, shown, errors = typed(reaper, "", "sweep")
    assert status == 0 and "?" not in errors, "the held job alone is no question"
    assert ended(protea) == 102 and protea.status(held) == "running"


@pytest.mark.parametrize("words", [("sweep", "--yes"), ("sweep", "--force", "--json")], ids=" ".join)
def test_sweep_asks_no_question_of_a_script(reaper: Reaper, protea: Protea, words: tuple[str, ...]) -> None:
    protea.stale()
    status, _, errors = typed(reaper, "", *words)
    assert (status, ended(protea)) == (0, 1) and "?" not in errors


def test_release_lets_so_many_jobs_of_a_sweep_pass_or_fewer(reaper: Reaper, protea: Protea) -> None:
    many(protea, 51)
    assert reaper("sweep", "--yes").exit_code == exit_codes.FAILED, "a yes passes the question and nothing else"
    assert reaper("sweep", "--yes", "--release", "50").exit_code == exit_codes.FAILED and ended(protea) == 0
    assert reaper("sweep", "--yes", "--release", "51").exit_code == 0 and ended(protea) == 51


def test_fail_at_a_terminal_shows_how_alive_the_job_is_and_ends_the_run_that_was_seen(
    reaper: Reaper, protea: Protea
) -> None:
    job = protea.job()
    protea.event(job, age=2)
    status, shown, errors = typed(reaper, "n\n", "fail", job, "--reason", "its node is gone")
    assert (status, shown, protea.status(job)) == (0, "", "running")
    assert f"job {job} (embed): spared: " in errors and "End it with the action fail? [y/N]" in errors
    with asked(reaper, "[y/N]", "fail", job, "--reason", "its node is gone") as (process, answer):
        protea.connection.execute("UPDATE job SET started_at = now() WHERE id = %s", [job])
        answer(b"y\n")
        output, _ = process.communicate(timeout=30)
    assert (process.returncode, output, protea.status(job)) == (exit_codes.FAILED, "", "running")
    status, shown, _ = typed(reaper, "y\n", "fail", job, "--reason", "its node is gone")
    assert status == 0 and f"Failed job {job}" in shown and protea.status(job) == "failed"
    status, _, errors = typed(reaper, "", "fail", job, "--reason", "its node is gone")
    assert status == exit_codes.FAILED and "is not running" in errors and "?" not in errors


def test_cleanup_at_a_terminal_shows_the_executions_and_asks(cleaner: Reaper, noetl: NoetlWorld) -> None:
    jobs = [noetl.job(age=6 * MINUTE, sign=None) for _ in range(2)]
    status, shown, errors = typed(cleaner, "n\n", "cleanup")
    assert status == 0 and "Cancel 2 stuck execution(s)? [y/N]" in errors
    assert all(f"- {job}" in shown for job in jobs) and {noetl.state(job) for job in jobs} == {State.RUNNING}
    status, shown, _ = typed(cleaner, "y\n", "cleanup")
    assert status == 0 and "Cancelled 2 stuck executions older than 5 minutes" in shown
    assert {noetl.state(job) for job in jobs} == {State.REAPED}
    status, shown, errors = typed(cleaner, "", "cleanup")
    assert status == 0 and "No stuck executions found" in shown and "?" not in errors


def test_ctrl_c_at_the_question_of_cleanup_changes_nothing(cleaner: Reaper, noetl: NoetlWorld) -> None:
    job = noetl.job(age=6 * MINUTE, sign=None)
    status, errors = interrupted(cleaner, "Cancel 1 stuck", "cleanup")
    assert status == exit_codes.INTERRUPTED and "nothing was changed" in errors
    assert noetl.state(job) is State.RUNNING


def test_yes_to_the_question_of_cleanup_passes_the_breaker(cleaner: Reaper, noetl: NoetlWorld) -> None:
    for _ in range(51):
        noetl.job(age=6 * MINUTE, sign=None)
    status, shown, _ = typed(cleaner, "y\n", "cleanup")
    assert status == 0 and "The breaker would hold this" in shown
    assert "Cancelled 51 stuck executions older than 5 minutes" in shown


SCRIPT = """#!/bin/bash
# cleanup-stuck-executions.sh
# Check for stuck executions older than 10 minutes
RESULT=$(noetl cleanup --older-than-minutes 10 --json)
COUNT=$(echo $RESULT | jq -r '.cancelled_count')
if [ "$COUNT" -gt 0 ]; then
echo "Cancelled $COUNT stuck executions"
# Send notification
echo $RESULT | jq -r '.execution_ids[]' | while read id; do
echo " - Execution ID: $id"
done
fi
"""
JQ = """#!{python}
import json, sys
value = json.load(sys.stdin)[sys.argv[2].strip(".").removesuffix("[]")]
print(*(value if isinstance(value, list) else [value]), sep="\\n")
"""


@pytest.mark.parametrize(
    "terminal", [pytest.param(False, id="cron", marks=pytest.mark.thorough), pytest.param(True, id="terminal")]
)
def test_script_of_the_document_runs_verbatim_and_gets_no_question(
    cleaner: Reaper, noetl: NoetlWorld, tmp_path: Path, terminal: bool
) -> None:
    """As it stands in noetl's documentation. `noetl` is the reaper here, and jq a stand-in for the two filters."""
    jobs = sorted(int(noetl.job(age=11 * MINUTE, sign=None)) for _ in range(2))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (
        ("noetl", f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n'),
        ("jq", JQ.format(python=sys.executable)),
        ("script", SCRIPT),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [programs / "script"],
        env={**environment(cleaner.given), "PATH": f"{programs}:{os.environ['PATH']}"},
        stdin=theirs if terminal else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(ours)
    os.close(theirs)
    listed = "".join(f" - Execution ID: {job}\n" for job in jobs)
    assert (done.stdout, done.returncode) == (f"Cancelled 2 stuck executions\n{listed}", 0), done.stderr
    assert "?" not in done.stderr
