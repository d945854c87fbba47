"""`reaper reset`: the emergency exit."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import click
from rich.console import Console

from reaper.cli import exit_codes, output
from reaper.cli.console import cell, make_console, make_table, put
from reaper.cli.interrupt import Interrupt
from reaper.cli.operator import is_interactive, operator, usage_error
from reaper.cli.options import json_option, reason_option_with
from reaper.cli.progress import ProgressListener, progress_bar
from reaper.cli.sources import only_source, settings_of
from reaper.common import messages
from reaper.common.terminal import shown
from reaper.config import Settings
from reaper.observers.command_log import CommandLog
from reaper.operations.bulk_end import BulkOptions, BulkResult, bulk_summary
from reaper.operations.fail import ManualEnd
from reaper.operations.reset import ResetPreview, preview, reset
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source, new_downtime_tracker
from reaper.source import Source


@click.command("reset", short_help="Emergency: end every running job of a source.")
@click.option("--source", metavar="NAME", required=True, help="The source.")
@click.option("--confirm", metavar="NAME", help="The source's name once more, instead of typing it when asked.")
@reason_option_with("emergency reset")
@click.option("--dry-run", is_flag=True, help="Only show what would be ended.")
@json_option
@click.pass_context
def command(ctx: click.Context, source: str, confirm: str | None, reason: str, dry_run: bool, as_json: bool) -> int:
    """Emergency: end every running job of a source, the living too.

    Shows what there is, and wants the source's name typed. Then each job is ended by the profile's fail, without asking
    the rule, with the lock and the audit event of a sweep, ManualTimeout as its error code, and your name. A job whose
    row somebody holds is left alone. Workers are not told: stop them first. Ctrl-C ends it between two batches.

    \b
    Example:
      reaper reset --source main --dry-run
    """
    settings = settings_of(ctx)
    place = create_one_off_source(settings, only_source(settings, source))
    if confirm is not None and confirm != source:
        return usage_error(ctx, f"--confirm says {confirm!r}, and the source is {source!r}: nothing was changed")
    if not dry_run and confirm is None and not is_interactive():
        return usage_error(ctx, f"nobody is here to be asked: say --confirm {source}, or --dry-run to look")
    with prefix_errors(place):
        found = preview(place, new_downtime_tracker(settings))
    if not as_json or (confirm is None and not dry_run):
        _show(make_console(stderr=as_json), source, found, dry_run=dry_run)
    decided = not dry_run and found.running > 0
    if decided and confirm is None and _typed(source) != source:
        return usage_error(ctx, "that is not the source's name: nothing was changed")
    decision = ManualEnd(operator=operator(), host=socket.gethostname(), reason=reason)
    toll = _reset(settings, place, decision, found) if decided else BulkResult()
    if as_json:
        output.write("reset", _members(source, found, decision, toll, dry_run=dry_run))
    elif decided:
        for line in _lines(source, toll):
            click.echo(shown(line))
    if toll.stopped:
        return exit_codes.INTERRUPTED
    return exit_codes.FAILED if toll.failures else exit_codes.DONE


def _typed(source: str) -> str:
    answer: str = click.prompt(f"Type {source} to end them all", default="", show_default=False, err=True)
    return answer.strip()


def _reset(settings: Settings, place: Source, decision: ManualEnd, found: ResetPreview) -> BulkResult:
    interrupt = Interrupt(changes=True)
    with (
        interrupt,
        prefix_errors(place),
        CommandLog(settings) as command_log,
        progress_bar(f"Resetting {place.name}", interrupt, command_log=command_log) as watched,
    ):
        hand = BulkOptions(decision.host, settings.batch_size, watched, lambda: _stopping(interrupt, watched, found))
        return reset(place, new_downtime_tracker(settings), decision, hand)


def _stopping(interrupt: Interrupt, watched: ProgressListener, found: ResetPreview) -> bool:
    """Asked before each batch: from the first on there are changes."""
    watched.expect(found.running)
    return interrupt.asked()


def _members(
    source: str, found: ResetPreview, decision: ManualEnd, toll: BulkResult, *, dry_run: bool
) -> dict[str, object]:
    return {
        "source": source,
        "dry_run": dry_run,
        "running": found.running,
        "kinds": [{"kind": kind, "jobs": jobs} for kind, jobs in found.kinds],
        "oldest": found.first[0].started if found.first else None,
        "first": found.first,
        "ended": toll.reaped,
        "lost": toll.lost,
        "locked": [messages.format_key(key) for key in toll.locked],
        "failures": toll.failures,
        "stopped": toll.stopped,
        "operator": decision.operator,
        "message": decision.message,
    }


def _show(console: Console, source: str, found: ResetPreview, *, dry_run: bool) -> None:
    oldest = f", the oldest since {found.first[0].started or 'nobody knows when'}" if found.first else ""
    console.print(shown(f"Source {source}: {found.running} running job(s){oldest}."), style="bold", soft_wrap=True)
    if not found.first:
        return
    kinds = make_table(["kind", "jobs"], right=["jobs"])
    for kind, jobs in found.kinds:
        kinds.add_row(cell(kind or "none"), str(jobs))
    put(console, kinds)
    table = make_table(["job", "kind", "verdict", "why"], whole=["job", "verdict"])
    for job in found.first:
        table.add_row(
            cell(messages.format_key(job.key)), cell(job.kind), cell(job.verdict), cell(messages.describe_verdict(job))
        )
    put(console, table)
    if found.running > len(found.first):
        console.print(f"... and {found.running - len(found.first)} more.")
    if dry_run:
        console.print("All of them would be ended, the living too. Nothing was changed.", soft_wrap=True)


def _lines(source: str, toll: BulkResult) -> Iterator[str]:
    yield f"Ended {toll.reaped} job(s) in source {source}."
    yield from bulk_summary(toll)
