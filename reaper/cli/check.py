"""`reaper check`: is the database what the profile says, and can the reaper work there?"""

from __future__ import annotations

import time
from collections.abc import Iterator

import click
from rich.console import Console

from reaper.check import Finding, Level, check_workers, examine
from reaper.cli import exit_codes, output
from reaper.cli.console import STYLES, make_console
from reaper.cli.options import json_option, source_option
from reaper.cli.sources import selected, settings_of
from reaper.common.terminal import shown, warn
from reaper.config import Settings
from reaper.grants.needs import workload_of
from reaper.operations.sources import SourceResult, for_each_source
from reaper.source import Source
from reaper.source.factory import on_same_broker


@click.command("check", short_help="Examine the databases: everything that is wrong, at once.")
@source_option
@json_option
@click.pass_context
def command(ctx: click.Context, source: str | None, as_json: bool) -> int:
    """Examine the databases: everything that is wrong, at once.

    Tables, columns, types, enum labels, indexes, privileges, clock and server settings, each with what mends it; and
    whether Celery's workers answer, where their jobs are in question.
    Nothing is changed. Exit status 1 when there are errors; warnings and notes alone are 0.

    \b
    Example:
      reaper check --source main
    """
    settings = settings_of(ctx)
    answers = for_each_source(selected(settings, source), lambda each: _examined(settings, each), warn)
    if as_json:
        found = [_member(answer) for answer in answers]
        output.write("check", {"sources": found})
    else:
        _show(make_console(), answers)
    return exit_codes.worst(_code(answer) for answer in answers)


def _examined(settings: Settings, source: Source) -> list[Finding]:
    workers = list(_workers(settings, source))
    with source.connect() as connection:
        # The one use of this host's clock: to tell that it differs from the database's, which alone counts.
        return examine(
            connection,
            source.profile,
            source.thresholds.stall.seconds,
            host_clock=time.time,
            other_findings=workers,
            workload=workload_of(settings.sources[source.name]),
        )


def _workers(settings: Settings, source: Source) -> Iterator[Finding]:
    """What is wrong with the witness outside the database, where there is one."""
    if source.options.probe is not None:
        named = {queue for each in on_same_broker(settings, source.name) for queue in each.queues}
        yield from check_workers(source.options.probe.ask(), source.options.queues, named)


def _member(answer: SourceResult[list[Finding]]) -> dict[str, object]:
    return {
        "source": answer.source,
        "error": answer.error,
        "database_away": answer.database_away,
        "findings": answer.value or [],
    }


def _code(answer: SourceResult[list[Finding]]) -> int:
    broken = any(finding.level is Level.ERROR for finding in answer.value or [])
    return exit_codes.FAILED if broken else exit_codes.of_result(answer)


def _show(console: Console, answers: list[SourceResult[list[Finding]]]) -> None:
    for answer in answers:
        if answer.value is None:
            continue
        console.print(f"Source {answer.source}: {_counted(answer.value)}", style="bold", soft_wrap=True)
        for place, finding in enumerate(answer.value):
            console.print(
                shown(f"{finding.level}: {finding.subject}: {finding.message}"), style=STYLES.get(finding.level)
            )
            # Findings that one text mends together carry it each: it is shown below the last of them.
            if finding.fix and all(later.fix != finding.fix for later in answer.value[place + 1 :]):
                _show_fix(console, finding.fix)


def _show_fix(console: Console, fix: str) -> None:
    """As it stands, never folded: it is there to be pasted."""
    console.print()
    for line in fix.splitlines():
        console.print(f"    {shown(line)}", soft_wrap=True)
    console.print()


def _counted(findings: list[Finding]) -> str:
    if not findings:
        return "nothing is wrong."
    counts = [(sum(finding.level is level for finding in findings), level) for level in Level]
    return ", ".join(f"{count} {level}{'s' if count > 1 else ''}" for count, level in counts if count)
