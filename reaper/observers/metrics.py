"""Turns sweep and purge reports into Prometheus metrics. Every series exists from the start of the daemon."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from math import nan

from prometheus_client import CollectorRegistry

from reaper.memory import ReapCount
from reaper.memory.reap_counts import MAX_KINDS, OTHER_KINDS, kind_label
from reaper.model import JobCounts, Outcome, PurgeReport, ReapedJob, Reason, SweepReport
from reaper.observers.metric_series import MetricSeries
from reaper.sweep.halt_switch import HaltSwitch

OPTIONAL_STEPS = ("late_signs", "revocations", "start_lost", "future_signs")
"""Steps of a sweep that may fail without failing it: the scan for late signs, the revocation of Celery tasks, and the
searches for jobs whose start was lost and for signs of life in the future."""

_ALWAYS = "fail"
"""The action that every profile has: its series exist from the start."""
_MAX_ACTIONS = 20
"""How many actions of a source are counted apart."""


class Metrics:
    """A listener of sweeps and purges; `registry` is what Prometheus scrapes."""

    def __init__(self, halt: HaltSwitch | None = None) -> None:
        self.registry = CollectorRegistry()
        self._series = MetricSeries(self.registry, halt)
        self._kinds: dict[str, set[str]] = {}
        self._actions: dict[str, set[str]] = {}
        self._remaining_before: dict[str, int] = {}
        self.reloaded([])

    def set_sources(
        self, sources: Iterable[str], interval_seconds: float, longest_timeouts: Mapping[str, float] | None = None
    ) -> None:
        """Create the series of these sources, and remove those of all others."""
        self._series.interval.set(interval_seconds)
        names = set(sources)
        for gone in self._kinds.keys() - names:
            for metric in self._series.by_source():
                metric.remove(gone)
            for counter in self._series.with_more_labels():
                counter.remove_by_labels({"source": gone})
            self._remaining_before.pop(gone, None)
            del self._kinds[gone], self._actions[gone]
        for source in names - self._kinds.keys():
            self._kinds[source], self._actions[source] = set(), {_ALWAYS}
            for metric in self._series.by_source():
                metric.labels(source)
            self._series.witness_up.labels(source).set(1)
            # Unknown until the first sweep has ended, which may take minutes.
            self._series.database_up.labels(source).set(nan)
            self._series.late_total.labels(source, OTHER_KINDS)
            for part in OPTIONAL_STEPS:
                self._series.parts_failed_total.labels(source, part)
            for reason in Reason:
                self._series.reaped_total.labels(source, OTHER_KINDS, reason.value, _ALWAYS)
            for outcome in Outcome:
                self._series.sweeps_total.labels(source, outcome.value)
                self._series.purges_total.labels(source, outcome.value)
        for source in names:
            self._series.longest_timeout.labels(source).set((longest_timeouts or {}).get(source, float("inf")))

    def reloaded(self, problems: Sequence[str]) -> None:
        """A reload was accepted (no problems) or refused."""
        self._series.config_reloaded.set(not problems)
        if not problems:
            self._series.config_taken.set_to_current_time()

    # --- listener; reports of removed sources are ignored, or they would create their series again ------------

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:  # noqa: ARG002
        if source not in self._kinds:
            return
        for (kind, reason, action), count in Tally((job.kind, job.reason, job.action) for job in batch).items():
            self._count_reaped(source, self._kind_label(source, kind), reason, action, count)
        for job in batch:
            if job.silence_seconds is not None:
                self._series.silence.observe(job.silence_seconds)

    def reaped_elsewhere(self, counts: Iterable[ReapCount]) -> None:
        """Jobs that commands and Celery tasks have ended beside the daemon."""
        for source, kind, reason, action, jobs in counts:
            if source in self._kinds:
                self._count_reaped(source, self._counted_kind(source, kind), reason, action, jobs)

    def _count_reaped(self, source: str, kind: str, reason: str, action: str, jobs: int) -> None:
        label = _known_or_other(self._actions[source], kind_label(action), _MAX_ACTIONS)
        self._series.reaped_total.labels(source, kind, reason, label).inc(jobs)

    def surveyed(self, source: str, census: JobCounts) -> None:
        if source not in self._kinds:
            return
        self._series.running.labels(source).set(census.running)
        self._series.spared.labels(source).set(census.spared)
        self._series.stale.labels(source).set(census.stale)
        self._series.oldest.labels(source).set(census.oldest_started_epoch or 0)
        self._series.most_overdue.labels(source).set(census.most_overdue)
        self._series.kept.labels(source).set(census.kept)
        self._series.without_start.labels(source).set(census.without_start)
        self._series.start_unknown.labels(source).set(census.start_unknown)

    def swept(self, report: SweepReport) -> None:
        source = report.source
        if source not in self._kinds:
            return
        self._series.sweeps_total.labels(source, report.outcome.value).inc()
        self._series.duration.labels(source).observe(report.duration_seconds)
        self._series.lost_total.labels(source).inc(report.lost)
        self._series.refused_total.labels(source).inc(report.refused_now)
        for sign in report.late:
            if not sign.told_before:
                self._series.late_total.labels(source, self._kind_label(source, sign.kind)).inc()
        self._series.database_up.labels(source).set(not report.database_away)
        self._series.leader.labels(source).set(report.leads)
        if report.asked_witness or report.leads:
            # A leader that asked no witness has none configured any more.
            self._series.witness_up.labels(source).set(report.witness_trouble is None)
        if report.outcome is not Outcome.FAILED:
            self._series.breaker_open.labels(source).set(report.outcome is Outcome.HELD)
            self._series.cap_open.labels(source).set(report.cap is not None)
            self._series.quiet.labels(source).set(report.outcome is Outcome.QUIET)
            self._series.observed.labels(source).set(report.outcome is Outcome.OBSERVED)
            self._series.holds.labels(source).set(report.holds)
            self._series.deaf.labels(source).set(report.deaf_seconds)
            self._series.unknown_moments.labels(source).set(len(report.unknown_moments))
            self._series.refused.labels(source).set(report.refused_total)
            self._series.locked.labels(source).set(report.locked_total)
            self._series.overdue.labels(source).set(sum(locked.overdue for locked in report.locked))
        if report.future_signs is not None:
            self._series.ahead.labels(source).set(report.future_signs.jobs)
        if report.outcome is Outcome.STANDBY:
            # The replica that sweeps exports the counts; a sum over replicas must count each job once.
            for gauge in self._series.from_survey():
                gauge.labels(source).set(0)
        troubles = (
            report.late_trouble,
            report.revoke_trouble,
            report.start_lost_trouble,
            report.future_signs_trouble,
        )
        for part, trouble in zip(OPTIONAL_STEPS, troubles, strict=True):
            self._series.parts_failed_total.labels(source, part).inc(trouble is not None)
        self._set_remaining(source, report)
        if report.succeeded:
            self._series.last_success.labels(source).set_to_current_time()

    def purged(self, source: str, rows: int) -> None:
        if source in self._kinds:
            self._series.purged_total.labels(source).inc(rows)

    def purge_ended(self, report: PurgeReport) -> None:
        """`purged` has counted the rows."""
        if report.source in self._kinds:
            self._series.purges_total.labels(report.source, report.outcome.value).inc()

    def _set_remaining(self, source: str, report: SweepReport) -> None:
        """The smaller count of two sweeps: a row that is locked only for a moment does not count."""
        if report.outcome in (Outcome.STANDBY, Outcome.OBSERVED):
            self._remaining_before.pop(source, None)
            self._series.left.labels(source).set(0)
        elif report.stale_remaining is not None:
            before, self._remaining_before[source] = self._remaining_before.get(source, 0), report.stale_remaining
            self._series.left.labels(source).set(min(before, report.stale_remaining))

    def _kind_label(self, source: str, kind: str | None) -> str:
        return self._counted_kind(source, kind_label(kind or ""))

    def _counted_kind(self, source: str, label: str) -> str:
        """The label, or that of all others once there are too many."""
        return _known_or_other(self._kinds[source], label or "none", MAX_KINDS)


def _known_or_other(known: set[str], name: str, most: int) -> str:
    """The name, which is known from now on; OTHER_KINDS once there are too many."""
    if name in known or len(known) < most:
        known.add(name)
        return name
    return OTHER_KINDS
