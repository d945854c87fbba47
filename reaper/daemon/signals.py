"""The signals that the daemon handles."""

from __future__ import annotations

import signal
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType


class Signals:
    """Signals to the process: SIGTERM and SIGINT set `stop`, SIGHUP requests a reload."""

    def __init__(self) -> None:
        self.stop = False
        self._reload = False
        # A handler may interrupt the main thread inside `wait`. With a threading.Event it would then wait for a lock
        # that this thread holds. SimpleQueue is reentrant.
        self._received: SimpleQueue[int] = SimpleQueue()
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)

    def wait(self, seconds: float) -> None:
        """Wait for a signal, at most `seconds`."""
        with suppress(Empty):
            self._received.get(timeout=seconds)

    def take_reload(self) -> bool:
        """Whether a reload was requested since the last call."""
        if not self._reload:
            return False
        self._reload = False
        return True

    def _on_stop(self, number: int, _frame: FrameType | None) -> None:
        self.stop = True
        self._received.put(number)

    def _on_reload(self, number: int, _frame: FrameType | None) -> None:
        self._reload = True
        self._received.put(number)
