"""Ctrl-C: at once while nothing is being changed, between two batches while something is."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from reaper.cli.document import say


class Interrupt:
    """While it is open, a first Ctrl-C during changes is a request; any other one is KeyboardInterrupt."""

    def __init__(self) -> None:
        self.patient = False
        self._asked = False

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked or not self.patient:
            raise KeyboardInterrupt
        self._asked = True
        say("Stopping after this batch; once more to stop at once.")
