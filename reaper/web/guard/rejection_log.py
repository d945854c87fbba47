"""What is refused again and again is told in one line every ten seconds."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

_WINDOW_SECONDS = 10.0
_PATH_LENGTH = 200


class RejectionLog:
    """A log of refused requests that a flood cannot fill. Lives in one event loop."""

    def __init__(self, logger: Any = None) -> None:
        self._log = logger or structlog.get_logger("reaper")
        self._window: asyncio.TimerHandle | None = None
        self._count = 0
        self._last: dict[str, Any] = {}

    def refused(self, status: int, remote: str, method: str, path: str, who: str | None = None) -> None:
        """Tell of the first at once, and of those in the ten seconds after it together.

        `who`: whose token it bore. Somebody asks with it from where he should not, or has lost it.
        """
        self._count += 1
        self._last = {"status": status, "remote": remote, "method": method[:20], "path": path[:_PATH_LENGTH]}
        if who is not None:
            self._last["who"] = who
        if self._window is None:
            self._tell()

    def _tell(self) -> None:
        self._window = None
        if self._count:
            self._log.warning("Reaper refused a request.", **self._last, attempts=self._count)
            self._count = 0
            self._window = asyncio.get_running_loop().call_later(_WINDOW_SECONDS, self._tell)
