"""Makes sources from the settings, for the daemon and for the commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from reaper.config import Settings, SourceSettings
from reaper.config.error_messages import dotted
from reaper.database.timeouts import Timeouts
from reaper.errors import ConfigError, ProbeNotInstalled
from reaper.liveness import LivenessProbe
from reaper.liveness.unproven_broker import UnprovenBroker
from reaper.model import Threshold, Thresholds
from reaper.source import Source, SourceOptions, SpellingDecision
from reaper.source.ending_cap import EndedLately, EndingCap
from reaper.source.kept_jobs import JobHolds
from reaper.source.requeue_counts import RequeueLimit, may_requeue
from reaper.staleness.future_signs import SeenStates
from reaper.staleness.quiet_times import QuietTimes
from reaper.staleness.reap_moments import ReapedRows, bare_table, watched_tables


class SourceStores(NamedTuple):
    """What sources keep beyond their process, and share with other processes; None: nothing is kept.

    `reaped_rows` keeps what the reaper writes to rows that other sources ask about, `future_signs` which signs of life
    in the future were seen, `first_seen` when jobs without a start were, `local_columns` which columns are proven to be
    in local time, `holds` which jobs operators hold, `ended_lately` how many jobs were ended, `worker_states` the
    workers as they were seen, and `requeue_counts` how often jobs were started again.
    """

    reaped_rows: ReapedRows | None = None
    future_signs: SeenStates | None = None
    first_seen: SeenStates | None = None
    local_columns: SeenStates | None = None
    holds: JobHolds | None = None
    ended_lately: EndedLately | None = None
    worker_states: SeenStates | None = None
    requeue_counts: SeenStates | None = None


NO_STORES = SourceStores()


def create_source(
    settings: Settings,
    source: SourceSettings,
    *,
    absence_seconds: float | None = None,
    stores: SourceStores = NO_STORES,
    decision: SpellingDecision | None = None,
) -> Source:
    """A source with the probe that its profile needs.

    A worker that is gone keeps its jobs unknown for `absence_seconds` (None: as long as the settings say). `decision`
    is that of another source with the same database and profile.

    Raises ConfigError for a URL that cannot be used, and when a driver or Celery is not installed.
    """
    return Source(
        source.name,
        source.database_url.get_secret_value(),
        source.profile,
        source.thresholds,
        Timeouts(statement=settings.statement_timeout_seconds, connect=settings.connect_timeout_seconds),
        SourceOptions(
            source.action,
            _probe(source, absence_seconds),
            source.queues,
            source.max_age_seconds,
            stores.reaped_rows,
            stores.future_signs,
            stores.first_seen,
            stores.local_columns,
            stores.holds,
            _cap(settings, source, stores.ended_lately),
            source.never,
            QuietTimes(source.quiet, origin(settings, source, "quiet")),
            never_origin=origin(settings, source, "never"),
            remembers=is_watched(settings, source),
            start_lost=source.start_lost,
            observed=origin(settings, source, "observe") if source.observe else None,
            worker_states=stores.worker_states,
            gone_after_seconds=source.gone_after_seconds,
            worker_lost_action=source.action if source.worker_lost == "action" else "fail",
            requeue_limit=_requeue_limit(settings, source, stores.requeue_counts),
        ),
        decision,
    )


def stores_of(source: Source) -> SourceStores:
    """The stores of this source, for another one of the same process."""
    own = source.options
    ended = None if own.cap is None else own.cap.ended
    return SourceStores(
        own.reaped_rows,
        own.future_signs,
        own.first_seen,
        own.local_columns,
        own.holds,
        ended,
        own.worker_states,
        None if own.requeue_limit is None else own.requeue_limit.counts,
    )


def origin(settings: Settings, source: SourceSettings, name: str) -> str:
    """Where a setting of the source was set."""
    return settings.origins.get(dotted(("sources", source.name, name)), "default")


def _cap(settings: Settings, source: SourceSettings, ended: EndedLately | None) -> EndingCap | None:
    if source.most is None or ended is None:
        return None
    return EndingCap(source.most, origin(settings, source, "most"), ended)


def _requeue_limit(settings: Settings, source: SourceSettings, counts: SeenStates | None) -> RequeueLimit | None:
    if counts is None or not may_requeue(source.profile, source.action):
        return None
    return RequeueLimit(source.requeue_limit, origin(settings, source, "requeue_limit"), counts)


def is_watched(settings: Settings, source: SourceSettings) -> bool:
    """Whether a source of these settings wants to know what the reaper writes to the jobs of this one."""
    watched = watched_tables(other.profile for other in settings.sources.values())
    return bare_table(source.profile.jobs.table) in watched


def with_thresholds(source: SourceSettings, timeout: Threshold, stall: Threshold) -> SourceSettings:
    """The source with these thresholds for every job; a longer limit of its kind or its row holds."""
    return replace(source, thresholds=source.thresholds.at_least(timeout, stall))


def without_own_limits(source: SourceSettings) -> SourceSettings | None:
    """The source whose every job has the same thresholds; None where that is so."""
    if not source.thresholds.kinds and source.profile.limits is None:
        return None
    flat = Thresholds(source.thresholds.timeout, source.thresholds.stall)
    return replace(source, thresholds=flat, profile=source.profile.model_copy(update={"limits": None}))


def with_start_lost(source: SourceSettings) -> SourceSettings:
    """The source whose sweeps also end jobs whose start was lost, unless it does not look for them."""
    return source if source.start_lost == "off" else replace(source, start_lost="end")


def with_max_age(source: SourceSettings, age: Threshold) -> SourceSettings:
    """The source with this timeout, and with a stall window that is no longer."""
    return with_thresholds(source, age, min(source.thresholds.stall, age, key=lambda threshold: threshold.seconds))


def on_same_broker(settings: Settings, source: str) -> Iterable[SourceSettings]:
    """The sources whose jobs the same workers execute, this one among them."""
    broker = settings.sources[source].broker
    return [other for other in settings.sources.values() if other.profile.needs_broker and other.broker == broker]


def _probe(source: SourceSettings, absence_seconds: float | None) -> LivenessProbe | None:
    if not source.profile.needs_broker or source.broker is None:
        return None
    # Imported late: most sources have no broker, and `--help` must be quick.
    from reaper.liveness.celery import CeleryProbe

    absence = source.worker_absence_seconds if absence_seconds is None else absence_seconds
    url = source.broker.get_secret_value()
    try:
        probe = CeleryProbe(url, source.broker_deadline_seconds, source.queues, absence_seconds=absence)
    except ProbeNotInstalled as error:
        raise ConfigError([f"source {source.name}: {error}"]) from None
    return UnprovenBroker(probe, source.borrowed_broker) if source.borrowed_broker else probe
