"""A state that lasts is logged when it begins, and again at growing intervals."""

from __future__ import annotations

import time
from collections.abc import Callable

FIRST_SECONDS, LONGEST_SECONDS = 60.0, 3600.0


class Reminder:
    """Says when one state is to be logged: at once, then after 1, 2, 4, ... minutes, at last once an hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state: str | None = None
        self._since = self._due_at = self._pause = 0.0

    @property
    def seconds(self) -> float:
        """For how long the state has lasted."""
        return self._clock() - self._since

    def is_due(self, state: str) -> bool:
        """Whether this state is to be logged now: it is another one than before, or its next time has come."""
        now = self._clock()
        if state != self._state:
            self._state, self._since, self._pause = state, now, FIRST_SECONDS
        elif now < self._due_at:
            return False
        else:
            self._pause = min(2 * self._pause, LONGEST_SECONDS)
        self._due_at = now + self._pause
        return True

    def forget(self) -> None:
        """The state is over."""
        self._state = None
