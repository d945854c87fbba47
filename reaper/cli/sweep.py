"""`reaper sweep`: one pass, now."""

from __future__ import annotations

import click

from reaper.cli import document, exits
from reaper.cli.interrupt import Interrupt
from reaper.cli.options import json_option, source_option
from reaper.cli.screen import make_console
from reaper.cli.sources import chosen, settings_of
from reaper.cli.sweeping import code, member, orders_of, sweep_each
from reaper.cli.swept import show
from reaper.model import ConfigError
from reaper.settings import Settings

_OLDER_THAN = "--older-than: "


@click.command("sweep", short_help="Sweep once, now.")
@source_option
@click.option("--older-than", metavar="DURATION", help="This timeout for every kind of job, such as 5m.")
@click.option("--dry-run", is_flag=True, help="Only show what would be ended.")
@click.option("--force", is_flag=True, help="Go through although the breaker would hold the sweep.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, source: str | None, older_than: str | None, dry_run: bool, force: bool, as_json: bool
) -> int:
    """Sweep once, now: end what is stale, and say what was spared.

    Safe beside a daemon that sweeps the same jobs. Ctrl-C ends it between two batches, with nothing half done. Exit
    status 1 when a sweep failed, was held by the breaker, or was refused a job by the database.

    It knows when the database server was started, but not the outages that a daemon beside it has seen: a job that the
    daemon spares for those may be stale to this sweep.

    \b
    Example:
      reaper sweep --older-than 8h --dry-run
    """
    settings = _settings(ctx, older_than)
    orders = orders_of(settings, force=force, dry_run=dry_run)
    interrupt = Interrupt(changes=not dry_run)
    with interrupt:
        swept = sweep_each(settings, chosen(settings, source), orders, interrupt)
    if as_json:
        document.write("sweep", {"sources": [member(report, watched) for report, watched in swept]})
    else:
        for report, watched in swept:
            show(make_console(), report, watched, orders.breaker, named=len(swept) > 1)
    told = [exits.INTERRUPTED] if interrupt.asked() else []
    return exits.worst([*told, *(code(report) for report, _ in swept)])


def _settings(ctx: click.Context, older_than: str | None) -> Settings:
    try:
        return settings_of(ctx, timeout_seconds=older_than)
    except ConfigError as error:
        if all(problem.startswith(_OLDER_THAN) for problem in error.problems):
            raise click.UsageError(str(error)) from None
        raise
