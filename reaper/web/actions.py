"""What somebody has a running daemon do. What ends jobs is done alone: not while the source is swept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from reaper.common import messages
from reaper.common.suggestions import did_you_mean
from reaper.errors import DatabaseUnavailable, JobChanged, ReaperError
from reaper.memory import HaltRecord
from reaper.model import JobCounts, Key, Outcome, ReapedJob, SweepReport, Threshold
from reaper.observers.history import History
from reaper.operations import execution_cleanup as cleaning
from reaper.operations import explain, fail
from reaper.operations.source_errors import prefix_errors
from reaper.scheduling.scheduler import Supervisor
from reaper.scheduling.source_runner import SourceRunner
from reaper.source import Source
from reaper.source.factory import create_source, with_max_age, with_thresholds
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import failed_report, sweep
from reaper.web.guard.tokens import Caller
from reaper.web.read_cache import ReadCache
from reaper.web.sources import SourceRegistry

BUSY_SECONDS = 5.0
"""How long somebody who wants jobs ended waits for the sweep that works."""

NAMED = 10_000
"""How many of the jobs that a cleanup ended are told by name."""


class Refused(ReaperError):
    """It cannot be done as things are."""


class AdminActions:
    """Of one daemon. Thread-safe. What readers saw before one of them does not count after it."""

    def __init__(self, supervisor: Supervisor, history: History, places: SourceRegistry, glances: ReadCache) -> None:
        self._supervisor, self._history, self._places, self._glances = supervisor, history, places, glances

    def halt(self, who: Caller, reason: str | None, *, persistent: bool) -> None:
        """Raises ReaperError when it is to last and cannot: it is halted all the same, while the daemon runs."""
        self._supervisor.halt(HaltRecord(str(who), reason, persistent))

    def restart(self) -> None:
        """Raises ReaperError when a halt that was to last cannot be removed."""
        self._supervisor.restart()

    def sweep(self, source: str, *, dry_run: bool, release: int = 0) -> SweepReport:
        """One sweep, now. With `release` the breaker, which holds just so many stale jobs, lets them through.

        Raises NoSuchSource, Busy, and Refused while halted, or when the breaker holds something else.
        """
        runner = self._places[source].runner
        if dry_run:
            return runner.dry_run(BUSY_SECONDS)
        if self._supervisor.halt_switch.is_halted:
            raise Refused("the supervisor is halted; restart it first, or ask for a dry run")

        def check() -> None:
            # Not before: another one may be letting the same jobs through just now.
            if release:
                self._seen(source, self._history.held(source), release)

        with self._glances.anew():
            report = runner.sweep_now(release=release, patience_seconds=BUSY_SECONDS, check=check)
        if release and report.outcome is Outcome.HELD:
            self._seen(source, report.census, release)
        return report

    @staticmethod
    def _seen(source: str, held: JobCounts | None, release: int) -> None:
        """Raises Refused when that is not what the breaker holds."""
        if held is None:
            raise Refused(f"source {source}: the breaker holds nothing")
        if held.stale != release:
            raise Refused(f"source {source}: the breaker holds {held.stale} stale jobs by now, not {release}")

    def end(self, source: str, job: str, observed: fail.ExpectedStart, decision: fail.ManualEnd) -> ReapedJob:
        """End one running job. Raises as `explain` does; JobMoved when it is not what was observed; Refused for an
        action that the profile does not have.
        """
        place = self._places[source]
        runner, own = place.runner, place.reading
        choices = own.profile.action_names
        if decision.action not in choices:
            hint = did_you_mean(decision.action, choices)
            raise Refused(f"profile {own.profile.name!r} has no action {decision.action!r}{hint}")
        teller = _AttributingListener(runner, self._history, decision.operator)
        with self._glances.anew(), prefix_errors(own):
            key = explain.locate(own, job)
            try:
                return fail.fail(own, runner.downtime.copy(), key, decision, teller, observed)
            except JobChanged as error:
                raise JobChanged(f"job {messages.format_key(key)} {error}") from None

    def cleanup(self, source: str, minutes: int, *, dry_run: bool, who: Caller) -> cleaning.CleanupResult:
        """What is older than that and silent for as long; at most NAMED of it by name.

        Raises NoSuchSource, Busy, DatabaseAway, ReaperError.
        """
        limit = Threshold(minutes * 60.0, "older_than_minutes")
        runner = self._places[source].runner
        place = create_source(
            self._places.settings, with_thresholds(self._places.settings.sources[source], limit, limit)
        )
        teller = _AttributingListener(runner, self._history, str(who), NAMED)
        report = self._once(runner, place, teller, self._halted_anew(), dry_run=dry_run)
        keys: Sequence[Key] = teller.keys
        if dry_run and report.census and report.census.stale:
            with prefix_errors(place):
                keys = cleaning.stale_keys(place, runner.downtime.copy(), NAMED)
        if report.error is not None and not report.reaped:
            raise (DatabaseUnavailable if report.database_away else ReaperError)(f"source {source}: {report.error}")
        return cleaning.cleanup_result(minutes, report, keys, runner.options.breaker, NAMED)

    def clear(self, hours: float, *, dry_run: bool, who: Caller) -> Iterator[SweepReport]:
        """A sweep of every source with that timeout, and no longer a stall window; failed where it is not possible."""
        halted = self._halted_anew()
        limit = Threshold(hours * 3600, "max_age_hours")

        def each() -> Iterator[SweepReport]:
            for name in self._places:
                try:
                    runner = self._places[name].runner
                    place = create_source(
                        self._places.settings, with_max_age(self._places.settings.sources[name], limit)
                    )
                    yield self._once(
                        runner, place, _AttributingListener(runner, self._history, str(who)), halted, dry_run=dry_run
                    )
                except ReaperError as error:
                    yield failed_report(name, str(error))

        return each()

    def _halted_anew(self) -> Callable[[], bool]:
        """Whether somebody has halted the supervisor since now.

        Who halts it may well do so to clear things up by hand; a halt that comes later is meant for that, too.
        """
        halt = self._supervisor.halt_switch
        known = halt.current
        return lambda: halt.current is not known and halt.is_halted

    def _once(
        self,
        runner: SourceRunner,
        place: Source,
        teller: _AttributingListener,
        halted: Callable[[], bool],
        *,
        dry_run: bool,
    ) -> SweepReport:
        """A sweep with other thresholds, by hand: alone, with the workers that the daemon knows."""
        place.options = replace(place.options, probe=runner.source.options.probe)
        options = replace(runner.options, dry_run=dry_run, is_halted=halted)
        with runner.exclusive(BUSY_SECONDS), self._glances.anew():
            return sweep(place, runner.downtime, SourceState(), options, None, teller)


class _AttributingListener:
    """Tells everybody whom a sweep would tell which jobs somebody had ended, and who it was. Keeps the first keys."""

    def __init__(self, runner: SourceRunner, history: History, by: str, keep: int = 0) -> None:
        self._runner, self._history, self._by, self._keep = runner, history, by, keep
        self.keys: list[Key] = []

    def surveyed(self, source: str, census: object) -> None:
        """Counted by other thresholds than the metrics'."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self.keys += [job.key for job in batch[: self._keep - len(self.keys)]]
        self._history.attribute(sweep_id, self._by)
        self._runner.reaped(source, sweep_id, batch)
