"""Counts the jobs that commands and Celery tasks end, for the metrics of the daemon with the same state directory, and
notes the last of them for its history.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from reaper.common.terminal import say
from reaper.errors import StateUnavailable
from reaper.memory import ReapCountStore, kept_command_reaps, kept_counts
from reaper.memory.command_reaps import MAX_JOBS
from reaper.model import ReapedJob

_WRITE_SECONDS = 1.0


class CommandCounts:
    """Adds the jobs of each batch, at most once in a second, and the rest on `close`.

    Where no daemon has used the state directory, or there is none, nothing is counted. When the counts cannot be kept,
    one line says so; the jobs are ended all the same.
    """

    def __init__(self, state_dir: Path | None, by: str) -> None:
        """`by`: who ends the jobs, and with what."""
        self._by = by
        self._history = kept_command_reaps(state_dir)
        self._ended: dict[tuple[str, str], list[ReapedJob]] = {}
        self._store: ReapCountStore | None = kept_counts(state_dir)
        self._pending: dict[str, Counter[tuple[str, str, str]]] = {}
        self._written = time.monotonic()

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """Count jobs whose end is committed."""
        newest = self._ended.setdefault((source, sweep_id), [])
        newest[:] = [*newest, *batch][-MAX_JOBS:]
        ended = ((job.kind or "", job.reason, job.action) for job in batch)
        self._pending.setdefault(source, Counter()).update(ended)
        if time.monotonic() - self._written >= _WRITE_SECONDS:
            self.close()

    def close(self) -> None:
        """Write what waits to be written."""
        pending, self._pending, self._written = self._pending, {}, time.monotonic()
        ended, self._ended = self._ended, {}
        for source, counts in pending.items():
            if self._store is None:
                return
            try:
                self._store.add(source, counts)
                for (of_source, sweep_id), jobs in ended.items():
                    if of_source == source and self._history is not None:
                        self._history.add(source, sweep_id, self._by, jobs)
            except StateUnavailable as error:
                self._store = None
                say(f"reaper: the jobs that are ended are missing in the daemon's metrics: {error}")
