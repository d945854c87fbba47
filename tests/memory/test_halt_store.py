"""The halt is kept as written; the file of an earlier version is taken over once; an unreadable file is a halt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reaper.errors import StateUnavailable
from reaper.memory import HaltRecord, Memory
from reaper.memory.halt import LEGACY_FILE
from reaper.memory.memory import FILE


@pytest.mark.parametrize("persistent", [True, False])
def test_halt_is_seen_by_every_process_that_opens_the_directory(tmp_path: Path, persistent: bool) -> None:
    record = HaltRecord("bob", "a migration", persistent)
    Memory.open(tmp_path).halt.save(record)
    assert Memory.open(tmp_path).halt.load() == record


def test_later_halt_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    store = Memory.open(tmp_path).halt
    store.save(HaltRecord("bob"))
    store.save(HaltRecord("alice", "fire"))
    assert store.load() == HaltRecord("alice", "fire")
    store.clear()
    assert store.load() is None and Memory.open(tmp_path).halt.load() is None


def test_persistent_halt_is_refused_without_a_state_directory() -> None:
    with pytest.raises(StateUnavailable, match="REAPER_STATE_DIR"):
        Memory.open(None).halt.save(HaltRecord("bob", persistent=True))


@pytest.mark.parametrize("reason", [None, "a migration"])
def test_file_of_an_earlier_version_is_taken_over_and_removed(tmp_path: Path, reason: str | None) -> None:
    legacy = {"by": "bob", "reason": reason, "persistent": True}
    (tmp_path / LEGACY_FILE).write_text(json.dumps(legacy), encoding="utf-8")
    record = HaltRecord("bob", reason, persistent=True)
    assert Memory.open(tmp_path).halt.load() == record
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert Memory.open(tmp_path).halt.load() == record


@pytest.mark.parametrize("content", ["", "{", "[]", '{"by": 1}', '"halted"', "\udcff"])
def test_file_of_an_earlier_version_that_is_unreadable_counts_as_a_persistent_halt(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / LEGACY_FILE).write_bytes(content.encode("utf-8", "surrogateescape"))
    store = Memory.open(tmp_path).halt
    record = store.load()
    assert record is not None and record.persistent and f"{tmp_path / LEGACY_FILE} cannot be read" in record.by
    assert Memory.open(tmp_path).halt.load() == record
    store.clear()
    assert Memory.open(tmp_path).halt.load() is None


def test_file_of_an_earlier_version_stays_until_its_halt_is_written(tmp_path: Path) -> None:
    (tmp_path / LEGACY_FILE).write_text('{"by": "bob", "reason": null}', encoding="utf-8")
    (tmp_path / FILE).mkdir()  # nothing can be written
    assert Memory.open(tmp_path).halt.load() == HaltRecord("bob", persistent=True)
    (tmp_path / FILE).rmdir()
    assert (tmp_path / LEGACY_FILE).exists()
    assert Memory.open(tmp_path).halt.load() == HaltRecord("bob", persistent=True)
    assert not (tmp_path / LEGACY_FILE).exists()


def test_file_of_an_earlier_version_that_cannot_be_removed_keeps_the_halt(tmp_path: Path) -> None:
    (tmp_path / LEGACY_FILE).mkdir()  # a directory cannot be unlinked, not even by root
    store = Memory.open(tmp_path).halt
    with pytest.raises(StateUnavailable, match="cannot remove"):
        store.clear()
    assert store.load() is not None
