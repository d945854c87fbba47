"""What a running daemon is made to do over HTTP. Whatever ends jobs runs alone: not while its source is swept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

from reaper.common import messages
from reaper.common.suggestions import did_you_mean
from reaper.config import SourceSettings
from reaper.errors import DatabaseUnavailable, JobChanged, ReaperError
from reaper.memory import HaltRecord, JobHoldStore
from reaper.model import JobCounts, JobHold, Key, Outcome, ReapedJob, SweepReport, Threshold
from reaper.observers.history import History
from reaper.operations import execution_cleanup as cleanup_operation
from reaper.operations import explain, fail
from reaper.operations.guards import NO_PASSES, GuardPasses, HaltGuard
from reaper.operations.hold import HoldTaken, take_back, take_hold
from reaper.operations.own_limits import count_own_limits
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import in_order_of_ending
from reaper.scheduling.scheduler import Supervisor
from reaper.scheduling.source_runner import SourceRunner
from reaper.source import Source
from reaper.source.factory import with_max_age
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import failed_report, sweep
from reaper.web.dry_runs import NAMED, DryRuns
from reaper.web.guard.tokens import Caller
from reaper.web.read_cache import ReadCache
from reaper.web.source_registry import SourceRegistry, with_other_settings

_HOLD_SECONDS = 10.0
"""How long a statement may take that looks at a job which is to be held."""
BUSY_SECONDS = 5.0
"""How long a request that ends jobs waits for the sweep that works."""


class Refused(ReaperError):
    """It cannot be done in the present state."""


class AdminActions:
    """The actions of one daemon. Thread-safe. After each of them the read cache is empty."""

    def __init__(
        self,
        supervisor: Supervisor,
        history: History,
        sources: SourceRegistry,
        cache: ReadCache,
        holds: JobHoldStore,
    ) -> None:
        self._supervisor, self._history, self._sources, self._cache = supervisor, history, sources, cache
        self._holds = holds
        self._dry_runs = DryRuns(sources, cache)

    def halt(self, who: Caller, reason: str | None, *, persistent: bool) -> None:
        """Raises ReaperError when the halt cannot be kept: the daemon is halted all the same, while it runs."""
        self._supervisor.halt(HaltRecord(str(who), reason, persistent))

    def restart(self) -> None:
        """Raises ReaperError when a persistent halt cannot be removed."""
        self._supervisor.restart()

    def sweep(self, source: str, *, dry_run: bool, release: int = 0) -> SweepReport:
        """One sweep, now. `release` lets so many stale jobs through an open breaker, which must hold just as many.

        Raises NoSuchSource, SourceBusy, and Refused while halted or when the breaker holds another number.
        """
        runner = self._sources[source].runner
        if dry_run:
            return self._dry_runs.sweep(source)
        runner.source.require_not_observed()
        if self._supervisor.halt_switch.is_halted:
            raise Refused("the supervisor is halted; restart it first, or ask for a dry run")

        def check() -> None:
            # Only when no other sweep works: it may release the same jobs.
            if release:
                _check_release(source, self._history.held(source), release)

        with self._cache.cleared_after():
            report = runner.sweep_now(release=release, patience_seconds=BUSY_SECONDS, check=check)
        if release and report.outcome is Outcome.HELD:
            _check_release(source, report.census, release)
        return report

    def end(
        self,
        source: str,
        job: str,
        expected: fail.ExpectedStart,
        decision: fail.ManualEnd,
        passes: GuardPasses = NO_PASSES,
    ) -> ReapedJob:
        """End one running job. Raises as `explain` does; JobChanged when its start is not the expected one; Refused for
        an action that the profile does not have.
        """
        registered = self._sources[source]
        runner, reading = registered.runner, registered.reading
        choices = reading.profile.action_names
        if decision.action not in choices:
            hint = did_you_mean(decision.action, choices)
            raise Refused(f"profile {reading.profile.name!r} has no action {decision.action!r}{hint}")
        listener = _AttributingListener(runner, self._history, decision.operator)
        settings = passes.applied_to(self._sources.settings)
        opened = (
            with_other_settings(reading, settings, settings.sources[source])
            if passes.while_observed
            else nullcontext(reading)
        )
        with self._cache.cleared_after(), prefix_errors(reading), opened as own:
            key = explain.locate(own, job)
            try:
                return fail.fail(own, runner.downtime.copy(), key, decision, listener, expected)
            except JobChanged as error:
                raise JobChanged(f"job {messages.format_key(key)} {error}") from None

    def hold(self, source: str, job: str, seconds: float, by: str, reason: str) -> HoldTaken:
        """Keep one job from being ended. Raises NoSuchSource, as `explain` does, and StateUnavailable."""
        registered = self._sources[source]
        reading, downtime = registered.reading, registered.runner.downtime.copy()
        with self._cache.cleared_after(), prefix_errors(reading):
            return take_hold(reading, downtime, self._holds, job, seconds, by, reason, at_most=_HOLD_SECONDS)

    def unhold(self, source: str, job: str) -> JobHold:
        """Take the hold on a job back. Raises NoSuchSource, NoSuchHold and StateUnavailable."""
        with self._cache.cleared_after():
            return take_back(self._sources[source].reading, self._holds, job)

    def cleanup(
        self, source: str, minutes: int, *, dry_run: bool, who: Caller, passes: GuardPasses = NO_PASSES
    ) -> cleanup_operation.CleanupResult:
        """End the jobs that are that old and silent for as long. At most NAMED of them are named.

        Raises NoSuchSource, HaltInForce, DatabaseUnavailable, ReaperError; SourceBusy, but a dry run TooManyReaders.
        """
        if dry_run:
            return self._dry_runs.cleanup(source, minutes, trust_silence=passes.trust_silence)
        halt = self._halt_guard(passes)
        limit = Threshold(minutes * 60.0, "older_than_minutes")
        runner, settings = self._sources[source].runner, passes.applied_to(self._sources.settings)
        changed = cleanup_operation.settings_for_cleanup(settings.sources[source], limit)
        listener = _AttributingListener(runner, self._history, str(who), NAMED)
        with with_other_settings(runner.source, settings, changed) as own:
            own.require_not_observed()
            report = self._sweep_by_age(runner, own, changed, listener, passes, halt)
        if report.error is not None and not report.reaped:
            raise (DatabaseUnavailable if report.database_away else ReaperError)(f"source {source}: {report.error}")
        breaker = runner.options.breaker
        return cleanup_operation.cleanup_result(minutes, report, listener.keys, breaker, NAMED, halt=halt.current)

    def clear(
        self, hours: float, *, dry_run: bool, who: Caller, passes: GuardPasses = NO_PASSES
    ) -> Iterator[SweepReport]:
        """A sweep of every source with this timeout, and a stall window that is no longer. The report of a source that
        cannot be swept is a failed one. Raises HaltInForce.
        """
        halt = None if dry_run else self._halt_guard(passes)
        limit = Threshold(hours * 3600, "max_age_hours")
        runs = in_order_of_ending([self._sources[name].runner.source for name in self._sources])
        return (self._clear_source(source.name, limit, who, passes, halt) for source in runs)

    def _clear_source(
        self, name: str, limit: Threshold, who: Caller, passes: GuardPasses, halt: HaltGuard | None
    ) -> SweepReport:
        """Without a guard it is a dry run."""
        try:
            if halt is None:
                return self._dry_runs.clear(name, limit, trust_silence=passes.trust_silence)
            runner, settings = self._sources[name].runner, passes.applied_to(self._sources.settings)
            changed = with_max_age(settings.sources[name], limit)
            listener = _AttributingListener(runner, self._history, str(who))
            with with_other_settings(runner.source, settings, changed) as own:
                return self._sweep_by_age(runner, own, changed, listener, passes, halt)
        except ReaperError as error:
            return failed_report(name, str(error))

    def require_not_halted(self, passes: GuardPasses) -> None:
        """Raises HaltInForce where a halt would hold what these passes let begin."""
        self._halt_guard(passes)

    def _halt_guard(self, passes: GuardPasses) -> HaltGuard:
        """The guard for what begins now. Raises HaltInForce."""
        switch = self._supervisor.halt_switch
        guard = HaltGuard(lambda: switch.current, while_halted=passes.while_halted)
        guard.require_none()
        return guard

    def _sweep_by_age(
        self,
        runner: SourceRunner,
        own: Source,
        asked: SourceSettings,
        listener: _AttributingListener,
        passes: GuardPasses,
        halt: HaltGuard,
    ) -> SweepReport:
        """A sweep with the age in these settings, and how many jobs it spares for a longer limit of their own."""
        opened = partial(with_other_settings, runner.source, self._sources.settings)
        spared = count_own_limits(own, asked, runner.downtime.copy(), opened)
        return replace(self._sweep_by_hand(runner, own, listener, passes, halt), own_limits=spared)

    def _sweep_by_hand(
        self,
        runner: SourceRunner,
        own: Source,
        listener: _AttributingListener,
        passes: GuardPasses,
        halt: HaltGuard,
    ) -> SweepReport:
        """A sweep with other thresholds: alone, with the workers that the daemon knows."""
        options = replace(runner.options, is_halted=halt.holds, override_breaker_up_to=passes.release)
        with runner.exclusive(BUSY_SECONDS), self._cache.cleared_after():
            # Without trust, the runner's own tracker: what this sweep learns of the database, the next ones know.
            downtime = runner.downtime.copy_trusting_silence() if passes.trust_silence else runner.downtime
            return sweep(own, downtime, SourceState(), options, None, listener)


def _check_release(source: str, held: JobCounts | None, release: int) -> None:
    """Raises Refused when the breaker holds another number of stale jobs than the one to be released."""
    if held is None:
        raise Refused(f"source {source}: the breaker holds nothing")
    if held.stale != release:
        raise Refused(f"source {source}: the breaker holds {held.stale} stale jobs by now, not {release}")


class _AttributingListener:
    """Passes on which jobs were ended, and records by whom. Keeps the keys of the first `keep` of them."""

    def __init__(self, runner: SourceRunner, history: History, by: str, keep: int = 0) -> None:
        self._runner, self._history, self._by, self._keep = runner, history, by, keep
        self.keys: list[Key] = []

    def surveyed(self, source: str, census: object) -> None:
        """Not passed on: it is counted with other thresholds than those of the metrics."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self.keys += [job.key for job in batch[: self._keep - len(self.keys)]]
        self._history.attribute(sweep_id, self._by)
        self._runner.reaped(source, sweep_id, batch)
