"""`reaper purge`: delete what finished long ago."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import click

from reaper.cli import exit_codes, output
from reaper.cli.console import make_console
from reaper.cli.interrupt import Interrupt
from reaper.cli.operator import is_interactive, usage_error
from reaper.cli.options import json_option, source_option
from reaper.cli.progress import progress_bar
from reaper.cli.sources import require_known, settings_of
from reaper.common.terminal import say, shown
from reaper.config import Settings, SourceSettings
from reaper.errors import NotPurgeable
from reaper.model import Outcome, PurgeReport
from reaper.operations.purge import PurgeOptions, purge, require_purgeable
from reaper.operations.sources import create_one_off_source
from reaper.source import Source

_CODES = {Outcome.DONE: exit_codes.DONE, Outcome.STOPPED: exit_codes.INTERRUPTED}


@click.command("purge", short_help="Delete what finished long ago.")
@source_option
@click.option(
    "--days-to-keep",
    type=click.IntRange(1, 3650),
    metavar="N",
    help="Keep what finished within so many days. [default: as configured, else 30]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="So many jobs a transaction. [default: as configured, else 1000]",
)
@click.option("--dry-run", is_flag=True, help="Only count what would be deleted.")
@click.option("--force", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    days_to_keep: int | None,
    batch_size: int | None,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Delete what finished long ago, oldest first, with what goes with it.

    Only finished jobs: never one that runs, one that the profile says is needed, or a parent or child of one that runs.
    On a terminal it counts first, and asks. Ctrl-C ends it between two batches; the next purge goes on where this one
    ended. Safe beside a daemon and beside another purge.

    Exit status 2 for a source whose profile does not say what finished means, 1 when the database refused any row.

    \b
    Example:
      reaper purge --days-to-keep 90 --dry-run
    """
    settings = settings_of(ctx)
    try:
        wanted = _purgeable(settings, source)
    except NotPurgeable as error:
        return usage_error(ctx, str(error))
    purges = [(create_one_off_source(settings, found), _options(found, days_to_keep, batch_size)) for found in wanted]
    with Interrupt(changes=False) as interrupt:
        reports = _preview(purges, interrupt) if dry_run or (is_interactive() and not force) else []
    if not dry_run and (not reports or _agreed(reports)):
        with Interrupt(changes=True) as interrupt:
            reports = _purge_each(purges, interrupt)
    _tell(reports, as_json=as_json)
    told = [exit_codes.INTERRUPTED] if interrupt.asked() else []
    return exit_codes.worst([*told, *map(_code, reports)])


def _purgeable(settings: Settings, name: str | None) -> list[SourceSettings]:
    """The one that is meant, or all that can be purged. Raises NotPurgeable when there is none."""
    named = list(settings.sources.values()) if name is None else [settings.sources[require_known(settings, name)]]
    found, problems = [], []
    for source in named:
        try:
            require_purgeable(source.profile)
            found.append(source)
        except NotPurgeable as error:
            problems.append(f"source {source.name}: {error}")
    if not found:
        raise NotPurgeable("; ".join(problems))
    for problem in problems:
        say(f"reaper: {problem}")
    return found


def _options(source: SourceSettings, days: int | None, batch: int | None) -> PurgeOptions:
    kept = source.purge
    return PurgeOptions(
        days_to_keep=kept.days_to_keep if days is None else days,
        batch_size=kept.batch_size if batch is None else batch,
        count=make_console(stderr=True).is_terminal,
    )


def _preview(purges: Sequence[tuple[Source, PurgeOptions]], interrupt: Interrupt) -> list[PurgeReport]:
    return _purge_each([(source, replace(options, dry_run=True)) for source, options in purges], interrupt)


def _agreed(reports: Sequence[PurgeReport]) -> bool:
    found = sum(report.found or 0 for report in reports)
    return found > 0 and click.confirm(f"Delete {found} finished job(s)?", err=True)


def _purge_each(purges: Sequence[tuple[Source, PurgeOptions]], interrupt: Interrupt) -> list[PurgeReport]:
    """One source after the other, until told to stop. What went wrong is told on stderr."""
    reports = []
    for source, options in purges:
        interrupt.surveying()
        with progress_bar(f"Purging {source.name}", interrupt) as watched:
            reports.append(purge(source, replace(options, should_stop=interrupt.asked), watched))
        if reports[-1].error is not None:
            hint = "" if reports[-1].database_away else "; `reaper check` examines the database"
            say(f"reaper: source {source.name}: {reports[-1].error}{hint}")
        if interrupt.asked():
            break
    return reports


# --- what is told --------------------------------------------------------------------------------------------


def _tell(reports: Sequence[PurgeReport], *, as_json: bool) -> None:
    if as_json:
        output.write("purge", {"sources": reports})
        return
    console = make_console()
    for report in reports:
        if len(reports) > 1:
            console.print(f"Source {report.source}:", style="bold")
        for line in _lines(report):
            console.print(shown(line), soft_wrap=True)


def _lines(report: PurgeReport) -> Iterator[str]:
    if report.dry_run and report.found is not None:
        yield f"Would purge {report.found} job(s) that finished before {report.before}. Nothing was changed."
    elif report.outcome is not Outcome.FAILED or report.purged:
        yield f"Purged {report.purged} finished job(s)."
    if report.outcome is Outcome.STOPPED:
        yield "Stopped between two batches; the rest waits for the next purge."
    if report.left:
        yield f"{report.left} job(s) were held by somebody or changed meanwhile, and were left alone."
    yield from (f"Refused by the database: {rows} job(s): {reason}" for reason, rows in report.refusals.items())


def _code(report: PurgeReport) -> int:
    if report.database_away:
        return exit_codes.AWAY
    return exit_codes.FAILED if report.refusals else _CODES.get(report.outcome, exit_codes.FAILED)
