"""The state file outlives kills, full disks and other processes; a file that cannot be used is said to be so."""

from __future__ import annotations

import fcntl
import os
import random
import resource
import sqlite3
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from reaper.errors import StateTooNew, StateUnavailable
from reaper.memory import DatabaseContact, HaltRecord, Memory
from reaper.memory import database_contacts as contacts_module
from reaper.memory.memory import FILE
from reaper.memory.schema import METADATA, MIGRATIONS
from reaper.memory.state_file import StateFile
from tests.support.programs import PROJECT, Process, start, without_settings

BOB = HaltRecord("bob", "a migration", persistent=True)


def contact(number: int, source: str = "main") -> DatabaseContact:
    return DatabaseContact(source, "db.example:5432/jobs", f"2026-01-01T00:00:{number:02}+00:00", "7301", number)


def begin(*arguments: object) -> Process:
    """Another process that writes; each line that it prints is one step that is done."""
    return start(
        "tests.support.state_writer",
        *map(str, arguments),
        environment=without_settings(os.environ),
        folder=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


# --- the file ---------------------------------------------------------------------------------------------------


def test_directory_and_file_are_made_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        memory = Memory.open(tmp_path / "var" / "reaper")
        memory.halt.save(BOB)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "var" / "reaper").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "var" / "reaper" / FILE).stat().st_mode) == 0o600


def test_log_files_of_sqlite_have_the_mode_of_the_file(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as reader:  # keeps SQLite from removing them
        reader.execute("SELECT * FROM halt").fetchall()
        memory.halt.save(BOB)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {FILE: 0o600, f"{FILE}-wal": 0o600, f"{FILE}-shm": 0o600}


def test_state_file_leaves_no_other_file_in_the_directory(tmp_path: Path) -> None:
    Memory.open(tmp_path).halt.save(BOB)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_reading_makes_no_file(tmp_path: Path) -> None:
    state_file = StateFile(tmp_path / "state" / FILE)
    assert state_file.read(lambda connection: connection, default=None) is None
    assert not (tmp_path / "state").exists()


def test_memory_without_a_state_directory_is_kept_in_this_process() -> None:
    memory = Memory.open(None)
    assert not memory.durable
    memory.halt.save(HaltRecord("alice"))
    memory.contacts.record(contact(1))
    memory.contacts.flush()
    assert memory.halt.load() == HaltRecord("alice") and memory.contacts.last("main", contact(1).database) == contact(1)
    assert Memory.open(None).halt.load() is None


def test_file_that_was_deleted_while_the_process_runs_is_made_again(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path)
    (tmp_path / FILE).unlink()
    memory.halt.save(BOB)
    assert Memory.open(tmp_path).halt.load() == BOB
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


# --- schema -----------------------------------------------------------------------------------------------------


def test_migrations_lead_to_the_tables_that_the_stores_use(tmp_path: Path) -> None:
    Memory.open(tmp_path)
    inspector = inspect(create_engine(f"sqlite:///{tmp_path / FILE}"))
    assert set(inspector.get_table_names()) == set(METADATA.tables)
    for name, table in METADATA.tables.items():
        migrated = {column["name"]: (str(column["type"]), column["nullable"]) for column in inspector.get_columns(name)}
        assert migrated == {column.name: (str(column.type), bool(column.nullable)) for column in table.columns}
        assert inspector.get_pk_constraint(name)["constrained_columns"] == [c.name for c in table.primary_key]
    assert version(tmp_path / FILE) == len(MIGRATIONS)


def test_file_of_an_earlier_version_is_migrated_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    Memory.open(tmp_path).halt.save(BOB)
    later = [*MIGRATIONS, ["CREATE TABLE extra (number INTEGER)", "INSERT INTO extra VALUES (7)"]]
    state_file = StateFile(tmp_path / FILE, migrations=later)
    assert state_file.read(lambda c: c.exec_driver_sql("SELECT number FROM extra").scalar_one(), default=None) == 7
    halted = state_file.read(lambda c: c.exec_driver_sql("SELECT halted_by FROM halt").scalar_one(), default=None)
    assert halted == "bob" and version(tmp_path / FILE) == len(later)


def test_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    Memory.open(tmp_path).halt.save(BOB)
    with pytest.raises(StateUnavailable, match=r"cannot write .*syntax error"):
        StateFile(
            tmp_path / FILE, migrations=[*MIGRATIONS, ["CREATE TABLE extra (number INTEGER)", "nonsense"]]
        ).prepare()
    assert version(tmp_path / FILE) == len(MIGRATIONS) and Memory.open(tmp_path).halt.load() == BOB


def test_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    Memory.open(tmp_path).halt.save(BOB)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(StateTooNew, match=r"memory\.sqlite3 was written by a newer version .*99"):
        Memory.open(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


# --- damage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["text", "header", "pages"])
def test_damaged_file_is_moved_aside_and_counts_as_a_persistent_halt(tmp_path: Path, damage: str) -> None:
    memory = Memory.open(tmp_path)
    for number in range(50):
        memory.contacts.record(contact(number, f"source {number}" * 20))
    memory.close()
    path, reports = tmp_path / FILE, list[str]()
    content = bytearray(path.read_bytes())
    if damage == "text":
        content = bytearray(b"not a database")
    elif damage == "header":
        content[:100] = bytes(100)
    else:
        content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    memory = Memory.open(tmp_path, reports.append)
    halt = memory.halt.load()
    assert halt is not None and halt.persistent and "memory.sqlite3 was damaged" in halt.by
    assert [report for report in reports if f"has been moved to {path}.corrupt" in report] == reports != []
    assert Path(f"{path}.corrupt").read_bytes() == bytes(content)
    memory.halt.clear()
    assert Memory.open(tmp_path).halt.load() is None


def test_damage_that_two_processes_meet_is_moved_aside_once(tmp_path: Path) -> None:
    first, second, reports = Memory.open(tmp_path), Memory.open(tmp_path), list[str]()
    (tmp_path / FILE).write_text("not a database")
    Memory.open(tmp_path, reports.append)
    first.halt.save(BOB)
    assert second.halt.load() == BOB and len(reports) == 1


def waiting_for_lock(folder: Path) -> int:
    """How many wait for a lock on this folder."""
    inode = f":{folder.stat().st_ino} "
    return sum("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_damage_that_two_processes_meet_at_one_moment_is_moved_aside_once(tmp_path: Path) -> None:
    Memory.open(tmp_path)
    (tmp_path / FILE).write_text("not a database")
    reports = list[str]()
    threads = [threading.Thread(target=Memory.open, args=[tmp_path, reports.append]) for _ in range(2)]
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while waiting_for_lock(tmp_path) < 2:
        assert time.monotonic() < deadline, "both have not met the damage in time"
        time.sleep(0.01)
    os.close(folder)
    for thread in threads:
        thread.join(60)
    assert len(reports) == 1 and Path(f"{tmp_path / FILE}.corrupt").read_text() == "not a database"


def test_file_that_cannot_be_opened_counts_as_a_persistent_halt(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    reports = list[str]()
    memory = Memory.open(tmp_path, reports.append)
    halt = memory.halt.load()
    assert halt is not None and halt.persistent and f"cannot read {tmp_path / FILE}" in halt.by
    assert len(reports) == 1 and f"cannot write {tmp_path / FILE}" in reports[0]


# --- kill -9 ----------------------------------------------------------------------------------------------------


def test_kill_at_any_moment_leaves_the_last_write_or_the_one_that_was_under_way(tmp_path: Path, thorough: bool) -> None:
    chance = random.Random(17)
    for _ in range(25 if thorough else 4):
        writer = begin("halt", tmp_path)
        assert writer.stdout is not None and writer.stderr is not None
        assert writer.stdout.readline() == "-1\n"
        assert writer.stdout.readline() == "0\n"
        deadline = time.monotonic() + chance.uniform(0, 0.2)
        while time.monotonic() < deadline:
            writer.stdout.readline()
        writer.kill()
        lines = writer.stdout.read().split()
        writer.wait()
        errors = writer.stderr.read()
        writer.stdout.close()
        writer.stderr.close()
        assert errors == ""
        halt = Memory.open(tmp_path, pytest.fail).halt.load()
        assert halt is not None and halt.reason == "x" * 5000
        if lines:
            assert int(halt.by) - int(lines[-1]) in (0, 1)


# --- several processes -------------------------------------------------------------------------------------------


def test_several_processes_that_begin_together_lose_nothing(tmp_path: Path) -> None:
    writers = [begin("contacts", tmp_path / "state", name) for name in ("a", "b", "c", "d")]
    assert [writer.communicate(timeout=60) for writer in writers] == [("done\n", "")] * 4
    memory = Memory.open(tmp_path / "state")
    for name in ("a", "b", "c", "d"):
        assert all(memory.contacts.last(f"{name} {number}", "db") for number in range(20))


def test_threads_of_one_process_share_the_file(tmp_path: Path) -> None:
    memory, errors = Memory.open(tmp_path), list[Exception]()

    def work(name: str) -> None:
        try:
            for _ in range(20):
                memory.halt.save(HaltRecord(name))
                assert memory.halt.load() is not None
        except Exception as error:  # noqa: BLE001  asserted on below
            errors.append(error)

    threads = [threading.Thread(target=work, args=[name]) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def test_file_that_another_process_keeps_locked_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reaper.memory.state_file.BUSY_SECONDS", 0.2)
    memory = Memory.open(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateUnavailable, match=rf"cannot write {tmp_path / FILE}: another process has locked it"):
            memory.halt.save(BOB)
        other.rollback()
    memory.halt.save(BOB)
    assert memory.halt.load() == BOB


# --- full and read-only disks --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte. Skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "reaper", folder], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """Leave no room on the disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    return filler


def test_full_disk_fails_each_write_in_words_is_reported_once_and_is_recovered_from(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contacts_module, "WRITE_SECONDS", 0.0)
    reports = list[str]()
    memory = Memory.open(small_disk, reports.append)
    memory.halt.save(BOB)
    filler = fill(small_disk)
    with pytest.raises(StateUnavailable, match=rf"cannot write {small_disk / FILE}: "):
        memory.halt.save(HaltRecord("alice"))
    for number in range(5):
        memory.contacts.record(contact(number))
    assert len(reports) == 1 and str(small_disk / FILE) in reports[0]
    assert memory.halt.load() == BOB and Memory.open(small_disk).halt.load() == BOB
    filler.unlink()
    memory.contacts.flush()
    assert memory.halt.load() == BOB
    assert Memory.open(small_disk).contacts.last("main", contact(4).database) == contact(4)


def test_read_only_disk_is_read_and_fails_each_write_in_words(small_disk: Path) -> None:
    Memory.open(small_disk).halt.save(BOB)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    reports = list[str]()
    memory = Memory.open(small_disk, reports.append)
    assert memory.halt.load() == BOB
    with pytest.raises(StateUnavailable, match=rf"cannot write {small_disk / FILE}: "):
        memory.halt.clear()
    assert len(reports) == 1


def test_file_that_may_not_grow_stops_nothing_and_keeps_what_it_has(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    output, errors = begin("limited", tmp_path).communicate(timeout=60)
    assert errors == ""
    refused, rest = output.splitlines()
    assert refused.startswith(f"cannot write {tmp_path / FILE}: ") and rest == "1 2026"
    assert Memory.open(tmp_path).halt.load() == HaltRecord("bob", None, persistent=True)


def test_directory_that_cannot_be_made_is_reported_once_and_stops_nothing(tmp_path: Path) -> None:
    in_the_way, reports = tmp_path / "file", list[str]()
    in_the_way.touch()
    memory = Memory.open(in_the_way, reports.append)
    memory.contacts.record(contact(1))
    memory.contacts.flush()
    assert memory.halt.load() is None and memory.contacts.last("main", contact(1).database) == contact(1)
    assert len(reports) == 1 and f"cannot write {in_the_way / FILE}" in reports[0]
