"""Settings and sources for a command, and asking several of them, each alone in its trouble."""

from __future__ import annotations

import os

import click

from reaper.common.suggestions import did_you_mean
from reaper.config import Settings, SourceSettings, load
from reaper.errors import ConfigError
from reaper.operations.sources import create_one_off_source
from reaper.source import Source

_NO_DATABASE = (
    "no database is configured: set REAPER_DATABASE_URL, or database_url in the configuration file "
    "(config/reaper.toml, or --config PATH); `reaper demo` needs none"
)


def settings_of(ctx: click.Context, **flags: object) -> Settings:
    """The settings in force, under the flags of this call. Raises ConfigError, also for a want of any database."""
    settings = load({"config": ctx.obj, **flags}, os.environ)
    if not settings.sources:
        raise ConfigError([_NO_DATABASE])
    return settings


def selected(settings: Settings, name: str | None) -> list[Source]:
    """The sources to work on: the one of that name, or all. Raises UsageError for a name that there is not."""
    if name is not None:
        require_known(settings, name)
    return [create_one_off_source(settings, found) for found in settings.sources.values() if name in (None, found.name)]


def only_source(settings: Settings, name: str | None) -> SourceSettings:
    """The settings of the one source that is meant. Raises UsageError when that is not clear."""
    if name is None and len(settings.sources) > 1:
        raise click.UsageError(
            f"There are several sources: {', '.join(settings.sources)}. Say which one with --source."
        )
    return settings.sources[require_known(settings, name or next(iter(settings.sources)))]


def require_known(settings: Settings, name: str) -> str:
    """The same name. Raises UsageError, with the nearest one, when no source has it."""
    if name not in settings.sources:
        raise click.UsageError(f"There is no source {name!r}{did_you_mean(name, settings.sources)}")
    return name
