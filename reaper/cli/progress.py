"""What can be seen of a sweep while it works, and what it ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from reaper.cli.console import make_console
from reaper.cli.interrupt import Interrupt
from reaper.model import JobCounts, ReapedJob
from reaper.observers.command_log import CommandLog
from reaper.sweep.options import MAX_LISTED


class ProgressListener:
    """Moves the bar, tells the log, and remembers the first jobs that were ended."""

    def __init__(
        self, progress: Progress, task: TaskID, interrupt: Interrupt, most: int, command_log: CommandLog | None
    ) -> None:
        self._progress, self._task, self._interrupt, self._most = progress, task, interrupt, most
        self._ledger = command_log
        self.named: list[ReapedJob] = []

    def surveyed(self, source: str, census: JobCounts) -> None:  # noqa: ARG002
        self.expect(census.stale)

    def expect(self, jobs: int | None) -> None:
        """Changes begin; `jobs` is how many are to be ended, where that is known."""
        self._interrupt.surveyed()
        self._progress.update(self._task, total=jobs)

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        if self._ledger:
            # Its lines may go to the same terminal, and would land in the middle of the bar.
            self._progress.stop()
            self._ledger.reaped(source, sweep_id, batch)
            self._progress.start()
        self.named += batch[: self._most - len(self.named)]
        self._progress.update(self._task, advance=len(batch))

    def purging(self, source: str, found: int | None) -> None:  # noqa: ARG002
        self.expect(found)

    def purged(self, source: str, rows: int) -> None:  # noqa: ARG002
        self._progress.update(self._task, advance=rows)


@contextmanager
def progress_bar(
    doing: str, interrupt: Interrupt, most: int = MAX_LISTED, command_log: CommandLog | None = None
) -> Iterator[ProgressListener]:
    """A bar on stderr while a sweep works; nothing where stderr is no terminal. The first `most` jobs are named."""
    console = make_console(stderr=True)
    words = TextColumn("{task.description}", markup=False)
    columns = (words, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield ProgressListener(progress, progress.add_task(doing, total=None), interrupt, most, command_log)
