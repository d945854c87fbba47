"""SweepReport → Prometheus. A registry of its own; every name and label is there from the start."""

from __future__ import annotations

import platform
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from math import nan

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from reaper import __version__
from reaper.model import JobCounts, Outcome, PurgeReport, ReapedJob, Reason, SweepReport
from reaper.sweep.halt import HaltSwitch

MOST_KINDS = 50
PARTS = ("late_signs", "revocations")
"""What a sweep does beside ending jobs: it looks at those that it ended, and has Celery revoke their tasks."""

OTHER = "other"

_SOURCE = ("source",)
_SWEEP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SILENCE_BUCKETS = (60, 300, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 604800)


class Metrics:
    """What Prometheus scrapes. A listener of sweeps."""

    def __init__(self, halt: HaltSwitch | None = None) -> None:
        self.registry = registry = CollectorRegistry()
        self._kinds: dict[str, set[str]] = {}
        self._left: dict[str, int] = {}
        self.reaped_total = Counter(
            "reaper_jobs_reaped_total",
            "Jobs ended. Kinds beyond 50 of a source are counted as other.",
            ("source", "kind", "reason"),
            registry=registry,
        )
        self.refused_total = Counter(
            "reaper_jobs_refused_total", "Stale jobs that the database refused to end.", _SOURCE, registry=registry
        )
        self.lost_total = Counter(
            "reaper_reaps_lost_total",
            "Candidates that moved between the survey and the lock: they were alive.",
            _SOURCE,
            registry=registry,
        )
        self.late_total = Counter(
            "reaper_late_signs_total",
            "Ended jobs that showed life afterwards. Kinds beyond 50 of a source are counted as other.",
            ("source", "kind"),
            registry=registry,
        )
        self.purged_total = Counter(
            "reaper_purged_total", "Finished jobs deleted by scheduled purges.", _SOURCE, registry=registry
        )
        self.purges_total = Counter(
            "reaper_purges_total", "Scheduled purges by how they went.", ("source", "outcome"), registry=registry
        )
        self.sweeps_total = Counter(
            "reaper_sweeps_total", "Sweeps by how they went.", ("source", "outcome"), registry=registry
        )
        self.parts_failed_total = Counter(
            "reaper_sweep_parts_failed_total",
            "Parts of sweeps that could not be done, where the sweep went on without them.",
            ("source", "part"),
            registry=registry,
        )
        self.running = Gauge("reaper_jobs_running", "Jobs that claim to be running.", _SOURCE, registry=registry)
        self.spared = Gauge("reaper_jobs_spared", "Jobs past their timeout, and alive.", _SOURCE, registry=registry)
        self.stale = Gauge("reaper_jobs_stale", "Stale jobs that the survey found.", _SOURCE, registry=registry)
        self.left = Gauge(
            "reaper_jobs_stale_left",
            "Stale jobs that were there still after each of the last two sweeps: the fewer of the two.",
            _SOURCE,
            registry=registry,
        )
        self.most_overdue = Gauge(
            "reaper_most_overdue_ratio",
            "How many times its timeout the job furthest past it has been running: 2 is twice; 0 when none is past it.",
            _SOURCE,
            registry=registry,
        )
        self.locked = Gauge(
            "reaper_candidates_locked", "Stale jobs whose row somebody else holds.", _SOURCE, registry=registry
        )
        self.overdue = Gauge(
            "reaper_candidates_locked_overdue",
            "Stale jobs whose row somebody else has held for longer than the stall window.",
            _SOURCE,
            registry=registry,
        )
        self.refused = Gauge(
            "reaper_candidates_refused",
            "Stale jobs that the database refuses to end, now or within the last ten minutes.",
            _SOURCE,
            registry=registry,
        )
        self.deaf = Gauge(
            "reaper_deaf_seconds",
            "How much longer than the stall window a job must be silent, because the database was away meanwhile; "
            "+Inf while too little has been heard for any job to be ended.",
            _SOURCE,
            registry=registry,
        )
        self.oldest = Gauge(
            "reaper_oldest_running_started_timestamp_seconds",
            "Start of the oldest running job; 0 when none runs.",
            _SOURCE,
            registry=registry,
        )
        self.duration = Histogram(
            "reaper_sweep_duration_seconds", "Duration of a sweep.", _SOURCE, registry=registry, buckets=_SWEEP_BUCKETS
        )
        self.silence = Histogram(
            "reaper_silence_at_reap_seconds",
            "How long a job had been silent when it was ended.",
            registry=registry,
            buckets=_SILENCE_BUCKETS,
        )
        self.last_success = Gauge(
            "reaper_last_success_timestamp_seconds",
            "Time of this replica's last sweep that went well; 0 before the first. A standby's are none.",
            _SOURCE,
            registry=registry,
        )
        self.breaker_open = Gauge(
            "reaper_breaker_open", "1 while mass silence holds the sweeps.", _SOURCE, registry=registry
        )
        self.leader = Gauge("reaper_leader", "1 while this replica is the one that sweeps.", _SOURCE, registry=registry)
        self.database_up = Gauge(
            "reaper_database_up",
            "1 while the database answers and can be written to; NaN before the end of the first sweep.",
            _SOURCE,
            registry=registry,
        )
        self.witness_up = Gauge(
            "reaper_witness_up",
            "1 while the witness outside the database can be asked, and where there is none.",
            _SOURCE,
            registry=registry,
        )
        self.longest_timeout = Gauge(
            "reaper_longest_timeout_seconds",
            "The longest timeout that a job of the source can have; +Inf where rows may bring their own.",
            _SOURCE,
            registry=registry,
        )
        self.interval = Gauge("reaper_interval_seconds", "Seconds between two sweeps.", registry=registry)
        self.halted = Gauge("reaper_halted", "1 while the supervisor is halted: nothing is ended.", registry=registry)
        self.halted.set_function((lambda: float(halt.is_halted)) if halt else float)
        self.config_reloaded = Gauge(
            "reaper_config_last_reload_successful",
            "0 from a reload that is refused to the next that is not: an older configuration is in force. 1 otherwise.",
            registry=registry,
        )
        self.config_taken = Gauge(
            "reaper_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was taken, at the start or by a reload.",
            registry=registry,
        )
        self.reloaded([])
        build = Gauge("reaper_build_info", "Version; always 1.", ("version", "python"), registry=registry)
        build.labels(__version__, platform.python_version()).set(1)
        ProcessCollector(registry=registry)

    def set_sources(
        self, sources: Iterable[str], interval_seconds: float, longest_timeouts: Mapping[str, float] | None = None
    ) -> None:
        """Show these sources, and no others, before anything has happened to them."""
        self.interval.set(interval_seconds)
        wanted = set(sources)
        for gone in self._kinds.keys() - wanted:
            for metric in self._by_source():
                metric.remove(gone)
            self.reaped_total.remove_by_labels({"source": gone})
            self.late_total.remove_by_labels({"source": gone})
            self.sweeps_total.remove_by_labels({"source": gone})
            self.purges_total.remove_by_labels({"source": gone})
            self.parts_failed_total.remove_by_labels({"source": gone})
            self._left.pop(gone, None)
            del self._kinds[gone]
        for source in wanted - self._kinds.keys():
            self._kinds[source] = set()
            for metric in self._by_source():
                metric.labels(source)
            self.witness_up.labels(source).set(1)
            # A first sweep may take minutes: that says nothing of the database.
            self.database_up.labels(source).set(nan)
            self.late_total.labels(source, OTHER)
            for part in PARTS:
                self.parts_failed_total.labels(source, part)
            for reason in Reason:
                self.reaped_total.labels(source, OTHER, reason.value)
            for outcome in Outcome:
                self.sweeps_total.labels(source, outcome.value)
                self.purges_total.labels(source, outcome.value)
        for source in wanted:
            self.longest_timeout.labels(source).set((longest_timeouts or {}).get(source, float("inf")))

    def reloaded(self, problems: Sequence[str]) -> None:
        """A new configuration has been taken, or refused for these reasons."""
        self.config_reloaded.set(not problems)
        if not problems:
            self.config_taken.set_to_current_time()

    def _by_source(self) -> tuple[Counter | Gauge | Histogram, ...]:
        counters = (self.refused_total, self.lost_total, self.purged_total)
        surveyed = (*self._surveyed(), self.deaf)
        candidates = (self.left, self.locked, self.overdue, self.refused)
        return (
            *counters,
            *surveyed,
            *candidates,
            self.duration,
            self.last_success,
            self.breaker_open,
            self.leader,
            self.database_up,
            self.witness_up,
            self.longest_timeout,
        )

    def _surveyed(self) -> tuple[Gauge, ...]:
        """What a survey counts, which only the one that sweeps makes."""
        return (self.running, self.spared, self.stale, self.oldest, self.most_overdue)

    # --- listener; a source that is gone may still have a sweep that ends, which would bring it back ----------

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:  # noqa: ARG002
        if source not in self._kinds:
            return
        for (kind, reason), count in Tally((job.kind, job.reason) for job in batch).items():
            self.reaped_total.labels(source, self._kind(source, kind), reason).inc(count)
        for job in batch:
            if job.silence_seconds is not None:
                self.silence.observe(job.silence_seconds)

    def surveyed(self, source: str, census: JobCounts) -> None:
        if source not in self._kinds:
            return
        self.running.labels(source).set(census.running)
        self.spared.labels(source).set(census.spared)
        self.stale.labels(source).set(census.stale)
        self.oldest.labels(source).set(census.oldest_started_epoch or 0)
        self.most_overdue.labels(source).set(census.most_overdue)

    def swept(self, report: SweepReport) -> None:
        source = report.source
        if source not in self._kinds:
            return
        self.sweeps_total.labels(source, report.outcome.value).inc()
        self.duration.labels(source).observe(report.duration_seconds)
        self.lost_total.labels(source).inc(report.lost)
        self.refused_total.labels(source).inc(len(report.failures))
        for sign in report.late:
            if not sign.told_before:
                self.late_total.labels(source, self._kind(source, sign.kind)).inc()
        self.database_up.labels(source).set(not report.database_away)
        self.leader.labels(source).set(report.leads)
        if report.asked_witness or report.leads:
            # Who leads asks: where nobody was asked there is nobody any more.
            self.witness_up.labels(source).set(report.witness_trouble is None)
        if report.outcome is not Outcome.FAILED:
            self.breaker_open.labels(source).set(report.outcome is Outcome.HELD)
            self.deaf.labels(source).set(report.deaf_seconds)
            self.refused.labels(source).set(report.refused_total)
            self.locked.labels(source).set(report.locked_total)
            self.overdue.labels(source).set(sum(locked.overdue for locked in report.locked))
        if report.outcome is Outcome.STANDBY:
            # The one that sweeps has counted them; counted twice they would be twice as many.
            for gauge in self._surveyed():
                gauge.labels(source).set(0)
        for part, trouble in zip(PARTS, (report.late_trouble, report.revoke_trouble), strict=True):
            self.parts_failed_total.labels(source, part).inc(trouble is not None)
        self._count_left(source, report)
        if report.succeeded:
            self.last_success.labels(source).set_to_current_time()

    def purged(self, source: str, rows: int) -> None:
        if source in self._kinds:
            self.purged_total.labels(source).inc(rows)

    def purge_ended(self, report: PurgeReport) -> None:
        """Its rows have been counted batch by batch."""
        if report.source in self._kinds:
            self.purges_total.labels(report.source, report.outcome.value).inc()

    def _count_left(self, source: str, report: SweepReport) -> None:
        """A row that is held just now is left once: only who is left twice is left for good."""
        if report.outcome is Outcome.STANDBY:
            self._left.pop(source, None)
            self.left.labels(source).set(0)
        elif report.stale_remaining is not None:
            before, self._left[source] = self._left.get(source, 0), report.stale_remaining
            self.left.labels(source).set(min(before, report.stale_remaining))

    def _kind(self, source: str, kind: str | None) -> str:
        known = self._kinds[source]
        name = kind or "none"
        if name in known or len(known) < MOST_KINDS:
            known.add(name)
            return name
        return OTHER
