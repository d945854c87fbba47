"""What people ask of a running daemon, and have it do: for the API and the page alike.

What is read here is judged with what the daemon has heard: it knows of outages that a command beside it does not. Each
source is read through connections of the desk's own, with a copy of the hearing, so that nobody who looks stands in
the way of a sweep. What ends jobs is done alone: not while the source is swept.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from reaper import account, words
from reaper.admin.glance import Glances
from reaper.admin.history import History
from reaper.admin.status import Status
from reaper.admin.who import Who
from reaper.breaker import Breaker
from reaper.halt import Halted
from reaper.making import aged, limited, make_source
from reaper.model import Census, Change, DatabaseAway, JobMoved, Key, Limit, Outcome, Reaped, ReaperError, SweepReport
from reaper.nearest import did_you_mean
from reaper.operations import cleaning, explaining, looking, manual
from reaper.operations.naming import named
from reaper.operations.summary import Summary, summary_of
from reaper.settings import Settings
from reaper.source import Source
from reaper.supervisor import State, Supervisor
from reaper.sweep import Memory, failed, sweep
from reaper.watch import Watch
from reaper.witness import Testimony, WitnessAway

T = TypeVar("T")

_LOOK_SECONDS = 10.0
"""How long a statement may take for somebody who looks: what a source does not tell by then, it does not tell."""

BUSY_SECONDS = 5.0
"""How long somebody who wants jobs ended waits for the sweep that works."""

NAMED = 10_000
"""How many of the jobs that a cleanup ended are told by name."""


class NoSuchSource(ReaperError):
    """No source of that name is watched."""


class Refused(ReaperError):
    """It cannot be done as things are."""


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


class LastHeard:
    """What the workers said to the last sweep: nobody asks them anew for everybody who looks."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def ask(self) -> Testimony:
        return self._watch.testimony or Testimony(trouble="the workers have not been asked yet")

    def revoke(self, ids: Sequence[str]) -> None:  # noqa: ARG002
        raise WitnessAway("nobody was asked")


class Desk:
    """One daemon's. Thread-safe."""

    def __init__(
        self, supervisor: Supervisor, status: Status, history: History, auditors: Sequence[Auditor] = ()
    ) -> None:
        """The auditors, and the history, are told of everything that is asked for."""
        self.supervisor, self.status, self.history = supervisor, status, history
        self._auditors = (history, *auditors)
        self._settings = Settings()
        self._places: dict[str, tuple[Watch, Source]] = {}
        self._glances = Glances()
        self.host = socket.gethostname()

    def open(self, settings: Settings) -> None:
        """From now on these are the settings in force, and the supervisor's watches the sources."""
        self._glances.forget()
        self._settings, places = settings, {}
        for watch in self.supervisor.watches:
            known = self._places.get(watch.name)
            places[watch.name] = known if known and known[0] is watch else (watch, self._reading(settings, watch))
        self._places = places

    @staticmethod
    def _reading(settings: Settings, watch: Watch) -> Source:
        """The source, on connections of its own."""
        source = make_source(settings, settings.sources[watch.name])
        if source.habits.witness is not None:
            source.habits = replace(source.habits, witness=LastHeard(watch))
        return source

    # --- read ------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def sources(self) -> Sequence[str]:
        return tuple(self._places)

    def standing(self, source: str) -> Standing:
        """Raises NoSuchSource."""
        watch, own = self._place(source)
        state = self.supervisor.state
        return Standing(
            name=source,
            profile=own.profile.name,
            problems=self.status.problems().get(source, ()),
            report=self.history.last(source),
            sweeping=watch.sweeping,
            next_seconds=-watch.overdue if state in (State.RUNNING, State.HALTED) else None,
            succeeded_seconds_ago=self.history.succeeded_seconds_ago(source),
        )

    def look(self, source: str, wanted: looking.Wanted) -> looking.Report:
        """The running jobs of one source. What was read a moment ago is told again.

        Raises NoSuchSource, DatabaseAway, ReaperError when the database refuses; Crowded when too many look.
        """
        watch, own = self._place(source)

        def read() -> looking.Report:
            with named(own):
                return looking.look(own, watch.hearing.copy(), wanted, at_most=_LOOK_SECONDS)

        return self._glances.at((source, wanted), read, watch)

    def kinds(self, source: str) -> Sequence[tuple[str | None, int]]:
        """How many jobs of each kind run, most first. Raises as `look` does."""
        watch, own = self._place(source)

        def read() -> Sequence[tuple[str | None, int]]:
            with named(own):
                return looking.kinds(own, at_most=_LOOK_SECONDS)

        return self._glances.at((source, "kinds"), read, watch)

    def overdue(self, source: str, limit: int) -> looking.Report:
        """The jobs past their timeout, stale and spared, oldest first. Raises as `look` does."""
        watch, own = self._place(source)

        def read() -> looking.Report:
            with named(own):
                return looking.overdue(own, watch.hearing.copy(), limit, at_most=_LOOK_SECONDS)

        return self._glances.at((source, "overdue", limit), read, watch)

    def explain(self, source: str, job: str) -> explaining.Explanation:
        """Raises NoSuchSource, NoSuchJob, DatabaseAway, ReaperError when the database refuses; Crowded when too many
        ask.
        """
        watch, own = self._place(source)
        with self._glances.connected(watch), named(own):
            return explaining.explain_named(own, watch.hearing.copy(), job, _LOOK_SECONDS)

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
        self._place(source)
        return self.history.held(source)

    def account(self, report: SweepReport) -> list[str]:
        """What a sweep of one of these sources came to, line by line."""
        return list(account.lines(report, self.breaker(report.source), 0))

    def actions(self, source: str) -> Sequence[str]:
        """What a running job can be ended by. Raises NoSuchSource."""
        return self._place(source)[1].profile.choices

    def is_log(self, source: str) -> bool:
        """Whether its jobs exist only as a log of events. Raises NoSuchSource."""
        return self._place(source)[1].profile.jobs.log is not None

    def breaker(self, source: str) -> Breaker:
        """Raises NoSuchSource."""
        return self._place(source)[0].orders.breaker

    # --- change ----------------------------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """Somebody asked for something: whoever asks for it over HTTP has to have it told here."""
        for auditor in self._auditors:
            auditor.changed(change)

    def halt(self, who: Who, reason: str | None, *, persistent: bool) -> None:
        """Raises ReaperError when it is to last and cannot: it is halted all the same, while the daemon runs."""
        self.supervisor.halt(Halted(str(who), reason, persistent))

    def restart(self) -> None:
        """Raises ReaperError when a halt that was to last cannot be removed."""
        self.supervisor.restart()

    def sweep(self, source: str, *, dry_run: bool, release: int = 0) -> SweepReport:
        """One sweep, now. With `release` the breaker, which holds just so many stale jobs, lets them through.

        Raises NoSuchSource, Busy, and Refused while halted, or when the breaker holds something else.
        """
        watch, _ = self._place(source)
        if dry_run:
            return watch.rehearse(BUSY_SECONDS)
        if self.supervisor.halted.on:
            raise Refused("the supervisor is halted; restart it first, or ask for a dry run")

        def check() -> None:
            # Not before: another one may be letting the same jobs through just now.
            if release:
                self._seen(source, self.history.held(source), release)

        with self._anew():
            report = watch.sweep_now(release=release, patience_seconds=BUSY_SECONDS, check=check)
        if release and report.outcome is Outcome.HELD:
            self._seen(source, report.census, release)
        return report

    @staticmethod
    def _seen(source: str, held: Census | None, release: int) -> None:
        """Raises Refused when that is not what the breaker holds."""
        if held is None:
            raise Refused(f"source {source}: the breaker holds nothing")
        if held.stale != release:
            raise Refused(f"source {source}: the breaker holds {held.stale} stale jobs by now, not {release}")

    def end(self, source: str, job: str, observed: manual.Observed, decision: manual.Decision) -> Reaped:
        """End one running job. Raises as `explain` does; JobMoved when it is not what was observed; Refused for an
        action that the profile does not have.
        """
        watch, own = self._place(source)
        choices = own.profile.choices
        if decision.action not in choices:
            hint = did_you_mean(decision.action, choices)
            raise Refused(f"profile {own.profile.name!r} has no action {decision.action!r}{hint}")
        teller = _Teller(watch, self.history, decision.operator)
        with self._anew(), named(own):
            key = explaining.locate(own, job)
            try:
                return manual.fail(own, watch.hearing.copy(), key, decision, teller, observed)
            except JobMoved as error:
                raise JobMoved(f"job {words.job(key)} {error}") from None

    def cleanup(self, source: str, minutes: int, *, dry_run: bool, who: Who) -> cleaning.Cleaned:
        """What is older than that and silent for as long; at most NAMED of it by name.

        Raises NoSuchSource, Busy, DatabaseAway, ReaperError.
        """
        limit = Limit(minutes * 60.0, "older_than_minutes")
        watch, _ = self._place(source)
        place = make_source(self._settings, limited(self._settings.sources[source], limit, limit))
        teller = _Teller(watch, self.history, str(who), NAMED)
        report = self._once(watch, place, teller, self._halted_anew(), dry_run=dry_run)
        keys: Sequence[Key] = teller.keys
        if dry_run and report.census and report.census.stale:
            with named(place):
                keys = cleaning.stale(place, watch.hearing.copy(), NAMED)
        if report.error is not None and not report.reaped:
            raise (DatabaseAway if report.database_away else ReaperError)(f"source {source}: {report.error}")
        return cleaning.cleaned(minutes, report, keys, watch.orders.breaker, NAMED)

    def clear(self, hours: float, *, dry_run: bool, who: Who) -> Iterator[SweepReport]:
        """A sweep of every source with that timeout, and no longer a stall window; failed where it is not possible."""
        halted = self._halted_anew()
        limit = Limit(hours * 3600, "max_age_hours")

        def each() -> Iterator[SweepReport]:
            for name in self.sources:
                try:
                    watch, _ = self._place(name)
                    place = make_source(self._settings, aged(self._settings.sources[name], limit))
                    yield self._once(watch, place, _Teller(watch, self.history, str(who)), halted, dry_run=dry_run)
                except ReaperError as error:
                    yield failed(name, str(error))

        return each()

    def _halted_anew(self) -> Callable[[], bool]:
        """Whether somebody has halted the supervisor since now.

        Who halts it may well do so to clear things up by hand; a halt that comes later is meant for that, too.
        """
        halt = self.supervisor.halted
        known = halt.now
        return lambda: halt.now is not known and halt.on

    def _once(
        self, watch: Watch, place: Source, teller: _Teller, halted: Callable[[], bool], *, dry_run: bool
    ) -> SweepReport:
        """A sweep with other thresholds, by hand: alone, with the workers that the daemon knows."""
        place.habits = replace(place.habits, witness=watch.source.habits.witness)
        orders = replace(watch.orders, dry_run=dry_run, halted=halted)
        with watch.alone(BUSY_SECONDS), self._anew():
            return sweep(place, watch.hearing, Memory(), orders, None, teller)

    @contextmanager
    def _anew(self) -> Iterator[None]:
        """What was seen before this does not count after it."""
        try:
            yield
        finally:
            self._glances.forget()

    def _place(self, source: str) -> tuple[Watch, Source]:
        try:
            return self._places[source]
        except KeyError:
            raise NoSuchSource(f"there is no source {source!r}{did_you_mean(source, self._places)}") from None


class _Teller:
    """Tells everybody whom a sweep would tell which jobs somebody had ended, and who it was. Keeps the first keys."""

    def __init__(self, watch: Watch, history: History, by: str, keep: int = 0) -> None:
        self._watch, self._history, self._by, self._keep = watch, history, by, keep
        self.keys: list[Key] = []

    def surveyed(self, source: str, census: object) -> None:
        """Counted by other thresholds than the metrics'."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[Reaped]) -> None:
        self.keys += [job.key for job in batch[: self._keep - len(self.keys)]]
        self._history.attribute(sweep_id, self._by)
        self._watch.reaped(source, sweep_id, batch)
