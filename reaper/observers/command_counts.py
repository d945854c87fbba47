"""Counts the jobs that commands and Celery tasks end, for the metrics of the daemon with the same state directory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from reaper.common.terminal import say
from reaper.errors import StateUnavailable
from reaper.memory import ReapCountStore, kept_counts
from reaper.model import ReapedJob

_WRITE_SECONDS = 1.0


class CommandCounts:
    """Adds the jobs of each batch, at most once in a second, and the rest on `close`.

    Where no daemon has used the state directory, or there is none, nothing is counted. When the counts cannot be kept,
    one line says so; the jobs are ended all the same.
    """

    def __init__(self, state_dir: Path | None) -> None:
        self._store: ReapCountStore | None = kept_counts(state_dir)
        self._pending: dict[str, Counter[tuple[str, str]]] = {}
        self._written = time.monotonic()

    def reaped(self, source: str, batch: Sequence[ReapedJob]) -> None:
        """Count jobs whose end is committed."""
        self._pending.setdefault(source, Counter()).update((job.kind or "", job.reason) for job in batch)
        if time.monotonic() - self._written >= _WRITE_SECONDS:
            self.close()

    def close(self) -> None:
        """Write what waits to be written."""
        pending, self._pending, self._written = self._pending, {}, time.monotonic()
        for source, counts in pending.items():
            if self._store is None:
                return
            try:
                self._store.add(source, counts)
            except StateUnavailable as error:
                self._store = None
                say(f"reaper: the jobs that are ended are missing in the daemon's metrics: {error}")
