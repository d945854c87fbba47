"""Whether the supervisor is halted, who halted it, and what of that outlasts the process."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reaper.errors import ReaperError

_FILE = "halted"


@dataclass(frozen=True, slots=True)
class HaltRecord:
    """Who halted the supervisor, and why. `persistent`: it stays halted when the daemon is started anew."""

    by: str
    reason: str | None = None
    persistent: bool = False


class HaltSwitch:
    """A switch that every sweep looks at. Thread-safe.

    `directory` is where what is to outlast the process is kept; None: nothing can be.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._path = directory / _FILE if directory else None
        self._lock = threading.Lock()
        self._current: HaltRecord | None = self._load()

    @property
    def is_halted(self) -> bool:
        return self._current is not None

    @property
    def current(self) -> HaltRecord | None:
        """Who halted it; None while it is not halted."""
        return self._current

    def set(self, halted: HaltRecord) -> None:
        """Halt, whatever else happens. One that was to last goes on to, until somebody clears it.

        Raises ReaperError when this one is to last and that cannot be kept: then it ends with the process.
        """
        with self._lock:
            lasting = self._current is not None and self._current.persistent
            self._current = replace(halted, persistent=lasting)
            if halted.persistent and not lasting:
                self._save(halted)
                self._current = halted

    def clear(self) -> None:
        """Go on. Raises ReaperError, and stays halted, when what was kept cannot be removed."""
        with self._lock:
            self._delete()
            self._current = None

    def _load(self) -> HaltRecord | None:
        """What an earlier process left. Whatever cannot be read was left by one that was halted, too."""
        if self._path is None or not os.path.lexists(self._path):
            return None
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return HaltRecord(str(found["by"]), found["reason"] and str(found["reason"]), persistent=True)
        except (OSError, ValueError, KeyError, TypeError):
            return HaltRecord(f"nobody knows whom: {self._path} cannot be read", persistent=True)

    def _save(self, halted: HaltRecord) -> None:
        if self._path is None:
            raise ReaperError(
                "halted, but only until the daemon ends: to outlast it takes a directory for that; "
                "set REAPER_STATE_DIR, or StateDirectory= in the systemd unit"
            )
        fresh = self._path.with_name(f"{_FILE}.new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with fresh.open("w", encoding="utf-8") as file:
                json.dump(asdict(halted), file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
            self._fsync_directory()
        except OSError as error:
            for left in (fresh, self._path):
                with suppress(OSError):
                    left.unlink()
            why = f"cannot write {self._path}: {error.strerror or error}"
            raise ReaperError(f"halted, but only until the daemon ends: {why}") from error

    def _delete(self) -> None:
        if self._path is None:
            return
        try:
            self._path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise ReaperError(f"cannot remove {self._path}: {error.strerror or error}") from error
        with suppress(OSError):  # at worst it is halted again after a power failure, and says so
            self._fsync_directory()

    def _fsync_directory(self) -> None:
        """What was changed in the directory is there after a power failure."""
        if self._path is not None:
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
