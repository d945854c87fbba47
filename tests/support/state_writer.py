"""A program that writes a state file, as one of several processes or until it is killed. For test_state_file.py."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from reaper.errors import StateUnavailable
from reaper.memory import DatabaseContact, HaltRecord, Memory


def write_halts(folder: Path) -> None:
    """One after the other, without an end; each is printed when it is written."""
    memory = Memory.open(folder)
    print(-1, flush=True)
    for number in range(10**9):
        memory.halt.save(HaltRecord(str(number), "x" * 5000, persistent=True))
        print(number, flush=True)


def write_contacts(folder: Path, name: str) -> None:
    memory = Memory.open(folder, lambda problem: print(problem, file=sys.stderr))
    for number in range(20):
        memory.contacts.record(DatabaseContact(f"{name} {number}", "db", "2026"))
        memory.contacts.flush()
    print("done")


def write_more_than_allowed(folder: Path) -> None:
    """Into a file that may not grow."""
    reports = list[str]()
    memory = Memory.open(folder, reports.append)
    memory.halt.save(HaltRecord("bob", None, True))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        memory.halt.save(HaltRecord("alice", "x" * 100_000))
    except StateUnavailable as error:
        print(error)
    memory.contacts.record(DatabaseContact("main", "db", "2026"))
    memory.contacts.flush()
    contact = memory.contacts.last("main", "db")
    print(len(reports), contact and contact.clock)


if __name__ == "__main__":
    writers: dict[str, Callable[..., None]] = {
        "halt": write_halts,
        "contacts": write_contacts,
        "limited": write_more_than_allowed,
    }
    what, where, *names = sys.argv[1:]
    writers[what](Path(where), *names)
