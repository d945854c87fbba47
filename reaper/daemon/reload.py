"""Compares configurations for a reload: is the new one valid, which runners change, what needs a restart."""

from __future__ import annotations

from reaper.config import Settings, database_location
from reaper.errors import ConfigError
from reaper.source.factory import create_source, is_watched
from reaper.web.guard import AccessControl, refuse_exposed

# Bound or opened once, when the process starts.
_NEEDS_RESTART = ("http_host", "http_port", "state_dir", "log_file")


def validate(settings: Settings) -> None:
    """Raises ConfigError if a daemon would not start with these settings. Connects to nothing, changes nothing."""
    if not settings.sources and not settings.without_sources:
        raise ConfigError(["no database is configured"])
    refuse_exposed(settings)
    AccessControl().configure(settings)
    for source in settings.sources.values():
        create_source(settings, source)


def needs_restart(old: Settings, fresh: Settings) -> bool:
    """Whether a setting differs that a running process cannot change."""
    return any(getattr(old, name) != getattr(fresh, name) for name in _NEEDS_RESTART)


def needs_rebuild(name: str, old: Settings, fresh: Settings) -> bool:
    """Whether the runner of this source must be replaced or removed."""
    before, after = old.sources[name], fresh.sources.get(name)
    if after is None or before != after or _runner_settings(old) != _runner_settings(fresh):
        return True
    return is_watched(old, before) != is_watched(fresh, after)


def same_database(name: str, old: Settings, fresh: Settings) -> bool:
    """Whether the source is in the same database as before, with whatever user and parameters."""
    before, after = (settings.sources[name].database_url.get_secret_value() for settings in (old, fresh))
    return database_location(before) == database_location(after)


def _runner_settings(settings: Settings) -> tuple[object, ...]:
    """Settings of all sources that a runner is created with."""
    return (
        settings.interval_seconds,
        settings.batch_size,
        settings.breaker_min,
        settings.breaker_share,
        settings.restart_grace_seconds,
        settings.statement_timeout_seconds,
        settings.connect_timeout_seconds,
    )
