"""`reaper report`: the running jobs, and what the rule says of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
from rich.console import Console

from reaper.cli import exit_codes, output
from reaper.cli.console import ROOMY, cell, facts, make_console, make_table, put
from reaper.cli.options import json_option, kind_option, source_option
from reaper.cli.sources import selected, settings_of
from reaper.common import messages
from reaper.common.json_values import to_jsonable
from reaper.common.terminal import shown, warn
from reaper.model import Evidence, Verdict
from reaper.operations.orphaned_tasks import describe_orphan
from reaper.operations.report import Report, ReportQuery, describe_totals, report_with_orphans, totals_of
from reaper.operations.sources import SourceResult, for_each_source

_RUNNING = [verdict.value for verdict in (Verdict.YOUNG, Verdict.SPARED, Verdict.STALE)]


@click.command("report", short_help="Show the running jobs and what the rule says of each.")
@source_option
@click.option("--verdict", type=click.Choice(_RUNNING), help="Only jobs with this verdict.")
@kind_option
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many a source."
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
    """Show the running jobs and what the rule says of each: how old, how silent, and what comes of it.

    Oldest first. Nothing is changed. Of sources with Celery tasks it tells the orphans too: tasks that are being
    executed, and that no job knows. Of schedules that jobs come from it tells those whose next run exists already.

    It knows when the database server was started, but not the outages that a daemon beside it has seen: a job that the
    daemon spares for those may be stale in this report.

    \b
    Example:
      reaper report --verdict stale --exit-code
    """
    settings = settings_of(ctx)
    wanted = ReportQuery(Verdict(verdict) if verdict else None, kind, limit)
    answers = for_each_source(selected(settings, source), lambda s: report_with_orphans(settings, s, wanted), warn)
    for answer in answers:
        for note in answer.value.notes if answer.value else ():
            warn(f"source {answer.source}: {note}")
    summary = totals_of({answer.source: answer.value for answer in answers})
    if as_json:
        output.write("report", {"sources": [_member(answer) for answer in answers], "summary": summary})
    else:
        _show(make_console(), answers)
        if any(answer.value and answer.value.liveness for answer in answers):
            click.echo(shown(describe_totals(summary)))
    stale = exit_code and any(answer.value.has_stale for answer in answers if answer.value)
    return exit_codes.worst(
        [*(exit_codes.of_result(answer) for answer in answers), exit_codes.STALE if stale else exit_codes.DONE]
    )


def _member(answer: SourceResult[Report]) -> dict[str, object]:
    member: dict[str, object] = {
        "source": answer.source,
        "error": answer.error,
        "database_away": answer.database_away,
    }
    if answer.value is None:
        return {**member, "census": None, "jobs": [], "more": False, "taken": None}
    report = answer.value
    census = {**to_jsonable(report.census), "spared": report.census.spared}
    jobs = [
        {**to_jsonable(job), "why": messages.describe_verdict(job), "holder": to_jsonable(report.holders.get(job.key))}
        for job in report.jobs
    ]
    return {
        **member,
        "census": census,
        "jobs": jobs,
        "more": report.more,
        "taken": _taken(report),
        **_celery(report),
    }


def _taken(report: Report) -> list[dict[str, object]] | None:
    if report.duplicates is None:
        return None
    return [
        {**to_jsonable(taken), "keys": [messages.format_key(key) for key in taken.keys]} for taken in report.duplicates
    ]


def _celery(report: Report) -> dict[str, object]:
    """What is known from Celery's workers, for sources that ask them."""
    if report.liveness is None:
        return {}
    said = {"trouble": report.liveness.trouble, "doubts": report.liveness.doubts}
    return {"witness": said, "orphans": report.orphans}


def _show(console: Console, answers: list[SourceResult[Report]]) -> None:
    for answer in answers:
        if answer.value is None:
            continue
        report = answer.value
        console.print(
            f"Source {answer.source}: {messages.describe_counts(report.census)}.", style="bold", soft_wrap=True
        )
        if report.jobs:
            _show_jobs(console, report.jobs)
        if report.more:
            console.print(f"The first {len(report.jobs)} are shown; --limit shows more.")
        for line in (*_held(report), *_in_the_way(report), *_from_celery(report)):
            console.print(shown(line), soft_wrap=True)


def _show_jobs(console: Console, jobs: Sequence[Evidence]) -> None:
    if console.width < ROOMY:
        put(console, facts(line for job in jobs for line in _in_two_lines(job)))
        return
    table = make_table(
        ["job", "kind", "verdict", "age", "silence", "stale in", "why"],
        whole=["job", "verdict"],
        right=["age", "silence", "stale in"],
    )
    for job in jobs:
        spans = (job.age_seconds, job.silence_seconds, job.stale_in_seconds)
        table.add_row(
            cell(messages.format_key(job.key)),
            cell(job.kind),
            cell(job.verdict),
            *map(messages.format_optional_duration, spans),
            cell(messages.describe_verdict(job)),
        )
    put(console, table)


def _in_two_lines(job: Evidence) -> Iterator[tuple[str, str]]:
    """For a terminal where a table's last columns would be a word wide."""
    yield job.verdict, f"{messages.format_key(job.key)}  {job.kind or ''}"
    yield "", "; ".join(filter(None, (messages.describe_verdict(job), messages.describe_outlook(job))))


def _held(report: Report) -> Iterator[str]:
    for key, holder in report.holders.items():
        by = messages.describe_holder(holder)
        yield f"Silent, but alive while its row is held: {messages.format_key(key)} by {by}"


def _in_the_way(report: Report) -> Iterator[str]:
    yield from (f"{taken.table}: {taken}" for taken in report.duplicates or ())


def _from_celery(report: Report) -> Iterator[str]:
    said = report.liveness
    if said is None:
        return
    if said.trouble is not None:
        yield f"Celery's workers could not be asked: {said.trouble}"
    yield from (f"Not all of Celery's workers were heard: {doubt}" for doubt in said.doubts)
    yield from map(describe_orphan, report.orphans or ())
