"""`reaper sweep`: one sweep of each source, now. Also what `cleanup` and `clear` share with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import click
from rich.console import Console

from reaper.cli import exit_codes, output
from reaper.cli.console import make_console, make_table, print_table, text_cell
from reaper.cli.ctrl_c import InterruptHandler
from reaper.cli.invocation import can_ask, ended_by
from reaper.cli.options import age_option, guard_options, json_option, source_option
from reaper.cli.progress import ProgressListener, progress_bar
from reaper.cli.sources import load_settings, select_sources
from reaper.common import messages
from reaper.common.json_values import to_jsonable
from reaper.common.terminal import say, shown
from reaper.config import Settings, SourceSettings
from reaper.model import Evidence, Outcome, ReapedJob, SweepReport
from reaper.observers.command_log import CommandLog
from reaper.operations.guards import (
    NO_PASSES,
    GuardPasses,
    HaltGuard,
    describe_halt,
    halt_guard,
    halt_members,
    require_none_observed,
)
from reaper.operations.own_limits import count_for_command
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep import summary
from reaper.sweep.breaker import Breaker
from reaper.sweep.options import MAX_LISTED, SweepOptions
from reaper.sweep.source_state import SourceState
from reaper.sweep.sweep import sweep


@click.command("sweep", short_help="Sweep once, now.")
@source_option
@age_option("Timeout of every job, such as 5m. A longer limit of its kind or its row holds.")
@click.option("--dry-run", is_flag=True, help="Only show what would be ended.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="The same as --yes.")
@guard_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    older_than: float | None,
    dry_run: bool,
    yes: bool,
    force: bool,
    while_halted: bool,
    release: int | None,
    trust_silence: bool,
    while_observed: bool,
    as_json: bool,
) -> int:
    """Sweep once, now: end stale jobs, and show which were spared.

    On a terminal it shows the stale jobs and asks. A yes lets the breaker pass as many of each source as were shown.
    Without a terminal, and when a program reads the output of --json, it does not ask: the rule decides, as it does in
    the daemon, and the breaker holds it.

    It may run beside a daemon that sweeps the same jobs, and is held while that is halted. Ctrl-C stops it between two
    batches. Exit status 1 when a sweep failed, a halt or the breaker held it, or the database refused to end a job.

    It knows when the database server was started, but not the outages that a running daemon has seen: a job that the
    daemon spares because of an outage may be stale to this sweep.

    \b
    Example:
      reaper sweep --older-than 8h --dry-run
    """
    passes = GuardPasses(while_halted, release or 0, trust_silence, while_observed)
    settings = passes.applied_to(load_settings(ctx, timeout_seconds=older_than))
    asks = not (dry_run or yes or force) and can_ask(as_json=as_json)
    run = SweepRun(
        settings,
        select_sources(settings, source),
        settings.sources if older_than is not None else {},
        halt_guard(settings, while_halted=while_halted),
        passes,
    )
    if not dry_run:
        run.halt.require_none()
        require_none_observed(run.sources)
    done = run.sweep(dry_run=dry_run or asks)
    if asks:
        run.print(done, stderr=as_json)
        if done.to_end and click.confirm(f"End {done.to_end} stale job(s)?", err=True):
            done, asks = run.sweep(dry_run=False, named=done), False
    if as_json:
        sources = [report_document(report, watched) for report, watched in done.swept]
        output.write_document("sweep", {"sources": sources, "halted": halt_members(run.halt.held_by)})
    elif not asks:
        run.print(done)
    return done.exit_code


@dataclass(frozen=True, slots=True)
class SweepResults:
    """The sweeps of some sources, as far as Ctrl-C let them."""

    swept: Sequence[tuple[SweepReport, ProgressListener]]
    interrupted: bool

    @property
    def to_end(self) -> int:
        return summary.sweep_totals(report for report, _ in self.swept).to_end

    @property
    def stale(self) -> dict[str, int]:
        """How many stale jobs each source has, those that are kept among them: what the breaker and the cap count."""
        return {report.source: report.census.stale for report, _ in self.swept if report.census}

    @property
    def exit_code(self) -> int:
        codes = [exit_code_of(report) for report, _ in self.swept]
        return exit_codes.worst([exit_codes.INTERRUPTED, *codes] if self.interrupted else codes)


@dataclass(frozen=True, slots=True)
class SweepRun:
    """The sources to sweep, the settings of those for which an age was asked for, and what passes the guards."""

    settings: Settings
    sources: Sequence[Source]
    asked: Mapping[str, SourceSettings]
    halt: HaltGuard
    passes: GuardPasses

    def sweep(self, *, dry_run: bool, named: SweepResults | None = None) -> SweepResults:
        """`named`: the preview whose number was in the question."""
        options = self.passes.sweep_options(self.settings, self.halt, dry_run=dry_run)
        interrupt, released = InterruptHandler(changes=not dry_run), named.stale if named else {}
        with interrupt:
            swept = sweep_each(
                self.settings, self.sources, options, interrupt, asked=self.asked, passes=self.passes, released=released
            )
        return SweepResults(swept, bool(interrupt.requested()))

    def print(self, done: SweepResults, *, stderr: bool = False) -> None:
        console = make_console(stderr=stderr)
        for report, watched in done.swept:
            print_report(
                console, report, watched, Breaker.from_settings(self.settings), with_heading=len(done.swept) > 1
            )
            for line in halt_lines(self.halt, report.outcome):
                click.echo(shown(line), err=stderr)


_EXIT_CODES = {Outcome.DONE: exit_codes.DONE, Outcome.STOPPED: exit_codes.INTERRUPTED}


def sweep_each(
    settings: Settings,
    sources: Sequence[Source],
    options: SweepOptions,
    interrupt: InterruptHandler,
    *,
    asked: Mapping[str, SourceSettings] = {},
    passes: GuardPasses = NO_PASSES,
    released: Mapping[str, int] = {},
    what: str = "sweep",
) -> list[tuple[SweepReport, ProgressListener]]:
    """One source after the other, until Ctrl-C.

    `asked`: the settings of sources for which an age was asked for. `released`: how many stale jobs the breaker passes
    of each source, where that is more than `options` say. Of `passes`, the trust in silence counts. `what` is the
    command.
    """
    swept: list[tuple[SweepReport, ProgressListener]] = []
    with CommandLog(settings, ended_by(what)) as command_log:
        for source in sources:
            up_to = max(options.override_breaker_up_to, released.get(source.name, 0))
            own = replace(options, override_breaker_up_to=up_to)
            spared = count_for_command(settings, source, asked.get(source.name), passes.downtime_tracker(settings))
            report, listener = sweep_one(source, passes.downtime_tracker(settings), own, interrupt, command_log)
            swept.append((replace(report, own_limits=spared), listener))
            if interrupt.requested():
                break
    return swept


def sweep_one(
    source: Source,
    downtime: DowntimeTracker,
    options: SweepOptions,
    interrupt: InterruptHandler,
    command_log: CommandLog,
    max_listed: int = MAX_LISTED,
) -> tuple[SweepReport, ProgressListener]:
    """A sweep, and the first `max_listed` jobs that it ended. An error is printed on stderr."""
    interrupt.begin_reading()
    with progress_bar(f"Sweeping {source.name}", interrupt, max_listed, command_log) as listener:
        report = sweep(
            source, downtime, SourceState(), replace(options, should_stop=interrupt.requested), None, listener
        )
    if report.error is not None:
        hint = "" if report.database_away else "; `reaper check` examines the database"
        say(f"reaper: source {source.name}: {report.error}{hint}")
    return report, listener


def halt_lines(halt: HaltGuard, outcome: Outcome) -> Iterator[str]:
    """Which halt has stopped a sweep or a purge, and what passes it."""
    if outcome is Outcome.HALTED and (record := halt.held_by) is not None:
        yield f"It was {describe_halt(record)}. `reaper restart` ends the halt; --while-halted passes it."


def report_document(report: SweepReport, listener: ProgressListener) -> dict[str, object]:
    """A sweep report as JSON members."""
    document: dict[str, object] = to_jsonable(report)
    if report.census is not None:
        document["census"] = {**to_jsonable(report.census), "spared": report.census.spared}
    return {**document, "reaped_jobs": to_jsonable(listener.listed_jobs)}


def exit_code_of(report: SweepReport) -> int:
    """The exit status of a sweep."""
    if report.database_away:
        return exit_codes.AWAY
    if report.refused_now or report.start_lost_trouble:
        return exit_codes.FAILED
    if report.outcome is Outcome.QUIET:
        return exit_codes.FAILED if report.stale_remaining else exit_codes.DONE
    return _EXIT_CODES.get(report.outcome, exit_codes.FAILED)


def print_report(
    console: Console, report: SweepReport, listener: ProgressListener, breaker: Breaker, *, with_heading: bool
) -> None:
    """Print which jobs were ended, or would be, and which were not and why. `sweep_one` has printed an error."""
    if with_heading:
        console.print(f"Source {report.source}:", style="bold")
    if listener.listed_jobs:
        _print_reaped(console, listener.listed_jobs)
    if report.would_reap:
        _print_preview(console, report.would_reap)
    for line in summary.sweep_summary(report, breaker, len(listener.listed_jobs)):
        console.print(shown(line), soft_wrap=True)


def _print_reaped(console: Console, jobs: list[ReapedJob]) -> None:
    columns = ["job", "kind", "action", "age", "silence", "last sign of life"]
    table = make_table(columns, unfolded=["job"], right_aligned=["age", "silence"])
    for job in jobs:
        ages = (
            messages.format_optional_duration(job.age_seconds),
            messages.format_optional_duration(job.silence_seconds),
        )
        what = map(text_cell, (messages.format_key(job.key), job.kind, job.action))
        table.add_row(*what, *ages, text_cell(job.witness))
    print_table(console, table)


def _print_preview(console: Console, jobs: Sequence[Evidence]) -> None:
    table = make_table(["job", "kind", "why"], unfolded=["job"])
    for job in jobs:
        table.add_row(
            text_cell(messages.format_key(job.key)), text_cell(job.kind), text_cell(messages.describe_verdict(job))
        )
    print_table(console, table)
