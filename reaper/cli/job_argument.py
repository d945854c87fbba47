"""Finds the source that has the job given on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

from reaper.common.terminal import say
from reaper.errors import DatabaseUnavailable, NoSuchJob, ReaperError
from reaper.model import Key
from reaper.operations.errors import errors_of
from reaper.operations.explain import locate
from reaper.source import Source


@dataclass(frozen=True, slots=True)
class JobLocation:
    """A job's source and its key there."""

    source: Source
    key: Key


def find_job(sources: Sequence[Source], job: str, *, all_sources_must_answer: bool) -> JobLocation:
    """The only source that has this job.

    Args:
        all_sources_must_answer: Fail when any source cannot be read, even if another one has the job. For commands
            that change the job: it must be clear that no other job is meant.

    Raises:
        NoSuchJob: No source has the job, or `job` cannot be a key there.
        UsageError: Several sources have the job.
        DatabaseUnavailable, ReaperError: A source that may have the job could not be read.
    """
    matches, not_found, errors = list[JobLocation](), list[str](), list[ReaperError]()
    for source in sources:
        try:
            with errors_of(source):
                matches.append(JobLocation(source, locate(source, job)))
        except NoSuchJob as error:
            not_found.append(str(error))
        except ReaperError as error:
            errors.append(error)
    if len(matches) > 1:
        names = ", ".join(match.source.name for match in matches)
        raise click.UsageError(f"Job {job} is in several sources: {names}. Choose one with --source.")
    if errors and (all_sources_must_answer or not matches):
        error_class = (
            DatabaseUnavailable if any(isinstance(error, DatabaseUnavailable) for error in errors) else ReaperError
        )
        hint = f" (source {matches[0].source.name} has it; choose it with --source)" if matches else ""
        raise error_class(f"{'; '.join(map(str, errors))}{hint}")
    for trouble in errors:
        say(f"reaper: {trouble}")
    if not matches:
        raise NoSuchJob("; ".join(not_found))
    return matches[0]
