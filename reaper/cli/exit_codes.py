"""Exit statuses of the commands: each has one meaning, for `reaper` and for the scripts of this project alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `reaper --help` imports this module, and must not import database libraries
    from reaper.operations.sources import SourceResult

DONE = 0
FAILED = 1
USAGE = 2
ATTENTION = 3
AWAY = 75
CONFIGURATION = 78
INTERRUPTED = 130

MEANINGS: Mapping[int, str] = {
    DONE: "done",
    FAILED: "failed",
    USAGE: "the command line is wrong",
    ATTENTION: "the question was answered, and what was asked about needs attention",
    AWAY: "a database or the daemon cannot be reached; the same command may work later",
    CONFIGURATION: "the configuration is wrong",
    129: "ended by SIGHUP",
    INTERRUPTED: "interrupted: Ctrl-C, or SIGINT",
    143: "ended by SIGTERM",
}

_WORST_FIRST = (INTERRUPTED, AWAY, FAILED, ATTENTION)


def worst(codes: Iterable[int]) -> int:
    """The status of a command for several sources: the first of interrupted, away, failed, attention, done."""
    given = set(codes)
    return next((code for code in _WORST_FIRST if code in given), DONE)


def of_result(result: SourceResult[Any]) -> int:
    """The status for the result of one source."""
    if result.error is None:
        return DONE
    return AWAY if result.database_away else FAILED
