"""Looking without being in the way: who looks shares what others saw a moment ago, and gives way to sweeps.

However many people and scripts ask, a source is read by one of them at a time, and not while it is being swept; so a
flood of readers costs the database little more than one of them. Nobody waits for long behind one who gets no answer.
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
from reaper.web.limiter import Limiter

T = TypeVar("T")

_FRESH_SECONDS = 2.0
_MOST_FRESH_SECONDS = 15.0
_FRESH_SHARE = 20.0
"""What was dear to see stays fresh for longer: for so many times what it cost, from 2 s to 15 s."""

CONNECTIONS = 2
"""How many connections to a source readers have at most."""

_REMEMBERED = 8
_WAITING = 6
_PATIENCE_SECONDS = 3.0
_GIVE_WAY_SECONDS = 3.0
_REST = 3.0
"""Between two reads, as a share of what the last one took."""

_DEAR_SECONDS = 1.0
"""A refusal that took so long to come is told again for as long: a source that hangs is not asked by one after the
other.
"""


@dataclass(slots=True)
class _Place:
    """One source. Who reads for others does so alone, and gives way to a sweep before."""

    reading: Limiter = field(default_factory=lambda: Limiter(1, _WAITING, _GIVE_WAY_SECONDS + _PATIENCE_SECONDS))
    connections: Limiter = field(default_factory=lambda: Limiter(CONNECTIONS, 100, _PATIENCE_SECONDS))
    rested: float = 0.0


@dataclass(frozen=True, slots=True)
class _Refusal:
    error: ReaperError


class ReadCache:
    """What was read lately. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Until when each is fresh, and what was seen.
        self._seen: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._places: dict[str, _Place] = {}
        self._changes = 0

    def forget(self) -> None:
        """Something has been changed: look anew."""
        with self._lock:
            self._seen.clear()
            self._changes += 1

    @contextmanager
    def anew(self) -> Iterator[None]:
        """Something is changed in this block: what was seen before does not count after it."""
        try:
            yield
        finally:
            self.forget()

    def get(self, what: tuple[str | object, ...], read: Callable[[], T], runner: SourceRunner) -> T:
        """What was seen under that name, or what `read` sees now. The watch is that of the source.

        Raises Crowded when too many wait already, or one has waited too long; and what `read` raises.
        """
        if (seen := self._fresh(what)) is not None:
            return cast(T, seen[0])
        place = self._place(runner)
        with place.reading.place():
            if (seen := self._fresh(what)) is not None:  # somebody else has looked meanwhile
                return cast(T, seen[0])
            return self._read(what, read, runner, place)

    @contextmanager
    def connected(self, runner: SourceRunner) -> Iterator[None]:
        """A connection to the source may be made in this block. Raises Crowded."""
        with self._place(runner).connections.place():
            yield

    def _place(self, runner: SourceRunner) -> _Place:
        with self._lock:
            return self._places.setdefault(runner.name, _Place())

    def _fresh(self, what: Hashable) -> tuple[Any] | None:
        """Raises what the source has refused with."""
        with self._lock:
            found = self._seen.get(what)
        if found is None or time.monotonic() > found[0]:
            return None
        if isinstance(found[1], _Refusal):
            error = found[1].error
            raise type(error)(*error.args) from None
        return (found[1],)

    def _read(self, what: Hashable, read: Callable[[], T], runner: SourceRunner, place: _Place) -> T:
        self._give_way(runner, place)
        begun, changes = time.monotonic(), self._changes
        try:
            with place.connections.place():
                begun = time.monotonic()
                value = read()
        except ReaperError as error:
            took = time.monotonic() - begun
            if took >= _DEAR_SECONDS:
                self._remember(what, _Refusal(error), changes, min(_MOST_FRESH_SECONDS, took))
            raise
        finally:
            ended = time.monotonic()
            place.rested = ended + _REST * (ended - begun)
        fresh = min(_MOST_FRESH_SECONDS, max(_FRESH_SECONDS, _FRESH_SHARE * (ended - begun)))
        self._remember(what, value, changes, fresh)
        return value

    def _remember(self, what: Hashable, value: object, changes: int, seconds: float) -> None:
        with self._lock:
            if changes == self._changes:  # else it may have been read before the change
                now = time.monotonic()
                self._seen[what] = (now + seconds, value)
                self._seen.move_to_end(what)
                self._drop(now)

    def _drop(self, now: float) -> None:
        """What is too old, and of the rest the oldest when it is too much: a report may name hundreds of jobs."""
        for what in [what for what, (until, _) in self._seen.items() if until < now]:
            del self._seen[what]
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _give_way(self, runner: SourceRunner, place: _Place) -> None:
        """To the sweep that works, and to everybody else after the last read: but not for ever."""
        deadline = time.monotonic() + _GIVE_WAY_SECONDS
        while (now := time.monotonic()) < deadline and (runner.sweeping or now < place.rested):
            time.sleep(0.02)
