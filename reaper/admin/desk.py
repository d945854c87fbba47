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

from reaper import account
from reaper.admin.deeds import Deeds
from reaper.admin.glance import Glances
from reaper.admin.history import History
from reaper.admin.places import Places
from reaper.admin.status import Status
from reaper.breaker import Breaker
from reaper.model import Census, Change, ReaperError, SweepReport
from reaper.operations import explaining, looking
from reaper.operations.naming import named
from reaper.operations.summary import Summary, summary_of
from reaper.settings import Settings
from reaper.supervisor import State, Supervisor

_LOOK_SECONDS = 10.0
"""How long a statement may take for somebody who looks: what a source does not tell by then, it does not tell."""


@dataclass(frozen=True, slots=True)
class Standing:
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

    def changed(self, change: Change) -> None: ...


class Desk:
    """One daemon's. Thread-safe."""

    def __init__(
        self, supervisor: Supervisor, status: Status, history: History, auditors: Sequence[Auditor] = ()
    ) -> None:
        """The auditors, and the history, are told of everything that is asked for."""
        self.supervisor, self.status, self.history = supervisor, status, history
        self._auditors = (history, *auditors)
        self._places, self._glances = Places(), Glances()
        self.deeds = Deeds(supervisor, history, self._places, self._glances)
        self.host = socket.gethostname()

    def open(self, settings: Settings) -> None:
        """From now on these are the settings in force, and the supervisor's watches the sources."""
        self._glances.forget()
        self._places.open(settings, self.supervisor.watches)

    @property
    def settings(self) -> Settings:
        return self._places.settings

    @property
    def sources(self) -> Sequence[str]:
        return tuple(self._places)

    def standing(self, source: str) -> Standing:
        """Raises NoSuchSource."""
        place = self._places[source]
        state = self.supervisor.state
        return Standing(
            name=source,
            profile=place.reading.profile.name,
            problems=self.status.problems().get(source, ()),
            report=self.history.last(source),
            sweeping=place.watch.sweeping,
            next_seconds=-place.watch.overdue if state in (State.RUNNING, State.HALTED) else None,
            succeeded_seconds_ago=self.history.succeeded_seconds_ago(source),
        )

    def look(self, source: str, wanted: looking.Wanted) -> looking.Report:
        """The running jobs of one source. What was read a moment ago is told again.

        Raises NoSuchSource, DatabaseAway, ReaperError when the database refuses; Crowded when too many look.
        """
        place = self._places[source]

        def read() -> looking.Report:
            with named(place.reading):
                return looking.look(place.reading, place.watch.hearing.copy(), wanted, at_most=_LOOK_SECONDS)

        return self._glances.at((source, wanted), read, place.watch)

    def kinds(self, source: str) -> Sequence[tuple[str | None, int]]:
        """How many jobs of each kind run, most first. Raises as `look` does."""
        place = self._places[source]

        def read() -> Sequence[tuple[str | None, int]]:
            with named(place.reading):
                return looking.kinds(place.reading, at_most=_LOOK_SECONDS)

        return self._glances.at((source, "kinds"), read, place.watch)

    def overdue(self, source: str, limit: int) -> looking.Report:
        """The jobs past their timeout, stale and spared, oldest first. Raises as `look` does."""
        place = self._places[source]

        def read() -> looking.Report:
            with named(place.reading):
                return looking.overdue(place.reading, place.watch.hearing.copy(), limit, at_most=_LOOK_SECONDS)

        return self._glances.at((source, "overdue", limit), read, place.watch)

    def explain(self, source: str, job: str) -> explaining.Explanation:
        """Raises NoSuchSource, NoSuchJob, DatabaseAway, ReaperError when the database refuses; Crowded when too many
        ask.
        """
        place = self._places[source]
        with self._glances.connected(place.watch), named(place.reading):
            return explaining.explain_named(place.reading, place.watch.hearing.copy(), job, _LOOK_SECONDS)

    def summary(self) -> tuple[Summary, Mapping[str, looking.Report | None], Mapping[str, str]]:
        """What is stuck in all sources, the report of each, and what kept one from being told."""
        reports, errors = dict[str, looking.Report | None](), dict[str, str]()
        for name in self.sources:
            try:
                reports[name] = self.overdue(name, looking.SHOWN)
            except ReaperError as error:
                reports[name], errors[name] = None, str(error)
        # Orphans are nobody's here: to tell them, workers would have to be asked twice, some seconds apart.
        deaf = [name for name, report in reports.items() if report and report.testimony and report.testimony.trouble]
        return replace(summary_of(reports), unknown=[*errors, *deaf]), reports, errors

    def held(self, source: str) -> Census | None:
        """What the breaker holds, as the last sweep counted it; None when it is closed. Raises NoSuchSource."""
        return self.history.held(self._places[source].watch.name)

    def account(self, report: SweepReport) -> list[str]:
        """What a sweep of one of these sources came to, line by line."""
        return list(account.lines(report, self.breaker(report.source), 0))

    def actions(self, source: str) -> Sequence[str]:
        """What a running job can be ended by. Raises NoSuchSource."""
        return self._places[source].reading.profile.choices

    def is_log(self, source: str) -> bool:
        """Whether its jobs exist only as a log of events. Raises NoSuchSource."""
        return self._places[source].reading.profile.jobs.log is not None

    def breaker(self, source: str) -> Breaker:
        """Raises NoSuchSource."""
        return self._places[source].watch.orders.breaker

    def changed(self, change: Change) -> None:
        """Somebody asked for something: whoever asks for it over HTTP has to have it told here."""
        for auditor in self._auditors:
            auditor.changed(change)
