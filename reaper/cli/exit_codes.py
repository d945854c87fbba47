"""What the process says when it ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `reaper --help` imports this module, and must not import the database's libraries
    from reaper.operations.sources import SourceResult

DONE = 0
FAILED = 1
USAGE = 2
STALE = 3
HALTED = 3
AWAY = 75
CONFIGURATION = 78
INTERRUPTED = 130

_WORST_FIRST = (INTERRUPTED, AWAY, FAILED, STALE)


def worst(codes: Iterable[int]) -> int:
    """What counts of several sources: told to stop, then away, failed, stale jobs found."""
    found = set(codes)
    return next((code for code in _WORST_FIRST if code in found), DONE)


def of_result(result: SourceResult[Any]) -> int:
    """The exit status for what one source answered."""
    if result.error is None:
        return DONE
    return AWAY if result.database_away else FAILED
