"""`reaper cleanup`: cancel old and silent executions, with the options and output of noetl's own command."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from reaper.cli import output
from reaper.cli.interrupt import InterruptHandler
from reaper.cli.options import json_option
from reaper.cli.sources import load_settings, single_source
from reaper.cli.sweep import exit_code_of, sweep_one
from reaper.common.terminal import shown
from reaper.model import SweepReport, Threshold
from reaper.observers.command_log import CommandLog
from reaper.operations.execution_cleanup import MAX_MINUTES, CleanupResult, cleanup_result, stale_keys
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source, new_downtime_tracker
from reaper.source.factory import with_thresholds
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.options import SweepOptions

_RULE = "=" * 60


@click.command("cleanup", short_help="Cancel executions that are old and silent.")
@click.option("--source", metavar="NAME", help="The source. [default: the only one]")
@click.option(
    "--older-than-minutes",
    type=click.IntRange(1, MAX_MINUTES),
    default=5,
    show_default=True,
    metavar="N",
    help="Minimum age, and minimum silence, in minutes.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be cancelled.")
@click.option("--force", is_flag=True, help="Trust silence across a restart of the database, and override the breaker.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, source: str | None, older_than_minutes: int, dry_run: bool, force: bool, as_json: bool
) -> int:
    """Cancel executions that are old and silent.

    Sweeps one source. --older-than-minutes is both the timeout and the stall window of every job, so a job with a
    sign of life within that time is spared. Without --force, the breaker holds the sweep when nearly all jobs fell
    silent at once, and silence while the database was away does not count; the output says so.

    \b
    Example:
      reaper cleanup --older-than-minutes 60 --dry-run
    """
    settings = load_settings(ctx)
    threshold = Threshold(older_than_minutes * 60.0, "--older-than-minutes")
    opened = create_one_off_source(settings, with_thresholds(single_source(settings, source), threshold, threshold))
    options = SweepOptions.from_settings(settings, force=force, dry_run=dry_run)
    downtime = DowntimeTracker(0) if force else new_downtime_tracker(settings)
    with InterruptHandler(changes=not dry_run) as interrupt, CommandLog(settings) as command_log:
        report, listener = sweep_one(opened, downtime, options, interrupt, command_log, max_listed=sys.maxsize)
    keys = [job.key for job in listener.listed_jobs]
    if dry_run and report.census and report.census.stale:
        with prefix_errors(opened):
            keys = stale_keys(opened, downtime)
    result = cleanup_result(older_than_minutes, report, keys, options.breaker)
    if as_json:
        output.write_document("cleanup", _document(result, report))
    elif report.error is None or result.ids:
        for line in _lines(result):
            click.echo(shown(line))
    return exit_code_of(report)


def _document(result: CleanupResult, report: SweepReport) -> dict[str, object]:
    return {
        "source": report.source,
        "cancelled_count": result.count,
        "execution_ids": result.ids,
        "message": result.message,
        "dry_run": result.dry_run,
        "outcome": report.outcome,
        "notes": result.notes,
        "error": report.error,
        "database_away": report.database_away,
    }


def _lines(result: CleanupResult) -> Iterator[str]:
    yield _RULE
    yield f"{'[DRY RUN] ' if result.dry_run else ''}Cleanup Stuck Executions"
    yield _RULE
    yield f"Older than: {result.minutes} minutes"
    yield f"Found: {result.found} stuck execution(s)"
    yield result.message
    if result.ids:
        yield "Execution IDs:"
        yield from (f"- {id_}" for id_ in result.ids)
    yield from result.notes
    if result.dry_run and result.ids:
        yield "Note: Run without --dry-run to actually cancel these executions"
    yield _RULE
