"""Dry runs over HTTP: what a sweep, a cleanup or a clearing would end now.

They are reads, and anyone who may read may ask for one: like other reads they share answers, give way to sweeps, keep
no sweep waiting, and no statement of theirs takes long.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from reaper.config import Settings, SourceSettings
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.model import SweepReport, Threshold
from reaper.operations import execution_cleanup
from reaper.operations.execution_cleanup import CleanupResult
from reaper.operations.own_limits import count_own_limits
from reaper.operations.source_errors import prefix_errors
from reaper.source import Source
from reaper.source.factory import with_max_age
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.listeners import NullListener
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep
from reaper.web.read_cache import ReadCache
from reaper.web.source_registry import RegisteredSource, SourceRegistry, with_other_settings
from reaper.web.stuck_jobs import STATEMENT_SECONDS

T = TypeVar("T")

NAMED = 10_000
"""How many of the jobs of a cleanup are named."""


class DryRuns:
    """The dry runs of one daemon's sources. Thread-safe. Each raises NoSuchSource and TooManyReaders."""

    def __init__(self, sources: SourceRegistry, cache: ReadCache) -> None:
        self._sources, self._cache = sources, cache

    def sweep(self, source: str) -> SweepReport:
        """What the next sweep would end."""

        def read(registered: RegisteredSource, own: Source) -> SweepReport:
            return _report(registered, own, _tracker(registered))

        return self._cached(source, "sweep", lambda settings: settings, read)

    def clear(self, source: str, age: Threshold, *, trust_silence: bool = False) -> SweepReport:
        """What a sweep with this timeout would end, whose stall window is no longer."""

        def read(registered: RegisteredSource, own: Source) -> SweepReport:
            asked = with_max_age(self._sources.settings.sources[source], age)
            return self._report_by_age(registered, own, asked, _tracker(registered, trust_silence=trust_silence))

        return self._cached(source, ("clear", age, trust_silence), lambda settings: with_max_age(settings, age), read)

    def cleanup(self, source: str, minutes: int, *, trust_silence: bool = False) -> CleanupResult:
        """What a cleanup would cancel. At most NAMED jobs are named. Raises DatabaseUnavailable and ReaperError."""
        limit = Threshold(minutes * 60.0, "older_than_minutes")

        def read(registered: RegisteredSource, own: Source) -> CleanupResult:
            downtime = _tracker(registered, trust_silence=trust_silence)
            asked = execution_cleanup.settings_for_cleanup(self._sources.settings.sources[source], limit)
            report = self._report_by_age(registered, own, asked, downtime)
            if report.error is not None:
                kind = DatabaseUnavailable if report.database_away else ReaperError
                raise kind(f"source {source}: {report.error}")
            with prefix_errors(own):
                keys = execution_cleanup.stale_keys(own, downtime, NAMED)
            breaker = registered.runner.options.breaker
            return execution_cleanup.cleanup_result(minutes, report, keys, breaker, NAMED)

        return self._cached(
            source,
            ("cleanup", minutes, trust_silence),
            lambda settings: execution_cleanup.settings_for_cleanup(settings, limit),
            read,
        )

    def _report_by_age(
        self, registered: RegisteredSource, own: Source, asked: SourceSettings, downtime: DowntimeTracker
    ) -> SweepReport:
        """A dry run with the age in these settings, and how many jobs it spares for a longer limit of their own."""
        opened = partial(with_other_settings, registered.reading, _with_short_statements(self._sources.settings))
        spared = count_own_limits(own, asked, downtime, opened)
        return replace(_report(registered, own, downtime), own_limits=spared)

    def _cached(
        self,
        source: str,
        key: Hashable,
        changed: Callable[[SourceSettings], SourceSettings],
        read: Callable[[RegisteredSource, Source], T],
    ) -> T:
        registered = self._sources[source]

        def read_now() -> T:
            settings = self._sources.settings
            own_settings = changed(settings.sources[source])
            with with_other_settings(registered.reading, _with_short_statements(settings), own_settings) as own:
                return read(registered, own)

        return self._cache.get((source, "dry run", key), read_now, registered.runner)


def _tracker(registered: RegisteredSource, *, trust_silence: bool = False) -> DowntimeTracker:
    """A copy of what the daemon knows of the database's outages."""
    downtime = registered.runner.downtime
    return downtime.copy_trusting_silence() if trust_silence else downtime.copy()


def _report(registered: RegisteredSource, own: Source, downtime: DowntimeTracker) -> SweepReport:
    options = replace(registered.runner.options, dry_run=True)
    return sweep(own, downtime, SourceState(), options, None, NullListener())


def _with_short_statements(settings: Settings) -> Settings:
    seconds = min(settings.statement_timeout_seconds, STATEMENT_SECONDS)
    return settings.model_copy(update={"statement_timeout_seconds": seconds})
