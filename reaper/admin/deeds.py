"""What somebody has a running daemon do. What ends jobs is done alone: not while the source is swept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from reaper import words
from reaper.admin.glance import Glances
from reaper.admin.history import History
from reaper.admin.places import Places
from reaper.admin.who import Who
from reaper.halt import Halted
from reaper.making import aged, limited, make_source
from reaper.model import Census, DatabaseAway, JobMoved, Key, Limit, Outcome, Reaped, ReaperError, SweepReport
from reaper.nearest import did_you_mean
from reaper.operations import cleaning, explaining, manual
from reaper.operations.naming import named
from reaper.orders import Memory
from reaper.source import Source
from reaper.supervisor import Supervisor
from reaper.sweep import failed, sweep
from reaper.watch import Watch

BUSY_SECONDS = 5.0
"""How long somebody who wants jobs ended waits for the sweep that works."""

NAMED = 10_000
"""How many of the jobs that a cleanup ended are told by name."""


class Refused(ReaperError):
    """It cannot be done as things are."""


class Deeds:
    """Of one daemon. Thread-safe. What readers saw before one of them does not count after it."""

    def __init__(self, supervisor: Supervisor, history: History, places: Places, glances: Glances) -> None:
        self._supervisor, self._history, self._places, self._glances = supervisor, history, places, glances

    def halt(self, who: Who, reason: str | None, *, persistent: bool) -> None:
        """Raises ReaperError when it is to last and cannot: it is halted all the same, while the daemon runs."""
        self._supervisor.halt(Halted(str(who), reason, persistent))

    def restart(self) -> None:
        """Raises ReaperError when a halt that was to last cannot be removed."""
        self._supervisor.restart()

    def sweep(self, source: str, *, dry_run: bool, release: int = 0) -> SweepReport:
        """One sweep, now. With `release` the breaker, which holds just so many stale jobs, lets them through.

        Raises NoSuchSource, Busy, and Refused while halted, or when the breaker holds something else.
        """
        watch = self._places[source].watch
        if dry_run:
            return watch.rehearse(BUSY_SECONDS)
        if self._supervisor.halted.on:
            raise Refused("the supervisor is halted; restart it first, or ask for a dry run")

        def check() -> None:
            # Not before: another one may be letting the same jobs through just now.
            if release:
                self._seen(source, self._history.held(source), release)

        with self._glances.anew():
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
        place = self._places[source]
        watch, own = place.watch, place.reading
        choices = own.profile.choices
        if decision.action not in choices:
            hint = did_you_mean(decision.action, choices)
            raise Refused(f"profile {own.profile.name!r} has no action {decision.action!r}{hint}")
        teller = _Teller(watch, self._history, decision.operator)
        with self._glances.anew(), named(own):
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
        watch = self._places[source].watch
        place = make_source(self._places.settings, limited(self._places.settings.sources[source], limit, limit))
        teller = _Teller(watch, self._history, str(who), NAMED)
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
            for name in self._places:
                try:
                    watch = self._places[name].watch
                    place = make_source(self._places.settings, aged(self._places.settings.sources[name], limit))
                    yield self._once(watch, place, _Teller(watch, self._history, str(who)), halted, dry_run=dry_run)
                except ReaperError as error:
                    yield failed(name, str(error))

        return each()

    def _halted_anew(self) -> Callable[[], bool]:
        """Whether somebody has halted the supervisor since now.

        Who halts it may well do so to clear things up by hand; a halt that comes later is meant for that, too.
        """
        halt = self._supervisor.halted
        known = halt.now
        return lambda: halt.now is not known and halt.on

    def _once(
        self, watch: Watch, place: Source, teller: _Teller, halted: Callable[[], bool], *, dry_run: bool
    ) -> SweepReport:
        """A sweep with other thresholds, by hand: alone, with the workers that the daemon knows."""
        place.habits = replace(place.habits, witness=watch.source.habits.witness)
        orders = replace(watch.orders, dry_run=dry_run, halted=halted)
        with watch.alone(BUSY_SECONDS), self._glances.anew():
            return sweep(place, watch.hearing, Memory(), orders, None, teller)


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
