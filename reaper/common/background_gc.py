"""Collects garbage in a thread of its own, never in the middle of another thread's operation. For Python 3.11 only.

Before Python 3.12, creating any object may start a collection, and a collection may run code (a finalizer, the callback
of a weak reference) that lets another thread run in the middle of an operation that ought to be atomic. Two threads
that then read the `__dict__` of one object, such as a statement that two sweeps compile, each create a dictionary that
owns the same values, and the process dies of a segmentation fault. Sources: What's New in Python 3.12 (gh-97922, "the
Garbage Collector now runs only on the eval breaker"), `_PyObject_GenericGetDict` of 3.11. To be removed when 3.12 is
the minimum.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NEEDED = sys.version_info < (3, 12)
_PAUSE_SECONDS = 0.2


class _Collector:
    """Runs the collecting thread while at least one user needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._stop: threading.Event | None = None

    def begin(self) -> None:
        with self._lock:
            # Where the program has disabled collecting for its own reasons, it stays disabled.
            if self._users == 0 and gc.isenabled():
                stop = threading.Event()
                # The thread comes first: if it cannot be started, nothing has changed.
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
    while not stop.wait(_PAUSE_SECONDS):
        # As the interpreter does: the oldest generation that is due, and the younger ones with it.
        due = [count > limit for count, limit in zip(gc.get_count(), gc.get_threshold(), strict=True)]
        if any(due):
            gc.collect(max(generation for generation, is_due in enumerate(due) if is_due))


_collector = _Collector()


@contextmanager
def gc_in_background_thread() -> Iterator[None]:
    """Within the context, a thread collects garbage in place of the interpreter. Does nothing from Python 3.12 on.

    Needed wherever threads share SQLAlchemy statements. Contexts may overlap, in one thread or several.
    """
    if not _NEEDED:
        yield
        return
    _collector.begin()
    try:
        yield
    finally:
        _collector.end()
