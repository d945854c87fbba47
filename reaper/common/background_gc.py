"""Has garbage collected where it cannot disturb: between two steps of the interpreter, never within one.

Before Python 3.12, making any object may start a collection, and what is collected may run code (a finalizer, the
callback of a weak reference) that gives another thread its turn in the midst of what ought to be indivisible. Two
threads that then come to the `__dict__` of one object, as two lanes do that compile one statement, each make a
dictionary that owns the same values, and the process dies of a segmentation fault. Sources: What's New in Python
3.12 (gh-97922, "the Garbage Collector now runs only on the eval breaker"), `_PyObject_GenericGetDict` of 3.11.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_DISTURBS = sys.version_info < (3, 12)
_PAUSE_SECONDS = 0.2


class _Collector:
    """A thread that collects, as long as anybody wants it to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._stop: threading.Event | None = None

    def begin(self) -> None:
        with self._lock:
            # Whoever has switched collecting off knows why: then it stays off.
            if self._wanted == 0 and gc.isenabled():
                stop = threading.Event()
                # First of all: where no thread can be had, nothing has changed.
                threading.Thread(target=_collect, args=(stop,), name="garbage", daemon=True).start()
                gc.disable()
                self._stop = stop
            self._wanted += 1

    def end(self) -> None:
        with self._lock:
            self._wanted -= 1
            if self._wanted == 0 and self._stop is not None:
                self._stop.set()
                self._stop = None
                gc.enable()


def _collect(stop: threading.Event) -> None:
    while not stop.wait(_PAUSE_SECONDS):
        # As the interpreter chooses: the oldest generation that is due, and the younger ones with it.
        due = [count > limit for count, limit in zip(gc.get_count(), gc.get_threshold(), strict=True)]
        if any(due):
            gc.collect(max(generation for generation, is_due in enumerate(due) if is_due))


_collector = _Collector()


@contextmanager
def gc_in_background_thread() -> Iterator[None]:
    """While it lasts, a thread of its own collects garbage, where the interpreter would do so in the midst of things.

    To be held wherever threads share statements. Any number may hold it at once.
    """
    if not _DISTURBS:
        yield
        return
    _collector.begin()
    try:
        yield
    finally:
        _collector.end()
