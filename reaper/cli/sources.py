"""Settings and sources for a command, and asking several of them, each alone in its trouble."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import click

from reaper.cli import exits
from reaper.cli.document import say
from reaper.hearing import Hearing
from reaper.making import make_source
from reaper.model import ConfigError, DatabaseAway, ReaperError
from reaper.nearest import did_you_mean
from reaper.operations.naming import named
from reaper.settings import Settings, SourceSettings, load
from reaper.source import Source

T = TypeVar("T")

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


def chosen(settings: Settings, name: str | None) -> list[Source]:
    """The sources to work on: the one of that name, or all. Raises UsageError for a name that there is not."""
    if name is not None:
        known(settings, name)
    return [made(settings, found) for found in settings.sources.values() if name in (None, found.name)]


def single(settings: Settings, name: str | None) -> SourceSettings:
    """The settings of the one source that is meant. Raises UsageError when that is not clear."""
    if name is None and len(settings.sources) > 1:
        raise click.UsageError(
            f"There are several sources: {', '.join(settings.sources)}. Say which one with --source."
        )
    return settings.sources[known(settings, name or next(iter(settings.sources)))]


def known(settings: Settings, name: str) -> str:
    """The same name. Raises UsageError, with the nearest one, when no source has it."""
    if name not in settings.sources:
        raise click.UsageError(f"There is no source {name!r}{did_you_mean(name, settings.sources)}")
    return name


def made(settings: Settings, found: SourceSettings) -> Source:
    """The source, for a process that asks once: of workers it knows only those that answer it now.

    One that is being stopped, and still finishes what it executes, does not answer any more.
    """
    return make_source(settings, found, absence_seconds=0)


def hearing_of(settings: Settings) -> Hearing:
    return Hearing(settings.restart_grace_seconds)


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What one source said, or what kept it from saying anything."""

    source: str
    value: T | None
    error: str | None = None
    database_away: bool = False

    @property
    def code(self) -> int:
        if self.error is None:
            return exits.DONE
        return exits.AWAY if self.database_away else exits.FAILED


def ask_each(sources: Sequence[Source], ask: Callable[[Source], T]) -> list[Answer[T]]:
    """Every source's answer. One in trouble is told on stderr, and the others are asked all the same."""
    return [_ask(source, ask) for source in sources]


def _ask(source: Source, ask: Callable[[Source], T]) -> Answer[T]:
    try:
        with named(source):
            return Answer(source.name, ask(source))
    except ReaperError as error:
        say(f"reaper: {error}")
        said = str(error).removeprefix(f"source {source.name}: ")
        return Answer(source.name, None, said, isinstance(error, DatabaseAway))
