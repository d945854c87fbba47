"""The stores of one process, and the file that they share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from reaper.errors import StateTooNew, StateUnavailable
from reaper.memory.command_reaps import CommandReapStore
from reaper.memory.database_contacts import ContactStore
from reaper.memory.ended_lately import EndedLatelyStore
from reaper.memory.first_seen_jobs import FirstSeenJobStore
from reaper.memory.future_signs import FutureSignStore
from reaper.memory.halt import LEGACY_FILE, HaltRecord, HaltStore, save_unknown_halt, unknown_halt
from reaper.memory.job_holds import JobHoldStore
from reaper.memory.local_time_columns import LocalColumnStore
from reaper.memory.reap_counts import ReapCountStore
from reaper.memory.reaped_rows import ProcessReapedRows, ReapedRowStore
from reaper.memory.refused_jobs import RefusedJobStore
from reaper.memory.requeue_counts import RequeueCountStore
from reaper.memory.seen_states import ProcessSeenStates
from reaper.memory.state_file import StateFile
from reaper.memory.worker_states import WorkerStateStore
from reaper.source.factory import SourceStores

FILE = "memory.sqlite3"


class Memory:
    """What is kept in the state directory. Thread-safe; several processes may use one directory.

    A file that cannot be used stops nothing: each write then raises StateUnavailable, and `report` is called once.
    """

    def __init__(self, state_file: StateFile, legacy_halt: Path | None) -> None:
        """Use `open`."""
        self._file = state_file
        self.halt = HaltStore(state_file, legacy_halt)
        self.contacts = ContactStore(state_file)
        self.reap_counts = ReapCountStore(state_file)
        self.command_reaps = CommandReapStore(state_file)
        self.reaped_rows = ReapedRowStore(state_file)
        self.refused_jobs = RefusedJobStore(state_file)
        self.future_signs = FutureSignStore(state_file)
        self.first_seen = FirstSeenJobStore(state_file)
        self.local_columns = LocalColumnStore(state_file)
        self.holds = JobHoldStore(state_file)
        self.ended_lately = EndedLatelyStore(state_file)
        self.worker_states = WorkerStateStore(state_file)
        self.requeue_counts = RequeueCountStore(state_file)

    @classmethod
    def open(cls, state_dir: Path | None, report: Callable[[str], None] = lambda _: None) -> Memory:
        """Open the file of this directory; the directory and the file are made where they are missing.

        Without a directory everything is kept in memory, and lost when the process ends. `report` gets one sentence
        when the file cannot be used, and again when that happens after it could be.

        Raises StateTooNew for a file of a newer version of the reaper, which is left as it is.
        """
        path = state_dir / FILE if state_dir else None
        memory = cls(StateFile(path, report, save_unknown_halt), state_dir / LEGACY_FILE if state_dir else None)
        try:
            memory._file.prepare()
        except StateTooNew:
            raise
        except StateUnavailable as error:
            memory._file.report_once(error)
        return memory

    @property
    def path(self) -> Path | None:
        """The file; None where everything is kept in memory."""
        return self._file.path

    @property
    def stores(self) -> SourceStores:
        """For the sources of this process."""
        return SourceStores(
            self.reaped_rows,
            self.future_signs,
            self.first_seen,
            self.local_columns,
            self.holds,
            self.ended_lately,
            self.worker_states,
            self.requeue_counts,
        )

    @property
    def durable(self) -> bool:
        """There is a state directory."""
        return self._file.path is not None

    def close(self) -> None:
        """Write what still waits to be written."""
        self.contacts.flush()


def process_stores(state_dir: Path | None) -> SourceStores:
    """For the sources of a process beside the daemon: what the daemon of this directory keeps.

    What the process would keep itself, where a daemon has made no file, ends with it.
    """
    path = state_dir / FILE if state_dir else None
    # A file that a command made could belong to another user than the daemon's.
    shared = path if path is not None and path.is_file() else None
    return SourceStores(
        ProcessReapedRows(path),
        ProcessSeenStates(path, FutureSignStore),
        ProcessSeenStates(path, FirstSeenJobStore),
        ProcessSeenStates(path, LocalColumnStore),
        kept_holds(state_dir),
        EndedLatelyStore(StateFile(shared, after_loss=save_unknown_halt)),
        ProcessSeenStates(path, WorkerStateStore),
        ProcessSeenStates(path, RequeueCountStore),
    )


def kept_holds(state_dir: Path | None) -> JobHoldStore:
    """For a process beside the daemon: the holds that are kept in this directory. Reading makes no file."""
    return JobHoldStore(StateFile(state_dir / FILE if state_dir else None, after_loss=save_unknown_halt))


def keeps_state(state_dir: Path | None) -> bool:
    """For a process beside the daemon: whether a daemon has kept its state in this directory, as far as can be seen."""
    return state_dir is not None and any(os.path.lexists(state_dir / name) for name in (FILE, LEGACY_FILE))


def kept_halt(state_dir: Path | None) -> Callable[[], HaltRecord | None]:
    """For a process beside the daemon: a function that returns the halt that is kept in this directory now.

    It makes no directory, and no file but in place of a damaged one. What cannot be read counts as a halt, for there
    may be one. Without a state directory there is none.
    """
    if state_dir is None:
        return lambda: None
    store = HaltStore(StateFile(state_dir / FILE, after_loss=save_unknown_halt), state_dir / LEGACY_FILE)

    def read() -> HaltRecord | None:
        try:
            os.lstat(state_dir / FILE)
        except (FileNotFoundError, NotADirectoryError):
            pass  # a file of an earlier version may be there
        except OSError as error:
            return unknown_halt(f"cannot read {state_dir / FILE}: {error.strerror or error}")
        return store.load()

    return read


def kept_counts(state_dir: Path | None) -> ReapCountStore | None:
    """For a process beside the daemon: where it adds the jobs that it ends; None where no daemon keeps a file."""
    file = _file_of_daemon(state_dir)
    return None if file is None else ReapCountStore(file)


def kept_command_reaps(state_dir: Path | None) -> CommandReapStore | None:
    """For a process beside the daemon: where it notes the jobs that it ends; None where no daemon keeps a file."""
    file = _file_of_daemon(state_dir)
    return None if file is None else CommandReapStore(file)


def _file_of_daemon(state_dir: Path | None) -> StateFile | None:
    path = state_dir / FILE if state_dir else None
    # A file that a command made could belong to another user than the daemon's.
    if path is None or not path.is_file():
        return None
    return StateFile(path, after_loss=save_unknown_halt)


def kept_contacts(state_dir: Path) -> ContactStore:
    """For a process beside the daemon: the contacts that are kept in this directory. It makes no file."""
    return ContactStore(StateFile(state_dir / FILE, after_loss=save_unknown_halt))


def kept_refused_jobs(state_dir: Path) -> RefusedJobStore:
    """For a process beside the daemon: the jobs that the database refused to end. It makes no file."""
    return RefusedJobStore(StateFile(state_dir / FILE, after_loss=save_unknown_halt))
