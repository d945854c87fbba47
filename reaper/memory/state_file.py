"""The state file: one SQLite database that several processes share, opened for each short transaction.

A connection that stayed open would go on writing to a file that an operator has moved or deleted. Writes are few: a
halt, and once in some seconds what the sweeps have seen.

Durable: WAL with `synchronous=FULL`, so a commit is on the disk when it returns, and a process that is killed at any
moment leaves the last commit. Bounded: `max_page_count`; the stores bound their tables.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool, StaticPool

from reaper.common.owned_file import create_owned
from reaper.errors import StateTooNew, StateUnavailable
from reaper.memory.schema import MIGRATIONS

T = TypeVar("T")

BUSY_SECONDS = 5.0
"""For how long a transaction waits for another process."""

MAX_BYTES = 64 * 1024 * 1024
_PAGE_BYTES = 4096
_RETRY_SECONDS = 0.02

_REASONS = {
    sqlite3.SQLITE_FULL: f"the disk is full, or the file has reached its limit of {MAX_BYTES >> 20} MiB",
    sqlite3.SQLITE_READONLY: "it is read-only",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_BUSY: f"another process has locked it for {BUSY_SECONDS:g} s",
    sqlite3.SQLITE_LOCKED: f"another process has locked it for {BUSY_SECONDS:g} s",
}
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class StateFile:
    """Runs transactions on the state file. Thread-safe. `path` None: a database in memory, of this object's own."""

    def __init__(
        self,
        path: Path | None,
        report: Callable[[str], None] = lambda _: None,
        after_loss: Callable[[Connection, str], None] = lambda _connection, _why: None,
        migrations: Sequence[Sequence[str]] = MIGRATIONS,
    ) -> None:
        """`after_loss` writes the safe answers into the new file that takes the place of a corrupted one."""
        self.path = path
        self._report, self._after_loss, self._migrations = report, after_loss, migrations
        self._reported = False
        self._lock = threading.Lock()
        if path is None:
            self._engine = create_engine(
                "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False, "isolation_level": None}
            )
        else:
            self._engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool)
        event.listen(self._engine, "begin", _begin)

    # --- transactions ----------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the file where it is missing, bring its schema up to date, look for damage, and write.

        The write changes nothing: it shows a full or read-only disk before the first halt has to be kept. Raises
        StateUnavailable, and StateTooNew, which leaves the file as it is.
        """
        self.write(self._probe)

    def _probe(self, connection: Connection) -> None:
        _require_sound(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {len(self._migrations)}")

    def write(self, action: Callable[[Connection], T]) -> T:
        """Run `action` in one short transaction that is on the disk when this returns.

        `action` may be run again when another process was faster. Raises StateUnavailable when nothing was written,
        StateTooNew.
        """
        result = self._attempt(lambda: self._transaction(action, immediate=True), "write")
        self._reported = False
        return result

    def read(self, action: Callable[[Connection], T], default: T) -> T:
        """Run `action` on what there is; `default` where there is no file. Never makes a file.

        Raises StateUnavailable when the file cannot be read, StateTooNew.
        """
        if self.path is not None and not os.path.lexists(self.path) and not os.path.lexists(self._corrupt_path):
            return default
        try:
            return self._attempt(lambda: self._transaction(action, immediate=False), "read")
        except StateUnavailable as error:
            if isinstance(error, StateTooNew) or not self._is_clean():
                raise
        # Where SQLite cannot make its -shm file (a full or read-only disk), a file without a log is read as it is.
        return self._attempt(lambda: self._read_immutable(action), "read")

    def fingerprint(self) -> tuple[object, ...]:
        """Something that differs after another process has written. Costs two look-ups of a file, and opens none."""
        if self.path is None:
            return ()
        return tuple(_time_and_size(self.path.with_name(self.path.name + suffix)) for suffix in ("", "-wal"))

    def report_once(self, error: Exception) -> None:
        """Report that the file cannot be used: once, until a write succeeds again."""
        if not self._reported:
            self._reported = True
            self._report(str(error))

    def _transaction(self, action: Callable[[Connection], T], *, immediate: bool) -> T:
        # The lock is for the database in memory, whose only connection all threads share.
        with (
            self._lock if self.path is None else nullcontext(),
            self._engine.connect().execution_options(immediate=immediate) as connection,
            connection.begin(),
        ):
            version = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
            self._require_known_version(version)
            if version < len(self._migrations) and immediate:
                self._migrate(connection, version)
                version = len(self._migrations)
            if version == len(self._migrations):
                return action(connection)
        # A read has met an older schema.
        return self._transaction(action, immediate=True)

    def _attempt(self, run: Callable[[], T], verb: str) -> T:
        """Run it again while another process is in the way, and once more after a corrupted file was moved aside."""
        deadline, moved = time.monotonic() + BUSY_SECONDS, False
        while True:
            try:
                return run()
            except (DBAPIError, sqlite3.Error, OSError) as error:
                code = _code(error)
                if code in _CORRUPT and not moved and self.path is not None:
                    self._move_aside(self.path, error)
                    moved = True
                elif code in _BUSY and time.monotonic() < deadline:
                    time.sleep(_RETRY_SECONDS)
                else:
                    raise StateUnavailable(f"cannot {verb} {self.path}: {_reason(error)}") from error

    # --- the file --------------------------------------------------------------------------------------------

    @property
    def _corrupt_path(self) -> Path:
        assert self.path is not None
        return self.path.with_name(f"{self.path.name}.corrupt")

    def _connect(self) -> sqlite3.Connection:
        assert self.path is not None
        self._make_file(self.path)
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw", uri=True, timeout=BUSY_SECONDS, isolation_level=None
        )
        try:
            # Before anything is changed: a file of a newer version stays as it is.
            self._require_known_version(int(connection.execute("PRAGMA user_version").fetchone()[0]))
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA max_page_count = {MAX_BYTES // _PAGE_BYTES}")
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_immutable(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro&immutable=1", uri=True)

    def _read_immutable(self, action: Callable[[Connection], T]) -> T:
        engine = create_engine("sqlite://", creator=self._connect_immutable, poolclass=NullPool)
        with engine.connect() as connection:
            return action(connection)

    def _is_clean(self) -> bool:
        """The last process that wrote has closed the file, and has left no write-ahead log."""
        if self.path is None or not self.path.is_file():
            return False
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size == 0
        except FileNotFoundError:  # also when another process has just closed the file
            return True
        except OSError:
            return False

    def _make_file(self, path: Path) -> None:
        if os.path.lexists(path):
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _directory_lock(path.parent):
            if os.path.lexists(path):
                return
            damaged = os.path.lexists(self._corrupt_path)
            if damaged:
                self._move_logs_aside(path)  # of a move that was killed
            # Where a command of root takes the place of a daemon that has met the damage, the file is the daemon's.
            create_owned(path, os.lstat(self._corrupt_path if damaged else path.parent))
            _sync_directory(path.parent)

    def _require_known_version(self, version: int) -> None:
        if version > len(self._migrations):
            raise StateTooNew(
                f"{self.path} was written by a newer version of the reaper (its schema is {version}, this version "
                f"knows {len(self._migrations)}): run that version, or move the file away, which forgets a halt"
            )

    def _migrate(self, connection: Connection, version: int) -> None:
        for migration in self._migrations[version:]:
            for statement in migration:
                connection.exec_driver_sql(statement)
        connection.exec_driver_sql(f"PRAGMA user_version = {len(self._migrations)}")
        if version == 0 and self.path is not None and os.path.lexists(self._corrupt_path):
            self._after_loss(connection, f"{self.path} was damaged and has been moved to {self._corrupt_path.name}")

    def _move_logs_aside(self, path: Path) -> None:
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).replace(f"{self._corrupt_path}{suffix}")

    def _move_aside(self, path: Path, error: Exception) -> None:
        """Rename a corrupted file, so that the next transaction begins a new one with the safe answers in it.

        The file goes before its log: without the log it may look sound, and lack the halt that was written last. A
        process that is killed in between leaves the log behind, and the next one moves it before it makes a new file.
        """
        with _directory_lock(path.parent):
            if not _is_corrupt(path):  # another process has replaced it
                return
            path.replace(self._corrupt_path)
            _sync_directory(path.parent)
            self._move_logs_aside(path)
            _sync_directory(path.parent)
        self._report(f"{path} was damaged ({_reason(error)}) and has been moved to {self._corrupt_path}")


def _begin(connection: Connection) -> None:
    # A read that becomes a write could not wait for another process; on a read-only disk no write can begin.
    immediate = connection.get_execution_options().get("immediate")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


class _Damaged(sqlite3.DatabaseError):
    """`PRAGMA quick_check` has found damage."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _require_sound(connection: Connection) -> None:
    result = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if result != "ok":
        raise _Damaged(str(result))


def _is_corrupt(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=BUSY_SECONDS)
        try:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
        finally:
            connection.close()
    except sqlite3.Error as error:
        return _code(error) in _CORRUPT


def _time_and_size(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _code(error: Exception) -> int | None:
    """SQLite's primary result code; None for another error."""
    code = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    original = error.orig if isinstance(error, DBAPIError) else error
    return _REASONS.get(_code(error) or 0, str(original))


@contextmanager
def _directory_lock(directory: Path) -> Iterator[None]:
    """Only one process at a time moves files about in the directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    """A file that was made or renamed in the directory is there after a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
