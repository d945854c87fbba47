"""Display of the demo: a live table on a terminal, or a line for each change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from reaper.dev.demo.checks import CheckResult, Row
from reaper.dev.demo.processes import DemoProcesses
from reaper.dev.demo.scenarios import TIMEOUT

Show = Callable[[DemoProcesses, Mapping[str, Row], Sequence[str]], None]
"""Displays the processes, the jobs, and the daemon's new log lines."""

_STYLES = {"succeeded": "green", "reaped": "red", "running": "", "queued": "dim", "alive": "green", "killed": "red"}
# With the table, these fit into 24 lines.
_LINES_SHOWN = 4
_ROOMY = 116
"""Columns from which on the table has room for what each worker does."""


def job_state(row: Row | None) -> str:
    """The state of a job in a few words. Whether it is stale is for the daemon to decide."""
    if row is None:
        return ""
    if row.evidence and row.status != "failed":
        return f"reaped, then {row.status}"
    if row.evidence:
        return "reaped"
    if row.status == "running" and (row.age or 0) > TIMEOUT:
        return "past its timeout"
    return row.status


@contextmanager
def live_table(console: Console) -> Iterator[Show]:
    """A live table, with the daemon's last log lines below it."""
    said: list[str] = []
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as screen:

        def show(stage: DemoProcesses, rows: Mapping[str, Row], news: Sequence[str]) -> None:
            said.extend(news)
            words = Text("\n".join(said[-_LINES_SHOWN:]), style="cyan", no_wrap=True, overflow="ellipsis")
            screen.update(Group(workers_table(stage, rows, console.width), words), refresh=True)

        yield show


@contextmanager
def plain_lines(console: Console) -> Iterator[Show]:
    """One line for each change, with the second at which it was seen."""
    before: dict[str, tuple[str, str]] = {}
    unplayed = ("waiting", "queued")

    def show(stage: DemoProcesses, rows: Mapping[str, Row], news: Sequence[str]) -> None:
        for actor in stage.workers:
            now = (actor.state, job_state(rows.get(actor.part.name)))
            if before.get(actor.part.name, unplayed) != now:
                before[actor.part.name] = now
                process, job = now
                line = f"{actor.part.name:<18}process {process:<9}{f'job {job}' if job else ''}"
                console.print(f"{stage.seconds:5.1f} s  {line}".rstrip(), highlight=False, soft_wrap=True)
        for line in news:
            console.print(f"{stage.seconds:5.1f} s  daemon: {line}", highlight=False, soft_wrap=True)

    yield show


def workers_table(stage: DemoProcesses, rows: Mapping[str, Row], width: int) -> Table:
    """One line for each worker, whole at 80 columns; with a description where the terminal is wide enough."""
    roomy = width >= _ROOMY
    table = Table(title=f"{stage.seconds:.0f} s", title_justify="right", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("worker", *(["what it does"] if roomy else []), "process", "job"):
        table.add_column(column, no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    table.add_column("silent", justify="right", no_wrap=True)
    for actor in stage.workers:
        row = rows.get(actor.part.name)
        job = job_state(row)
        table.add_row(
            actor.part.name,
            *([actor.part.does] if roomy else []),
            Text(actor.state, _STYLES.get(actor.state, "dim")),
            Text(job, "yellow" if "past" in job else _STYLES.get(job.split(",")[0], "")),
            _seconds(row.age if row else None),
            _seconds(row.silence if row and not row.finished else None),
        )
    return table


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} s"


def print_summary(console: Console, judgements: Sequence[CheckResult], *, plain: bool) -> None:
    if plain:
        for judgement in judgements:
            words = f"{_verdict(judgement)}  {judgement.part.name}: {_outcome(judgement)}. {judgement.why}"
            console.print(words, highlight=False, soft_wrap=True)
    else:
        console.print(_summary_table(judgements))
    right = sum(judgement.correct for judgement in judgements)
    console.print(f"{right} of {len(judgements)} verdicts were right.", highlight=False)


def _summary_table(judgements: Sequence[CheckResult]) -> Table:
    table = Table(title="How the jobs ended, and why")
    for column in ("", "worker", "job", "why"):
        table.add_column(column, no_wrap=column == "worker")
    for judgement in judgements:
        style = "green" if judgement.correct else "bold red"
        table.add_row(Text(_verdict(judgement), style), judgement.part.name, _outcome(judgement), judgement.why)
    return table


def _verdict(judgement: CheckResult) -> str:
    return "right" if judgement.correct else "WRONG"


def _outcome(judgement: CheckResult) -> str:
    if judgement.correct:
        return judgement.ended
    return f"{judgement.ended}, expected: {judgement.part.ending}"
