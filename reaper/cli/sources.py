"""The settings, sources and jobs that a command works on."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from reaper.common.suggestions import did_you_mean
from reaper.common.terminal import warn
from reaper.config import Settings, SourceSettings, load
from reaper.errors import ConfigError, DatabaseUnavailable, NoSuchJob, ReaperError
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_sources
from reaper.source import Source

T = TypeVar("T")

_NO_DATABASE = (
    "no database is configured: set REAPER_DATABASE_URL, or database_url in the configuration file "
    "(config/reaper.toml, or --config PATH); `reaper demo` needs none"
)


def load_settings(ctx: click.Context, **flags: object) -> Settings:
    """The settings in force, overridden by `flags`. Raises ConfigError, also when no database is configured."""
    settings = load_daemon_settings(ctx, **flags)
    if settings.without_sources:
        raise ConfigError([f"{settings.origins['sources']}: sources: [] leaves no source to work on"])
    for note in settings.notes:
        warn(note)
    return settings


def load_daemon_settings(ctx: click.Context, **flags: object) -> Settings:
    """The settings of a daemon, which may have no source where the file says so: `sources = []`.

    Raises ConfigError, also for a database that was forgotten.
    """
    settings = load({"config": ctx.obj, **flags}, os.environ)
    if not settings.sources and not settings.without_sources:
        raise ConfigError([_NO_DATABASE, *settings.notes])
    return settings


def select_sources(settings: Settings, name: str | None) -> list[Source]:
    """The source of that name, or all. Raises UsageError when no source has the name."""
    if name is not None:
        require_source(settings, name)
    selected = [source for source in settings.sources.values() if name in (None, source.name)]
    return create_one_off_sources(settings, selected)


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


def find_job(
    sources: Sequence[Source], job: str, look_up: Callable[[Source, str], T], *, all_sources_must_answer: bool
) -> tuple[Source, T]:
    """The only source that has this job, and what `look_up` returns there.

    Args:
        all_sources_must_answer: Fail when any source cannot be read, even if another one has the job. For commands
            that change the job: it must be clear that no other job is meant.

    Raises:
        NoSuchJob: No source has the job, or `job` cannot be a key there.
        UsageError: Several sources have the job.
        DatabaseUnavailable, ReaperError: A source that may have the job could not be read.
    """
    matches, not_found, errors = list[tuple[Source, T]](), list[str](), list[ReaperError]()
    for source in sources:
        try:
            with prefix_errors(source):
                matches.append((source, look_up(source, job)))
        except NoSuchJob as error:
            not_found.append(str(error))
        except ReaperError as error:
            errors.append(error)
    if len(matches) > 1:
        names = ", ".join(source.name for source, _ in matches)
        raise click.UsageError(f"Job {job} is in several sources: {names}. Choose one with --source.")
    if errors and (all_sources_must_answer or not matches):
        unavailable = any(isinstance(error, DatabaseUnavailable) for error in errors)
        hint = f" (source {matches[0][0].name} has it; choose it with --source)" if matches else ""
        raise (DatabaseUnavailable if unavailable else ReaperError)(f"{'; '.join(map(str, errors))}{hint}")
    for trouble in errors:
        warn(str(trouble))
    if not matches:
        raise NoSuchJob("; ".join(not_found))
    return matches[0]
