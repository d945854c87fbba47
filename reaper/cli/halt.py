"""`reaper halt`: have the running daemon end nothing."""

from __future__ import annotations

from pathlib import Path

import click

from reaper.cli import document, exits
from reaper.cli.document import shown
from reaper.cli.options import json_option, speakable
from reaper.cli.remote import reach, token_option, told, url_option
from reaper.cli.standing import lines, swept_elsewhere


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

    Returns at once; a sweep that works ends after its batch. A replica that sweeps in its stead has to be halted, too.

    \b
    Example:
      reaper halt --reason 'the workers are being moved'
    """

    def ask() -> int:
        query = {"persist": str(persist).lower(), **({"reason": reason} if reason else {})}
        found = reach(ctx, url, token_file, changes=True).order("halt", query)
        others = swept_elsewhere(found)
        if as_json:
            document.write("halt", {**found, "swept_elsewhere": others})
            return exits.DONE
        click.echo(shown(next(lines(found))))
        for source in others:
            click.echo(shown(f"{source} is swept by another replica, which this does not halt: halt that one too"))
        return exits.DONE

    return told(ctx, ask)
