"""`reaper state`: the state of the running daemon's supervisor."""

from __future__ import annotations

import click

from reaper.cli import exit_codes, output
from reaper.cli.daemon_client import make_client, state_lines, url_option, with_exit_status
from reaper.cli.options import json_option
from reaper.common.terminal import shown


@click.command("state", short_help="Show the state of the daemon's supervisor.")
@url_option
@json_option
@click.pass_context
def command(ctx: click.Context, url: str | None, as_json: bool) -> int:
    """Show the state of the daemon's supervisor (RUNNING, HALTED or FINISHED) and of each source.

    Exit status 3 when it is not RUNNING: it was halted (HALTED), or its schedule has died (FINISHED).

    \b
    Example:
      reaper state
    """

    def request() -> int:
        document = make_client(ctx, url).supervisor_state()
        if as_json:
            output.write_document("state", document)
        else:
            for line in state_lines(document):
                click.echo(shown(line))
        return exit_codes.DONE if document["state"] == "RUNNING" else exit_codes.ATTENTION

    return with_exit_status(ctx, request)
