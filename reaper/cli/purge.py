"""`reaper purge`: delete jobs that finished long ago."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import click

from reaper.cli import exit_codes, output
from reaper.cli.console import make_console
from reaper.cli.ctrl_c import InterruptHandler
from reaper.cli.invocation import is_interactive, not_asked, refuse_usage
from reaper.cli.options import json_option, source_option, while_halted_option, while_observed_option
from reaper.cli.progress import progress_bar
from reaper.cli.sources import load_settings, require_source
from reaper.cli.sweep import halt_lines
from reaper.common.terminal import say, shown
from reaper.config import Settings, SourceSettings
from reaper.errors import NotPurgeable
from reaper.model import Outcome, PurgeReport
from reaper.operations.guards import GuardPasses, HaltGuard, halt_guard, halt_members, require_none_observed
from reaper.operations.purge import PurgeOptions, purge, require_purgeable
from reaper.operations.sources import create_one_off_source
from reaper.source import Source

_EXIT_CODES = {Outcome.DONE: exit_codes.DONE, Outcome.STOPPED: exit_codes.INTERRUPTED}


@click.command("purge", short_help="Delete jobs that finished long ago.")
@source_option
@click.option(
    "--days-to-keep",
    type=click.IntRange(1, 3650),
    metavar="N",
    help="Keep jobs that finished within the last N days. [default: as configured, else 30]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Delete at most N jobs in a transaction. [default: as configured, else 1000]",
)
@click.option("--dry-run", is_flag=True, help="Only count what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="The same as --yes.")
@while_halted_option
@while_observed_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    days_to_keep: int | None,
    batch_size: int | None,
    dry_run: bool,
    yes: bool,
    force: bool,
    while_halted: bool,
    while_observed: bool,
    as_json: bool,
) -> int:
    """Delete jobs that finished long ago, oldest first, with the rows that belong to them.

    Deletes finished jobs only: never a running job, a job that the profile says is still needed, or a parent or child
    of a running job. On a terminal it counts first and asks; elsewhere it needs --yes. Ctrl-C stops it between two
    batches; the next purge continues from there. It may run beside a daemon and beside another purge.

    Exit status 2 for a source whose profile does not define finished jobs; 1 when the database refused to delete a row.

    \b
    Example:
      reaper purge --days-to-keep 90 --dry-run
    """
    settings = GuardPasses(while_observed=while_observed).applied_to(load_settings(ctx))
    try:
        selected = _purgeable(settings, source)
    except NotPurgeable as error:
        return refuse_usage(ctx, str(error))
    asks = not (dry_run or yes or force)
    if asks and not is_interactive():
        return refuse_usage(ctx, not_asked("delete"))
    halt = halt_guard(settings, while_halted=while_halted)
    if not dry_run:
        halt.require_none()
    purges = [(create_one_off_source(settings, one), _options(one, days_to_keep, batch_size)) for one in selected]
    if not dry_run:
        require_none_observed(one for one, _ in purges)
    with InterruptHandler(changes=False) as interrupt:
        reports = _preview(purges, interrupt) if dry_run or asks else []
    if not dry_run and (not reports or _confirmed(reports)):
        with InterruptHandler(changes=True) as interrupt:
            reports = _purge_each(purges, interrupt, halt.holds)
    _print_reports(reports, halt, as_json=as_json)
    interrupted = [exit_codes.INTERRUPTED] if interrupt.requested() else []
    return exit_codes.worst([*interrupted, *map(_exit_code, reports)])


def _purgeable(settings: Settings, name: str | None) -> list[SourceSettings]:
    """The source of that name, or all sources that can be purged. Raises NotPurgeable when there is none."""
    selected = list(settings.sources.values()) if name is None else [settings.sources[require_source(settings, name)]]
    purgeable, problems = [], []
    for source in selected:
        try:
            require_purgeable(source.profile)
            purgeable.append(source)
        except NotPurgeable as error:
            problems.append(f"source {source.name}: {error}")
    if not purgeable:
        raise NotPurgeable("; ".join(problems))
    for problem in problems:
        say(f"reaper: {problem}")
    return purgeable


def _options(source: SourceSettings, days: int | None, batch: int | None) -> PurgeOptions:
    configured = source.purge
    return PurgeOptions(
        days_to_keep=configured.days_to_keep if days is None else days,
        batch_size=configured.batch_size if batch is None else batch,
        count=make_console(stderr=True).is_terminal,
    )


def _preview(purges: Sequence[tuple[Source, PurgeOptions]], interrupt: InterruptHandler) -> list[PurgeReport]:
    return _purge_each([(source, replace(options, dry_run=True)) for source, options in purges], interrupt)


def _confirmed(reports: Sequence[PurgeReport]) -> bool:
    jobs = sum(report.found or 0 for report in reports)
    return jobs > 0 and click.confirm(f"Delete {jobs} finished job(s)?", err=True)


def _purge_each(
    purges: Sequence[tuple[Source, PurgeOptions]],
    interrupt: InterruptHandler,
    is_halted: Callable[[], bool] = lambda: False,
) -> list[PurgeReport]:
    """One source after the other, until Ctrl-C. Errors are printed on stderr."""
    reports = []
    for source, options in purges:
        interrupt.begin_reading()
        with progress_bar(f"Purging {source.name}", interrupt) as listener:
            reports.append(
                purge(source, replace(options, should_stop=interrupt.requested, is_halted=is_halted), listener)
            )
        if reports[-1].error is not None:
            hint = "" if reports[-1].database_away else "; `reaper check` examines the database"
            say(f"reaper: source {source.name}: {reports[-1].error}{hint}")
        if interrupt.requested():
            break
    return reports


# --- output --------------------------------------------------------------------------------------------


def _print_reports(reports: Sequence[PurgeReport], halt: HaltGuard, *, as_json: bool) -> None:
    if as_json:
        output.write_document("purge", {"sources": reports, "halted": halt_members(halt.held_by)})
        return
    console = make_console()
    for report in reports:
        if len(reports) > 1:
            console.print(f"Source {report.source}:", style="bold")
        for line in (*_lines(report), *halt_lines(halt, report.outcome)):
            console.print(shown(line), soft_wrap=True)


def _lines(report: PurgeReport) -> Iterator[str]:
    if report.dry_run and report.found is not None:
        yield f"Would purge {report.found} job(s) that finished before {report.before}. Nothing was changed."
    elif report.outcome is not Outcome.FAILED or report.purged:
        yield f"Purged {report.purged} finished job(s)."
    if report.outcome is Outcome.OBSERVED:
        yield f"Observed only: {report.found} job(s) would be deleted, and none was."
    if report.outcome is Outcome.QUIET:
        yield f"Quiet until {report.quiet_until}: nothing more is deleted."
    if report.outcome in (Outcome.STOPPED, Outcome.HALTED):
        yield "Stopped between two batches; the next purge deletes the rest."
    if report.left:
        yield f"{report.left} job(s) are on hold, were locked by other sessions or changed meanwhile: not deleted."
    yield from (f"Refused by the database: {rows} job(s): {reason}" for reason, rows in report.refusals.items())


def _exit_code(report: PurgeReport) -> int:
    if report.database_away:
        return exit_codes.AWAY
    return exit_codes.FAILED if report.refusals else _EXIT_CODES.get(report.outcome, exit_codes.FAILED)
