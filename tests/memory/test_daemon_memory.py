"""The daemon keeps its state in the state directory, goes on without it, and refuses a file of a newer version."""

from __future__ import annotations

import os
import resource
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine

from reaper.database.server_identity import database_address
from reaper.memory import Memory
from reaper.memory.memory import FILE
from tests.support.daemons import Daemon
from tests.support.protea import Protea
from tests.support.waiting import wait_until

TROUBLE = "Reaper's state file cannot be used; sweeps go on."


def test_daemon_keeps_the_contact_of_its_sweeps_in_the_state_directory(protea: Protea, tmp_path: Path) -> None:
    with Daemon(tmp_path, database_url=protea.url, state_dir=tmp_path / "state") as daemon:
        daemon.comes_up().sweeps_on()
        assert daemon.stop()[0] == 0
    address = database_address(create_engine(protea.url))
    contact = Memory.open(tmp_path / "state").contacts.last("default", address)
    assert contact is not None and contact.system_identifier
    assert not daemon.said(TROUBLE)


def test_daemon_that_stops_keeps_the_contacts_that_wait_to_be_written(protea: Protea, tmp_path: Path) -> None:
    names = ("protea", "other")
    sources = (f'[sources.{name}]\ndatabase_url = "{protea.url}"\nprofile = "{name}"\n' for name in names)
    config = "".join(['[profiles.other]\nextends = "protea"\n', *sources])
    with Daemon(tmp_path, config, state_dir=tmp_path / "state") as daemon:
        daemon.comes_up()
        wait_until(lambda: all(daemon.sweeps(source=name) for name in names), "a sweep of each source")
        assert daemon.stop()[0] == 0
    contacts, address = Memory.open(tmp_path / "state").contacts, database_address(create_engine(protea.url))
    # The contacts of the second source came within seconds of the first one's, which was written at once.
    assert all(contacts.last(name, address) for name in names)


def test_daemon_whose_state_directory_cannot_be_used_says_so_once_and_sweeps(protea: Protea, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    job = protea.stale()
    with Daemon(tmp_path, database_url=protea.url, state_dir=tmp_path / "state", interval_seconds=1) as daemon:
        daemon.comes_up().sweeps_on(3)
        assert daemon.stop()[0] == 0
    assert protea.status(job) == "failed"
    [said] = daemon.said(TROUBLE)
    assert f"cannot write {tmp_path / 'state' / FILE}" in said["problem"]


def test_state_file_that_cannot_be_written_is_reported_at_the_start(tmp_path: Path) -> None:
    Memory.open(tmp_path)
    reported: list[str] = []
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, limit[1]))
    try:
        Memory.open(tmp_path, reported.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    [problem] = reported
    assert problem.startswith(f"cannot write {tmp_path / FILE}: ")
    Memory.open(tmp_path, reported.append)
    assert len(reported) == 1


def test_start_writes_to_the_state_file_since_a_full_disk_shows_only_then(tmp_path: Path) -> None:
    """A transaction that writes nothing succeeds on a full disk."""
    Memory.open(tmp_path)
    os.utime(tmp_path / FILE, (0, 0))
    Memory.open(tmp_path)
    assert (tmp_path / FILE).stat().st_mtime > 0


def test_daemon_refuses_a_state_file_of_a_newer_version_in_one_message(protea: Protea, tmp_path: Path) -> None:
    Memory.open(tmp_path / "state")
    path = tmp_path / "state" / FILE
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with Daemon(tmp_path, database_url=protea.url, state_dir=tmp_path / "state") as daemon:
        status, stderr = daemon.ends()
    assert status != 0 and path.read_bytes() == before
    assert stderr.count("\n") == 1 and f"{path} was written by a newer version of the reaper" in stderr
