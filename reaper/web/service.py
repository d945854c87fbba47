"""What a running daemon shows and does over HTTP, for the API and the page alike.

Jobs are judged with the daemon's record of outages, which a command beside it does not have. Each source is read over
connections of its own, and with a copy of that record, so that no reader delays a sweep.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from reaper.config import Settings
from reaper.memory import CommandReap, HaltRecord, JobHoldStore, Memory, ReapCount
from reaper.model import AuditRecord, JobCounts, JobHold, Key, Outcome, SweepReport
from reaper.observers.history import History
from reaper.observers.status import Status
from reaper.operations import explain as explain_operation
from reaper.operations import report as report_operation
from reaper.operations.guards import describe_halt
from reaper.operations.hold import holds_in_force
from reaper.operations.report import Report, ReportQuery
from reaper.operations.source_errors import prefix_errors
from reaper.scheduling.scheduler import State, Supervisor
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.sweep.reasons_not_ended import SourceGuards, decisions, held_by
from reaper.sweep.summary import sweep_summary
from reaper.web.actions import AdminActions
from reaper.web.read_cache import ReadCache
from reaper.web.source_registry import SourceRegistry
from reaper.web.stuck_jobs import STATEMENT_SECONDS, StuckJobs, StuckJobsReader

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """The state of a source. `next_seconds`: until its next sweep, not positive when it is due, None without one.

    `unavailable_reason`: why the last sweep did not reach its database, or that none has ended; None when it did.
    """

    name: str
    profile: str
    problems: Sequence[str]
    report: SweepReport | None
    sweeping: bool
    next_seconds: float | None
    succeeded_seconds_ago: float | None
    unavailable_reason: str | None


class Auditor(Protocol):
    """Records every request that was to change something, whatever its result."""

    def changed(self, change: AuditRecord) -> None: ...


class ReapCounter(Protocol):
    """Counts the jobs that commands and Celery tasks have ended beside the daemon."""

    def reaped_elsewhere(self, counts: Iterable[ReapCount]) -> None: ...


class AdminService:
    """One daemon's. Thread-safe."""

    def __init__(
        self,
        supervisor: Supervisor,
        status: Status,
        history: History,
        auditors: Sequence[Auditor] = (),
        holds: JobHoldStore | None = None,
    ) -> None:
        """The history is an auditor too. `holds` is what the sources ask."""
        self._holds = holds or Memory.open(None).holds
        self.supervisor, self.status, self.history = supervisor, status, history
        self._auditors = (history, *auditors)
        self.metrics: ReapCounter | None = None
        """Where jobs are counted that were ended beside the daemon."""
        self.registry, self._cache = SourceRegistry(), ReadCache()
        self.actions = AdminActions(supervisor, history, self.registry, self._cache, self._holds)
        self._stuck_jobs = StuckJobsReader(self.registry, self._cache, history)
        self.host = socket.gethostname()

    def configure(self, settings: Settings) -> None:
        """Put these settings into force; the supervisor's runners name the sources."""
        self._cache.clear()
        self.registry.replace(settings, self.supervisor.runners)

    @property
    def settings(self) -> Settings:
        return self.registry.settings

    @property
    def sources(self) -> Sequence[str]:
        return tuple(self.registry)

    def source_status(self, source: str) -> SourceStatus:
        """Raises NoSuchSource."""
        registered = self.registry[source]
        state, report = self.supervisor.state, self.history.last(source)
        return SourceStatus(
            name=source,
            profile=registered.reading.profile.name,
            problems=self.status.problems().get(source, ()),
            report=report,
            sweeping=registered.runner.sweeping,
            next_seconds=-registered.runner.overdue_seconds if state in (State.RUNNING, State.HALTED) else None,
            succeeded_seconds_ago=self.history.succeeded_seconds_ago(source),
            unavailable_reason=_unavailable_reason(report),
        )

    def jobs(self, source: str, query: ReportQuery) -> Report:
        """The running jobs of one source, from the read cache when they were read a moment ago.

        Raises NoSuchSource, TooManyReaders, DatabaseUnavailable, and ReaperError when the database refuses.
        """
        return self._cached(
            source,
            query,
            lambda own, downtime: report_operation.report(own, downtime, query, at_most=STATEMENT_SECONDS),
        )

    def kinds(self, source: str) -> Sequence[tuple[str | None, int]]:
        """How many jobs of each kind run, most first. Raises as `jobs` does."""
        return self._cached(
            source, "kinds", lambda own, _downtime: report_operation.kinds(own, at_most=STATEMENT_SECONDS)
        )

    def overdue(self, source: str, limit: int) -> Report:
        """The jobs past their timeout, stale and spared, oldest first. Raises as `jobs` does."""
        return self._cached(
            source,
            ("overdue", limit),
            lambda own, downtime: report_operation.overdue_jobs(own, downtime, limit, at_most=STATEMENT_SECONDS),
        )

    def _cached(self, source: str, key: Hashable, read: Callable[[Source, DowntimeTracker], T]) -> T:
        registered = self.registry[source]

        def read_now() -> T:
            with prefix_errors(registered.reading):
                return read(registered.reading, registered.runner.downtime.copy())

        return self._cache.get((source, key), read_now, registered.runner)

    def explain(self, source: str, job: str) -> explain_operation.Explanation:
        """One job, running or not. Raises NoSuchJob, and as `jobs` does."""
        registered = self.registry[source]
        with self._cache.connection_slot(registered.runner), prefix_errors(registered.reading):
            downtime = registered.runner.downtime.copy()
            return explain_operation.explain(registered.reading, downtime, job, at_most=STATEMENT_SECONDS)

    def stuck_jobs(self, max_age_hours: float | None = None) -> StuckJobs:
        """How much is stuck in all sources: see `StuckJobsReader.read`."""
        return self._stuck_jobs.read(max_age_hours)

    def guards(self, source: str, report: Report | None = None) -> SourceGuards:
        """What keeps this daemon from ending stale jobs of a source; `report` is what was just read of it.

        Raises NoSuchSource.
        """
        runner = self.registry[source].runner
        guards = source_guards(
            self.source_status(source),
            self.supervisor.state,
            self.supervisor.halt_switch.current,
            held_by(runner.options.breaker, self.history.held(source) or self.census(source, report)),
            runner.refusal,
            ends_start_lost=self.settings.sources[source].start_lost == "end",
        )
        return guards.with_decisions_of(self.decisions(source, report))

    def decisions(self, source: str, report: Report | None) -> SourceGuards:
        """The holds, the quiet time and the cap of a source. Raises NoSuchSource."""
        return decisions(self.registry[source].runner.source, self.census(source, report))

    def census(self, source: str, report: Report | None) -> JobCounts | None:
        """The newest counts of a source; None before the first. Raises NoSuchSource.

        Those of the stale jobs that the database refuses to end are counted apart: they do not open the breaker.
        """
        runner = self.registry[source].runner
        if report is None:
            return self.history.counted(source)
        return replace(report.census, refused=min(report.census.stale, runner.refused))

    def held(self, source: str) -> JobCounts | None:
        """What the breaker holds, as the last sweep counted it; None when it is closed. Raises NoSuchSource."""
        return self.history.held(self.registry[source].runner.name)

    def holds(self) -> Sequence[JobHold]:
        """The holds in force. Raises StateUnavailable."""
        return holds_in_force([self.registry[name].reading for name in self.registry], self._holds)

    def sweep_summary(self, report: SweepReport) -> list[str]:
        """The result of a sweep of one of these sources in words, line by line."""
        return list(sweep_summary(report, self.breaker(report.source), 0))

    def action_names(self, source: str) -> Sequence[str]:
        """The actions by which a running job can be ended. Raises NoSuchSource."""
        return self.registry[source].reading.profile.action_names

    def is_log(self, source: str) -> bool:
        """Whether its jobs exist only as a log of events. Raises NoSuchSource."""
        return self.registry[source].reading.profile.jobs.log is not None

    def breaker(self, source: str) -> Breaker:
        """Raises NoSuchSource."""
        return self.registry[source].runner.options.breaker

    def ended_elsewhere(self, counts: Sequence[ReapCount], jobs: Sequence[CommandReap]) -> None:
        """Count jobs that were ended beside the daemon, and show the last of them."""
        if self.metrics is not None:
            self.metrics.reaped_elsewhere(counts)
        self.history.reaped_elsewhere(jobs)

    def record(self, change: AuditRecord) -> None:
        """Audit a request that was to change something."""
        for auditor in self._auditors:
            auditor.changed(change)


def source_guards(
    status: SourceStatus,
    state: State | None,
    halted: HaltRecord | None,
    breaker: str | None,
    refusal: Callable[[Key], str | None],
    *,
    ends_start_lost: bool,
) -> SourceGuards:
    """What keeps a daemon in this state from ending stale jobs of a source. `breaker` says why that holds it."""
    standby = status.report is not None and status.report.outcome is Outcome.STANDBY
    unscheduled = None
    if state is State.FINISHED:
        unscheduled = "not swept: the schedule has ended; restart it"
    elif status.next_seconds is None and not status.sweeping:
        unscheduled = "not swept: there is no schedule yet"
    return SourceGuards(
        unscheduled=unscheduled,
        # A halt does not reach the replica that sweeps instead.
        halted=None if halted is None or standby else describe_halt(halted),
        breaker=breaker,
        standby=standby,
        refusal=refusal,
        ends_start_lost=ends_start_lost,
    )


def _unavailable_reason(last: SweepReport | None) -> str | None:
    if last is None:
        return "no sweep has ended yet"
    return last.error or "the database is away" if last.database_away else None
