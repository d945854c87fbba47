"""Sources as the settings describe them: for the daemon and for the commands alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from reaper.config import Settings, SourceSettings
from reaper.database.timeouts import Timeouts
from reaper.errors import ConfigError, ProbeNotInstalled
from reaper.liveness import LivenessProbe
from reaper.model import Threshold, Thresholds
from reaper.source import Source
from reaper.source.source import SourceOptions


def create_source(settings: Settings, found: SourceSettings, *, absence_seconds: float | None = None) -> Source:
    """A source with the witness that its profile needs.

    A worker that has gone keeps its jobs unknown for `absence_seconds` (None: for as long as the settings say). Raises
    ConfigError for a URL that cannot be used, and where a driver or Celery is not installed.
    """
    return Source(
        found.name,
        found.database_url.get_secret_value(),
        found.profile,
        found.thresholds,
        Timeouts(statement=settings.statement_timeout_seconds, connect=settings.connect_timeout_seconds),
        SourceOptions(found.action, _witness(found, absence_seconds), found.queues, found.max_age_seconds),
    )


def with_thresholds(found: SourceSettings, timeout: Threshold, stall: Threshold) -> SourceSettings:
    """The source with these thresholds for every job, whatever its kind or its row says."""
    whatever = found.profile.model_copy(update={"limits": None})
    return replace(found, thresholds=Thresholds(timeout, stall), profile=whatever)


def with_max_age(found: SourceSettings, age: Threshold) -> SourceSettings:
    """Past its timeout after so long, and silent after as long at the latest."""
    return with_thresholds(found, age, min(found.thresholds.stall, age, key=lambda limit: limit.seconds))


def on_same_broker(settings: Settings, source: str) -> Iterable[SourceSettings]:
    """The sources whose jobs the same workers execute, this one among them."""
    mine = settings.sources[source].broker
    return [each for each in settings.sources.values() if each.profile.needs_broker and each.broker == mine]


def _witness(found: SourceSettings, absence_seconds: float | None) -> LivenessProbe | None:
    if not found.profile.needs_broker or found.broker is None:
        return None
    # Only now: most have no broker, and help is to be quick.
    from reaper.liveness.celery import CeleryProbe

    absence = found.worker_absence_seconds if absence_seconds is None else absence_seconds
    url = found.broker.get_secret_value()
    try:
        return CeleryProbe(url, found.broker_deadline_seconds, found.queues, absence_seconds=absence)
    except ProbeNotInstalled as error:
        raise ConfigError([f"source {found.name}: {error}"]) from None
