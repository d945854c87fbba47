"""`reaper halt`: the running daemon ends no more jobs."""

from __future__ import annotations

from pathlib import Path

import click

from reaper.cli import exit_codes, output
from reaper.cli.daemon_client import (
    make_client,
    standby_sources,
    state_lines,
    token_option,
    url_option,
    with_exit_status,
)
from reaper.cli.options import json_option, validate_reason
from reaper.common.terminal import shown


@click.command("halt", short_help="Halt the daemon: it ends no jobs until `reaper restart`.")
@click.option("--persist", is_flag=True, help="Stay halted across restarts of the daemon.")
@click.option("--reason", metavar="TEXT", callback=validate_reason, help="Why; shown wherever the halt is shown.")
@url_option
@token_option
@json_option
@click.pass_context
def command(
    ctx: click.Context, persist: bool, reason: str | None, url: str | None, token_file: Path | None, as_json: bool
) -> int:
    """Halt the daemon: it ends no jobs until `reaper restart`. It still surveys its sources.

    Returns at once; a running sweep stops after its current batch. A halt concerns one daemon: halt each replica that
    sweeps the same sources.

    \b
    Example:
      reaper halt --reason 'the workers are being moved'
    """

    def request() -> int:
        query = {"persist": str(persist).lower(), **({"reason": reason} if reason else {})}
        state = make_client(ctx, url, token_file, changes=True).post_command("halt", query)
        standby = standby_sources(state)
        if as_json:
            output.write_document("halt", {**state, "swept_elsewhere": standby})
            return exit_codes.DONE
        click.echo(shown(next(state_lines(state))))
        for source in standby:
            click.echo(shown(f"{source} is swept by another replica, which is not halted: halt that one too"))
        return exit_codes.DONE

    return with_exit_status(ctx, request)
