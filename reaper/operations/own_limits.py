"""How many jobs an age that was asked for does not reach, because their kind or their row has a longer limit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import replace

from sqlalchemy.exc import DBAPIError

from reaper.config import Settings, SourceSettings
from reaper.errors import ReaperError
from reaper.operations.sources import create_one_off_source
from reaper.source import Source
from reaper.source.factory import without_own_limits
from reaper.staleness.downtime import DowntimeTracker


def count_own_limits(
    source: Source,
    settings: SourceSettings,
    downtime: DowntimeTracker,
    opened: Callable[[SourceSettings], AbstractContextManager[Source]],
) -> int:
    """Jobs that would be stale now if no kind and no row had a longer limit than `settings` give to all others.

    `opened` makes a source of other settings. Asks nothing where no limit is longer. 0 where the database cannot be
    asked: the sweep that follows says why.
    """
    if (flat := without_own_limits(settings)) is None:
        return 0
    try:
        with opened(flat) as without:
            return max(0, _count_stale(without, source, downtime) - _count_stale(source, source, downtime))
    except (ReaperError, DBAPIError):
        return 0


def count_for_command(
    settings: Settings, source: Source, asked: SourceSettings | None, downtime: DowntimeTracker
) -> int:
    """The same for a process that asks once. `asked`: the source's settings with the age; None: none was asked for."""

    def opened(own: SourceSettings) -> AbstractContextManager[Source]:
        return closing(create_one_off_source(settings, own, decision=source.decision))

    return 0 if asked is None else count_own_limits(source, asked, downtime, opened)


def _count_stale(counted: Source, asked: Source, downtime: DowntimeTracker) -> int:
    """By the thresholds of `counted`, and by what the witness of `asked` says."""
    with counted.connect() as connection:
        context = counted.begin_evaluation(connection, downtime)
        context = replace(context, liveness=asked.ask_probe(context).liveness)
        with counted.transaction(connection, read_only=True):
            return counted.survey.count_stale(connection, context)
