"""The log of a process that is not the daemon: which jobs it ended, and why where nothing else keeps that."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from reaper.common.terminal import say
from reaper.config import Settings
from reaper.model import JobCounts, ReapedJob
from reaper.observers import logging_setup
from reaper.observers.event_log import EventLog


class CommandLog:
    """A listener of sweeps, closed with its block. It opens the log when there is something to be written.

    With a log file it writes there what the daemon would. Without one, or while it cannot be written, stderr gets the
    jobs whose evidence stays nowhere else.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._file = settings, settings.log_file
        self._event_log: EventLog | None = None
        self._open = ExitStack()

    def __enter__(self) -> CommandLog:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._open.close()

    def surveyed(self, source: str, census: JobCounts) -> None:
        """Nothing is ended yet."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self._event_log = self._event_log or self._opened()
        told = batch if self._file else [job for job in batch if job.evidence]
        if told:
            self._event_log.reaped(source, sweep_id, told)

    def _opened(self) -> EventLog:
        level, form = self._settings.log_level, self._settings.log_format
        try:
            log = self._open.enter_context(logging_setup.standalone_logger(level, form, self._file))
        except OSError as error:
            # The jobs are ended: it is too late to refuse, and what is wrong with a log must not stop the rest.
            say(f"reaper: cannot write the log {self._file}: {error.strerror or error}; what must not be lost follows")
            self._file = None
            log = self._open.enter_context(logging_setup.standalone_logger(level, form, None))
        event_log = EventLog(log)
        event_log.set_sources(self._settings.sources)
        return event_log
