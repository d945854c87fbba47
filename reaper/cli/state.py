"""`reaper state`: what the running daemon's supervisor does."""

from __future__ import annotations

import click

from reaper.cli import exit_codes, output
from reaper.cli.daemon_client import connect, state_lines, url_option, with_exit_status
from reaper.cli.options import json_option
from reaper.common.terminal import shown


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
        found = connect(ctx, url).state()
        if as_json:
            output.write("state", found)
        else:
            for line in state_lines(found):
                click.echo(shown(line))
        return exit_codes.DONE if found["state"] == "RUNNING" else exit_codes.HALTED

    return with_exit_status(ctx, ask)
