"""`reaper state`: what the running daemon's supervisor does."""

from __future__ import annotations

import click

from reaper.cli import document, exits
from reaper.cli.document import shown
from reaper.cli.options import json_option
from reaper.cli.remote import reach, told, url_option
from reaper.cli.standing import lines


@click.command("state", short_help="Show what the daemon's supervisor does.")
@url_option
@json_option
@click.pass_context
def command(ctx: click.Context, url: str | None, as_json: bool) -> int:
    """Show what the daemon's supervisor does: RUNNING, HALTED or FINISHED, and how each source stands.

    Exit status 3 when it does not run: somebody has halted it, or its schedule has died.

    \b
    Example:
      reaper state
    """

    def ask() -> int:
        found = reach(ctx, url).state()
        if as_json:
            document.write("state", found)
        else:
            for line in lines(found):
                click.echo(shown(line))
        return exits.DONE if found["state"] == "RUNNING" else exits.HALTED

    return told(ctx, ask)
