"""`reaper restart`: have the running daemon's supervisor go on."""

from __future__ import annotations

from pathlib import Path

import click

from reaper.cli import exit_codes, output
from reaper.cli.daemon_client import connect, state_lines, token_option, url_option, with_exit_status
from reaper.cli.options import json_option
from reaper.common.terminal import shown


@click.command("restart", short_help="Have the daemon's supervisor go on.")
@url_option
@token_option
@json_option
@click.pass_context
def command(ctx: click.Context, url: str | None, token_file: Path | None, as_json: bool) -> int:
    """Have the daemon's supervisor go on after a halt, or with a new schedule after one that has died.

    Each source is swept at once. The daemon itself goes on as it is.

    \b
    Example:
      reaper restart
    """

    def ask() -> int:
        found = connect(ctx, url, token_file, changes=True).order("restart", {})
        if as_json:
            output.write("restart", found)
        else:
            click.echo(shown(next(state_lines(found))))
        return exit_codes.DONE

    return with_exit_status(ctx, ask)
