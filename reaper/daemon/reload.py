"""What a new configuration means for a daemon: whether it is refused, what has to be made anew, what has to wait."""

from __future__ import annotations

from reaper.config import Settings, database_location
from reaper.errors import ConfigError
from reaper.source.factory import create_source
from reaper.web.guard import AccessControl, refuse_exposed

# What is bound or opened once, when the process starts.
_FOR_GOOD = ("http_host", "http_port", "state_dir", "log_file")


def validate(settings: Settings) -> None:
    """Raises ConfigError for what no daemon would begin with. Connects to nothing, and changes nothing."""
    if not settings.sources:
        raise ConfigError(["no database is configured"])
    refuse_exposed(settings)
    AccessControl().configure(settings)
    for source in settings.sources.values():
        create_source(settings, source)


def needs_restart(old: Settings, fresh: Settings) -> bool:
    """Whether something differs that a running process cannot change."""
    return any(getattr(old, name) != getattr(fresh, name) for name in _FOR_GOOD)


def needs_rebuild(name: str, old: Settings, fresh: Settings) -> bool:
    """Whether the watch of this source has to be made anew, or to go."""
    return _knobs(old) != _knobs(fresh) or old.sources[name] != fresh.sources.get(name)


def same_database(name: str, old: Settings, fresh: Settings) -> bool:
    """Whether the source is where it was, whoever asks for it."""
    before, after = (settings.sources[name].database_url.get_secret_value() for settings in (old, fresh))
    return database_location(before) == database_location(after)


def _knobs(settings: Settings) -> tuple[object, ...]:
    """What a running watch was made with."""
    return (
        settings.interval_seconds,
        settings.batch_size,
        settings.breaker_min,
        settings.breaker_share,
        settings.restart_grace_seconds,
        settings.statement_timeout_seconds,
        settings.connect_timeout_seconds,
    )
