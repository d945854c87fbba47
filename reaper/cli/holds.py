"""`reaper holds`: the jobs that are held."""

from __future__ import annotations

import click

from reaper.cli import output
from reaper.cli.console import make_console, make_table, print_table, text_cell
from reaper.cli.options import json_option, source_option
from reaper.cli.sources import load_settings, select_sources
from reaper.common import messages
from reaper.model import JobHold
from reaper.operations.hold import holds_in_force, shared_holds


@click.command("holds", short_help="List the jobs that are held.")
@source_option
@json_option
@click.pass_context
def command(ctx: click.Context, source: str | None, as_json: bool) -> None:
    """List the jobs that operators hold, so that nothing ends them: until when, who holds them, and why.

    \b
    Example:
      reaper holds
    """
    settings = load_settings(ctx)
    holds = holds_in_force(select_sources(settings, source), shared_holds(settings))
    if as_json:
        output.write_document("holds", {"holds": [hold_members(hold) for hold in holds]})
        return
    if not holds:
        click.echo("No job is held.")
        return
    table = make_table(["source", "job", "until", "by", "reason"], unfolded=["job", "until"])
    for hold in holds:
        cells = (hold.source, messages.format_key(hold.key), until_text(hold), hold.by, hold.reason)
        table.add_row(*map(text_cell, cells))
    print_table(make_console(), table)


def until_text(hold: JobHold) -> str:
    """The end of a hold, by the clock of its database."""
    return f"{hold.until:%Y-%m-%d %H:%M:%S} UTC"


def describe_hold(hold: JobHold) -> str:
    """In one line."""
    job = f"job {messages.format_key(hold.key)} in source {hold.source}"
    return f"{job} until {until_text(hold)} by {hold.by} ({hold.reason})"


def hold_members(hold: JobHold) -> dict[str, object]:
    """A hold as JSON members."""
    return {
        "source": hold.source,
        "key": hold.key[0] if len(hold.key) == 1 else list(hold.key),
        "until": hold.until.isoformat(),
        "by": hold.by,
        "reason": hold.reason,
    }
