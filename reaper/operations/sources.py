"""Sources for a process that asks once, such as a command or a Celery task; and one question to several sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from reaper.config import Settings, SourceSettings
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.operations.source_errors import prefix_errors
from reaper.source import Source
from reaper.source.factory import create_source
from reaper.staleness.downtime import DowntimeTracker

T = TypeVar("T")


def create_one_off_source(settings: Settings, source_settings: SourceSettings) -> Source:
    """The source, for a process that asks once: of Celery's workers it knows only those that answer now.

    A worker that is being stopped, and still finishes its tasks, no longer answers. Raises ConfigError as
    `create_source` does.
    """
    return create_source(settings, source_settings, absence_seconds=0)


def new_downtime_tracker(settings: Settings) -> DowntimeTracker:
    """A tracker that knows of no outage but the time before the database server's start."""
    return DowntimeTracker(settings.restart_grace_seconds)


@dataclass(frozen=True, slots=True)
class SourceResult(Generic[T]):
    """The answer of one source, or the error that kept it from answering."""

    source: str
    value: T | None
    error: str | None = None
    database_away: bool = False


def for_each_source(
    sources: Sequence[Source], query: Callable[[Source], T], report_error: Callable[[str], None]
) -> list[SourceResult[T]]:
    """Query each source. `report_error` gets the error of each that fails; the others are queried all the same."""
    return [_query_one(source, query, report_error) for source in sources]


def _query_one(source: Source, query: Callable[[Source], T], report_error: Callable[[str], None]) -> SourceResult[T]:
    try:
        with prefix_errors(source):
            return SourceResult(source.name, query(source))
    except ReaperError as error:
        report_error(str(error))
        message = str(error).removeprefix(f"source {source.name}: ")
        return SourceResult(source.name, None, message, isinstance(error, DatabaseUnavailable))
