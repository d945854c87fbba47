"""A damaged state file loses no halt, whenever the process is killed that moves it aside, and stays the daemon's."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reaper.memory import HaltRecord, Memory
from reaper.memory.memory import FILE, kept_halt
from reaper.memory.schema import MIGRATIONS

BOB = HaltRecord("bob", "a migration", persistent=True)

# Kills itself before the rename of that number: what moves the file aside consists of renames.
MOVER = """
    import os, signal, sys
    from pathlib import Path
    from reaper.memory import Memory
    from reaper.memory.memory import kept_halt
    left, rename = int(sys.argv[2]), Path.replace
    def replace(self, target):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return rename(self, target)
    Path.replace = replace
    folder = Path(sys.argv[1])
    print(kept_halt(folder)() if sys.argv[3] == "command" else Memory.open(folder).halt.load())
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs this code."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory whose write-ahead log has the halt, and the damage. Without the log the file looks sound."""
    folder, copy = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("damaged") / "state"
    Memory.open(folder).close()
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        Memory.open(folder).halt.save(BOB)
        connection.executescript(
            "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = 9999 WHERE name = 'contact'"
        )
        shutil.copytree(folder, copy)
    (copy / f"{FILE}-shm").unlink()
    return copy


@pytest.fixture
def state(damaged: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy that another process has open: SQLite leaves the log where it is."""
    folder = tmp_path / "state"
    shutil.copytree(damaged, folder)
    with closing(sqlite3.connect(folder / FILE)) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        yield folder


@pytest.mark.parametrize("who", ["daemon", "command"])
@pytest.mark.parametrize("renames", [0, 3, *(pytest.param(n, marks=pytest.mark.thorough) for n in (1, 2))])
def test_halt_outlives_a_kill_between_any_two_renames(state: Path, renames: int, who: str) -> None:
    mover = python(MOVER, state, renames, who)
    output, errors = mover.communicate(timeout=60)
    assert errors == "" and mover.returncode in (0, -signal.SIGKILL)
    if mover.returncode == 0:
        assert "was damaged" in output
    for halt in (kept_halt(state)(), Memory.open(state).halt.load()):
        assert halt is not None and halt.persistent and (halt == BOB or "was damaged" in halt.by)
    # It can be cleared, and stays so.
    Memory.open(state).halt.clear()
    assert Memory.open(state).halt.load() is None and kept_halt(state)() is None
    assert {path.name for path in state.iterdir()} >= {FILE, f"{FILE}.corrupt"}


def test_log_that_a_killed_move_left_is_kept_beside_the_damaged_file(state: Path) -> None:
    log = (state / f"{FILE}-wal").read_bytes()
    python(MOVER, state, 1, "daemon").communicate(timeout=60)
    assert sorted(path.name for path in state.iterdir() if "-shm" not in path.name) == [
        f"{FILE}-wal",
        f"{FILE}.corrupt",
    ]
    Memory.open(state)
    assert (state / f"{FILE}.corrupt-wal").read_bytes() == log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_that_a_command_of_root_puts_in_place_of_a_damaged_one_belongs_to_the_daemon(state: Path) -> None:
    daemon = (4711, 4712)
    for path in (state, *state.iterdir()):
        os.chown(path, *daemon)
    halt = kept_halt(state)()
    assert halt is not None and "was damaged" in halt.by
    for path in state.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == daemon, path
    # Also where the directory is root's, and its group's.
    os.chown(state, 0, daemon[1])
    (state / FILE).write_text("not a database")
    assert kept_halt(state)() is not None
    assert ((state / FILE).stat().st_uid, (state / FILE).stat().st_mode & 0o777) == (daemon[0], 0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_that_root_makes_in_the_daemons_directory_belongs_to_the_daemon(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 4711, 4712)
    Memory.open(folder).halt.save(BOB)
    assert {(path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()} == {(4711, 4712)}
