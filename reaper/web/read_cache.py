"""The read cache: readers of a source share what one of them read a moment ago, and give way to its sweeps.

However many clients ask, one of them reads a source at a time, and not while it is being swept. A flood of readers
costs the database little more than one of them. No reader waits long behind one that gets no answer.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from reaper.errors import ReaperError
from reaper.scheduling.source_runner import SourceRunner

T = TypeVar("T")

_FRESH_SECONDS = 2.0
_MOST_FRESH_SECONDS = 15.0
_FRESH_SHARE = 20.0
"""What took long to read stays fresh for longer: for this many times what it took, from 2 s to 15 s."""

CONNECTIONS = 2
"""How many connections to a source its readers have at most."""

_KEPT = 8
_WAITING_READERS = 6
_WAITING_CONNECTIONS = 100
_PATIENCE_SECONDS = 3.0
_GIVE_WAY_SECONDS = 3.0
_REST_SHARE = 3.0
"""The pause between two reads of a source, as a multiple of what the last one took."""

_SLOW_ERROR_SECONDS = 1.0
"""An error that took so long to come is answered again for as long: a source that hangs is not read by one client after
the other."""


class TooManyReaders(ReaperError):
    """No slot became free in time."""

    def __init__(self, message: str = "too many are looking just now; try again in a moment") -> None:
        super().__init__(message)


class Limiter:
    """So many slots, for which so many threads may wait. Thread-safe.

    A thread waits for `patience_seconds` at most, and not at all when no slot was taken or freed for so long: one read
    that hangs must not keep every later one waiting too.
    """

    def __init__(self, slots: int, waiting: int, patience_seconds: float) -> None:
        self._slots = threading.BoundedSemaphore(slots)
        self._waiting = threading.BoundedSemaphore(waiting)
        self._patience_seconds = patience_seconds
        self._moved = time.monotonic()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Raises TooManyReaders when there is none in time."""
        if not self._slots.acquire(blocking=False) and not self._waited():
            raise TooManyReaders
        self._moved = time.monotonic()
        try:
            yield
        finally:
            self._moved = time.monotonic()
            self._slots.release()

    def _waited(self) -> bool:
        left = self._patience_seconds - (time.monotonic() - self._moved)
        if left <= 0 or not self._waiting.acquire(blocking=False):
            return False
        try:
            return self._slots.acquire(timeout=left)
        finally:
            self._waiting.release()


@dataclass(slots=True)
class _SourceReads:
    """The limits for reads of one source. A read for the cache is alone, and gives way to a sweep first."""

    cached: Limiter = field(default_factory=lambda: Limiter(1, _WAITING_READERS, _GIVE_WAY_SECONDS + _PATIENCE_SECONDS))
    connections: Limiter = field(default_factory=lambda: Limiter(CONNECTIONS, _WAITING_CONNECTIONS, _PATIENCE_SECONDS))
    rests_until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Entry:
    """What was read, or the error with which the source refused; fresh until that moment of the monotonic clock."""

    fresh_until: float
    value: Any
    error: ReaperError | None = None


class ReadCache:
    """What was read lately from any source. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._reads: dict[str, _SourceReads] = {}
        self._generation = 0

    def clear(self) -> None:
        """Something has changed: every later `get` reads again."""
        with self._lock:
            self._entries.clear()
            self._generation += 1

    @contextmanager
    def cleared_after(self) -> Iterator[None]:
        """For a block that changes something."""
        try:
            yield
        finally:
            self.clear()

    def get(self, key: tuple[object, ...], read: Callable[[], T], runner: SourceRunner) -> T:
        """What was read under this key a moment ago, else what `read` returns now from the runner's source.

        Raises TooManyReaders, and what `read` raises.
        """
        if (entry := self._fresh(key)) is not None:
            return cast(T, entry.value)
        reads = self._reads_of(runner)
        with reads.cached.slot():
            if (entry := self._fresh(key)) is not None:  # another client has read it meanwhile
                return cast(T, entry.value)
            return self._read(key, read, runner, reads)

    @contextmanager
    def connection_slot(self, runner: SourceRunner) -> Iterator[None]:
        """A connection to the source may be used in this block. Raises TooManyReaders."""
        with self._reads_of(runner).connections.slot():
            yield

    def _reads_of(self, runner: SourceRunner) -> _SourceReads:
        with self._lock:
            return self._reads.setdefault(runner.name, _SourceReads())

    def _fresh(self, key: Hashable) -> _Entry | None:
        """Raises the error that is kept for the key."""
        with self._lock:
            entry = self._entries.get(key)
        if entry is None or time.monotonic() > entry.fresh_until:
            return None
        if entry.error is not None:
            raise type(entry.error)(*entry.error.args) from None
        return entry

    def _read(self, key: Hashable, read: Callable[[], T], runner: SourceRunner, reads: _SourceReads) -> T:
        _give_way(runner, reads)
        began, generation = time.monotonic(), self._generation
        try:
            with reads.connections.slot():
                began = time.monotonic()
                value = read()
        except ReaperError as error:
            took = time.monotonic() - began
            if took >= _SLOW_ERROR_SECONDS:
                self._keep(key, None, error, generation, min(_MOST_FRESH_SECONDS, took))
            raise
        finally:
            ended = time.monotonic()
            reads.rests_until = ended + _REST_SHARE * (ended - began)
        fresh = min(_MOST_FRESH_SECONDS, max(_FRESH_SECONDS, _FRESH_SHARE * (ended - began)))
        self._keep(key, value, None, generation, fresh)
        return value

    def _keep(self, key: Hashable, value: object, error: ReaperError | None, generation: int, seconds: float) -> None:
        with self._lock:
            if generation != self._generation:  # it may have been read before the change
                return
            now = time.monotonic()
            for old in [old for old, entry in self._entries.items() if entry.fresh_until < now]:
                del self._entries[old]
            self._entries[key] = _Entry(now + seconds, value, error)
            self._entries.move_to_end(key)
            while len(self._entries) > _KEPT:  # a report may name hundreds of jobs
                self._entries.popitem(last=False)


def _give_way(runner: SourceRunner, reads: _SourceReads) -> None:
    """Wait while the source is swept, and until it has rested after the last read: not for ever."""
    deadline = time.monotonic() + _GIVE_WAY_SECONDS
    while (now := time.monotonic()) < deadline and (runner.sweeping or now < reads.rests_until):
        time.sleep(0.02)
