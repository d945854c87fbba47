"""`reaper resume`: close what was interrupted when the job system's server went away."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence

import click

from reaper.cli import exit_codes, output
from reaper.cli.interrupt import Interrupt
from reaper.cli.options import duration, json_option
from reaper.cli.progress import progress_bar
from reaper.cli.sources import only_source, settings_of
from reaper.common import messages
from reaper.common.durations import format_duration
from reaper.common.terminal import say, shown
from reaper.config import Settings
from reaper.model import ReapedJob
from reaper.observers.command_log import CommandLog
from reaper.operations.bulk_end import BulkOptions, bulk_summary
from reaper.operations.resume import ResumeOptions, ResumeResult, resume
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source, new_downtime_tracker
from reaper.source import Source


@click.command("resume", short_help="Close what was interrupted when its server went away.")
@click.option("--source", metavar="NAME", help="The source. [default: the only one]")
@click.option(
    "--window",
    callback=duration,
    metavar="DURATION",
    help="How long before the restart a job must have been heard of. [default: resume_window_seconds, 5m]",
)
@click.option(
    "--listen",
    callback=duration,
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for signs of life of jobs that other servers work on.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be closed.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, source: str | None, window: float | None, listen: float, dry_run: bool, as_json: bool
) -> int:
    """Close what was interrupted when its server went away, without waiting for the timeout.

    Made to be run by the job system's own unit, right after its server has started:
    ExecStartPost=-reaper resume --source NAME. Closed are jobs that were running, were last heard of within the window
    before now, and show no sign of life while it listens. A job that another server works on is spared if it shows
    one: listen for longer than such jobs are usually silent. After a restart of the database as well, it listens until
    everybody has had the time to come back.

    \b
    Example:
      reaper resume --source main --window 5m --listen 10s
    """
    settings = settings_of(ctx)
    found = only_source(settings, source)
    place = create_one_off_source(settings, found)
    if not place.profile.alive:
        say(
            f"reaper: source {place.name}: profile {place.profile.name!r} knows no sign of life: "
            "a job that another server works on cannot be told apart"
        )
    with Interrupt(changes=not dry_run) as interrupt:
        options = ResumeOptions(window or found.resume_window_seconds, listen, _wait, dry_run)
        resumed, closed = _resume(settings, place, options, interrupt)
    if as_json:
        output.write("resume", _members(resumed, closed))
    else:
        for line in _lines(resumed, closed):
            click.echo(shown(line))
    if resumed.bulk_result.stopped:
        return exit_codes.INTERRUPTED
    return exit_codes.FAILED if resumed.bulk_result.failures else exit_codes.DONE


def _resume(
    settings: Settings, place: Source, options: ResumeOptions, interrupt: Interrupt
) -> tuple[ResumeResult, Sequence[ReapedJob]]:
    with (
        prefix_errors(place),
        CommandLog(settings) as command_log,
        progress_bar(f"Listening to {place.name}", interrupt, command_log=command_log) as watched,
    ):

        def stopping() -> bool:
            """Asked before each batch: from the first on there are changes."""
            watched.expect(None)
            return interrupt.asked()

        hand = BulkOptions(socket.gethostname(), settings.batch_size, watched, stopping)
        resumed = resume(place, new_downtime_tracker(settings), options, hand)
    if resumed is None:
        raise KeyboardInterrupt
    return resumed, watched.named


def _wait(seconds: float) -> bool:
    """Ctrl-C ends it, for nothing is being changed yet."""
    time.sleep(seconds)
    return False


def _members(resumed: ResumeResult, closed: Sequence[ReapedJob]) -> dict[str, object]:
    return {
        "source": resumed.source,
        "dry_run": resumed.dry_run,
        "restart": resumed.restart,
        "window_seconds": resumed.window_seconds,
        "interrupted": resumed.interrupted,
        "closed": resumed.bulk_result.reaped,
        "closed_jobs": closed,
        "would_close": resumed.listed,
        "lost": resumed.bulk_result.lost,
        "locked": [messages.format_key(key) for key in resumed.bulk_result.locked],
        "failures": resumed.bulk_result.failures,
        "stopped": resumed.bulk_result.stopped,
        "run_id": resumed.run_id,
    }


def _lines(resumed: ResumeResult, closed: Sequence[ReapedJob]) -> Iterator[str]:
    names = [messages.format_key(job.key) for job in (resumed.listed if resumed.dry_run else closed)]
    yield from (f"- {name}" for name in names)
    counted = resumed.interrupted if resumed.dry_run else resumed.bulk_result.reaped
    if counted > len(names):
        yield f"... and {counted - len(names)} more."
    lately = f"last heard of within {format_duration(resumed.window_seconds)} before the restart"
    if resumed.dry_run:
        yield f"Would close {counted} interrupted job(s), {lately}. Nothing was changed."
    else:
        yield f"Closed {counted} interrupted job(s), {lately}."
    yield from bulk_summary(resumed.bulk_result)
