"""How the databases spell what the profiles name, for people: one short contact with each, all at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from reaper.common.background_gc import gc_in_background_thread
from reaper.config import Settings, SourceSettings
from reaper.errors import ConfigError, SpellingUnclear
from reaper.operations.sources import SourceResult, create_one_off_source, for_each_source
from reaper.source import Source

_CONNECT_SECONDS = 3.0
_THREADS = 8


def spellings(settings: Settings) -> list[SourceResult[list[str]]]:
    """What each database spells otherwise than the profile, one text for each difference; none where nothing is.

    Changes nothing. A database gets three seconds to take a connection.
    """
    hasty = settings.model_copy(
        update={"connect_timeout_seconds": min(_CONNECT_SECONDS, settings.connect_timeout_seconds)}
    )
    with gc_in_background_thread(), ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(partial(_spelling, hasty), settings.sources.values()))


def _spelling(settings: Settings, source_settings: SourceSettings) -> SourceResult[list[str]]:
    try:
        source = create_one_off_source(settings, source_settings)
    except ConfigError as error:
        return SourceResult(source_settings.name, None, str(error))
    [result] = for_each_source([source], lambda opened: list(_differences(opened)), lambda _error: None)
    return result


def _differences(source: Source) -> Iterator[str]:
    try:
        with source.connect():
            yield from (f"{subject}: {message}" for subject, message in source.spelling.notes())
    except SpellingUnclear as unclear:
        yield from (f"unclear: {problem}" for problem in unclear.problems)
