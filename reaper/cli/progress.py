"""The progress bar of sweeps and purges."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from reaper.cli.console import make_console
from reaper.cli.ctrl_c import InterruptHandler
from reaper.model import JobCounts, ReapedJob
from reaper.observers.command_log import CommandLog
from reaper.sweep.options import MAX_LISTED


class ProgressListener:
    """A listener: moves the bar, writes to the log, and keeps the first `max_listed` reaped jobs."""

    def __init__(
        self,
        progress: Progress,
        task: TaskID,
        interrupt: InterruptHandler,
        max_listed: int,
        command_log: CommandLog | None,
    ) -> None:
        self._progress, self._task, self._interrupt, self._max_listed = progress, task, interrupt, max_listed
        self._command_log = command_log
        self.listed_jobs: list[ReapedJob] = []

    def surveyed(self, source: str, census: JobCounts) -> None:  # noqa: ARG002
        self.begin_changing(census.stale)

    def begin_changing(self, jobs: int | None) -> None:
        """Changes begin. `jobs`: how many there will be; None when that is unknown."""
        self._interrupt.begin_changing()
        self._progress.update(self._task, total=jobs)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        if self._command_log:
            # The log may go to the same terminal: its lines must not land within the bar.
            self._progress.stop()
            self._command_log.reaped(source, sweep_id, batch)
            self._progress.start()
        self.listed_jobs += batch[: self._max_listed - len(self.listed_jobs)]
        self._progress.update(self._task, advance=len(batch))

    def purging(self, source: str, found: int | None) -> None:  # noqa: ARG002
        self.begin_changing(found)

    def purged(self, source: str, rows: int) -> None:  # noqa: ARG002
        self._progress.update(self._task, advance=rows)


@contextmanager
def progress_bar(
    description: str, interrupt: InterruptHandler, max_listed: int = MAX_LISTED, command_log: CommandLog | None = None
) -> Iterator[ProgressListener]:
    """A bar on stderr, hidden when stderr is not a terminal."""
    console = make_console(stderr=True)
    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield ProgressListener(progress, progress.add_task(description, total=None), interrupt, max_listed, command_log)
