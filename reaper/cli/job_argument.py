"""Finding the source of a job that is named on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from reaper.common.terminal import say
from reaper.errors import DatabaseUnavailable, NoSuchJob, ReaperError
from reaper.model import Key
from reaper.operations.explain import locate
from reaper.operations.source_errors import prefix_errors
from reaper.source import Source


@dataclass(frozen=True, slots=True)
class Place:
    """Where a job is."""

    source: Source
    key: Key


def find(sources: Sequence[Source], name: str, *, sure: bool) -> Place:
    """The one source with a job of that name.

    Raises NoSuchJob for a name that there is not, or that cannot be one; UsageError when several sources have it;
    DatabaseAway or ReaperError when a source that might have it cannot be asked. With `sure`, that includes one that
    might have it too: nothing may be done to a job while another could be meant.
    """
    places, refused, troubles = list[Place](), list[str](), list[ReaperError]()
    for source in sources:
        try:
            with prefix_errors(source):
                places.append(Place(source, locate(source, name)))
        except NoSuchJob as error:
            refused.append(str(error))
        except ReaperError as error:
            troubles.append(error)
    if len(places) > 1:
        several = ", ".join(place.source.name for place in places)
        raise click.UsageError(f"Job {name} is in several sources: {several}. Say which one with --source.")
    if troubles and (sure or not places):
        kind = DatabaseUnavailable if any(isinstance(each, DatabaseUnavailable) for each in troubles) else ReaperError
        found = f" (source {places[0].source.name} has it; --source says that it is meant)" if places else ""
        raise kind(f"{'; '.join(map(str, troubles))}{found}")
    for each in troubles:
        say(f"reaper: {each}")
    if not places:
        raise NoSuchJob("; ".join(refused))
    return places[0]
