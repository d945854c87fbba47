"""`reaper sweep`: one pass, now."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace

import click

from reaper.breaker import Breaker
from reaper.cli import document, exits
from reaper.cli.interrupt import Interrupt
from reaper.cli.options import json_option, source_option
from reaper.cli.progress import Watched, watching
from reaper.cli.screen import make_console
from reaper.cli.sources import chosen, hearing_of, settings_of
from reaper.cli.swept import show
from reaper.model import ConfigError, Outcome, SweepReport
from reaper.settings import Settings
from reaper.source import Source
from reaper.sweep import Memory, Orders, sweep

_OLDER_THAN = "--older-than: "
_CODES = {Outcome.DONE: exits.DONE, Outcome.STOPPED: exits.INTERRUPTED}


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
    orders = Orders(
        host=socket.gethostname(),
        batch_size=settings.batch_size,
        breaker=Breaker(settings.breaker_min, settings.breaker_share),
        force=force,
        dry_run=dry_run,
    )
    interrupt = Interrupt(changes=not dry_run)
    with interrupt:
        swept = _sweep_each(settings, chosen(settings, source), orders, interrupt)
    if as_json:
        document.write("sweep", {"sources": [_member(report, watched) for report, watched in swept]})
    else:
        for report, watched in swept:
            show(make_console(), report, watched, orders.breaker, named=len(swept) > 1)
    told = [exits.INTERRUPTED] if interrupt.asked() else []
    return exits.worst([*told, *(_code(report) for report, _ in swept)])


def _settings(ctx: click.Context, older_than: str | None) -> Settings:
    try:
        return settings_of(ctx, timeout_seconds=older_than)
    except ConfigError as error:
        if all(problem.startswith(_OLDER_THAN) for problem in error.problems):
            raise click.UsageError(str(error)) from None
        raise


def _sweep_each(
    settings: Settings, sources: Sequence[Source], orders: Orders, interrupt: Interrupt
) -> list[tuple[SweepReport, Watched]]:
    """One source after the other, until told to stop."""
    done: list[tuple[SweepReport, Watched]] = []
    orders = replace(orders, stopping=interrupt.asked)
    for source in sources:
        interrupt.surveying()
        with watching(source.name, interrupt) as watched:
            report = sweep(source, hearing_of(settings), Memory(), orders, None, watched)
        done.append((report, watched))
        if report.error is not None:
            hint = "" if report.database_away else "; `reaper check` examines the database"
            document.say(f"reaper: source {source.name}: {report.error}{hint}")
        if interrupt.asked():
            break
    return done


def _member(report: SweepReport, watched: Watched) -> dict[str, object]:
    found: dict[str, object] = document.plain(report)
    if report.census is not None:
        found["census"] = {**document.plain(report.census), "spared": report.census.spared}
    return {**found, "reaped_jobs": document.plain(watched.named)}


def _code(report: SweepReport) -> int:
    if report.database_away:
        return exits.AWAY
    return exits.FAILED if report.failures else _CODES.get(report.outcome, exits.FAILED)
