"""`reaper fence`: installs, removes and checks the trigger that keeps late workers from overwriting reaped jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from reaper.cli import exit_codes, output
from reaper.cli.command_group import CommandGroup
from reaper.cli.console import make_console, make_table, print_table, text_cell
from reaper.cli.invocation import is_interactive, refuse_usage
from reaper.cli.options import json_option, source_option
from reaper.cli.sources import load_settings, select_sources, single_source
from reaper.common.terminal import shown, warn
from reaper.fence.installation import (
    FenceAction,
    FencePlan,
    FenceState,
    FenceStatus,
    NotFenceable,
    apply_plan,
    fence_status,
    plan_change,
)
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import SourceResult, create_one_off_source, for_each_source
from reaper.source import Source

_NOT_INTERACTIVE = "standard input is not a terminal: use --force to {} without a question, or --dry-run to look"
_HINTS = {
    FenceState.OUTDATED: "it differs from what this profile needs: `reaper fence install` replaces it",
    FenceState.DISABLED: "the trigger is disabled: `reaper fence install` replaces it",
    FenceState.FOREIGN: "a trigger of this name exists that the reaper did not create",
}


@click.group("fence", cls=CommandGroup, short_help="Keep a late worker from overwriting a reaped job.")
def command() -> None:
    """Keep a late worker from overwriting a reaped job.

    A fence is a trigger on the table of jobs. When a reaped job is updated, the columns that the reaper wrote keep
    their values, and the rest of the update takes effect. A new start, or a change to a waiting state that the profile
    names, is not held back. Only `install` creates a fence.

    \b
    Example:
      reaper fence install --source main --dry-run
    """


def _change_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--source", metavar="NAME", help="The source. [default: the only one]"),
        click.option("--dry-run", is_flag=True, help="Only print the SQL."),
        click.option("--force", is_flag=True, help="Do not ask."),
        json_option,
        click.pass_context,
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command("install", short_help="Install the fence, or replace an outdated one.")
@_change_options
def install(ctx: click.Context, source: str | None, dry_run: bool, force: bool, as_json: bool) -> int:
    """Install the fence, or replace an outdated one: print the SQL, ask, and run it in one transaction.

    Needs the privileges to create objects in the table's schema and triggers on the table. Waits at most two seconds
    for the lock on the table. Exit status 2 for a profile that cannot have a fence.

    \b
    Example:
      reaper fence install --source main
    """
    return _change(ctx, FenceAction.INSTALL, source, dry_run=dry_run, force=force, as_json=as_json)


@command.command("remove", short_help="Remove the fence.")
@_change_options
def remove(ctx: click.Context, source: str | None, dry_run: bool, force: bool, as_json: bool) -> int:
    """Remove the fence and all that belongs to it: print the SQL, ask, and run it in one transaction.

    \b
    Example:
      reaper fence remove --source main
    """
    return _change(ctx, FenceAction.REMOVE, source, dry_run=dry_run, force=force, as_json=as_json)


def _change(
    ctx: click.Context, action: FenceAction, name: str | None, *, dry_run: bool, force: bool, as_json: bool
) -> int:
    settings = load_settings(ctx)
    opened = create_one_off_source(settings, single_source(settings, name))
    if not (dry_run or force or is_interactive()):
        return refuse_usage(ctx, _NOT_INTERACTIVE.format(action))
    try:
        with prefix_errors(opened):
            planned = plan_change(opened, action)
    except NotFenceable as error:
        return refuse_usage(ctx, str(error))
    must_ask = bool(planned.change.statements) and not (dry_run or force)
    if must_ask or not as_json:
        _print_plan(opened, planned, stderr=as_json)
    confirmed = not must_ask or click.confirm(f"{action.capitalize()} the fence on {planned.before.table}?", err=True)
    state = planned.before.state
    if planned.change.statements and confirmed and not dry_run:
        with prefix_errors(opened):
            state = apply_plan(opened, planned).state
        if not as_json:
            click.echo(f"The fence is {state}.")
    if as_json:
        output.write_document(
            ctx.command_path.split(maxsplit=1)[1], _change_document(opened, planned, state, dry_run=dry_run)
        )
    return exit_codes.DONE


def _print_plan(source: Source, planned: FencePlan, *, stderr: bool) -> None:
    console = make_console(stderr=stderr)
    before, change = planned.before, planned.change
    console.print(shown(f"-- Source {source.name}: the fence on {before.table} is {before.state}."), soft_wrap=True)
    for note in planned.notes:
        console.print(shown(f"-- {note}."), soft_wrap=True)
    if change.statements:
        for line in planned.script.splitlines():
            console.print(shown(line), soft_wrap=True)
    for lacking in change.missing_grants:
        console.print(shown(f"-- The role {before.role!r} lacks: {lacking}"), soft_wrap=True)


def _change_document(source: Source, planned: FencePlan, after: FenceState, *, dry_run: bool) -> dict[str, object]:
    return {
        "source": source.name,
        "table": planned.before.table,
        "dry_run": dry_run,
        "before": planned.before.state,
        "after": after,
        "statements": planned.change.statements,
        "lacking": planned.change.missing_grants,
        "notes": planned.notes,
    }


# --- status ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Status:
    """The fence of one source. Without a state the profile cannot have a fence, and `why` says why."""

    state: FenceState | None
    table: str
    why: str | None


@command.command("status", short_help="Show which sources have a fence.")
@source_option
@json_option
@click.pass_context
def status(ctx: click.Context, source: str | None, as_json: bool) -> int:
    """Show which sources have a fence: absent, installed, outdated, disabled or foreign.

    Exit status 1 unless every source has an up-to-date fence. A source whose profile cannot have one counts only when
    --source names it.

    \b
    Example:
      reaper fence status || reaper fence install --force
    """
    results = for_each_source(select_sources(load_settings(ctx), source), _status_of, warn)
    if as_json:
        output.write_document("fence status", {"sources": [_status_document(result) for result in results]})
    else:
        _print_status(results)
    return exit_codes.worst(_exit_code(result, named=source is not None) for result in results)


def _status_of(source: Source) -> _Status:
    try:
        fence = fence_status(source)
    except NotFenceable as error:
        return _Status(None, source.profile.jobs.table, str(error))
    return _Status(fence.state, fence.table, _hint(fence))


def _hint(fence: FenceStatus) -> str | None:
    if fence.switched_off:
        return f"it is switched off for sessions; {'; '.join(fence.switched_off)}"
    return _HINTS.get(fence.state)


def _status_document(result: SourceResult[_Status]) -> dict[str, object]:
    fence = result.value
    return {
        "source": result.source,
        "error": result.error,
        "database_away": result.database_away,
        "state": fence.state if fence else None,
        "table": fence.table if fence else None,
        "why": fence.why if fence else None,
    }


def _print_status(results: Sequence[SourceResult[_Status]]) -> None:
    table = make_table(["source", "fence", "table", "why"], unfolded=["source", "fence"])
    for result in results:
        if fence := result.value:
            table.add_row(
                text_cell(result.source),
                text_cell(fence.state or "impossible"),
                text_cell(fence.table),
                text_cell(fence.why),
            )
    if table.row_count:
        print_table(make_console(), table)


def _exit_code(result: SourceResult[_Status], *, named: bool) -> int:
    if result.value is None:
        return exit_codes.of_result(result)
    state = result.value.state
    return exit_codes.DONE if state is FenceState.INSTALLED or (state is None and not named) else exit_codes.FAILED
