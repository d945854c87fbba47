"""The settings and sources that a command works on."""

from __future__ import annotations

import os

import click

from reaper.common.suggestions import did_you_mean
from reaper.config import Settings, SourceSettings, load
from reaper.errors import ConfigError
from reaper.operations.sources import create
from reaper.source import Source

_NO_DATABASE = (
    "no database is configured: set REAPER_DATABASE_URL, or database_url in the configuration file "
    "(config/reaper.toml, or --config PATH); `reaper demo` needs none"
)


def load_settings(ctx: click.Context, **flags: object) -> Settings:
    """The settings in force, overridden by `flags`. Raises ConfigError, also when no database is configured."""
    settings = load({"config": ctx.obj, **flags}, os.environ)
    if not settings.sources:
        raise ConfigError([_NO_DATABASE])
    return settings


def select_sources(settings: Settings, name: str | None) -> list[Source]:
    """The source of that name, or all. Raises UsageError when no source has the name."""
    if name is not None:
        require_source(settings, name)
    return [create(settings, source) for source in settings.sources.values() if name in (None, source.name)]


def single_source(settings: Settings, name: str | None) -> SourceSettings:
    """The settings of the source of that name, or of the only source. Raises UsageError when there are several."""
    if name is None and len(settings.sources) > 1:
        raise click.UsageError(f"There are several sources: {', '.join(settings.sources)}. Choose one with --source.")
    return settings.sources[require_source(settings, name or next(iter(settings.sources)))]


def require_source(settings: Settings, name: str) -> str:
    """Returns `name`. Raises UsageError with a suggestion when no source has it."""
    if name not in settings.sources:
        raise click.UsageError(f"There is no source {name!r}{did_you_mean(name, settings.sources)}")
    return name
