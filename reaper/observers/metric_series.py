"""The metrics of the daemon: names, labels, help texts and buckets."""

from __future__ import annotations

import platform

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from reaper import __version__
from reaper.sweep.halt_switch import HaltSwitch

_SOURCE = ("source",)
_SWEEP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SILENCE_BUCKETS = (60, 300, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400, 172800, 604800)


class MetricSeries:
    """All metrics, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry, halt: HaltSwitch | None) -> None:
        self.reaped_total = Counter(
            "reaper_jobs_reaped_total",
            "Jobs ended: by this daemon, and by commands and Celery tasks that have its state directory, or its "
            "address and a token. "
            "Kinds beyond 50 of a source are counted as other, and so are actions beyond 20.",
            ("source", "kind", "reason", "action"),
            registry=registry,
        )
        self.refused_total = Counter(
            "reaper_jobs_refused_total", "Stale jobs that the database refused to end.", _SOURCE, registry=registry
        )
        self.lost_total = Counter(
            "reaper_reaps_lost_total",
            "Candidates that changed between the survey and the lock: they were alive.",
            _SOURCE,
            registry=registry,
        )
        self.late_total = Counter(
            "reaper_late_signs_total",
            "Ended jobs that showed a sign of life afterwards. Kinds beyond 50 of a source are counted as other.",
            ("source", "kind"),
            registry=registry,
        )
        self.purged_total = Counter(
            "reaper_purged_total", "Finished jobs deleted by scheduled purges.", _SOURCE, registry=registry
        )
        self.purges_total = Counter(
            "reaper_purges_total", "Scheduled purges by outcome.", ("source", "outcome"), registry=registry
        )
        self.sweeps_total = Counter(
            "reaper_sweeps_total", "Sweeps by outcome.", ("source", "outcome"), registry=registry
        )
        self.parts_failed_total = Counter(
            "reaper_sweep_parts_failed_total",
            "Steps of sweeps that failed while the sweep itself went on.",
            ("source", "part"),
            registry=registry,
        )
        self.running = Gauge("reaper_jobs_running", "Jobs that claim to be running.", _SOURCE, registry=registry)
        self.spared = Gauge("reaper_jobs_spared", "Jobs past their timeout, and alive.", _SOURCE, registry=registry)
        self.stale = Gauge("reaper_jobs_stale", "Stale jobs that the survey found.", _SOURCE, registry=registry)
        self.left = Gauge(
            "reaper_jobs_stale_left",
            "Stale jobs left after a sweep: the smaller count of the last two sweeps.",
            _SOURCE,
            registry=registry,
        )
        self.most_overdue = Gauge(
            "reaper_most_overdue_ratio",
            "Highest ratio of age to timeout among running jobs past their timeout; 0 when there is none.",
            _SOURCE,
            registry=registry,
        )
        self.locked = Gauge(
            "reaper_candidates_locked", "Stale jobs whose row another session has locked.", _SOURCE, registry=registry
        )
        self.overdue = Gauge(
            "reaper_candidates_locked_overdue",
            "Stale jobs whose row another session has locked for longer than the stall window.",
            _SOURCE,
            registry=registry,
        )
        self.refused = Gauge(
            "reaper_candidates_refused",
            "Stale jobs that the database refuses to end: in the last sweep, or before it, so that they are set aside.",
            _SOURCE,
            registry=registry,
        )
        self.ahead = Gauge(
            "reaper_jobs_with_future_signs",
            "Jobs past their timeout with a sign of life in the future, which counts from when it was first seen.",
            _SOURCE,
            registry=registry,
        )
        self.without_start = Gauge(
            "reaper_jobs_without_start",
            "Running jobs none of whose start columns has a moment: they count from when the reaper first saw them.",
            _SOURCE,
            registry=registry,
        )
        self.unknown_moments = Gauge(
            "reaper_columns_with_unknown_moments",
            "Columns whose moments are proven, or suspected, not to be what they are taken for, such as local times "
            "read as UTC: the jobs that they decide about are spared.",
            _SOURCE,
            registry=registry,
        )
        self.start_unknown = Gauge(
            "reaper_jobs_with_unknown_start",
            "Those of the running jobs without a start that the reaper does not remember, as there are too many: they "
            "are young until some of the others have ended.",
            _SOURCE,
            registry=registry,
        )
        self.deaf = Gauge(
            "reaper_deaf_seconds",
            "Seconds beyond the stall window that a job must be silent, because the database was away meanwhile; "
            "+Inf while it has been reachable for too short a time to end any job.",
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
            "Time of this replica's last successful sweep; 0 before the first. A standby has none.",
            _SOURCE,
            registry=registry,
        )
        self.breaker_open = Gauge(
            "reaper_breaker_open",
            "1 while the breaker holds the sweeps because nearly all running jobs fell silent at once, or the cap does "
            "because too many were ended lately.",
            _SOURCE,
            registry=registry,
        )
        self.cap_open = Gauge(
            "reaper_cap_open",
            "1 while the cap holds the sweeps because too many jobs were ended lately; reaper_breaker_open is 1, too.",
            _SOURCE,
            registry=registry,
        )
        self.quiet = Gauge(
            "reaper_quiet", "1 while it is a quiet time of the source: no job is ended.", _SOURCE, registry=registry
        )
        self.observed = Gauge(
            "reaper_observed",
            "1 while the source is only observed: its jobs are judged, and none is ended.",
            _SOURCE,
            registry=registry,
        )
        self.kept = Gauge(
            "reaper_jobs_kept",
            "Stale jobs that nothing ends: an operator holds them, or their kind is never ended.",
            _SOURCE,
            registry=registry,
        )
        self.holds = Gauge("reaper_jobs_held", "Jobs that operators hold.", _SOURCE, registry=registry)
        self.leader = Gauge("reaper_leader", "1 while this replica is the one that sweeps.", _SOURCE, registry=registry)
        self.database_up = Gauge(
            "reaper_database_up",
            "1 while the database answers and can be written to; NaN before the end of the first sweep.",
            _SOURCE,
            registry=registry,
        )
        self.witness_up = Gauge(
            "reaper_witness_up",
            "1 while Celery workers can be inspected, and for sources without Celery; 0 while they cannot.",
            _SOURCE,
            registry=registry,
        )
        self.longest_timeout = Gauge(
            "reaper_longest_timeout_seconds",
            "The longest timeout of the source's jobs; +Inf where rows have timeouts of their own.",
            _SOURCE,
            registry=registry,
        )
        self.interval = Gauge("reaper_interval_seconds", "Seconds between two sweeps.", registry=registry)
        self.halted = Gauge("reaper_halted", "1 while the supervisor is halted: no job is ended.", registry=registry)
        self.halted.set_function((lambda: float(halt.is_halted)) if halt else float)
        self.config_reloaded = Gauge(
            "reaper_config_last_reload_successful",
            "0 after a reload that was refused: an older configuration is in force. 1 otherwise.",
            registry=registry,
        )
        self.config_taken = Gauge(
            "reaper_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was loaded, at the start or by a reload.",
            registry=registry,
        )
        build = Gauge("reaper_build_info", "Version; always 1.", ("version", "python"), registry=registry)
        build.labels(__version__, platform.python_version()).set(1)
        ProcessCollector(registry=registry)

    def by_source(self) -> tuple[Counter | Gauge | Histogram, ...]:
        """The metrics whose only label is the source."""
        return (
            self.refused_total,
            self.lost_total,
            self.purged_total,
            *self.from_survey(),
            self.deaf,
            self.left,
            self.locked,
            self.overdue,
            self.refused,
            self.duration,
            self.last_success,
            self.breaker_open,
            self.cap_open,
            self.quiet,
            self.observed,
            self.holds,
            self.leader,
            self.database_up,
            self.witness_up,
            self.longest_timeout,
        )

    def from_survey(self) -> tuple[Gauge, ...]:
        """The counts of a survey, which a standby does not make."""
        survey = (self.running, self.spared, self.stale, self.oldest, self.most_overdue)
        return (*survey, self.ahead, self.kept, self.without_start, self.start_unknown, self.unknown_moments)

    def with_more_labels(self) -> tuple[Counter, ...]:
        """The metrics with more labels than the source."""
        return (self.reaped_total, self.late_total, self.sweeps_total, self.purges_total, self.parts_failed_total)
