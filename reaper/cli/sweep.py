"""`reaper sweep`: one pass, now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import click
from rich.console import Console

from reaper.cli import exit_codes, output
from reaper.cli.console import cell, make_console, make_table, put
from reaper.cli.interrupt import Interrupt
from reaper.cli.options import json_option, source_option
from reaper.cli.progress import ProgressListener, progress_bar
from reaper.cli.sources import selected, settings_of
from reaper.common import messages
from reaper.common.json_values import to_jsonable
from reaper.common.terminal import say, shown
from reaper.config import Settings
from reaper.errors import ConfigError
from reaper.model import Evidence, Outcome, ReapedJob, SweepReport
from reaper.observers.command_log import CommandLog
from reaper.operations.sources import new_downtime_tracker
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep import summary
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import MAX_LISTED, SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep

_OLDER_THAN = "--older-than: "


@click.command("sweep", short_help="Sweep once, now.")
@source_option
@click.option("--older-than", metavar="DURATION", help="This timeout for every kind of job, such as 5m.")
@click.option("--dry-run", is_flag=True, help="Only show what would be ended.")
@click.option("--force", is_flag=True, help="Go through although the breaker would hold the sweep.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, source: str | None, older_than: str | None, dry_run: bool, force: bool, as_json: bool
) -> int:
    """Sweep once, now: end what is stale, and say what was spared.

    Safe beside a daemon that sweeps the same jobs. Ctrl-C ends it between two batches, with nothing half done. Exit
    status 1 when a sweep failed, was held by the breaker, or was refused a job by the database.

    It knows when the database server was started, but not the outages that a daemon beside it has seen: a job that the
    daemon spares for those may be stale to this sweep.

    \b
    Example:
      reaper sweep --older-than 8h --dry-run
    """
    settings = _settings(ctx, older_than)
    options = SweepOptions.from_settings(settings, force=force, dry_run=dry_run)
    interrupt = Interrupt(changes=not dry_run)
    with interrupt:
        swept = sweep_each(settings, selected(settings, source), options, interrupt)
    if as_json:
        output.write("sweep", {"sources": [member(report, watched) for report, watched in swept]})
    else:
        for report, watched in swept:
            show(make_console(), report, watched, options.breaker, named=len(swept) > 1)
    told = [exit_codes.INTERRUPTED] if interrupt.asked() else []
    return exit_codes.worst([*told, *(code(report) for report, _ in swept)])


def _settings(ctx: click.Context, older_than: str | None) -> Settings:
    try:
        return settings_of(ctx, timeout_seconds=older_than)
    except ConfigError as error:
        if all(problem.startswith(_OLDER_THAN) for problem in error.problems):
            raise click.UsageError(str(error)) from None
        raise


_CODES = {Outcome.DONE: exit_codes.DONE, Outcome.STOPPED: exit_codes.INTERRUPTED}


def sweep_each(
    settings: Settings, sources: Sequence[Source], options: SweepOptions, interrupt: Interrupt
) -> list[tuple[SweepReport, ProgressListener]]:
    """One source after the other, until told to stop."""
    done: list[tuple[SweepReport, ProgressListener]] = []
    with CommandLog(settings) as command_log:
        for source in sources:
            done.append(sweep_one(source, new_downtime_tracker(settings), options, interrupt, command_log))
            if interrupt.asked():
                break
    return done


def sweep_one(
    source: Source,
    downtime: DowntimeTracker,
    options: SweepOptions,
    interrupt: Interrupt,
    command_log: CommandLog,
    named: int = MAX_LISTED,
) -> tuple[SweepReport, ProgressListener]:
    """A sweep, and the first `named` jobs that it ended. What went wrong is told on stderr."""
    interrupt.surveying()
    with progress_bar(f"Sweeping {source.name}", interrupt, named, command_log) as watched:
        report = sweep(source, downtime, SourceState(), replace(options, should_stop=interrupt.asked), None, watched)
    if report.error is not None:
        hint = "" if report.database_away else "; `reaper check` examines the database"
        say(f"reaper: source {source.name}: {report.error}{hint}")
    return report, watched


def member(report: SweepReport, watched: ProgressListener) -> dict[str, object]:
    """A report in a document."""
    found: dict[str, object] = to_jsonable(report)
    if report.census is not None:
        found["census"] = {**to_jsonable(report.census), "spared": report.census.spared}
    return {**found, "reaped_jobs": to_jsonable(watched.named)}


def code(report: SweepReport) -> int:
    """The exit status for a sweep."""
    if report.database_away:
        return exit_codes.AWAY
    return exit_codes.FAILED if report.failures else _CODES.get(report.outcome, exit_codes.FAILED)


def show(console: Console, report: SweepReport, watched: ProgressListener, breaker: Breaker, *, named: bool) -> None:
    """What was done, or would be, and what was not and why. A failed sweep's error has been told already."""
    if named:
        console.print(f"Source {report.source}:", style="bold")
    if watched.named:
        _show_reaped(console, watched.named)
    if report.would_reap:
        _show_previewed(console, report.would_reap)
    for line in summary.sweep_summary(report, breaker, len(watched.named)):
        console.print(shown(line), soft_wrap=True)


def _show_reaped(console: Console, jobs: list[ReapedJob]) -> None:
    table = make_table(["job", "kind", "age", "silence", "last sign of life"], whole=["job"], right=["age", "silence"])
    for job in jobs:
        ages = (
            messages.format_optional_duration(job.age_seconds),
            messages.format_optional_duration(job.silence_seconds),
        )
        table.add_row(cell(messages.format_key(job.key)), cell(job.kind), *ages, cell(job.witness))
    put(console, table)


def _show_previewed(console: Console, jobs: Sequence[Evidence]) -> None:
    table = make_table(["job", "kind", "why"], whole=["job"])
    for job in jobs:
        table.add_row(cell(messages.format_key(job.key)), cell(job.kind), cell(messages.describe_verdict(job)))
    put(console, table)
