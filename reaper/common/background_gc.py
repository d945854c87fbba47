"""Garbage collection in a thread of its own, instead of in the threads that allocate objects.

Delete this module, and its uses, when Python 3.12 is the minimum.

Before Python 3.12 any allocation may start a collection, in the middle of a bytecode instruction. The collection may
run code (a finalizer, the callback of a weak reference), and that code may let another thread run. When two threads
then create the `__dict__` of one object, as two threads do that compile one SQL statement, each makes a dictionary
that owns the same values, and the process dies of a segmentation fault. From 3.12 on, collections run between two
instructions only. Sources: What's New in Python 3.12 (gh-97922, "the Garbage Collector now runs only on the eval
breaker"), `_PyObject_GenericGetDict` of 3.11.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_COLLECTS_WITHIN_INSTRUCTIONS = sys.version_info < (3, 12)
_INTERVAL_SECONDS = 0.2


class _Collector:
    """The collecting thread. It runs while at least one caller needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._stop: threading.Event | None = None

    def begin(self) -> None:
        with self._lock:
            # Where the program has switched collections off itself, they stay off.
            if self._users == 0 and gc.isenabled():
                stop = threading.Event()
                # Before gc.disable(): when no thread can be started, nothing has changed.
                threading.Thread(target=_collect, args=(stop,), name="garbage", daemon=True).start()
                gc.disable()
                self._stop = stop
            self._users += 1

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._stop is not None:
                self._stop.set()
                self._stop = None
                gc.enable()


def _collect(stop: threading.Event) -> None:
    while not stop.wait(_INTERVAL_SECONDS):
        # As the interpreter chooses: the oldest generation that is due, and the younger ones with it.
        due = [count > limit for count, limit in zip(gc.get_count(), gc.get_threshold(), strict=True)]
        if any(due):
            gc.collect(max(generation for generation, is_due in enumerate(due) if is_due))


_collector = _Collector()


@contextmanager
def gc_in_background_thread() -> Iterator[None]:
    """In this block, automatic collections are off and a thread collects instead. From Python 3.12 on: nothing.

    For code that uses SQL statements from several threads. Blocks may be nested, and may overlap between threads.
    """
    if not _COLLECTS_WITHIN_INSTRUCTIONS:
        yield
        return
    _collector.begin()
    try:
        yield
    finally:
        _collector.end()
