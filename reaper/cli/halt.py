"""`reaper halt`: have the running daemon end nothing."""

from __future__ import annotations

from pathlib import Path

import click

from reaper.cli import document, exits
from reaper.cli.document import shown
from reaper.cli.options import json_option, speakable
from reaper.cli.remote import reach, token_option, told, url_option
from reaper.cli.standing import lines


@click.command("halt", short_help="Have the daemon end nothing until it is restarted.")
@click.option("--persist", is_flag=True, help="Also after a restart of the daemon.")
@click.option("--reason", metavar="TEXT", callback=speakable, help="Why, for whoever finds it halted.")
@url_option
@token_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, persist: bool, reason: str | None, url: str | None, token_file: Path | None, as_json: bool
) -> int:
    """Have the daemon end nothing until somebody says `reaper restart`. It goes on looking.

    Returns at once; a sweep that works ends after its batch.

    \b
    Example:
      reaper halt --reason 'the workers are being moved'
    """

    def ask() -> int:
        query = {"persist": str(persist).lower(), **({"reason": reason} if reason else {})}
        found = reach(ctx, url, token_file, changes=True).order("halt", query)
        if as_json:
            document.write("halt", found)
        else:
            click.echo(shown(next(lines(found))))
        return exits.DONE

    return told(ctx, ask)
