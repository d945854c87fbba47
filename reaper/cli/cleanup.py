"""`reaper cleanup`: end what is older than some minutes and silent for as long, as noetl's own command says it."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from reaper.cli import output
from reaper.cli.interrupt import Interrupt
from reaper.cli.options import json_option
from reaper.cli.sources import only_source, settings_of
from reaper.cli.sweep import code, sweep_one
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


@click.command("cleanup", short_help="Cancel executions that are older than some minutes, and silent.")
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
@click.option("--force", is_flag=True, help="Trust silence across a restart of the database, and pass the breaker.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, source: str | None, older_than_minutes: int, dry_run: bool, force: bool, as_json: bool
) -> int:
    """Cancel executions that are older than some minutes, and silent.

    A sweep of one source, whose timeout and stall window are both these minutes, for every job. One that has shown a
    sign of life within them is spared. So is, without --force, one that was silent only while the database was away,
    and all of them when nearly everything fell silent at once; the output says so.

    \b
    Example:
      reaper cleanup --older-than-minutes 60 --dry-run
    """
    settings = settings_of(ctx)
    limit = Threshold(older_than_minutes * 60.0, "--older-than-minutes")
    place = create_one_off_source(settings, with_thresholds(only_source(settings, source), limit, limit))
    options = SweepOptions.from_settings(settings, force=force, dry_run=dry_run)
    downtime = DowntimeTracker(0) if force else new_downtime_tracker(settings)
    with Interrupt(changes=not dry_run) as interrupt, CommandLog(settings) as command_log:
        report, watched = sweep_one(place, downtime, options, interrupt, command_log, named=sys.maxsize)
    keys = [job.key for job in watched.named]
    if dry_run and report.census and report.census.stale:
        with prefix_errors(place):
            keys = stale_keys(place, downtime)
    done = cleanup_result(older_than_minutes, report, keys, options.breaker)
    if as_json:
        output.write("cleanup", _members(done, report))
    elif report.error is None or done.ids:
        for line in _lines(done):
            click.echo(shown(line))
    return code(report)


def _members(cleaned: CleanupResult, report: SweepReport) -> dict[str, object]:
    return {
        "source": report.source,
        "cancelled_count": cleaned.count,
        "execution_ids": cleaned.ids,
        "message": cleaned.message,
        "dry_run": cleaned.dry_run,
        "outcome": report.outcome,
        "notes": cleaned.notes,
        "error": report.error,
        "database_away": report.database_away,
    }


def _lines(cleaned: CleanupResult) -> Iterator[str]:
    yield _RULE
    yield f"{'[DRY RUN] ' if cleaned.dry_run else ''}Cleanup Stuck Executions"
    yield _RULE
    yield f"Older than: {cleaned.minutes} minutes"
    yield f"Found: {cleaned.found} stuck execution(s)"
    yield cleaned.message
    if cleaned.ids:
        yield "Execution IDs:"
        yield from (f"- {each}" for each in cleaned.ids)
    yield from cleaned.notes
    if cleaned.dry_run and cleaned.ids:
        yield "Note: Run without --dry-run to actually cancel these executions"
    yield _RULE
