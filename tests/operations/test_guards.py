"""The halt as processes beside the daemon see it: kept in the state directory, passed only where that is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reaper.config import load
from reaper.errors import HaltInForce
from reaper.memory import HaltRecord, Memory, kept_halt
from reaper.memory.halt import LEGACY_FILE
from reaper.operations.guards import HaltGuard, halt_guard
from reaper.sweep.halt_switch import HaltSwitch

ALICE = HaltRecord("alice", "look first")


@pytest.mark.parametrize("persistent", [False, True])
def test_every_halt_of_a_daemon_holds_and_its_end_frees(tmp_path: Path, persistent: bool) -> None:
    switch = HaltSwitch(Memory.open(tmp_path).halt)
    guard = halt_guard(load({}, {"REAPER_STATE_DIR": str(tmp_path)}), while_halted=False)
    assert not guard.holds()
    switch.set(HaltRecord("alice", "look first", persistent))
    assert guard.holds()
    with pytest.raises(HaltInForce, match=r"halted by alice \(look first\): nothing was changed"):
        guard.require_none()
    switch.clear()
    guard.require_none()


def test_look_at_the_halt_makes_no_file_and_no_directory(tmp_path: Path) -> None:
    missing = tmp_path / "state"
    assert kept_halt(missing)() is None and not missing.exists()
    missing.mkdir()
    assert kept_halt(missing)() is None and list(missing.iterdir()) == []


def test_halt_that_is_passed_holds_nothing_and_one_that_follows_does() -> None:
    halts = [ALICE]
    guard = HaltGuard(lambda: halts[-1], while_halted=True)
    guard.require_none()
    halts.append(HaltRecord("bob"))
    assert guard.current == HaltRecord("bob")


def test_halt_of_an_earlier_version_holds(tmp_path: Path) -> None:
    (tmp_path / LEGACY_FILE).write_text(json.dumps({"by": "bob", "reason": None}))
    assert kept_halt(tmp_path)() == HaltRecord("bob", persistent=True)


def test_directory_that_cannot_be_read_counts_as_a_halt(tmp_path: Path) -> None:
    circle = tmp_path / "state"
    circle.symlink_to(circle)
    halt = kept_halt(circle)()
    assert halt is not None and f"cannot read {circle}" in halt.by and halt.persistent


def test_damaged_file_counts_as_a_halt(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path)
    assert memory.path is not None
    memory.path.write_bytes(b"no database" * 1000)
    halt = kept_halt(tmp_path)()
    assert halt is not None and "was damaged" in halt.by
