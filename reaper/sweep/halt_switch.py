"""The halt switch: while it is set, sweeps look and end nothing."""

from __future__ import annotations

import threading
from dataclasses import replace

from reaper.errors import ReaperError, StateUnavailable
from reaper.memory import HaltRecord, HaltStore, Memory


class HaltSwitch:
    """Asked by every sweep. Thread-safe. Every halt is written to `store`, so that commands see it."""

    def __init__(self, store: HaltStore | None = None) -> None:
        """The switch of a daemon that starts: a halt of the one before is in force if it is persistent, else cleared.

        Without `store`, nothing is kept when the process ends.
        """
        self._store = store or Memory.open(None).halt
        self._lock = threading.Lock()
        self._current = self._store.load()
        if self._current is not None and not self._current.persistent:
            self.clear()

    @property
    def is_halted(self) -> bool:
        return self._current is not None

    @property
    def current(self) -> HaltRecord | None:
        """Who halted it; None while it is not halted."""
        return self._current

    def set(self, record: HaltRecord) -> None:
        """Halt. A persistent halt stays persistent, whatever follows, until it is cleared.

        Raises ReaperError when this halt is to be persistent and cannot be written: it is in force all the same, and
        ends with the process.
        """
        with self._lock:
            was_persistent = self._current is not None and self._current.persistent
            # In force first: writing may take seconds, or fail.
            self._current = replace(record, persistent=was_persistent)
            kept = replace(record, persistent=was_persistent or record.persistent)
            try:
                self._store.save(kept)
            except StateUnavailable as error:
                if record.persistent and not was_persistent:
                    raise ReaperError(f"halted, but only until the daemon ends: {error}") from error
                self._store.report_once(error)
            else:
                self._current = kept

    def clear(self) -> None:
        """End the halt. Raises ReaperError, and stays halted, when a persistent halt cannot be removed."""
        with self._lock:
            try:
                self._store.clear()
            except StateUnavailable as error:
                if self._current is not None and self._current.persistent:
                    raise ReaperError(f"still halted, for the halt would be back after a restart: {error}") from error
                self._store.report_once(error)
            self._current = None
