"""`reaper check`: compares each database with its profile, and the reaper's privileges with what a sweep needs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import click
from rich.console import Console

from reaper.catalog import QUERY_SECONDS
from reaper.check import Finding, Level, check_statements, check_workers, examine, try_statements
from reaper.check.checks.fence import check_fence
from reaper.check.checks.jobs_not_ended import check_jobs_not_ended
from reaper.check.finding import error, note, warning
from reaper.cli import exit_codes, output
from reaper.cli.console import WORD_STYLES, make_console
from reaper.cli.options import json_option, source_option
from reaper.cli.sources import load_settings, select_sources
from reaper.common.terminal import shown, warn
from reaper.config import Settings
from reaper.errors import ReaperError
from reaper.grants.needs import workload_of
from reaper.operations.reasons_not_ended import command_guards
from reaper.operations.report import overdue_jobs
from reaper.operations.source_errors import prefix_errors
from reaper.operations.sources import SourceResult, for_each_source, new_downtime_tracker
from reaper.profile import Profile
from reaper.source import Source
from reaper.source.factory import on_same_broker
from reaper.staleness.unknown_moments import columns_of_numbers


@click.command("check", short_help="Check databases, profiles and privileges.")
@source_option
@click.option("--try", "tries", is_flag=True, help="Also run the statements of sweeps and purges, on no row.")
@json_option
@click.pass_context
def command(ctx: click.Context, source: str | None, tries: bool, as_json: bool) -> int:
    """Check databases, profiles and privileges, and print every problem with its fix.

    Checks tables, columns, types, enum labels, indexes, privileges, clocks and server settings; whether the database
    takes the statements of sweeps and purges; and, for sources with Celery, whether workers answer. Changes nothing,
    and runs no function of the tables' owners. Exit status 1 when there are errors; 0 when there are only warnings and
    notes.

    --try runs the statements of sweeps and of scheduled purges on no row, and rolls them back. It first names the
    triggers and functions that this runs. They have the rights of the connected role: --try is refused to a superuser,
    and to any role but the daemon's, which database_url names.

    \b
    Example:
      reaper check --source main --try
    """
    settings = load_settings(ctx)
    results = for_each_source(
        select_sources(settings, source), lambda opened: _examine(settings, opened, tries=tries), warn
    )
    if as_json:
        documents = [_document(result) for result in results]
        output.write_document("check", {"sources": documents})
    else:
        _print_findings(make_console(), results)
    return exit_codes.worst(_exit_code(result) for result in results)


def _examine(settings: Settings, source: Source, *, tries: bool) -> list[Finding]:
    others = [*_check_workers(settings, source), *_check_cap(settings, source)]
    workload = workload_of(settings.sources[source.name])

    def trial(runs: Sequence[str]) -> Iterator[Finding]:
        return try_statements(
            source, runs, purges=workload.purge, announce=lambda what: warn(f"source {source.name}: {what}")
        )

    # Not prepared: what keeps the reaper from using the profile is to be found, not raised.
    with source.connect(prepared=False) as connection:
        # The only use of the host's clock: to report that it differs from the database's, which decides.
        return examine(
            connection,
            _examined(source),
            source.thresholds.stall.seconds,
            host_clock=time.time,
            other_findings=others,
            workload=workload,
            plan=lambda sound: [
                *check_fence(source),
                *(
                    [
                        *check_statements(source, purges=workload.purge),
                        *_check_unknown_moments(settings, source),
                        *_check_jobs_not_ended(settings, source),
                    ]
                    if sound
                    else ()
                ),
            ],
            trial=trial if tries else None,
        )


def _examined(source: Source) -> Profile:
    """The profile as it is configured, without what the source does not look for."""
    profile = source.configured_profile
    log = profile.jobs.log
    if log is None or source.options.start_lost != "off":
        return profile
    jobs = profile.jobs.model_copy(update={"log": log.model_copy(update={"start_lost": None})})
    return profile.model_copy(update={"jobs": jobs})


def _check_workers(settings: Settings, source: Source) -> Iterator[Finding]:
    """Findings about Celery's workers, for a source that asks them."""
    if source.options.probe is not None:
        queues = {queue for sibling in on_same_broker(settings, source.name) for queue in sibling.queues}
        yield from check_workers(source.options.probe.ask(), source.options.queues, queues)


def _check_cap(settings: Settings, source: Source) -> Iterator[Finding]:
    """Without a state directory, a cap counts what one process has ended."""
    if (cap := source.options.cap) is not None and settings.state_dir is None:
        yield warning(
            "most",
            f"there is no state directory ({cap.origin} sets the cap): each process counts alone what it ends, and a "
            "restart begins at 0; set REAPER_STATE_DIR, or StateDirectory= in the systemd unit",
        )


def _check_unknown_moments(settings: Settings, source: Source) -> Iterator[Finding]:
    """Findings about columns whose moments are unknown; a note where they cannot be read."""
    try:
        with prefix_errors(source), source.connect() as connection:
            context = source.begin_evaluation(connection, new_downtime_tracker(settings))
            context = source.look_for_other_units(connection, context, at_most=QUERY_SECONDS)
            context, _ = source.look_for_local_times(connection, context, None, keep=False, at_most=QUERY_SECONDS)
    except ReaperError as trouble:
        yield note(source.configured_profile.jobs.table, f"could not look for unknown moments: {trouble}")
        return
    numbers = columns_of_numbers(source.profile)
    for column, why in context.unknown_moments.items():
        subject = ".".join(column)
        if column in numbers:
            yield error(subject, why.removeprefix(subject).lstrip())
            continue
        lines = f'times."{subject}" = {{ naive = "America/New_York" }}, or {{ naive = "UTC" }}'
        yield warning(subject, f"{why.removeprefix(subject).lstrip()}. Say it in the profile, such as {lines}")


def _check_jobs_not_ended(settings: Settings, source: Source) -> Iterator[Finding]:
    """Findings about jobs that are silent and left; a note where they cannot be read."""
    table = source.configured_profile.jobs.table
    try:
        with prefix_errors(source):
            found = overdue_jobs(source, new_downtime_tracker(settings), at_most=QUERY_SECONDS)
    except ReaperError as error:
        yield note(table, f"could not look which silent jobs are left, and why: {error}")
        return
    if found.census.stale:
        found = replace(found, guards=command_guards(settings, source, found.census))
    silent = [(job, left) for job in found.jobs if (left := found.left(job))]
    yield from check_jobs_not_ended(table, found.census.stale, silent)


def _document(result: SourceResult[list[Finding]]) -> dict[str, object]:
    return {
        "source": result.source,
        "error": result.error,
        "database_away": result.database_away,
        "findings": result.value or [],
    }


def _exit_code(result: SourceResult[list[Finding]]) -> int:
    has_errors = any(finding.level is Level.ERROR for finding in result.value or [])
    return exit_codes.FAILED if has_errors else exit_codes.of_result(result)


def _print_findings(console: Console, results: list[SourceResult[list[Finding]]]) -> None:
    for result in results:
        if result.value is None:
            continue
        console.print(f"Source {result.source}: {_count_text(result.value)}", style="bold", soft_wrap=True)
        for position, finding in enumerate(result.value):
            console.print(
                shown(f"{finding.level}: {finding.subject}: {finding.message}"), style=WORD_STYLES.get(finding.level)
            )
            # Several findings may share one fix: print it once, below the last of them.
            if finding.fix and all(later.fix != finding.fix for later in result.value[position + 1 :]):
                _print_fix(console, finding.fix)


def _print_fix(console: Console, fix: str) -> None:
    """Never folded, so that it can be copied."""
    console.print()
    for line in fix.splitlines():
        console.print(f"    {shown(line)}", soft_wrap=True)
    console.print()


def _count_text(findings: list[Finding]) -> str:
    if not findings:
        return "nothing is wrong."
    counts = [(sum(finding.level is level for finding in findings), level) for level in Level]
    return ", ".join(f"{count} {level}{'s' if count > 1 else ''}" for count, level in counts if count)
