"""Sources for a process that asks once (a command, a Celery task), and asking several, each alone in its trouble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from reaper.common.terminal import say
from reaper.config import Settings, SourceSettings
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.operations.source_errors import prefix_errors
from reaper.source import Source
from reaper.source.factory import create_source
from reaper.staleness.downtime import DowntimeTracker

T = TypeVar("T")


def create_one_off_source(settings: Settings, found: SourceSettings) -> Source:
    """The source, for a process that asks once: of workers it knows only those that answer it now.

    One that is being stopped, and still finishes what it executes, does not answer any more.
    """
    return create_source(settings, found, absence_seconds=0)


def new_downtime_tracker(settings: Settings) -> DowntimeTracker:
    return DowntimeTracker(settings.restart_grace_seconds)


@dataclass(frozen=True, slots=True)
class SourceResult(Generic[T]):
    """What one source said, or what kept it from saying anything."""

    source: str
    value: T | None
    error: str | None = None
    database_away: bool = False


def for_each_source(sources: Sequence[Source], ask: Callable[[Source], T]) -> list[SourceResult[T]]:
    """Every source's answer. One in trouble is told on stderr, and the others are asked all the same."""
    return [_query_one(source, ask) for source in sources]


def _query_one(source: Source, ask: Callable[[Source], T]) -> SourceResult[T]:
    try:
        with prefix_errors(source):
            return SourceResult(source.name, ask(source))
    except ReaperError as error:
        say(f"reaper: {error}")
        said = str(error).removeprefix(f"source {source.name}: ")
        return SourceResult(source.name, None, said, isinstance(error, DatabaseUnavailable))
