"""`reaper reset`: end every running job of some sources, in an emergency."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import click

from reaper.cli import exit_codes, output
from reaper.cli.console import make_console
from reaper.cli.ctrl_c import InterruptHandler
from reaper.cli.invocation import ended_by, is_interactive, not_asked, operator_name, refuse_usage
from reaper.cli.options import json_option, reason_option_with, while_halted_option, while_observed_option
from reaper.cli.progress import ProgressListener, progress_bar
from reaper.cli.reset_output import document, print_overview, question, result_lines
from reaper.cli.sources import load_settings, require_source
from reaper.common.terminal import shown
from reaper.config import Settings, SourceSettings
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.observers.command_log import CommandLog
from reaper.operations.end_in_batches import BulkOptions, BulkResult
from reaper.operations.fail import ManualEnd
from reaper.operations.guards import GuardPasses, HaltGuard, halt_guard, require_none_observed
from reaper.operations.reset import ResetPlan, ResetResult, plan, reset, targets
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import new_downtime_tracker

_NOTHING_CHANGED = "nothing was changed"


@click.command("reset", short_help="Emergency: end every running job, and remove its task.")
@click.option("--source", metavar="NAME", help="The source. [default: every source with the profile of vuls]")
@click.option("--all-sources", is_flag=True, help="Every source of the configuration, whatever its profile.")
@click.option("--confirm", metavar="NAME", help="The source's name again, instead of typing it at the question.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="The same as --yes.")
@while_halted_option
@while_observed_option
@reason_option_with("emergency reset")
@click.option("--dry-run", is_flag=True, help="Only show what would be ended.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    all_sources: bool,
    confirm: str | None,
    yes: bool,
    force: bool,
    while_halted: bool,
    while_observed: bool,
    reason: str,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Emergency: end every running job of some sources, including live ones, and remove its Celery task.

    Shows what runs and what waits, and asks: with --source for the source's name, else for the number of jobs. Then it
    ends the jobs that it has shown with the profile's action fail, whatever the staleness rule says. It uses the lock
    and writes the audit event of a sweep, with error code ManualTimeout and your name. Jobs whose row another session
    has locked are skipped, and keep their task.

    Then it removes the Celery tasks of the jobs that it has ended. A task that a worker executes is terminated. A
    message is taken out of its queue; the output names the queues where that is not possible. Ctrl-C stops the ending
    between two batches.

    \b
    Example:
      reaper reset --dry-run
    """
    settings = GuardPasses(while_observed=while_observed).applied_to(load_settings(ctx))
    selected = _select(settings, source, all_sources=all_sources)
    names = [one.name for one in selected]
    if confirm is not None and [confirm] != names:
        expected = repr(names[0]) if len(names) == 1 else f"one of several: {', '.join(names)}; use --yes"
        return refuse_usage(ctx, f"--confirm is {confirm!r}, and the source is {expected}: {_NOTHING_CHANGED}")
    asking = not (dry_run or yes or force or confirm is not None)
    if asking and not is_interactive():
        return refuse_usage(ctx, not_asked("reset"))
    halt = halt_guard(settings, while_halted=while_halted)
    if not dry_run:
        halt.require_none()
    with ExitStack() as stack:
        decision = ManualEnd(operator=operator_name(), host=socket.gethostname(), reason=reason)
        plans = _plans(settings, selected, decision, stack)
        if not dry_run:
            require_none_observed(one.source for one in plans)
        if not as_json or asking:
            for one in plans:
                print_overview(make_console(stderr=as_json), one, dry_run=dry_run)
        if asking and any(one.running for one in plans):
            text, answer = question(plans, source)
            if _answer(text) != answer:
                what = "the source's name" if source else "the number of jobs"
                return refuse_usage(ctx, f"that is not {what}: {_NOTHING_CHANGED}")
        results, error = dict[str, ResetResult](), None
        try:
            if not dry_run:
                _reset_each(settings, plans, decision, halt, results)
        except ReaperError as problem:
            # What the sources before this one have lost is said all the same.
            error = problem
    _write(plans, results, decision, halt, error, named=source is not None, dry_run=dry_run, as_json=as_json)
    if error is not None:
        output.say_error(f"reaper: {error}")
        return exit_codes.AWAY if isinstance(error, DatabaseUnavailable) else exit_codes.FAILED
    return _exit_code(results, halt)


def _select(settings: Settings, name: str | None, *, all_sources: bool) -> list[SourceSettings]:
    """The source of that name, or all, or those of vuls. Raises UsageError when there is none."""
    if name is not None:
        if all_sources:
            raise click.UsageError("--source and --all-sources exclude each other.")
        return [settings.sources[require_source(settings, name)]]
    selected = [one for one in settings.sources.values() if all_sources or one.profile.is_vuls]
    if not selected:
        raise click.UsageError(
            f"No source has the profile vuls or vuls-schedule, or extends it. Choose one with --source "
            f"({', '.join(settings.sources)}), or all with --all-sources."
        )
    return selected


def _plans(
    settings: Settings, selected: Sequence[SourceSettings], decision: ManualEnd, stack: ExitStack
) -> list[ResetPlan]:
    plans = []
    for target in targets(settings, selected):
        with prefix_errors(target.source):
            counted = plan(target, new_downtime_tracker(settings), settings.batch_size, decision)
            plans.append(stack.enter_context(counted))
    return plans


def _answer(text: str) -> str:
    answer: str = click.prompt(text, default="", show_default=False, err=True)
    return answer.strip()


def _reset_each(
    settings: Settings,
    plans: Sequence[ResetPlan],
    decision: ManualEnd,
    halt: HaltGuard,
    results: dict[str, ResetResult],
) -> None:
    """One source after the other, until Ctrl-C or a halt. The result of each is added to `results`."""
    for one in plans:
        results[one.source.name] = _reset(settings, one, decision, halt) if one.running else ResetResult(BulkResult())
        if results[one.source.name].ended.stopped:
            break


def _reset(settings: Settings, one: ResetPlan, decision: ManualEnd, halt: HaltGuard) -> ResetResult:
    interrupt = InterruptHandler(changes=True)
    with (
        interrupt,
        prefix_errors(one.source),
        CommandLog(settings, ended_by("reset")) as command_log,
        progress_bar(f"Resetting {one.source.name}", interrupt, command_log=command_log) as listener,
    ):
        stopping = _stopping(interrupt, listener, one, halt)
        options = BulkOptions(decision.host, settings.batch_size, listener, stopping)
        return reset(one, new_downtime_tracker(settings), decision, options)


def _stopping(
    interrupt: InterruptHandler, listener: ProgressListener, one: ResetPlan, halt: HaltGuard
) -> Callable[[], bool]:
    def stopping() -> bool:
        """Is called before each batch, so changes begin with the first call."""
        listener.begin_changing(one.running)
        return interrupt.requested() or halt.holds()

    return stopping


def _write(
    plans: Sequence[ResetPlan],
    results: dict[str, ResetResult],
    decision: ManualEnd,
    halt: HaltGuard,
    error: ReaperError | None,
    *,
    named: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    documents = [document(one, decision, results.get(one.source.name), halt.held_by, dry_run=dry_run) for one in plans]
    if as_json:
        members = documents[0] if named else {"dry_run": dry_run, "sources": documents}
        output.write_document("reset", {**members, **({"error": str(error)} if error else {})})
        return
    _write_lines(plans, results, halt)


def _write_lines(plans: Sequence[ResetPlan], results: dict[str, ResetResult], halt: HaltGuard) -> None:
    for one in plans:
        for line in result_lines(one, results.get(one.source.name), halt.held_by):
            click.echo(shown(line))


def _exit_code(results: dict[str, ResetResult], halt: HaltGuard) -> int:
    stopped = exit_codes.FAILED if halt.held_by else exit_codes.INTERRUPTED
    return exit_codes.worst(
        code
        for result in results.values()
        for code, applies in (
            (stopped, result.ended.stopped),
            (exit_codes.FAILED, bool(result.ended.failures or result.ended.postponed) or result.tasks_left),
        )
        if applies
    )
