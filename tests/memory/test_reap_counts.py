"""Counts of jobs that were ended beside the daemon: each is taken once, and they are bounded."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from reaper.errors import StateUnavailable
from reaper.memory import Memory, ReapCount, ReapCountStore, kept_counts
from reaper.memory import reap_counts as module
from reaper.memory.memory import FILE
from reaper.memory.reap_counts import MAX_AGE_SECONDS, MAX_KINDS, OTHER_KINDS
from reaper.memory.state_file import StateFile

TIMEOUT, MANUAL, FAIL = "JobTimeout", "ManualTimeout", "fail"


def beside(folder: Path) -> ReapCountStore:
    """The store of a command beside a daemon."""
    store = kept_counts(folder)
    assert store is not None
    return store


def test_counts_of_commands_are_taken_once(tmp_path: Path) -> None:
    daemon = Memory.open(tmp_path).reap_counts
    assert daemon.take(["main"]) == []
    beside(tmp_path).add("main", {("embed", TIMEOUT, FAIL): 2, ("", MANUAL, FAIL): 1})
    beside(tmp_path).add("main", {("embed", TIMEOUT, FAIL): 3})
    assert sorted(daemon.take(["main"])) == [
        ReapCount("main", "", MANUAL, FAIL, 1),
        ReapCount("main", "embed", TIMEOUT, FAIL, 5),
    ]
    assert daemon.take(["main"]) == []
    beside(tmp_path).add("main", {("embed", TIMEOUT, FAIL): 1})
    assert daemon.take(["main"]) == [ReapCount("main", "embed", TIMEOUT, FAIL, 1)]


def test_counts_wait_for_a_daemon_that_has_their_source(tmp_path: Path) -> None:
    daemon = Memory.open(tmp_path).reap_counts
    beside(tmp_path).add("other", {("embed", TIMEOUT, FAIL): 2})
    assert daemon.take(["main"]) == []
    assert Memory.open(tmp_path).reap_counts.take(["other"]) == [ReapCount("other", "embed", TIMEOUT, FAIL, 2)]
    beside(tmp_path).add("main", {("embed", TIMEOUT, FAIL): 4})
    beside(tmp_path).add("later", {("embed", TIMEOUT, FAIL): 5})
    assert daemon.take(["main"]) == [ReapCount("main", "embed", TIMEOUT, FAIL, 4)]
    # After a reload the daemon has another source, although nothing was written since.
    assert daemon.take(["main", "later"]) == [ReapCount("later", "embed", TIMEOUT, FAIL, 5)]


def test_directory_that_no_daemon_uses_gets_no_file(tmp_path: Path) -> None:
    assert kept_counts(None) is None
    assert kept_counts(tmp_path) is None
    assert kept_counts(tmp_path / "missing") is None
    assert list(tmp_path.iterdir()) == []


def test_file_is_opened_only_after_another_process_has_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = Memory.open(tmp_path).reap_counts
    daemon.take(["main"])
    opened = list[str]()
    read = StateFile.read

    def watched(*arguments: object, **named: object) -> object:
        opened.append("read")
        return read(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(StateFile, "read", watched)
    for _ in range(3):
        daemon.take(["main"])
    assert opened == []
    beside(tmp_path).add("main", {("embed", TIMEOUT, FAIL): 1})
    assert daemon.take(["main"])
    assert opened == ["read"]


def test_no_count_is_lost_or_taken_twice_by_processes_side_by_side(tmp_path: Path) -> None:
    daemon, taken = Memory.open(tmp_path).reap_counts, list[ReapCount]()

    def commands() -> None:
        store = beside(tmp_path)
        for _ in range(25):
            store.add("main", {("embed", TIMEOUT, FAIL): 1})

    threads = [threading.Thread(target=commands) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken += daemon.take(["main"])
    taken += Memory.open(tmp_path).reap_counts.take(["main"])
    assert sum(count.jobs for count in taken) == 75


def test_kinds_beyond_the_limit_are_counted_as_others(tmp_path: Path) -> None:
    daemon = Memory.open(tmp_path).reap_counts
    for number in range(MAX_KINDS + 20):
        beside(tmp_path).add("main", {(f"kind {number}", TIMEOUT, FAIL): 1})
    counts = daemon.take(["main"])
    assert len(counts) == MAX_KINDS + 1
    assert sum(count.jobs for count in counts) == MAX_KINDS + 20
    assert [count.jobs for count in counts if count.kind == OTHER_KINDS] == [20]


def test_rows_are_bounded_whatever_the_sources_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    Memory.open(tmp_path)
    for number in range(30):
        beside(tmp_path).add("main", {(f"{number}", TIMEOUT, FAIL): 1})
    assert len(Memory.open(tmp_path).reap_counts.take(["main"])) == 11


def test_counts_that_no_daemon_takes_are_forgotten(tmp_path: Path) -> None:
    Memory.open(tmp_path)
    beside(tmp_path).add("gone", {("embed", TIMEOUT, FAIL): 1})
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE reap_count SET recorded_epoch = recorded_epoch - ?", [MAX_AGE_SECONDS + 1])
    connection.close()
    beside(tmp_path).add("main", {("embed", TIMEOUT, FAIL): 1})
    assert Memory.open(tmp_path).reap_counts.take(["gone", "main"]) == [ReapCount("main", "embed", TIMEOUT, FAIL, 1)]


def test_file_that_cannot_be_used_is_reported_once_and_stops_nothing(tmp_path: Path) -> None:
    reported = list[str]()
    daemon = Memory.open(tmp_path, reported.append).reap_counts
    store = beside(tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    assert daemon.take(["main"]) == [] and daemon.take(["main"]) == []
    assert len(reported) == 1
    with pytest.raises(StateUnavailable):
        store.add("main", {("embed", TIMEOUT, FAIL): 1})
