"""`reaper hold`: nothing ends one job for a while."""

from __future__ import annotations

import click

from reaper.cli import output
from reaper.cli.holds import describe_hold, hold_members
from reaper.cli.invocation import operator_name
from reaper.cli.job_command import JobCommand
from reaper.cli.options import job_argument, json_option, source_option, validate_duration, validate_reason
from reaper.cli.sources import find_job, load_settings, select_sources
from reaper.common.durations import ANY_HOLD
from reaper.common.terminal import shown
from reaper.operations.explain import locate
from reaper.operations.hold import shared_holds, take_hold
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import new_downtime_tracker


@click.command("hold", cls=JobCommand, short_help="Keep one job from being ended for a while.")
@job_argument
@click.option(
    "--for",
    "seconds",
    required=True,
    metavar="DURATION",
    callback=validate_duration(ANY_HOLD),
    help="For how long, such as 3h; at most 31d.",
)
@click.option("--reason", required=True, metavar="TEXT", callback=validate_reason, help="Why; shown with the hold.")
@source_option
@json_option
@click.pass_context
def command(ctx: click.Context, job: str, seconds: float, reason: str, source: str | None, as_json: bool) -> None:
    """Keep one job from being ended for a while, however stale it is.

    It is judged and shown as before. Nothing ends it: no sweep, no command, no Celery task and no request. A later hold
    takes the place of an earlier one. The hold is kept in the state directory (REAPER_STATE_DIR), where the daemon,
    commands and Celery tasks see it. `reaper unhold` takes it back, `reaper holds` lists all. A key that begins with -
    comes last, after --.

    \b
    Example:
      reaper hold 7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11 --for 3h --reason 'Ann looks at it'
    """
    settings = load_settings(ctx)
    store = shared_holds(settings)
    place, _ = find_job(select_sources(settings, source), job, locate, all_sources_must_answer=True)
    with prefix_errors(place):
        taken = take_hold(place, new_downtime_tracker(settings), store, job, seconds, operator_name(), reason)
    if as_json:
        output.write_document("hold", {**hold_members(taken.hold), "running": taken.runs, "notes": list(taken.notes)})
        return
    click.echo(shown(f"Held: {describe_hold(taken.hold)}."))
    for note in taken.notes:
        click.echo(shown(note))
