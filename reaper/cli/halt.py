"""`reaper halt`: have the running daemon end nothing."""

from __future__ import annotations

from pathlib import Path

import click

from reaper.cli import exit_codes, output
from reaper.cli.daemon_client import connect, state_lines, swept_elsewhere, token_option, url_option, with_exit_status
from reaper.cli.options import json_option, validate_text
from reaper.common.terminal import shown


@click.command("halt", short_help="Have the daemon end nothing until it is restarted.")
@click.option("--persist", is_flag=True, help="Also after a restart of the daemon.")
@click.option("--reason", metavar="TEXT", callback=validate_text, help="Why, for whoever finds it halted.")
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
        found = connect(ctx, url, token_file, changes=True).order("halt", query)
        others = swept_elsewhere(found)
        if as_json:
            output.write("halt", {**found, "swept_elsewhere": others})
            return exit_codes.DONE
        click.echo(shown(next(state_lines(found))))
        for source in others:
            click.echo(shown(f"{source} is swept by another replica, which this does not halt: halt that one too"))
        return exit_codes.DONE

    return with_exit_status(ctx, ask)
