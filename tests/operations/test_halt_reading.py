"""A halt as a process beside the daemon sees it: kept in the state directory, else asked for, else not seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reaper.config import load
from reaper.memory import HaltRecord, Memory
from reaper.operations.halt_reading import HaltReader
from reaper.sweep.halt_switch import HaltSwitch
from tests.support.api import OPERATOR, ApiDaemon, shared_daemon
from tests.support.daemons import free_port

running, daemon, protea = shared_daemon("halt_reading", state_dir="state")
ALICE = HaltRecord("alice", "look first")


class Reading:
    """A reader with these variables, and what it has reported."""

    def __init__(self, **given: str) -> None:
        self.reported: list[str] = []
        self.read = HaltReader(load({}, given), self.reported.append)


@pytest.fixture
def halted(daemon: ApiDaemon) -> Iterator[ApiDaemon]:
    assert daemon.api.post("/api/supervisor/halt?reason=look").status == 200
    yield daemon
    assert daemon.api.post("/api/supervisor/restart").status == 200


def test_daemon_is_asked_where_no_state_directory_is_set(halted: ApiDaemon) -> None:
    reading = Reading(REAPER_HTTP_PORT=str(halted.port))
    halt = reading.read()
    assert halt is not None and halt.by.startswith(f"{OPERATOR} over HTTP") and halt.reason == "look"
    assert reading.reported == []


def test_daemon_is_asked_where_the_state_directory_knows_of_no_halt(halted: ApiDaemon, tmp_path: Path) -> None:
    """The directory may be that of another daemon, or the daemon could not write its halt."""
    Memory.open(tmp_path)
    assert Reading(REAPER_HTTP_PORT=str(halted.port), REAPER_STATE_DIR=str(tmp_path)).read() is not None


def test_daemon_is_asked_where_the_state_cannot_be_read(daemon: ApiDaemon, tmp_path: Path) -> None:
    (circle := tmp_path / "state").symlink_to(tmp_path / "state")
    reading = Reading(REAPER_HTTP_PORT=str(daemon.port), REAPER_STATE_DIR=str(circle))
    assert reading.read() is None and reading.reported == [], "the daemon says that it is not halted"
    alone = Reading(REAPER_HTTP_PORT=str(free_port()), REAPER_STATE_DIR=str(circle))
    halt = alone.read()
    assert halt is not None and halt.is_unknown and alone.reported == []


def test_halt_that_is_kept_counts_without_an_answer(tmp_path: Path) -> None:
    switch = HaltSwitch(Memory.open(tmp_path).halt)
    reading = Reading(REAPER_STATE_DIR=str(tmp_path), REAPER_HTTP_PORT="0")
    assert reading.read() is None and reading.reported == [], "the state says that none is in force"
    switch.set(ALICE)
    assert reading.read() == ALICE


@pytest.mark.parametrize("state", [None, "empty", "missing"])
def test_halt_that_cannot_be_seen_is_reported_once_and_holds_nothing(tmp_path: Path, state: str | None) -> None:
    (tmp_path / "empty").mkdir()
    port = free_port()
    given = {} if state is None else {"REAPER_STATE_DIR": str(tmp_path / state)}
    reading = Reading(REAPER_HTTP_PORT=str(port), **given)
    assert reading.read() is None and reading.read() is None
    [report] = reading.reported
    assert report.startswith("no halt could be seen: ") and f"no daemon answers at http://127.0.0.1:{port}" in report
    assert (str(tmp_path) if state else "REAPER_STATE_DIR") in report
    assert not (tmp_path / "missing").exists()


def test_port_that_is_switched_off_is_reported() -> None:
    reading = Reading(REAPER_HTTP_PORT="0")
    assert reading.read() is None and "HTTP port is switched off" in reading.reported[0]


def test_last_answer_of_a_daemon_counts_while_it_does_not_answer(halted: ApiDaemon) -> None:
    reading = Reading(REAPER_HTTP_PORT=str(halted.port))
    seen = reading.read()
    reading.read._settings = load({}, {"REAPER_HTTP_PORT": str(free_port())})
    reading.read._ask_at = 0.0
    assert reading.read() == seen is not None
