"""Ctrl-C: at once while nothing is being changed, between two batches while something is."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

from reaper.cli import exit_codes

_SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it


class Interrupt:
    """While it is open: KeyboardInterrupt before changes; during changes a request first, the process's end second."""

    def __init__(self, *, changes: bool) -> None:
        self._changes = changes
        self._changing = False
        self._asked = False

    def surveying(self) -> None:
        """A sweep begins: nothing is changed yet."""
        self._changing = False

    def surveyed(self) -> None:
        """From now on there may be a batch in hand."""
        self._changing = self._changes

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self._changing:
            raise KeyboardInterrupt
        if self._asked:
            # A batch hangs in the database. The server rolls it back when we are gone.
            os.write(2, _SHOW_CURSOR if os.isatty(2) else b"")
            os._exit(exit_codes.INTERRUPTED)
        self._asked = True
        # Not through a stream, which may be in the middle of a line.
        os.write(2, b"Stopping after this batch; once more to stop at once.\n")
