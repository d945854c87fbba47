"""Looking without being in the way: who looks shares what others saw a moment ago, and gives way to sweeps.

However many people and scripts ask, a source is read by one of them at a time, and not while it is being swept; so a
flood of readers costs the database little more than one of them.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

from reaper.model import ReaperError
from reaper.watch import Watch

T = TypeVar("T")

_FRESH_SECONDS = 2.0
_MOST_FRESH_SECONDS = 15.0
_FRESH_SHARE = 20.0
"""What was dear to see stays fresh for longer: for so many times what it cost, from 2 s to 15 s."""

_REMEMBERED = 8
_WAITING = 6
_GIVE_WAY_SECONDS = 3.0
_REST = 3.0
"""Between two reads, as a share of what the last one took."""


class Crowded(ReaperError):
    """Too many look just now."""


class Glances:
    """What was read lately. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Until when each is fresh, and what was seen.
        self._seen: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._reading: dict[str, threading.Lock] = {}
        self._rested: dict[str, float] = {}
        self._waiting = 0
        self._changes = 0

    def forget(self) -> None:
        """Something has been changed: look anew."""
        with self._lock:
            self._seen.clear()
            self._changes += 1

    def at(self, what: tuple[str | object, ...], read: Callable[[], T], watch: Watch) -> T:
        """What was seen under that name, or what `read` sees now. The watch is that of the source.

        Raises Crowded when too many wait already, and what `read` raises.
        """
        if (seen := self._fresh(what)) is not None:
            return cast(T, seen[0])
        with self._lock:
            reading = self._reading.setdefault(watch.name, threading.Lock())
            if self._waiting >= _WAITING:
                raise Crowded("too many are looking just now; try again in a moment")
            self._waiting += 1
        try:
            with reading:
                if (seen := self._fresh(what)) is not None:  # somebody else has looked meanwhile
                    return cast(T, seen[0])
                return self._read(what, read, watch)
        finally:
            with self._lock:
                self._waiting -= 1

    def _fresh(self, what: Hashable) -> tuple[Any] | None:
        with self._lock:
            found = self._seen.get(what)
        if found is None or time.monotonic() > found[0]:
            return None
        return (found[1],)

    def _read(self, what: Hashable, read: Callable[[], T], watch: Watch) -> T:
        self._give_way(watch)
        begun, changes = time.monotonic(), self._changes
        try:
            value = read()
        finally:
            ended = time.monotonic()
            self._rested[watch.name] = ended + _REST * (ended - begun)
        with self._lock:
            if changes == self._changes:  # else it may have been read before the change
                fresh = min(_MOST_FRESH_SECONDS, max(_FRESH_SECONDS, _FRESH_SHARE * (ended - begun)))
                self._seen[what] = (ended + fresh, value)
                self._seen.move_to_end(what)
                self._drop(ended)
        return value

    def _drop(self, now: float) -> None:
        """What is too old, and of the rest the oldest when it is too much: a report may name hundreds of jobs."""
        for what in [what for what, (until, _) in self._seen.items() if until < now]:
            del self._seen[what]
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _give_way(self, watch: Watch) -> None:
        """To the sweep that works, and to everybody else after the last read: but not for ever."""
        deadline = time.monotonic() + _GIVE_WAY_SECONDS
        while (now := time.monotonic()) < deadline and (watch.sweeping or now < self._rested.get(watch.name, 0.0)):
            time.sleep(0.02)
