"""Waiting for what other processes and threads do: always for a condition, always with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

DEADLINE_SECONDS = 30.0
"""Until when something that should happen must have happened."""

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T | None],
    what: str | Callable[[], str],
    seconds: float = DEADLINE_SECONDS,
    *,
    interval_seconds: float = 0.05,
) -> T:
    """Ask again and again, and return the first answer that is true.

    Args:
        condition: Is asked once at least; may have side effects.
        what: The condition in words, for the message of the failure; a function is called only then.

    Raises:
        AssertionError: The condition was not true within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        if answer := condition():
            return answer
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what if isinstance(what, str) else what()}"
        time.sleep(interval_seconds)


def stays_true(condition: Callable[[], bool], what: str, seconds: float, *, interval_seconds: float = 0.1) -> None:
    """Ask again and again for so long; each answer must be true.

    Raises:
        AssertionError: The condition was false once.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), f"no longer true: {what}"
        time.sleep(interval_seconds)
