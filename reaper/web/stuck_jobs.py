"""How much is stuck in all sources, for /health/scheduler: stale jobs, orphaned tasks, and what is not known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from reaper.errors import ReaperError
from reaper.liveness import LivenessReport
from reaper.model import Threshold
from reaper.observers.history import History
from reaper.operations.orphaned_tasks import CONFIRM_SECONDS, Orphan, orphans_of_all
from reaper.operations.report import DEFAULT_LIMIT, Report, Totals, overdue_jobs, totals_of
from reaper.operations.source_errors import prefix_errors
from reaper.source import Source
from reaper.source.factory import on_same_broker, with_max_age
from reaper.web.read_cache import ReadCache
from reaper.web.source_registry import RegisteredSource, SourceRegistry, with_other_settings

STATEMENT_SECONDS = 10.0
"""How long a statement of a reader may take."""

VULS_HOURS = 1.0
"""The age at which vuls' own health check takes a job for stuck."""


@dataclass(frozen=True, slots=True)
class StuckJobs:
    """By source: the report, None where it could not be read, and then the error; and why not all is known.

    `orphans` are tasks that Celery's workers executed at the last sweep, and that no source has a row for.
    """

    totals: Totals
    reports: Mapping[str, Report | None]
    errors: Mapping[str, str]
    unknown: Mapping[str, str]
    orphans: Sequence[Orphan]


class StuckJobsReader:
    """Reads them from the databases. Celery's workers are not asked: what they said to the last sweep counts."""

    def __init__(self, registry: SourceRegistry, cache: ReadCache, history: History) -> None:
        self._registry, self._cache, self._history = registry, cache, history

    def read(self, max_age_hours: float | None) -> StuckJobs:
        """A job is stuck when it is older than these hours, and silent for as long or for its stall window.

        None: VULS_HOURS for the sources of vuls, the configured thresholds for the others.
        """
        reports, errors, unknown = dict[str, Report | None](), dict[str, str](), dict[str, str]()
        for name in self._registry:
            try:
                report = reports[name] = self._report(name, max_age_hours)
                if (why := self._why_unknown(name, report)) is not None:
                    unknown[name] = why
            except ReaperError as error:
                reports[name], errors[name] = None, str(error)
        orphans = self._orphans(unknown)
        totals = totals_of(reports)
        totals = replace(
            totals,
            total_stuck_jobs=totals.total_stuck_jobs + len(orphans),
            orphaned_tasks=len(orphans),
            unknown=[name for name in reports if name in errors or name in unknown],
        )
        return StuckJobs(totals, reports, errors, unknown, orphans)

    def _report(self, name: str, max_age_hours: float | None) -> Report:
        registered, settings = self._registry[name], self._registry.settings.sources[name]
        hours = VULS_HOURS if max_age_hours is None and settings.profile.is_vuls else max_age_hours

        def read() -> Report:
            with prefix_errors(registered.reading), self._source(registered, hours) as source:
                downtime = registered.runner.downtime.copy()
                return overdue_jobs(source, downtime, DEFAULT_LIMIT, at_most=STATEMENT_SECONDS)

        return self._cache.get((name, ("stuck", hours)), read, registered.runner)

    def _source(self, registered: RegisteredSource, hours: float | None) -> AbstractContextManager[Source]:
        """The source with this age as its timeout; None: as it is configured."""
        if hours is None:
            return nullcontext(registered.reading)
        settings, limit = self._registry.settings, Threshold(hours * 3600, "max_age_hours")
        own = with_max_age(settings.sources[registered.runner.name], limit)
        return with_other_settings(registered.reading, settings, own)

    def _why_unknown(self, name: str, report: Report) -> str | None:
        """Why jobs of this source may be stuck that are not counted; None when all is known."""
        if self._history.last(name) is None:
            return "no sweep has ended yet"
        if report.liveness is None:
            return None
        if report.liveness.trouble is not None:
            return report.liveness.trouble
        unknown = next((job.unknown for job in report.jobs if job.unknown is not None), None)
        # The jobs beyond those that are listed may be unknown as well.
        return unknown or (next(iter(report.liveness.unreliable.values()), None) if report.more else None)

    # --- orphans -------------------------------------------------------------------------------------------------

    def _orphans(self, unknown: dict[str, str]) -> Sequence[Orphan]:
        """The orphans of every broker. Why those of a source are not known is added to `unknown`."""
        by_task = dict[str, Orphan]()
        for names in self._brokers():
            registered = self._registry[names[0]]
            liveness = registered.runner.liveness
            if liveness is None or liveness.trouble is not None or set(names) & unknown.keys():
                continue
            try:
                orphans = self._orphans_of(registered, names, liveness)
            except ReaperError as error:
                unknown[names[0]] = f"whether tasks are orphans is not known: {error}"
                continue
            if orphans and registered.runner.liveness_seconds_ago < CONFIRM_SECONDS:
                # A task may be sent a moment before its row is committed.
                unknown[names[0]] = "tasks without a row have been seen just now: they may get one"
            else:
                by_task |= {orphan.id: orphan for orphan in orphans}
        return list(by_task.values())

    def _brokers(self) -> Iterator[Sequence[str]]:
        """The names of the sources that share a broker."""
        seen = set[str]()
        for name in self._registry:
            if name in seen or self._registry[name].reading.options.probe is None:
                continue
            names = [name, *(o.name for o in on_same_broker(self._registry.settings, name) if o.name != name)]
            seen.update(names)
            yield names

    def _orphans_of(
        self, registered: RegisteredSource, names: Sequence[str], liveness: LivenessReport
    ) -> Sequence[Orphan]:
        def read() -> Sequence[Orphan]:
            sources = [self._registry[name].reading for name in names]
            with prefix_errors(registered.reading):
                return orphans_of_all(sources, liveness, registered.runner.downtime.copy)

        return self._cache.get((names[0], "orphans"), read, registered.runner)
