"""`reaper purge` asks, deletes, says how many, and can be interrupted."""

from __future__ import annotations

import os
import pty
import signal
import threading
from pathlib import Path

import pytest

from reaper.cli import exit_codes
from tests.support.commands import Reaper, environment, without_notice
from tests.support.programs import start
from tests.support.protea import Protea
from tests.support.purges import finished, slow
from tests.support.waiting import wait_until


@pytest.fixture
def reaper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Reaper:
    monkeypatch.chdir(tmp_path)
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": database})


def test_purge_command_purges_and_says_how_many(reaper: Reaper, protea: Protea) -> None:
    finished(protea, 3)
    result = reaper("purge", "--dry-run")
    assert (result.exit_code, len(protea.statuses())) == (0, 3)
    assert result.stdout.startswith("Would purge 3 job(s) that finished before ")
    result = reaper("purge", "--yes", "--batch-size", "2")
    assert (result.exit_code, result.stdout) == (0, "Purged 3 finished job(s).\n")
    assert not protea.statuses()
    assert reaper("purge", "--yes").stdout == "Purged 0 finished job(s).\n"


def test_purge_document_has_the_report(reaper: Reaper, protea: Protea) -> None:
    finished(protea, 3)
    [source] = reaper.json("purge", "--yes", "--days-to-keep", "41")["sources"]
    assert source["purged"] == 0
    [source] = reaper.json("purge", "--dry-run")["sources"]
    assert (source["found"], source["dry_run"], source["outcome"]) == (3, True, "done")
    [source] = reaper.json("purge", "--yes")["sources"]
    assert (source["purged"], source["refusals"], source["error"], source["source"]) == (3, {}, None, "default")


def test_purge_flags_take_precedence_over_the_configuration(reaper: Reaper, protea: Protea) -> None:
    finished(protea)
    reaper.configure(f'[sources.a]\ndatabase_url = "{protea.libpq}"\n[sources.a.purge]\ndays_to_keep = 60\n')
    del reaper.given["REAPER_DATABASE_URL"]
    assert reaper("purge", "--yes").stdout == "Purged 0 finished job(s).\n"
    assert reaper("purge", "--yes", "--days-to-keep", "30").stdout == "Purged 1 finished job(s).\n"


@pytest.mark.parametrize("profile", ["noetl", "adhese-schedule"])
def test_source_that_cannot_be_purged_is_wrong_usage(reaper: Reaper, profile: str) -> None:
    result = reaper("purge", "--yes", REAPER_PROFILE=profile)
    assert (result.exit_code, result.stdout) == (exit_codes.USAGE, "")
    assert result.stderr.startswith(f"reaper: source default: profile '{profile}'") and result.stderr.count("\n") == 1
    assert reaper.json("purge", "--yes", code=exit_codes.USAGE, REAPER_PROFILE=profile)["error"]


def test_sources_that_cannot_be_purged_do_not_keep_the_others_from_it(reaper: Reaper, protea: Protea) -> None:
    finished(protea)
    reaper.configure(
        f'[sources.a]\ndatabase_url = "{protea.libpq}"\n'
        f'[sources.b]\ndatabase_url = "{protea.libpq}"\nprofile = "noetl"\n'
    )
    del reaper.given["REAPER_DATABASE_URL"]
    result = reaper("purge", "--yes")
    assert (result.exit_code, result.stdout) == (0, "Purged 1 finished job(s).\n")
    assert result.stderr.startswith("reaper: source b: profile 'noetl': a purge of logs is not supported")
    assert reaper("purge", "--yes", "--source", "b").exit_code == exit_codes.USAGE


def test_refused_rows_are_reported_with_status_1(reaper: Reaper, protea: Protea) -> None:
    finished(protea, 2)
    protea.connection.execute("CREATE TABLE invoice (job uuid REFERENCES job)")
    protea.connection.execute("INSERT INTO invoice SELECT id FROM job LIMIT 1")
    result = reaper("purge", "--yes")
    assert result.exit_code == exit_codes.FAILED
    assert "Purged 1 finished job(s).\nRefused by the database: 1 job(s): update or delete on table" in result.stdout


def test_database_that_is_away_has_its_own_status(reaper: Reaper) -> None:
    result = reaper("purge", "--yes", REAPER_DATABASE_URL="postgresql://someone:geheim@127.0.0.1:1/nothing")
    assert result.exit_code == exit_codes.AWAY and without_notice(result.stderr).startswith("reaper: source default: ")


def test_ctrl_c_ends_a_purge_between_two_batches(reaper: Reaper, protea: Protea) -> None:
    slow(protea, 0.3)
    finished(protea, 60)
    with reaper.process("purge", "--yes", "--batch-size", "2") as process:
        wait_until(lambda: len(protea.statuses()) < 60, "a batch", 30)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    assert process.returncode == exit_codes.INTERRUPTED
    left = len(protea.statuses())
    assert (
        out == f"Purged {60 - left} finished job(s).\nStopped between two batches; the next purge deletes the rest.\n"
    )
    assert without_notice(error) == "Stopping after this batch; press Ctrl-C again to stop at once.\n"
    assert 0 < left < 60 and left % 2 == 0


def test_killed_purge_loses_nothing_and_the_next_one_goes_on(reaper: Reaper, protea: Protea) -> None:
    slow(protea, 0.2)
    finished(protea, 30)
    with reaper.process("purge", "--yes", "--batch-size", "2") as process:
        wait_until(lambda: len(protea.statuses()) < 26, "some batches", 30)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    left = len(protea.statuses())
    assert left % 2 == 0
    protea.connection.execute("DROP TRIGGER slow_purge ON job")
    wait_until(lambda: "Purged" in reaper("purge", "--yes").stdout and not protea.statuses(), "the rest is gone")


@pytest.mark.parametrize(("words", "answer", "left"), [((), b"n\n", 3), ((), b"y\n", 0), (("--force",), b"", 0)])
def test_purge_on_a_terminal_asks_and_shows_a_progress_bar(
    reaper: Reaper, protea: Protea, words: tuple[str, ...], answer: bytes, left: int
) -> None:
    slow(protea, 0.2)
    finished(protea, 3)
    ours, theirs = pty.openpty()
    env = environment({**reaper.given, "TERM": "xterm", "COLUMNS": "100"})
    words = ("purge", "--batch-size", "1", *words)
    with start(
        "reaper", *words, environment=env, folder=reaper.folder, stdin=theirs, stdout=theirs, stderr=theirs,
        warnings_are_errors=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        screen = TerminalText(ours)
        if answer:
            wait_until(lambda: b"Delete 3 finished job(s)? [y/N]:" in screen.shown, "the question", 30)
            os.write(ours, answer)
        process.wait(30)
    screen.close()
    assert process.returncode == 0
    assert len(protea.statuses()) == left
    assert (b"Purging default" in screen.shown and b"/3" in screen.shown) or left
    assert (b"Nothing was changed." in screen.shown) is bool(left)


class TerminalText:
    """The text that a terminal was sent."""

    def __init__(self, end: int) -> None:
        self.shown, self._end = b"", end
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._end, 4096)
            except OSError:  # the other end is closed
                return
            if not piece:
                return
            self.shown += piece

    def close(self) -> None:
        self._reader.join(5)
        os.close(self._end)
