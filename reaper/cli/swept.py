"""A sweep's report for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from reaper import account, words
from reaper.breaker import Breaker
from reaper.cli.document import shown
from reaper.cli.progress import Watched
from reaper.cli.screen import cell, make_table, put
from reaper.model import Evidence, Reaped, SweepReport
from reaper.operations.wholesale import Toll


def show(console: Console, report: SweepReport, watched: Watched, breaker: Breaker, *, named: bool) -> None:
    """What was done, or would be, and what was not and why. A failed sweep's error has been told already."""
    if named:
        console.print(f"Source {report.source}:", style="bold")
    if watched.named:
        _show_reaped(console, watched.named)
    if report.would_reap:
        _show_previewed(console, report.would_reap)
    for line in account.lines(report, breaker, len(watched.named)):
        console.print(shown(line), soft_wrap=True)


def _show_reaped(console: Console, jobs: list[Reaped]) -> None:
    table = make_table(["job", "kind", "age", "silence", "last sign of life"], whole=["job"], right=["age", "silence"])
    for job in jobs:
        ages = (words.duration(job.age_seconds), words.duration(job.silence_seconds))
        table.add_row(cell(words.job(job.key)), cell(job.kind), *ages, cell(job.witness))
    put(console, table)


def _show_previewed(console: Console, jobs: Sequence[Evidence]) -> None:
    table = make_table(["job", "kind", "why"], whole=["job"])
    for job in jobs:
        table.add_row(cell(words.job(job.key)), cell(job.kind), cell(words.why(job)))
    put(console, table)


def toll_lines(toll: Toll) -> Iterator[str]:
    """What was not done, and why."""
    if toll.stopped:
        yield "Stopped between two batches; the rest is still there."
    if toll.lost:
        yield f"{toll.lost} job(s) moved meanwhile, and were left alone."
    yield from (f"Alive, its row is held: {words.job(key)}" for key in toll.locked)
    yield from (f"Refused by the database: {words.job(job.key)}: {job.error}" for job in toll.failures)
