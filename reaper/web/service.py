"""What people ask of a running daemon: for the API and the page alike.

What is read here is judged with what the daemon has heard: it knows of outages that a command beside it does not. Each
source is read through connections of the desk's own, with a copy of the hearing, so that nobody who looks stands in
the way of a sweep.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from reaper.config import Settings
from reaper.errors import ReaperError
from reaper.model import AuditRecord, JobCounts, SweepReport
from reaper.observers.history import History
from reaper.observers.status import Status
from reaper.operations import explain as explaining
from reaper.operations import report as looking
from reaper.operations.report import Totals, totals_of
from reaper.operations.source_errors import prefix_errors
from reaper.scheduling.scheduler import State, Supervisor
from reaper.sweep import summary as account
from reaper.sweep.breaker import Breaker
from reaper.web.actions import AdminActions
from reaper.web.read_cache import ReadCache
from reaper.web.sources import SourceRegistry

_LOOK_SECONDS = 10.0
"""How long a statement may take for somebody who looks: what a source does not tell by then, it does not tell."""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source stands. `next_seconds`: until its next sweep, not positive when it is due; None when none comes."""

    name: str
    profile: str
    problems: Sequence[str]
    report: SweepReport | None
    sweeping: bool
    next_seconds: float | None
    succeeded_seconds_ago: float | None


class Auditor(Protocol):
    """Told of what somebody asked for, whatever came of it."""

    def changed(self, change: AuditRecord) -> None: ...


class AdminService:
    """One daemon's. Thread-safe."""

    def __init__(
        self, supervisor: Supervisor, status: Status, history: History, auditors: Sequence[Auditor] = ()
    ) -> None:
        """The auditors, and the history, are told of everything that is asked for."""
        self.supervisor, self.status, self.history = supervisor, status, history
        self._auditors = (history, *auditors)
        self._places, self._glances = SourceRegistry(), ReadCache()
        self.admin_actions = AdminActions(supervisor, history, self._places, self._glances)
        self.host = socket.gethostname()

    def configure(self, settings: Settings) -> None:
        """From now on these are the settings in force, and the supervisor's watches the sources."""
        self._glances.forget()
        self._places.open(settings, self.supervisor.runners)

    @property
    def settings(self) -> Settings:
        return self._places.settings

    @property
    def sources(self) -> Sequence[str]:
        return tuple(self._places)

    def standing(self, source: str) -> SourceStatus:
        """Raises NoSuchSource."""
        place = self._places[source]
        state = self.supervisor.state
        return SourceStatus(
            name=source,
            profile=place.reading.profile.name,
            problems=self.status.problems().get(source, ()),
            report=self.history.last(source),
            sweeping=place.runner.sweeping,
            next_seconds=-place.runner.overdue_seconds
            if state in (State.RUNNING, State.HALTED)
            else None,
            succeeded_seconds_ago=self.history.succeeded_seconds_ago(source),
        )

    def look(self, source: str, wanted: looking.ReportQuery) -> looking.Report:
        """The running jobs of one source. What was read a moment ago is told again.

        Raises NoSuchSource, DatabaseAway, ReaperError when the database refuses; Crowded when too many look.
        """
        place = self._places[source]

        def read() -> looking.Report:
            with prefix_errors(place.reading):
                return looking.report(place.reading, place.runner.downtime.copy(), wanted, at_most=_LOOK_SECONDS)

        return self._glances.get((source, wanted), read, place.runner)

    def kinds(self, source: str) -> Sequence[tuple[str | None, int]]:
        """How many jobs of each kind run, most first. Raises as `look` does."""
        place = self._places[source]

        def read() -> Sequence[tuple[str | None, int]]:
            with prefix_errors(place.reading):
                return looking.kinds(place.reading, at_most=_LOOK_SECONDS)

        return self._glances.get((source, "kinds"), read, place.runner)

    def overdue(self, source: str, limit: int) -> looking.Report:
        """The jobs past their timeout, stale and spared, oldest first. Raises as `look` does."""
        place = self._places[source]

        def read() -> looking.Report:
            with prefix_errors(place.reading):
                return looking.overdue_jobs(place.reading, place.runner.downtime.copy(), limit, at_most=_LOOK_SECONDS)

        return self._glances.get((source, "overdue", limit), read, place.runner)

    def explain(self, source: str, job: str) -> explaining.Explanation:
        """Raises NoSuchSource, NoSuchJob, DatabaseAway, ReaperError when the database refuses; Crowded when too many
        ask.
        """
        place = self._places[source]
        with self._glances.connected(place.runner), prefix_errors(place.reading):
            return explaining.explain(place.reading, place.runner.downtime.copy(), job, at_most=_LOOK_SECONDS)

    def summary(self) -> tuple[Totals, Mapping[str, looking.Report | None], Mapping[str, str]]:
        """What is stuck in all sources, the report of each, and what kept one from being told."""
        reports, errors = dict[str, looking.Report | None](), dict[str, str]()
        for name in self.sources:
            try:
                reports[name] = self.overdue(name, looking.DEFAULT_LIMIT)
            except ReaperError as error:
                reports[name], errors[name] = None, str(error)
        # Orphans are nobody's here: to tell them, workers would have to be asked twice, some seconds apart.
        deaf = [name for name, report in reports.items() if report and report.liveness and report.liveness.trouble]
        return replace(totals_of(reports), unknown=[*errors, *deaf]), reports, errors

    def held(self, source: str) -> JobCounts | None:
        """What the breaker holds, as the last sweep counted it; None when it is closed. Raises NoSuchSource."""
        return self.history.held(self._places[source].runner.name)

    def account(self, report: SweepReport) -> list[str]:
        """What a sweep of one of these sources came to, line by line."""
        return list(account.sweep_summary(report, self.breaker(report.source), 0))

    def actions(self, source: str) -> Sequence[str]:
        """What a running job can be ended by. Raises NoSuchSource."""
        return self._places[source].reading.profile.action_names

    def is_log(self, source: str) -> bool:
        """Whether its jobs exist only as a log of events. Raises NoSuchSource."""
        return self._places[source].reading.profile.jobs.log is not None

    def breaker(self, source: str) -> Breaker:
        """Raises NoSuchSource."""
        return self._places[source].runner.options.breaker

    def changed(self, change: AuditRecord) -> None:
        """Somebody asked for something: whoever asks for it over HTTP has to have it told here."""
        for auditor in self._auditors:
            auditor.changed(change)
