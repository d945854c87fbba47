"""Compares configurations for a reload: is the new one valid, which runners change, what needs a restart."""

from __future__ import annotations

from collections.abc import Iterator

from reaper.config import Settings, database_location
from reaper.config.urls import mask_broker_url, mask_database_url
from reaper.errors import ConfigError
from reaper.source.factory import create_source, is_watched
from reaper.web.guard import AccessControl, refuse_exposed

_NOT_SET = "none"
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


def needs_restart(old: Settings, fresh: Settings) -> list[str]:
    """The settings that differ and that a running process cannot change."""
    return [name for name in _NEEDS_RESTART if getattr(old, name) != getattr(fresh, name)]


def changed_settings(old: Settings, fresh: Settings) -> list[str]:
    """What differs, without secrets: one line each, with both values, and where the new one was set."""
    lines = [f"sources.{name}: added" for name in fresh.sources if name not in old.sources]
    lines += [f"sources.{name}: removed" for name in old.sources if name not in fresh.sources]
    before, after = _described(old), _described(fresh)
    for name in dict.fromkeys((*before, *after)):
        (was, _), (is_now, origin) = before.get(name, (_NOT_SET, "")), after.get(name, (_NOT_SET, ""))
        if was != is_now and not _of_one_side(name, old, fresh):
            lines.append(f"{name}: {was} -> {is_now}{f' ({origin})' if origin else ''}")
    return lines + list(_unnamed_changes(old, fresh))


def edits_without_effect(old: Settings, fresh: Settings) -> list[str]:
    """Values of the file that have been edited since, and that something with precedence hides: one line each."""
    return [
        f"{name} ({value.origin}): {value.hidden_by} has precedence"
        for name, value in fresh.hidden.items()
        if name not in old.hidden or old.hidden[name].value != value.value
    ]


def _described(settings: Settings) -> dict[str, tuple[str, str]]:
    return {name: (value, origin) for name, value, origin in settings.described()}


def _of_one_side(name: str, old: Settings, fresh: Settings) -> bool:
    """Whether it is a setting of a source that was added or removed."""
    return any(name.startswith(f"sources.{source}.") for source in old.sources.keys() ^ fresh.sources.keys())


def _unnamed_changes(old: Settings, fresh: Settings) -> Iterator[str]:
    """What differs and has the same words: the secret part of a URL, and what a profile says."""
    for name in old.sources.keys() & fresh.sources.keys():
        before, after = old.sources[name], fresh.sources[name]
        if before.profile.name == after.profile.name and before.profile != after.profile:
            yield f"sources.{name}.profile: {after.profile.name} says something else"
        for setting, was, is_now, mask in (
            ("database_url", before.database_url, after.database_url, mask_database_url),
            ("broker_url", before.broker, after.broker, mask_broker_url),
        ):
            if was != is_now and was and is_now and mask(was.get_secret_value()) == mask(is_now.get_secret_value()):
                yield f"sources.{name}.{setting}: its password, or another part that is not shown"


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
