"""`reaper resume`: close jobs that were interrupted when the job system's server crashed or restarted."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence

import click

from reaper.cli import exit_codes, output
from reaper.cli.ctrl_c import InterruptHandler
from reaper.cli.options import json_option, validate_duration
from reaper.cli.progress import progress_bar
from reaper.cli.sources import load_settings, single_source
from reaper.common import messages
from reaper.common.durations import format_duration
from reaper.common.terminal import say, shown
from reaper.config import Settings
from reaper.model import ReapedJob
from reaper.observers.command_log import CommandLog
from reaper.operations.end_in_batches import BulkOptions, bulk_summary
from reaper.operations.resume import ResumeOptions, ResumeResult, resume
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source, new_downtime_tracker
from reaper.source import Source


@click.command("resume", short_help="Close jobs that a server crash interrupted.")
@click.option("--source", metavar="NAME", help="The source. [default: the only one]")
@click.option(
    "--window",
    callback=validate_duration,
    metavar="DURATION",
    help="The last sign of life must be at most this old. [default: resume_window_seconds, 5m]",
)
@click.option(
    "--listen",
    callback=validate_duration,
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for signs of life from other servers.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be closed.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, source: str | None, window: float | None, listen: float, dry_run: bool, as_json: bool
) -> int:
    """Close jobs that a server crash interrupted, without waiting for their timeout.

    Run it from the job system's own unit, right after its server has started:
    ExecStartPost=-reaper resume --source NAME. It closes running jobs whose last sign of life lies within the window
    before now, and that show none while it listens. A job that another server works on is spared if it shows a sign of
    life: listen for longer than such jobs are usually silent. After a restart of the database, it listens until
    workers have had time to reconnect.

    \b
    Example:
      reaper resume --source main --window 5m --listen 10s
    """
    settings = load_settings(ctx)
    selected = single_source(settings, source)
    opened = create_one_off_source(settings, selected)
    if not opened.profile.alive:
        say(
            f"reaper: source {opened.name}: profile {opened.profile.name!r} has no sign of life: "
            "jobs that other servers work on are closed, too"
        )
    with InterruptHandler(changes=not dry_run) as interrupt:
        options = ResumeOptions(window or selected.resume_window_seconds, listen, _wait, dry_run)
        resumed, closed = _resume(settings, opened, options, interrupt)
    if as_json:
        output.write_document("resume", _document(resumed, closed))
    else:
        for line in _lines(resumed, closed):
            click.echo(shown(line))
    if resumed.bulk_result.stopped:
        return exit_codes.INTERRUPTED
    return exit_codes.FAILED if resumed.bulk_result.failures or resumed.bulk_result.postponed else exit_codes.DONE


def _resume(
    settings: Settings, source: Source, options: ResumeOptions, interrupt: InterruptHandler
) -> tuple[ResumeResult, Sequence[ReapedJob]]:
    with (
        prefix_errors(source),
        CommandLog(settings) as command_log,
        progress_bar(f"Listening to {source.name}", interrupt, command_log=command_log) as listener,
    ):

        def stopping() -> bool:
            """Is called before each batch, so changes begin with the first call."""
            listener.begin_changing(None)
            return interrupt.requested()

        bulk = BulkOptions(socket.gethostname(), settings.batch_size, listener, stopping)
        resumed = resume(source, new_downtime_tracker(settings), options, bulk)
    if resumed is None:
        raise KeyboardInterrupt
    return resumed, listener.listed_jobs


def _wait(seconds: float) -> bool:
    """Sleep; Ctrl-C ends it, because nothing is being changed yet."""
    time.sleep(seconds)
    return False


def _document(resumed: ResumeResult, closed: Sequence[ReapedJob]) -> dict[str, object]:
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
    total = resumed.interrupted if resumed.dry_run else resumed.bulk_result.reaped
    if total > len(names):
        yield f"... and {total - len(names)} more."
    condition = f"last sign of life within {format_duration(resumed.window_seconds)} before the restart"
    if resumed.dry_run:
        yield f"Would close {total} interrupted job(s), {condition}. Nothing was changed."
    else:
        yield f"Closed {total} interrupted job(s), {condition}."
    yield from bulk_summary(resumed.bulk_result)
