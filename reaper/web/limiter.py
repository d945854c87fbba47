"""Room for a few at a time: who finds those inside stuck does not wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from reaper.errors import ReaperError


class TooManyReaders(ReaperError):
    """Too many look just now."""

    def __init__(self, message: str = "too many are looking just now; try again in a moment") -> None:
        super().__init__(message)


class Limiter:
    """So many places, for which so many may wait. Thread-safe.

    Nobody waits for longer than `patience_seconds`, and nobody at all when nobody has come in or left for so long: one
    thing that does not end must not keep everybody who asks for it waiting, one after the other.
    """

    def __init__(self, places: int, waiting: int, patience_seconds: float) -> None:
        self._lock, self._free = threading.Lock(), threading.BoundedSemaphore(places)
        self._room_to_wait, self._timeouts = waiting, patience_seconds
        self._moved = time.monotonic()

    def enter(self, *, wait: bool = True) -> bool:
        """Whether there is a place, which the caller has to leave."""
        if not self._free.acquire(blocking=False) and not (wait and self._waited()):
            return False
        self._moved = time.monotonic()
        return True

    def leave(self) -> None:
        self._moved = time.monotonic()
        self._free.release()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Raises Crowded when there is none."""
        if not self.enter():
            raise TooManyReaders
        try:
            yield
        finally:
            self.leave()

    def _waited(self) -> bool:
        timeouts = self._timeouts - (time.monotonic() - self._moved)
        with self._lock:
            if timeouts <= 0 or self._room_to_wait <= 0:
                return False
            self._room_to_wait -= 1
        try:
            return self._free.acquire(timeout=timeouts)
        finally:
            with self._lock:
                self._room_to_wait += 1
