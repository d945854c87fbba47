"""`reaper report`: the running jobs, and what the rule says of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
from rich.console import Console

from reaper import words
from reaper.cli import document, exits
from reaper.cli.document import shown
from reaper.cli.options import json_option, kind_option, source_option
from reaper.cli.orphaned import line as orphan_line
from reaper.cli.orphaned import look
from reaper.cli.screen import ROOMY, cell, facts, make_console, make_table, put
from reaper.cli.sources import Answer, ask_each, chosen, settings_of
from reaper.model import Evidence, Verdict
from reaper.operations.looking import Report, Wanted
from reaper.operations.summary import in_words, summary_of
from reaper.plain import plain

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
    wanted = Wanted(Verdict(verdict) if verdict else None, kind, limit)
    answers = ask_each(chosen(settings, source), lambda s: look(settings, s, wanted))
    summary = summary_of({answer.source: answer.value for answer in answers})
    if as_json:
        document.write("report", {"sources": [_member(answer) for answer in answers], "summary": summary})
    else:
        _show(make_console(), answers)
        if any(answer.value and answer.value.testimony for answer in answers):
            click.echo(shown(in_words(summary)))
    stale = exit_code and any(answer.value.found for answer in answers if answer.value)
    return exits.worst([*(answer.code for answer in answers), exits.STALE if stale else exits.DONE])


def _member(answer: Answer[Report]) -> dict[str, object]:
    member: dict[str, object] = {
        "source": answer.source,
        "error": answer.error,
        "database_away": answer.database_away,
    }
    if answer.value is None:
        return {**member, "census": None, "jobs": [], "more": False, "taken": None}
    report = answer.value
    census = {**plain(report.census), "spared": report.census.spared}
    jobs = [{**plain(job), "why": words.why(job), "holder": plain(report.holders.get(job.key))} for job in report.jobs]
    return {
        **member,
        "census": census,
        "jobs": jobs,
        "more": report.more,
        "taken": _taken(report),
        **_celery(report),
    }


def _taken(report: Report) -> list[dict[str, object]] | None:
    if report.taken is None:
        return None
    return [{**plain(taken), "keys": [words.job(key) for key in taken.keys]} for taken in report.taken]


def _celery(report: Report) -> dict[str, object]:
    """What is known from Celery's workers, for sources that ask them."""
    if report.testimony is None:
        return {}
    said = {"trouble": report.testimony.trouble, "doubts": report.testimony.doubts}
    return {"witness": said, "orphans": report.orphans}


def _show(console: Console, answers: list[Answer[Report]]) -> None:
    for answer in answers:
        if answer.value is None:
            continue
        report = answer.value
        console.print(f"Source {answer.source}: {words.census(report.census)}.", style="bold", soft_wrap=True)
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
            cell(words.job(job.key)),
            cell(job.kind),
            cell(job.verdict),
            *map(words.duration, spans),
            cell(words.why(job)),
        )
    put(console, table)


def _in_two_lines(job: Evidence) -> Iterator[tuple[str, str]]:
    """For a terminal where a table's last columns would be a word wide."""
    yield job.verdict, f"{words.job(job.key)}  {job.kind or ''}"
    yield "", "; ".join(filter(None, (words.why(job), words.outlook(job))))


def _held(report: Report) -> Iterator[str]:
    for key, holder in report.holders.items():
        yield f"Silent, but alive while its row is held: {words.job(key)} by {words.holder(holder)}"


def _in_the_way(report: Report) -> Iterator[str]:
    yield from (f"{taken.table}: {taken}" for taken in report.taken or ())


def _from_celery(report: Report) -> Iterator[str]:
    said = report.testimony
    if said is None:
        return
    if said.trouble is not None:
        yield f"Celery's workers could not be asked: {said.trouble}"
    yield from (f"Not all of Celery's workers were heard: {doubt}" for doubt in said.doubts)
    yield from map(orphan_line, report.orphans or ())
