"""Finding the source of a job that is named on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from reaper.common.terminal import warn
from reaper.errors import DatabaseUnavailable, NoSuchJob, ReaperError
from reaper.operations.source_errors import prefix_errors
from reaper.source import Source

T = TypeVar("T")


def find(sources: Sequence[Source], name: str, look_up: Callable[[Source, str], T], *, sure: bool) -> tuple[Source, T]:
    """The one source with a job of that name, and what `look_up` returns for it.

    Raises NoSuchJob for a name that no source has, or that cannot be one; UsageError when several sources have it;
    DatabaseUnavailable or ReaperError when no source has it and one could not be asked. With `sure`, also when another
    source has it: nothing may be done to a job while another one could be meant.
    """
    matches, refusals, troubles = list[tuple[Source, T]](), list[str](), list[ReaperError]()
    for source in sources:
        try:
            with prefix_errors(source):
                matches.append((source, look_up(source, name)))
        except NoSuchJob as error:
            refusals.append(str(error))
        except ReaperError as error:
            troubles.append(error)
    if len(matches) > 1:
        several = ", ".join(source.name for source, _ in matches)
        raise click.UsageError(f"Job {name} is in several sources: {several}. Say which one with --source.")
    if troubles and (sure or not matches):
        kind = DatabaseUnavailable if any(isinstance(error, DatabaseUnavailable) for error in troubles) else ReaperError
        hint = f" (source {matches[0][0].name} has it; --source says that it is meant)" if matches else ""
        raise kind(f"{'; '.join(map(str, troubles))}{hint}")
    for trouble in troubles:
        warn(str(trouble))
    if not matches:
        raise NoSuchJob("; ".join(refusals))
    return matches[0]
