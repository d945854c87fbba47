"""`reaper reset`: end every running job of a source, in an emergency."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import click
from rich.console import Console

from reaper.cli import exit_codes, output
from reaper.cli.console import make_console, make_table, print_table, text_cell
from reaper.cli.interrupt import InterruptHandler
from reaper.cli.invocation import is_interactive, operator_name, refuse_usage
from reaper.cli.options import json_option, reason_option_with
from reaper.cli.progress import ProgressListener, progress_bar
from reaper.cli.sources import load_settings, single_source
from reaper.common import messages
from reaper.common.terminal import shown
from reaper.config import Settings
from reaper.observers.command_log import CommandLog
from reaper.operations.end_in_batches import BulkOptions, BulkResult, bulk_summary
from reaper.operations.fail import ManualEnd
from reaper.operations.reset import ResetPreview, preview, reset
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source, new_downtime_tracker
from reaper.source import Source


@click.command("reset", short_help="Emergency: end every running job of a source.")
@click.option("--source", metavar="NAME", required=True, help="The source.")
@click.option("--confirm", metavar="NAME", help="The source's name again, instead of typing it at the question.")
@reason_option_with("emergency reset")
@click.option("--dry-run", is_flag=True, help="Only show what would be ended.")
@json_option
@click.pass_context
def command(ctx: click.Context, source: str, confirm: str | None, reason: str, dry_run: bool, as_json: bool) -> int:
    """Emergency: end every running job of a source, including live ones.

    Shows the running jobs, and asks you to type the source's name. Then it ends each job with the profile's action
    fail, whatever the staleness rule says. It uses the lock and writes the audit event of a sweep, with error code
    ManualTimeout and your name. Jobs whose row another session has locked are skipped. Workers are not notified: stop
    them first. Ctrl-C stops it between two batches.

    \b
    Example:
      reaper reset --source main --dry-run
    """
    settings = load_settings(ctx)
    opened = create_one_off_source(settings, single_source(settings, source))
    if confirm is not None and confirm != source:
        return refuse_usage(ctx, f"--confirm is {confirm!r}, and the source is {source!r}: nothing was changed")
    if not dry_run and confirm is None and not is_interactive():
        return refuse_usage(ctx, f"standard input is not a terminal: use --confirm {source}, or --dry-run to look")
    with prefix_errors(opened):
        running = preview(opened, new_downtime_tracker(settings))
    if not as_json or (confirm is None and not dry_run):
        _print_overview(make_console(stderr=as_json), source, running, dry_run=dry_run)
    resetting = not dry_run and running.running > 0
    if resetting and confirm is None and _ask_for_name(source) != source:
        return refuse_usage(ctx, "that is not the source's name: nothing was changed")
    decision = ManualEnd(operator=operator_name(), host=socket.gethostname(), reason=reason)
    result = _reset(settings, opened, decision, running) if resetting else BulkResult()
    if as_json:
        output.write_document("reset", _document(source, running, decision, result, dry_run=dry_run))
    elif resetting:
        for line in _lines(source, result):
            click.echo(shown(line))
    if result.stopped:
        return exit_codes.INTERRUPTED
    return exit_codes.FAILED if result.failures else exit_codes.DONE


def _ask_for_name(source: str) -> str:
    answer: str = click.prompt(f"Type {source} to end all of them", default="", show_default=False, err=True)
    return answer.strip()


def _reset(settings: Settings, source: Source, decision: ManualEnd, running: ResetPreview) -> BulkResult:
    interrupt = InterruptHandler(changes=True)
    with (
        interrupt,
        prefix_errors(source),
        CommandLog(settings) as command_log,
        progress_bar(f"Resetting {source.name}", interrupt, command_log=command_log) as listener,
    ):
        options = BulkOptions(
            decision.host, settings.batch_size, listener, lambda: _stopping(interrupt, listener, running)
        )
        return reset(source, new_downtime_tracker(settings), decision, options)


def _stopping(interrupt: InterruptHandler, listener: ProgressListener, running: ResetPreview) -> bool:
    """Is called before each batch, so changes begin with the first call."""
    listener.begin_changing(running.running)
    return interrupt.requested()


def _document(
    source: str, running: ResetPreview, decision: ManualEnd, result: BulkResult, *, dry_run: bool
) -> dict[str, object]:
    return {
        "source": source,
        "dry_run": dry_run,
        "running": running.running,
        "kinds": [{"kind": kind, "jobs": jobs} for kind, jobs in running.kinds],
        "oldest": running.first[0].started if running.first else None,
        "first": running.first,
        "ended": result.reaped,
        "lost": result.lost,
        "locked": [messages.format_key(key) for key in result.locked],
        "failures": result.failures,
        "stopped": result.stopped,
        "operator": decision.operator,
        "message": decision.message,
    }


def _print_overview(console: Console, source: str, running: ResetPreview, *, dry_run: bool) -> None:
    oldest = f", the oldest since {running.first[0].started or 'an unknown time'}" if running.first else ""
    console.print(shown(f"Source {source}: {running.running} running job(s){oldest}."), style="bold", soft_wrap=True)
    if not running.first:
        return
    kinds = make_table(["kind", "jobs"], right_aligned=["jobs"])
    for kind, jobs in running.kinds:
        kinds.add_row(text_cell(kind or "none"), str(jobs))
    print_table(console, kinds)
    table = make_table(["job", "kind", "verdict", "why"], unfolded=["job", "verdict"])
    for job in running.first:
        table.add_row(
            text_cell(messages.format_key(job.key)),
            text_cell(job.kind),
            text_cell(job.verdict),
            text_cell(messages.describe_verdict(job)),
        )
    print_table(console, table)
    if running.running > len(running.first):
        console.print(f"... and {running.running - len(running.first)} more.")
    if dry_run:
        console.print("All of them would be ended, including live ones. Nothing was changed.", soft_wrap=True)


def _lines(source: str, result: BulkResult) -> Iterator[str]:
    yield f"Ended {result.reaped} job(s) in source {source}."
    yield from bulk_summary(result)
