"""`reaper report`: the running jobs and the verdict of the staleness rule for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
from rich.console import Console

from reaper.cli import exit_codes, output
from reaper.cli.console import WIDE_TERMINAL, make_console, make_table, print_table, text_cell, two_columns
from reaper.cli.options import json_option, kind_option, source_option
from reaper.cli.sources import load_settings, select_sources
from reaper.common import messages
from reaper.common.json_values import to_jsonable
from reaper.common.terminal import shown, warn
from reaper.model import Evidence, JobCounts, Verdict
from reaper.operations.orphaned_tasks import describe_orphan
from reaper.operations.report import (
    Report,
    ReportQuery,
    StartLostReport,
    describe_totals,
    report_with_orphans,
    totals_of,
)
from reaper.operations.sources import SourceResult, for_each_source
from reaper.sweep.reasons_not_ended import LeftReason
from reaper.sweep.summary import refused_lines

_RUNNING_VERDICTS = [verdict.value for verdict in (Verdict.YOUNG, Verdict.SPARED, Verdict.STALE)]


@click.command("report", short_help="Show the running jobs with their verdicts.")
@source_option
@click.option("--verdict", type=click.Choice(_RUNNING_VERDICTS), help="Only jobs with this verdict.")
@kind_option
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="At most this many jobs of each source.",
)
@click.option("--exit-code", is_flag=True, help="Exit status 3 when there are stale jobs (of that kind).")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    source: str | None,
    verdict: str | None,
    kind: str | None,
    limit: int,
    exit_code: bool,
    as_json: bool,
) -> int:
    """Show the running jobs with their verdicts: age, silence, and whether and when each is stale. Oldest first.

    Changes nothing. For sources with Celery it also lists orphaned tasks: Celery executes them, and they belong to no
    job. For schedules that create jobs it lists those whose next run exists already. Jobs of a log whose start was lost
    are listed apart. Jobs that the database refuses to end are counted by cause, as the daemon with the same state
    directory knows them. A silent job that sweeps leave alone is shown with the reason: a halt, the breaker, a locked
    row and the process that holds it, and others.

    The report knows when the database server was started, but not the outages that a running daemon has seen: a job
    that the daemon spares because of an outage may be stale here.

    \b
    Example:
      reaper report --verdict stale --exit-code
    """
    settings = load_settings(ctx)
    query = ReportQuery(Verdict(verdict) if verdict else None, kind, limit)
    results = for_each_source(
        select_sources(settings, source), lambda opened: report_with_orphans(settings, opened, query), warn
    )
    for result in results:
        for note in result.value.notes if result.value else ():
            warn(f"source {result.source}: {note}")
    summary = totals_of({result.source: result.value for result in results})
    if as_json:
        output.write_document("report", {"sources": [_document(result) for result in results], "summary": summary})
    else:
        _print_reports(make_console(), results)
        if any(result.value and result.value.liveness for result in results):
            click.echo(shown(describe_totals(summary)))
    stale = exit_code and any(_has_stale(result.value) for result in results if result.value)
    return exit_codes.worst(
        [*(exit_codes.of_result(result) for result in results), exit_codes.ATTENTION if stale else exit_codes.DONE]
    )


def _has_stale(report: Report) -> bool:
    return report.has_stale or (report.start_lost is not None and report.start_lost.census.stale > 0)


def _document(result: SourceResult[Report]) -> dict[str, object]:
    document: dict[str, object] = {
        "source": result.source,
        "error": result.error,
        "database_away": result.database_away,
    }
    if result.value is None:
        return {**document, "census": None, "jobs": [], "more": False, "taken": None, "start_lost": None, "refused": []}
    report = result.value
    return {
        **document,
        "census": _census_document(report.census),
        "jobs": _job_documents(report, report.jobs),
        "more": report.more,
        "taken": _duplicate_documents(report),
        "start_lost": _start_lost_document(report),
        "refused": to_jsonable(report.refused),
        **_celery_members(report),
    }


def _census_document(census: JobCounts) -> dict[str, object]:
    return {**to_jsonable(census), "spared": census.spared}


def _job_documents(report: Report, jobs: Sequence[Evidence]) -> list[dict[str, object]]:
    return [
        {
            **to_jsonable(job),
            "why": messages.describe_verdict(job),
            "holder": to_jsonable(report.holders.get(job.key)),
            "left": to_jsonable(report.left(job)),
        }
        for job in jobs
    ]


def _start_lost_document(report: Report) -> dict[str, object] | None:
    """Null where no such jobs are looked for, and where they could not be found: then a note says so."""
    if (lost := report.start_lost) is None:
        return None
    return {"census": _census_document(lost.census), "jobs": _job_documents(report, lost.jobs), "more": lost.more}


def _duplicate_documents(report: Report) -> list[dict[str, object]] | None:
    if report.duplicates is None:
        return None
    return [
        {**to_jsonable(duplicate), "keys": [messages.format_key(key) for key in duplicate.keys]}
        for duplicate in report.duplicates
    ]


def _celery_members(report: Report) -> dict[str, object]:
    """What Celery's workers answered; empty for sources without Celery."""
    if report.liveness is None:
        return {}
    witness = {"trouble": report.liveness.trouble, "doubts": report.liveness.doubts}
    return {"witness": witness, "orphans": report.orphans}


def _print_reports(console: Console, results: list[SourceResult[Report]]) -> None:
    for result in results:
        if result.value is None:
            continue
        report = result.value
        console.print(
            f"Source {result.source}: {messages.describe_counts(report.census)}.", style="bold", soft_wrap=True
        )
        if report.jobs:
            _print_jobs(console, report.jobs)
        if report.more:
            console.print(f"The first {len(report.jobs)} are shown; --limit shows more.")
        refused = refused_lines(report.refused)
        for line in (*_left_lines(report), *refused, *_duplicate_lines(report), *_celery_lines(report)):
            console.print(shown(line), soft_wrap=True)
        if report.start_lost is not None and report.start_lost.census.running:
            _print_start_lost(console, result.source, report.start_lost)


def _print_start_lost(console: Console, source: str, lost: StartLostReport) -> None:
    counts = messages.describe_counts(lost.census)
    console.print(f"Source {source}, start lost: {counts}.", style="bold", soft_wrap=True)
    _print_jobs(console, lost.jobs)
    if lost.more:
        console.print(f"The first {len(lost.jobs)} are shown; --limit shows more.")
    console.print(
        "No entry starts these jobs. `reaper cleanup` ends those that are old and silent; sweeps end them only with "
        'start_lost = "end".',
        soft_wrap=True,
    )


def _print_jobs(console: Console, jobs: Sequence[Evidence]) -> None:
    if console.width < WIDE_TERMINAL:
        print_table(console, two_columns(line for job in jobs for line in _two_line_rows(job)))
        return
    table = make_table(
        ["job", "kind", "verdict", "age", "silence", "stale in", "why"],
        unfolded=["job", "verdict"],
        right_aligned=["age", "silence", "stale in"],
    )
    for job in jobs:
        durations = (job.age_seconds, job.silence_seconds)
        table.add_row(
            text_cell(messages.format_key(job.key)),
            text_cell(job.kind),
            text_cell(job.verdict),
            *(messages.format_known_duration(job, seconds) for seconds in durations),
            messages.format_stale_in(job),
            text_cell(messages.describe_verdict(job)),
        )
    print_table(console, table)


def _two_line_rows(job: Evidence) -> Iterator[tuple[str, str]]:
    """Two lines for each job, for a terminal that is too narrow for the table."""
    yield job.verdict, f"{messages.format_key(job.key)}  {job.kind or ''}"
    yield "", "; ".join(filter(None, (messages.describe_verdict(job), messages.describe_outlook(job))))


_TOLD_APART = (LeftReason.UNKNOWN, LeftReason.REFUSED, LeftReason.START_LOST)
"""Reasons that the verdict says, or lines of their own."""


def _left_lines(report: Report) -> Iterator[str]:
    """Why stale jobs are left: those of the whole source once, the others by job."""
    of_source = report.guards.of_source()
    if report.has_stale:
        yield from (f"Stale jobs are left: {left.why}" for left in of_source)
    for job in report.jobs:
        own = (left for left in report.left(job) if left not in of_source and left.reason not in _TOLD_APART)
        yield from (f"Left: {messages.format_key(job.key)}: {left.why}" for left in own)


def _duplicate_lines(report: Report) -> Iterator[str]:
    yield from (f"{duplicate.table}: {duplicate}" for duplicate in report.duplicates or ())


def _celery_lines(report: Report) -> Iterator[str]:
    liveness = report.liveness
    if liveness is None:
        return
    if liveness.trouble is not None:
        yield f"Celery workers could not be inspected: {liveness.trouble}"
    yield from (f"Not all Celery workers answered: {doubt}" for doubt in liveness.doubts)
    yield from map(describe_orphan, report.orphans or ())
