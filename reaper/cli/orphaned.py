"""Orphans on the command line: whom to ask, and what is shown of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from reaper.cli.document import say
from reaper.cli.sources import hearing_of, made
from reaper.making import sharing_broker
from reaper.model import ReaperError
from reaper.operations import looking
from reaper.operations.naming import named
from reaper.operations.orphans import Orphan, lasting, revoke
from reaper.settings import Settings
from reaper.source import Source
from reaper.witness import Testimony, WitnessAway


def look(settings: Settings, source: Source, wanted: looking.Wanted) -> looking.Report:
    """Everything of one source. What cannot be told of it is told on stderr, and is no reason to tell nothing."""
    found = looking.look(source, hearing_of(settings), wanted)
    for note in found.notes:
        say(f"reaper: source {source.name}: {note}")
    if found.testimony is None or found.testimony.trouble is not None:
        return found
    try:
        return replace(found, orphans=find_orphans(settings, source, found.testimony))
    except ReaperError as error:
        say(f"reaper: {error}")
        return found


def find_orphans(settings: Settings, source: Source, testimony: Testimony | None = None) -> list[Orphan]:
    """The orphans of the broker of this source; none where there is no broker.

    Raises WitnessAway when the workers cannot be asked; DatabaseAway or ReaperError when one of the sources that share
    the broker cannot.
    """
    witness = source.habits.witness
    if witness is None:
        return []
    with named(source):
        said = testimony or witness.ask()
        if said.trouble is not None:
            raise WitnessAway(said.trouble)
        return lasting(_sharing(settings, source), said, lambda: hearing_of(settings), time.sleep)


def revoke_orphans(settings: Settings, source: Source, chosen: Sequence[Orphan]) -> list[Orphan]:
    """Have the workers end those that still are orphans. Raises as `find_orphans` does."""
    with named(source):
        return revoke(_sharing(settings, source), chosen, lambda: hearing_of(settings))


def one_per_broker(settings: Settings, sources: Iterable[Source]) -> Iterator[Source]:
    """Of the sources that share a broker, one."""
    asked = set[str | None]()
    for source in sources:
        broker = settings.sources[source.name].broker
        url = broker.get_secret_value() if broker else None
        if source.habits.witness is not None and url not in asked:
            asked.add(url)
            yield source


def line(orphan: Orphan) -> str:
    name = f" ({orphan.task})" if orphan.task else ""
    return f"Orphan: task {orphan.id}{name} is being executed by {orphan.worker}, and no job knows it"


def _sharing(settings: Settings, source: Source) -> list[Source]:
    """The source itself first: its witness is the one that is asked."""
    others = (found for found in sharing_broker(settings, source.name) if found.name != source.name)
    return [source, *(made(settings, found) for found in others)]
