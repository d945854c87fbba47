"""`reaper close-interrupted`: close jobs that a crash or a restart of their server interrupted."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import click

from reaper.cli import exit_codes, output
from reaper.cli.ctrl_c import InterruptHandler
from reaper.cli.invocation import ended_by, is_interactive, not_asked, refuse_usage
from reaper.cli.options import (
    json_option,
    release_option,
    validate_duration,
    validate_text,
    while_halted_option,
    while_observed_option,
)
from reaper.cli.progress import progress_bar
from reaper.cli.sources import load_settings, single_source
from reaper.common import messages
from reaper.common.durations import UP_TO_A_DAY, DurationRange, format_duration
from reaper.common.terminal import say, shown
from reaper.config import Settings, SourceSettings
from reaper.memory import HaltRecord
from reaper.model import ReapedJob
from reaper.observers.command_log import CommandLog
from reaper.operations.close_interrupted import CloseInterruptedOptions, CloseInterruptedResult, close_interrupted
from reaper.operations.end_in_batches import BulkOptions, bulk_summary
from reaper.operations.guards import GuardPasses, HaltGuard, describe_halt, halt_guard, halt_members
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import create_one_off_source, new_downtime_tracker
from reaper.source import Source
from reaper.sweep.breaker import Breaker

_SINCE_THE_START = DurationRange("0s", "1d")


@click.command("close-interrupted", short_help="Close jobs that a restart of their server interrupted.")
@click.option("--source", metavar="NAME", required=True, help="The source.")
@click.option(
    "--started-ago",
    required=True,
    callback=validate_duration(_SINCE_THE_START),
    metavar="DURATION",
    help="How long ago the server was started again; 0s when it was just now.",
)
@click.option(
    "--holder",
    metavar="NAME",
    callback=validate_text,
    help="The restarted server or worker, as the profile's holder column names it. Only its jobs are closed.",
)
@click.option(
    "--only-server",
    is_flag=True,
    help="Say that no other server works on the jobs of the source. The breaker holds what is only said.",
)
@click.option(
    "--window",
    callback=validate_duration(UP_TO_A_DAY),
    metavar="DURATION",
    help="The last sign of life must be at most this much older than the restart. "
    "[default: close_interrupted_window_seconds, 5m]",
)
@click.option(
    "--listen",
    callback=validate_duration(UP_TO_A_DAY),
    default="10s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for signs of life.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be closed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@while_halted_option
@while_observed_option
@release_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    started_ago: float,
    holder: str | None,
    only_server: bool,
    window: float | None,
    listen: float,
    dry_run: bool,
    yes: bool,
    while_halted: bool,
    while_observed: bool,
    release: int | None,
    as_json: bool,
) -> int:
    """Close jobs that a crash or a restart of their server interrupted, without waiting for their timeout.

    It closes running jobs of the restarted server (--holder) that began before its start, whose last sign of life lies
    within the window before it, and that show none while it listens. Where the profile does not say which column names
    the holder of a job, --only-server says that there is no other server; the breaker holds such jobs as it holds a
    sweep. A halt holds this command. To go on after a halt, use `reaper restart`: this command does not.

    On a terminal it shows the jobs and asks. Without a terminal it needs --yes. To run it from the job system's own
    unit, right after its server has started:
    ExecStartPost=-reaper close-interrupted --source NAME --only-server --started-ago 0s --yes

    \b
    Example:
      reaper close-interrupted --source main --holder app-1 --started-ago 40s
    """
    settings = GuardPasses(while_observed=while_observed).applied_to(load_settings(ctx))
    selected = single_source(settings, source)
    if (problem := _problem_of_proof(selected, holder, only_server=only_server)) is not None:
        return refuse_usage(ctx, problem)
    if not (dry_run or yes or is_interactive()):
        return refuse_usage(ctx, not_asked("close"))
    halt = halt_guard(settings, while_halted=while_halted)
    if not dry_run:
        halt.require_none()
    run = _Run(settings, create_one_off_source(settings, selected), halt)
    if not dry_run:
        run.source.require_not_observed()
    if not run.source.profile.alive:
        say(
            f"reaper: source {run.source.name}: profile {run.source.profile.name!r} has no sign of life: "
            "jobs that began within the window are closed, too, if their server still works on them"
        )
    options = CloseInterruptedOptions(
        window or selected.close_interrupted_window_seconds,
        listen,
        _wait,
        Breaker.from_settings(settings),
        holder=holder,
        started_ago_seconds=started_ago,
        release=release or 0,
        dry_run=dry_run,
    )
    asked = None if dry_run or yes else run.close(replace(options, dry_run=True))[0]
    if asked is not None:
        if not _confirmed(asked):
            return exit_codes.DONE
        released = max(options.release, asked.interrupted)
        options = replace(options, restarted_at=asked.restart, release=released)
    result, closed = run.close(options)
    _print(result, closed, halt.held_by if result.bulk_result.stopped else None, as_json=as_json)
    return _exit_code(result, halt)


def _problem_of_proof(source: SourceSettings, holder: str | None, *, only_server: bool) -> str | None:
    """What is wrong with what was said about the holder of the jobs; None when nothing is."""
    if holder is not None and only_server:
        return "--holder names one of several servers, and --only-server says that there is one: give one of them"
    if holder is None:
        if only_server:
            return None
        return (
            "nothing says whose jobs were interrupted: give --holder NAME, the restarted server as the profile's "
            "holder column names it, or --only-server where no other server works on the jobs"
        )
    if source.profile.jobs.holder is None:
        return (
            f"profile {source.profile.name!r} does not say which column names the holder of a job: give it "
            "jobs.holder, or use --only-server where no other server works on the jobs"
        )
    return None


@dataclass(frozen=True, slots=True)
class _Run:
    settings: Settings
    source: Source
    halt: HaltGuard

    def close(self, options: CloseInterruptedOptions) -> tuple[CloseInterruptedResult, Sequence[ReapedJob]]:
        with (
            InterruptHandler(changes=not options.dry_run) as interrupt,
            prefix_errors(self.source),
            CommandLog(self.settings, ended_by("close-interrupted")) as command_log,
            progress_bar(f"Listening to {self.source.name}", interrupt, command_log=command_log) as listener,
        ):

            def stopping() -> bool:
                """Is called before each batch, so changes begin with the first call."""
                listener.begin_changing(None)
                return interrupt.requested() or self.halt.holds()

            bulk = BulkOptions(socket.gethostname(), self.settings.batch_size, listener, stopping)
            result = close_interrupted(self.source, new_downtime_tracker(self.settings), options, bulk)
        if result is None:
            raise KeyboardInterrupt
        return result, listener.listed_jobs


def _wait(seconds: float) -> bool:
    """Sleep; Ctrl-C ends it, because nothing is being changed yet."""
    time.sleep(seconds)
    return False


def _confirmed(asked: CloseInterruptedResult) -> bool:
    """Whether a person wants these jobs closed. A yes lets the breaker pass as many."""
    for line in _lines(asked, []):
        click.echo(shown(line), err=True)
    question = f"Close {asked.interrupted} interrupted job(s) of source {asked.source}?"
    return asked.interrupted > 0 and click.confirm(question, err=True)


def _exit_code(result: CloseInterruptedResult, halt: HaltGuard) -> int:
    bulk = result.bulk_result
    if bulk.stopped:
        return exit_codes.FAILED if halt.held_by else exit_codes.INTERRUPTED
    held = result.held is not None and not result.dry_run
    return exit_codes.FAILED if held or bulk.failures or bulk.postponed else exit_codes.DONE


# --- output --------------------------------------------------------------------------------------------


def _print(
    result: CloseInterruptedResult, closed: Sequence[ReapedJob], halted: HaltRecord | None, *, as_json: bool
) -> None:
    """`halted`: the halt that has stopped it between two batches."""
    if as_json:
        output.write_document("close-interrupted", _document(result, closed, halted))
        return
    for line in _lines(result, closed):
        click.echo(shown(line))
    if halted is not None:
        click.echo(shown(f"It was {describe_halt(halted)}. `reaper restart` ends the halt; --while-halted passes it."))


def _document(
    result: CloseInterruptedResult, closed: Sequence[ReapedJob], halted: HaltRecord | None
) -> dict[str, object]:
    return {
        "source": result.source,
        "dry_run": result.dry_run,
        "restart": result.restart.isoformat(),
        "holder": result.holder,
        "window_seconds": result.window_seconds,
        "interrupted": result.interrupted,
        "held": result.held,
        "closed": result.bulk_result.reaped,
        "closed_jobs": closed,
        "would_close": result.listed,
        "lost": result.bulk_result.lost,
        "locked": [messages.format_key(key) for key in result.bulk_result.locked],
        "kept": result.bulk_result.kept,
        "failures": result.bulk_result.failures,
        "stopped": result.bulk_result.stopped,
        "halted": halt_members(halted),
        "run_id": result.run_id,
    }


def _lines(result: CloseInterruptedResult, closed: Sequence[ReapedJob]) -> Iterator[str]:
    names = [messages.format_key(job.key) for job in (result.listed if result.dry_run else closed)]
    yield from (f"- {name}" for name in names)
    total = result.interrupted if result.dry_run else result.bulk_result.reaped
    if total > len(names):
        yield f"... and {total - len(names)} more."
    condition = f"last sign of life within {format_duration(result.window_seconds)} before the restart"
    if result.dry_run:
        yield f"Would close {total} interrupted job(s), {condition}. Nothing was changed."
    else:
        yield f"Closed {total} interrupted job(s), {condition}."
    if result.held is not None:
        held = "The breaker would hold this" if result.dry_run else "Held by the breaker"
        yield f"{held}: {result.held}."
        yield f"Look first: --dry-run lists them. If they were interrupted, --release {result.interrupted} closes them."
    yield from bulk_summary(result.bulk_result)
