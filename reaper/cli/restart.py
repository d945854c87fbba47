"""`reaper restart`: have the running daemon's supervisor go on."""

from __future__ import annotations

from pathlib import Path

import click

from reaper.cli import document, exits
from reaper.cli.document import shown
from reaper.cli.options import json_option
from reaper.cli.remote import reach, token_option, told, url_option
from reaper.cli.standing import lines


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
        found = reach(ctx, url, token_file, changes=True).order("restart", {})
        if as_json:
            document.write("restart", found)
        else:
            click.echo(shown(next(lines(found))))
        return exits.DONE

    return told(ctx, ask)
