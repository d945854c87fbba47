"""`reaper unhold`: takes the hold on a job back."""

from __future__ import annotations

import click

from reaper.cli import output
from reaper.cli.holds import describe_hold, hold_members
from reaper.cli.job_command import JobCommand
from reaper.cli.options import job_argument, json_option, source_option
from reaper.cli.sources import load_settings, select_sources
from reaper.common.terminal import shown
from reaper.errors import NoSuchHold
from reaper.memory import JobHoldStore
from reaper.model import JobHold
from reaper.operations.hold import shared_holds, take_back
from reaper.source import Source


@click.command("unhold", cls=JobCommand, short_help="Take the hold on a job back.")
@job_argument
@source_option
@json_option
@click.pass_context
def command(ctx: click.Context, job: str, source: str | None, as_json: bool) -> None:
    """Take the hold on a job back: it may be ended again, from the next batch of a sweep on.

    Exit status 1 when the job is not held.

    \b
    Example:
      reaper unhold 7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11
    """
    settings = load_settings(ctx)
    hold = _take_back(select_sources(settings, source), shared_holds(settings), job)
    if as_json:
        output.write_document("unhold", hold_members(hold))
    else:
        click.echo(shown(f"No longer held: {describe_hold(hold)}."))


def _take_back(sources: list[Source], store: JobHoldStore, job: str) -> JobHold:
    """Raises NoSuchHold, and UsageError when jobs of that name are held in several sources."""
    held = [source for source in sources if store.of(source.name)]
    named = [source for source in held if job in store.names(source.name)]
    if len(named) > 1:
        names = ", ".join(source.name for source in named)
        raise click.UsageError(f"Jobs {job} of several sources are held: {names}. Choose one with --source.")
    error: NoSuchHold | None = None
    for source in named or held:
        try:
            return take_back(source, store, job)
        except NoSuchHold as problem:
            error = problem
    raise error or NoSuchHold(f"no hold on job {job}: none is held")
