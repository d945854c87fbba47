"""Exit statuses of the commands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `reaper --help` imports this module, and must not import database libraries
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
    """The status of a command for several sources: the first of interrupted, away, failed, stale, done."""
    given = set(codes)
    return next((code for code in _WORST_FIRST if code in given), DONE)


def of_result(result: SourceResult[Any]) -> int:
    """The status for the result of one source."""
    if result.error is None:
        return DONE
    return AWAY if result.database_away else FAILED
