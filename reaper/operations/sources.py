"""Sources for a process that asks once, such as a command or a Celery task; and one question to several sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from reaper.config import Settings, SourceSettings
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.memory import kept_contacts, process_stores
from reaper.operations.source_errors import prefix_errors
from reaper.profile.related_tables import liveness_tables
from reaper.source import Source, SpellingDecision
from reaper.source.factory import SourceStores, create_source
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.reap_moments import bare_table, silent_tables
from reaper.sweep.contact_recorder import resume_downtime

T = TypeVar("T")


def create_one_off_source(
    settings: Settings,
    source_settings: SourceSettings,
    stores: SourceStores | None = None,
    decision: SpellingDecision | None = None,
) -> Source:
    """The source, for a process that asks once: of Celery's workers it knows only those that answer now.

    A worker that is being stopped, and still finishes its tasks, no longer answers. Sources that are to know what the
    others end share their `stores`. `decision` and ConfigError as with `create_source`.
    """
    shared = stores or process_stores(settings.state_dir)
    return create_source(settings, source_settings, absence_seconds=0, stores=shared, decision=decision)


def create_one_off_sources(settings: Settings, selected: Iterable[SourceSettings]) -> list[Source]:
    """The sources, each of which knows what the others end."""
    shared = process_stores(settings.state_dir)
    return [create_one_off_source(settings, one, shared) for one in selected]


def in_order_of_ending(sources: Sequence[Source]) -> list[Source]:
    """The sources, so that one whose jobs wait for rows of another one comes after that one."""
    waiting, ordered = list(sources), list[Source]()
    while waiting:
        tables = {source.name: bare_table(source.profile.jobs.table) for source in waiting}
        free = (s for s in waiting if not _awaited(s) & {tables[o.name] for o in waiting if o is not s})
        waiting.remove(first := next(free, waiting[0]))
        ordered.append(first)
    return ordered


def waits_for(source: Source, sources: Sequence[Source]) -> list[str]:
    """The other sources whose jobs are no sign of life for those of this one as soon as the reaper has ended them."""
    tables = set(silent_tables(source.profile).values())
    return [other.name for other in sources if other is not source and bare_table(other.profile.jobs.table) in tables]


def _awaited(source: Source) -> set[str]:
    """The tables of other jobs that its jobs wait for."""
    return {bare_table(table) for table in liveness_tables(source.profile)} - {bare_table(source.profile.jobs.table)}


def new_downtime_tracker(settings: Settings) -> DowntimeTracker:
    """A tracker that knows what the daemon on this host has noted in its state directory, up to its last contact.

    Without a state directory it knows of no outage but the time before the database server's start.
    """
    tracker = DowntimeTracker(settings.restart_grace_seconds)
    if settings.state_dir is not None:
        tracker.before_first_contact = partial(resume_downtime, kept_contacts(settings.state_dir))
    return tracker


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
