"""`reaper restart`: restarts the supervisor of the running daemon."""

from __future__ import annotations

from pathlib import Path

import click

from reaper.cli import exit_codes, output
from reaper.cli.daemon_client import make_client, state_lines, token_option, url_option, with_exit_status
from reaper.cli.options import json_option
from reaper.common.terminal import shown


@click.command("restart", short_help="Restart the daemon's supervisor after a halt.")
@url_option
@token_option
@json_option
@click.pass_context
def command(ctx: click.Context, url: str | None, token_file: Path | None, as_json: bool) -> int:
    """Restart the daemon's supervisor: clears a halt, or replaces a schedule that has died.

    Each source is swept at once. The daemon's process is not restarted.

    \b
    Example:
      reaper restart
    """

    def request() -> int:
        state = make_client(ctx, url, token_file, changes=True).post_command("restart", {})
        if as_json:
            output.write_document("restart", state)
        else:
            click.echo(shown(next(state_lines(state))))
        return exit_codes.DONE

    return with_exit_status(ctx, request)
