"""`reaper cleanup`: cancel old and silent executions, with the options and output of noetl's own command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import click

from reaper.cli import output
from reaper.cli.ctrl_c import InterruptHandler
from reaper.cli.invocation import can_ask, ended_by, refuse_usage
from reaper.cli.options import age_option, guard_options, json_option
from reaper.cli.sources import load_settings, single_source
from reaper.cli.sweep import exit_code_of, sweep_one
from reaper.common.terminal import shown
from reaper.config import Settings, SourceSettings
from reaper.model import SweepReport, Threshold
from reaper.observers.command_log import CommandLog
from reaper.operations.execution_cleanup import (
    MAX_MINUTES,
    CleanupResult,
    as_minutes,
    cleanup_result,
    settings_for_cleanup,
    stale_keys,
)
from reaper.operations.guards import GuardPasses, HaltGuard, halt_guard
from reaper.operations.own_limits import count_for_command
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source
from reaper.source import Source

_RULE = "=" * 60
_DEFAULT_MINUTES = 5


def _refuse_days_to_keep(_: click.Context, __: click.Parameter, value: str | None) -> None:
    """vuls' own `cleanup` deletes finished runs: another thing under the same name."""
    if value is not None:
        raise click.UsageError(
            "--days-to-keep is for finished jobs, which `reaper purge` deletes: "
            f"reaper purge --days-to-keep {value}. `reaper cleanup` cancels running ones."
        )


@click.command("cleanup", short_help="Cancel executions that are old and silent.")
@click.option("--source", metavar="NAME", help="The source. [default: the only one]")
@age_option(
    "Minimum age, and minimum silence, such as 90s or 1h. A longer limit of its kind or its row holds. [default: 5m]"
)
@click.option(
    "--older-than-minutes",
    type=click.IntRange(1, MAX_MINUTES),
    metavar="N",
    help="The same, in minutes.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be cancelled.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--days-to-keep", hidden=True, expose_value=False, callback=_refuse_days_to_keep)
@guard_options
@click.option("--force", is_flag=True, help="The same as --yes.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    older_than: float | None,
    older_than_minutes: int | None,
    dry_run: bool,
    yes: bool,
    while_halted: bool,
    release: int | None,
    trust_silence: bool,
    while_observed: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Cancel executions that are old and silent.

    Sweeps one source. --older-than is both the timeout and the stall window of every job, so a job with a
    sign of life within that time is spared. In a log, executions whose start was lost are cancelled too.

    On a terminal it shows the executions and asks. A yes lets the breaker pass as many as the question named. Without
    a terminal, and when a program reads the output of --json, it does not ask. Then the breaker holds it when nearly
    all jobs fell silent at once, and the output says so. It ends nothing while the daemon is halted, and silence from
    before the database's last start does not count.

    \b
    Example:
      reaper cleanup --older-than 1h --dry-run
    """
    passes = GuardPasses(while_halted, release or 0, trust_silence, while_observed)
    settings = passes.applied_to(load_settings(ctx))
    if older_than is not None and older_than_minutes is not None:
        return refuse_usage(ctx, "--older-than and --older-than-minutes mean the same: give one of them")
    minutes: float = _DEFAULT_MINUTES if older_than_minutes is None else older_than_minutes
    threshold = Threshold(minutes * 60.0, "--older-than-minutes")
    if older_than is not None:
        minutes, threshold = as_minutes(older_than), Threshold(older_than, "--older-than")
    selected = settings_for_cleanup(single_source(settings, source), threshold)
    opened = create_one_off_source(settings, selected)
    if not dry_run:
        opened.require_not_observed()
    halt = halt_guard(settings, while_halted=while_halted)
    run = CleanupRun(settings, opened, selected, minutes, passes, halt)
    if not (dry_run or yes or force) and can_ask(as_json=as_json) and not run.halt.holds():
        report, result = run.clean(dry_run=True)
        if report.error is None and not result.ids:
            # What has become stuck since then was in no question.
            _print(report, replace(result, dry_run=False), as_json=as_json)
            return exit_code_of(report)
        if report.error is not None or not _confirmed(result, as_json=as_json):
            _print(report, result, as_json=as_json)
            return exit_code_of(report)
        run = replace(run, passes=replace(passes, release=max(passes.release, result.found)))
    report, result = run.clean(dry_run=dry_run)
    _print(report, result, as_json=as_json)
    return exit_code_of(report)


def _confirmed(result: CleanupResult, *, as_json: bool) -> bool:
    for line in _lines(result, asking=True):
        click.echo(shown(line), err=as_json)
    return click.confirm(f"Cancel {result.found} stuck execution(s)?", err=True)


@dataclass(frozen=True, slots=True)
class CleanupRun:
    """The source to clean up, and what passes the guards."""

    settings: Settings
    source: Source
    asked: SourceSettings
    minutes: float
    passes: GuardPasses
    halt: HaltGuard

    def clean(self, *, dry_run: bool) -> tuple[SweepReport, CleanupResult]:
        options = self.passes.sweep_options(self.settings, self.halt, dry_run=dry_run)
        downtime = self.passes.downtime_tracker(self.settings)
        spared = count_for_command(self.settings, self.source, self.asked, downtime)
        with (
            InterruptHandler(changes=not dry_run) as interrupt,
            CommandLog(self.settings, ended_by("cleanup")) as command_log,
        ):
            report, listener = sweep_one(self.source, downtime, options, interrupt, command_log, max_listed=sys.maxsize)
        report = replace(report, own_limits=spared)
        keys = [job.key for job in listener.listed_jobs]
        if dry_run and report.census and report.census.stale:
            with prefix_errors(self.source):
                keys = stale_keys(self.source, downtime)
        return report, cleanup_result(self.minutes, report, keys, options.breaker, halt=self.halt.held_by)


def _print(report: SweepReport, result: CleanupResult, *, as_json: bool) -> None:
    if as_json:
        output.write_document("cleanup", _document(result, report))
    elif report.error is None or result.ids:
        for line in _lines(result):
            click.echo(shown(line))


def _document(result: CleanupResult, report: SweepReport) -> dict[str, object]:
    return {
        "source": report.source,
        "cancelled_count": result.count,
        "execution_ids": result.ids,
        "message": result.message,
        "dry_run": result.dry_run,
        "outcome": report.outcome,
        "spared_count": result.spared,
        "start_lost_count": report.start_lost.stale if report.start_lost else 0,
        "notes": result.notes,
        "error": report.error,
        "database_away": report.database_away,
    }


def _lines(result: CleanupResult, *, asking: bool = False) -> Iterator[str]:
    """What noetl's own command prints; before a question, without the words of a dry run."""
    yield _RULE
    yield f"{'[DRY RUN] ' if result.dry_run and not asking else ''}Cleanup Stuck Executions"
    yield _RULE
    yield f"Older than: {result.minutes} minutes"
    yield f"Found: {result.found} stuck execution(s)"
    if not asking:
        yield result.message
    if result.ids:
        yield "Execution IDs:"
        yield from (f"- {id_}" for id_ in result.ids)
    yield from result.notes
    if result.dry_run and result.ids and not asking:
        yield "Note: Run without --dry-run to actually cancel these executions"
    yield _RULE
