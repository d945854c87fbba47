"""Ctrl-C in commands that change data: stop at once while only reading, between two batches while changing."""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

from reaper.cli import exit_codes

_SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it


class InterruptHandler:
    """Handles SIGINT in its `with` block.

    While only reading, SIGINT raises KeyboardInterrupt. While changing, the first SIGINT sets `requested`, and the
    second ends the process.
    """

    def __init__(self, *, changes: bool) -> None:
        self._changes = changes
        self._changing = False
        self._requested = False

    def begin_reading(self) -> None:
        """From now on nothing is changed."""
        self._changing = False

    def begin_changing(self) -> None:
        """From now on a batch may be running; has no effect in a dry run."""
        self._changing = self._changes

    def requested(self) -> bool:
        """Whether to stop before the next batch."""
        return self._requested

    def __enter__(self) -> InterruptHandler:
        self._before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if not self._changing:
            raise KeyboardInterrupt
        if self._requested:
            # A batch hangs in the database. The server rolls it back when this process has ended.
            os.write(2, _SHOW_CURSOR if os.isatty(2) else b"")
            os._exit(exit_codes.INTERRUPTED)
        self._requested = True
        # Not sys.stderr: the handler may have interrupted a write to it.
        os.write(2, b"Stopping after this batch; press Ctrl-C again to stop at once.\n")
