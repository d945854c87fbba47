"""`reaper fence`: keep reaped jobs reaped when their old worker finishes late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from reaper.cli import exit_codes, output
from reaper.cli.console import cell, make_console, make_table, put
from reaper.cli.operator import is_interactive, usage_error
from reaper.cli.options import json_option, source_option
from reaper.cli.sources import only_source, selected, settings_of
from reaper.common.suggestions import did_you_mean
from reaper.common.terminal import shown, warn
from reaper.fence.operations import (
    FenceAction,
    FencePlan,
    FenceState,
    NotFenceable,
    apply_plan,
    fence_status,
    plan_change,
)
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import SourceResult, create_one_off_source, for_each_source
from reaper.source import Source

_NOBODY = "nobody is here to be asked: say --force to {} without asking, or --dry-run to look"
_HINTS = {
    FenceState.OUTDATED: "it is not as this profile wants it: `reaper fence install` renews it",
    FenceState.DISABLED: "it does not fire: `reaper fence install` makes it anew",
    FenceState.FOREIGN: "it has the fence's name, and the reaper has not made it",
}


class _Group(click.Group):
    """An unknown name is told the nearest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise click.UsageError(f"There is no command {args[0]!r}{did_you_mean(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


@click.group("fence", cls=_Group, short_help="Keep reaped jobs reaped when their old worker finishes late.")
def command() -> None:
    """Keep reaped jobs reaped when their old worker finishes late.

    A fence is a trigger on the table of jobs. When a job that the reaper has ended is written to, what it wrote stays,
    unless the job starts anew, or waits for that in a state that the profile names. All else in such a write goes
    through. The database gets one only by install.

    \b
    Example:
      reaper fence install --source main --dry-run
    """


def _changing(function: Callable[..., Any]) -> Callable[..., Any]:
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


@command.command("install", short_help="Put the fence up, or renew it.")
@_changing
def install(ctx: click.Context, source: str | None, dry_run: bool, force: bool, as_json: bool) -> int:
    """Put the fence up, or renew it: print the SQL, ask, and run it in one transaction.

    It needs the privileges to create in the table's schema and to make triggers on the table. It waits two seconds for
    whoever writes to the table, and gives up then. Exit status 2 for a profile that cannot be fenced.

    \b
    Example:
      reaper fence install --source main
    """
    return _change(ctx, FenceAction.INSTALL, source, dry_run=dry_run, force=force, as_json=as_json)


@command.command("remove", short_help="Take the fence away.")
@_changing
def remove(ctx: click.Context, source: str | None, dry_run: bool, force: bool, as_json: bool) -> int:
    """Take the fence away, and leave nothing behind: print the SQL, ask, and run it in one transaction.

    \b
    Example:
      reaper fence remove --source main
    """
    return _change(ctx, FenceAction.REMOVE, source, dry_run=dry_run, force=force, as_json=as_json)


def _change(
    ctx: click.Context, wish: FenceAction, name: str | None, *, dry_run: bool, force: bool, as_json: bool
) -> int:
    settings = settings_of(ctx)
    place = create_one_off_source(settings, only_source(settings, name))
    if not (dry_run or force or is_interactive()):
        return usage_error(ctx, _NOBODY.format(wish))
    try:
        with prefix_errors(place):
            planned = plan_change(place, wish)
    except NotFenceable as error:
        return usage_error(ctx, str(error))
    asking = bool(planned.change.statements) and not (dry_run or force)
    if asking or not as_json:
        _show(place, planned, stderr=as_json)
    agreed = not asking or click.confirm(f"{wish.capitalize()} the fence on {planned.before.table}?", err=True)
    now = planned.before.state
    if planned.change.statements and agreed and not dry_run:
        with prefix_errors(place):
            now = apply_plan(place, planned).state
        if not as_json:
            click.echo(f"The fence is {now}.")
    if as_json:
        output.write(ctx.command_path.split(maxsplit=1)[1], _members(place, planned, now, dry_run=dry_run))
    return exit_codes.DONE


def _show(place: Source, planned: FencePlan, *, stderr: bool) -> None:
    console = make_console(stderr=stderr)
    before, change = planned.before, planned.change
    console.print(shown(f"-- Source {place.name}: the fence on {before.table} is {before.state}."), soft_wrap=True)
    for note in planned.notes:
        console.print(shown(f"-- {note}."), soft_wrap=True)
    if change.statements:
        for line in planned.script.splitlines():
            console.print(shown(line), soft_wrap=True)
    for lacking in change.missing_grants:
        console.print(shown(f"-- The role {before.role!r} lacks: {lacking}"), soft_wrap=True)


def _members(place: Source, planned: FencePlan, now: FenceState, *, dry_run: bool) -> dict[str, object]:
    return {
        "source": place.name,
        "table": planned.before.table,
        "dry_run": dry_run,
        "before": planned.before.state,
        "after": now,
        "statements": planned.change.statements,
        "lacking": planned.change.missing_grants,
        "notes": planned.notes,
    }


# --- status ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """How the fence of one source stands; no state where its profile cannot be fenced, which `why` tells."""

    state: FenceState | None
    table: str
    why: str | None


@command.command("status", short_help="Tell which sources have a fence.")
@source_option
@json_option
@click.pass_context
def status(ctx: click.Context, source: str | None, as_json: bool) -> int:
    """Tell which sources have a fence: absent, installed, outdated, disabled or foreign.

    Exit status 1 unless the fence of every source is installed as its profile wants it. A source that cannot have one
    counts only when it is named.

    \b
    Example:
      reaper fence status || reaper fence install --force
    """
    answers = for_each_source(selected(settings_of(ctx), source), _found, warn)
    if as_json:
        output.write("fence status", {"sources": [_member(answer) for answer in answers]})
    else:
        _table(answers)
    return exit_codes.worst(_code(answer, meant=source is not None) for answer in answers)


def _found(source: Source) -> _Found:
    try:
        found = fence_status(source)
    except NotFenceable as error:
        return _Found(None, source.profile.jobs.table, str(error))
    return _Found(found.state, found.table, _HINTS.get(found.state))


def _member(answer: SourceResult[_Found]) -> dict[str, object]:
    found = answer.value
    return {
        "source": answer.source,
        "error": answer.error,
        "database_away": answer.database_away,
        "state": found.state if found else None,
        "table": found.table if found else None,
        "why": found.why if found else None,
    }


def _table(answers: Sequence[SourceResult[_Found]]) -> None:
    table = make_table(["source", "fence", "table", "why"], whole=["source", "fence"])
    for answer in answers:
        if found := answer.value:
            table.add_row(cell(answer.source), cell(found.state or "impossible"), cell(found.table), cell(found.why))
    if table.row_count:
        put(make_console(), table)


def _code(answer: SourceResult[_Found], *, meant: bool) -> int:
    if answer.value is None:
        return exit_codes.of_result(answer)
    state = answer.value.state
    return exit_codes.DONE if state is FenceState.INSTALLED or (state is None and not meant) else exit_codes.FAILED
