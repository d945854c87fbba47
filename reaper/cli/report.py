"""`reaper report`: the running jobs, and what the rule says of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import click
from rich.console import Console

from reaper import words
from reaper.cli import document, exits
from reaper.cli.document import shown
from reaper.cli.options import json_option, kind_option, source_option
from reaper.cli.screen import ROOMY, cell, facts, make_console, make_table, put
from reaper.cli.sources import Answer, ask_each, chosen, hearing_of, settings_of
from reaper.hearing import Hearing
from reaper.model import Census, Evidence, Holder, Verdict
from reaper.source import Source, holder_of, with_stale

_RUNNING = [verdict.value for verdict in (Verdict.YOUNG, Verdict.SPARED, Verdict.STALE)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which of the running jobs to show."""

    verdict: Verdict | None
    kind: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class Report:
    """One source at one moment. `found` tells whether a stale job is among those asked for, shown or not."""

    census: Census
    jobs: list[Evidence]
    holders: dict[tuple[str, ...], Holder]
    more: bool
    found: bool


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

    Oldest first. Nothing is changed.

    It knows when the database server was started, but not the outages that a daemon beside it has seen: a job that the
    daemon spares for those may be stale in this report.

    \b
    Example:
      reaper report --verdict stale --exit-code
    """
    settings = settings_of(ctx)
    wanted = Wanted(Verdict(verdict) if verdict else None, kind, limit)
    answers = ask_each(chosen(settings, source), lambda s: _look(s, hearing_of(settings), wanted))
    if as_json:
        document.write("report", {"sources": [_member(answer) for answer in answers]})
    else:
        _show(make_console(), answers)
    stale = exit_code and any(answer.value.found for answer in answers if answer.value)
    return exits.worst([*(answer.code for answer in answers), exits.STALE if stale else exits.DONE])


def _look(source: Source, hearing: Hearing, wanted: Wanted) -> Report:
    reading, survey = source.reading, source.survey
    with source.connect() as connection:
        moment = source.meet(connection, hearing)
        with source.transaction(connection, read_only=True):
            census = with_stale(survey.census(connection, moment), survey.count_stale(connection, moment))
            keys = reading.keys(connection, moment, verdict=wanted.verdict, kind=wanted.kind, limit=wanted.limit + 1)
            jobs = reading.evidence(connection, moment, keys[: wanted.limit])
            stale = [job.key for job in jobs if job.verdict is Verdict.STALE]
            holders = {key: holder_of(connection, source.rule.schema, key) for key in stale}
            found = census.stale > 0 and (
                wanted.kind is None
                or bool(reading.keys(connection, moment, verdict=Verdict.STALE, kind=wanted.kind, limit=1))
            )
    held = {key: holder for key, holder in holders.items() if holder}
    return Report(census, jobs, held, len(keys) > wanted.limit, found)


def _member(answer: Answer[Report]) -> dict[str, object]:
    member: dict[str, object] = {
        "source": answer.source,
        "error": answer.error,
        "database_away": answer.database_away,
    }
    if answer.value is None:
        return {**member, "census": None, "jobs": [], "more": False}
    report = answer.value
    census = {**document.plain(report.census), "spared": report.census.spared}
    jobs = [
        {**document.plain(job), "why": words.why(job), "holder": document.plain(report.holders.get(job.key))}
        for job in report.jobs
    ]
    return {**member, "census": census, "jobs": jobs, "more": report.more}


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
        for line in _held(report):
            console.print(shown(line), soft_wrap=True)


def _show_jobs(console: Console, jobs: list[Evidence]) -> None:
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
