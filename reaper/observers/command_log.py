"""The log and the counts of commands and Celery tasks, which are not the daemon: which jobs they ended and why."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from reaper.common.terminal import say
from reaper.config import Settings
from reaper.model import JobCounts, ReapedJob
from reaper.observers import logging_setup
from reaper.observers.command_counts import CommandCounts
from reaper.observers.daemon_log import DaemonLog
from reaper.observers.log_fields import is_kept_by_log


class CommandLog:
    """A listener of sweeps, for a `with` block. Opens the log with the first line.

    With a log file, it writes there what the daemon would write. Without one, or when it cannot be written, it writes
    only the jobs of which the log keeps what is nowhere else, to stderr. The jobs are counted for the metrics of the
    daemon with the same state directory, or else at the configured address, and shown on its page.
    """

    def __init__(self, settings: Settings, by: str) -> None:
        """`by`: who ends the jobs, and with what, for the daemon's history."""
        self._settings, self._file = settings, settings.log_file
        self._event_log: DaemonLog | None = None
        self._exit_stack = ExitStack()
        self._counts = CommandCounts(settings, by)

    def __enter__(self) -> CommandLog:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._counts.close()
        self._exit_stack.close()

    def surveyed(self, source: str, census: JobCounts) -> None:
        """No job is ended yet."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self._counts.reaped(source, sweep_id, batch)
        self._event_log = self._event_log or self._open_log()
        jobs = batch if self._file else [job for job in batch if is_kept_by_log(job)]
        if jobs:
            self._event_log.reaped(source, sweep_id, jobs)

    def _open_log(self) -> DaemonLog:
        level, form = self._settings.log_level, self._settings.log_format
        try:
            log = self._exit_stack.enter_context(logging_setup.standalone_logger(level, form, self._file))
        except OSError as error:
            # Too late to refuse, for jobs are ended already; a broken log must not stop the rest of the command.
            say(
                f"reaper: cannot write the log {self._file}: {error.strerror or error}; the jobs that were ended follow"
            )
            self._file = None
            log = self._exit_stack.enter_context(logging_setup.standalone_logger(level, form, None))
        daemon_log = DaemonLog(log)
        daemon_log.set_sources(self._settings.sources)
        return daemon_log
