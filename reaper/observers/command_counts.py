"""Counts the jobs that commands and Celery tasks end, for the metrics of the daemon, and notes the last of them for its
history: in the state directory that they share, else by a request to its address.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from reaper.common.terminal import say
from reaper.config import Settings
from reaper.errors import ConfigError, DaemonUnreachable, ReaperError
from reaper.memory import CommandReapStore, ReapCountStore, kept_command_reaps, kept_counts
from reaper.memory.command_reaps import MAX_JOBS
from reaper.model import ReapedJob
from reaper.operations.daemon_client import DaemonClient, configured_url

_WRITE_SECONDS = 1.0
_TIMEOUT_SECONDS = 2.0
_REPORTED_COUNTS, _REPORTED_JOBS, _LONGEST_TEXT = 40, 20, 300
"""So much fits into one request."""

Counts = Mapping[tuple[str, str, str], int]
"""The number of jobs by kind, reason and action."""


class _Receiver(Protocol):
    """Takes what was ended in one source, and the last of the jobs. Raises ReaperError when it did not."""

    def add(self, source: str, sweep_id: str, by: str, counts: Counts, jobs: Sequence[ReapedJob]) -> None: ...


class CommandCounts:
    """Adds the jobs of each batch, at most once in a second, and the rest on `close`.

    Without a daemon that has used the state directory, or answers, nothing is counted. When the counts cannot be kept,
    one line says so; the jobs are ended all the same.
    """

    def __init__(self, settings: Settings, by: str) -> None:
        """`by`: who ends the jobs, and with what."""
        self._by = by
        self._receiver = _receiver(settings)
        self._pending: dict[tuple[str, str], tuple[Counter[tuple[str, str, str]], list[ReapedJob]]] = {}
        self._written = time.monotonic()

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        """Count jobs whose end is committed."""
        counts, newest = self._pending.setdefault((source, sweep_id), (Counter(), []))
        counts.update((job.kind or "", job.reason, job.action) for job in batch)
        newest[:] = [*newest, *batch][-MAX_JOBS:]
        if time.monotonic() - self._written >= _WRITE_SECONDS:
            self.close()

    def close(self) -> None:
        """Write what waits to be written."""
        pending, self._pending, self._written = self._pending, {}, time.monotonic()
        for (source, sweep_id), (counts, jobs) in pending.items():
            if self._receiver is None:
                return
            try:
                self._receiver.add(source, sweep_id, self._by, counts, jobs)
            except DaemonUnreachable:
                self._receiver = None
            except ReaperError as error:
                self._receiver = None
                say(f"reaper: the jobs that are ended are missing in the daemon's metrics: {error}")


def _receiver(settings: Settings) -> _Receiver | None:
    counts, reaps = kept_counts(settings.state_dir), kept_command_reaps(settings.state_dir)
    if counts is not None and reaps is not None:
        return _StateDirectory(counts, reaps)
    try:
        token = next(iter(settings.http_tokens.values()), None)
        return None if token is None else _Address(DaemonClient(configured_url(settings), token, _TIMEOUT_SECONDS))
    except ConfigError:  # no port, or a file of tokens that this process cannot read
        return None


class _StateDirectory:
    """The daemon takes it from there."""

    def __init__(self, counts: ReapCountStore, reaps: CommandReapStore) -> None:
        self._counts, self._reaps = counts, reaps

    def add(self, source: str, sweep_id: str, by: str, counts: Counts, jobs: Sequence[ReapedJob]) -> None:
        self._counts.add(source, counts)
        self._reaps.add(source, sweep_id, by, jobs)


class _Address:
    """Reports the ended jobs to the daemon, over HTTP."""

    def __init__(self, client: DaemonClient) -> None:
        self._client = client

    def add(self, source: str, sweep_id: str, by: str, counts: Counts, jobs: Sequence[ReapedJob]) -> None:
        reported = [
            {"kind": kind[:_LONGEST_TEXT] or None, "reason": reason, "action": action, "jobs": number}
            for (kind, reason, action), number in counts.items()
        ]
        own = {"source": source, "sweep_id": sweep_id, "by": by[:_LONGEST_TEXT]}
        for begin in range(0, len(reported), _REPORTED_COUNTS):
            self._client.report_ended({**own, "counts": reported[begin : begin + _REPORTED_COUNTS], "jobs": []})
        last = jobs[-MAX_JOBS:]
        for begin in range(0, len(last), _REPORTED_JOBS):
            shown = [_reported(job) for job in last[begin : begin + _REPORTED_JOBS]]
            self._client.report_ended({**own, "counts": [], "jobs": shown})


def _reported(job: ReapedJob) -> dict[str, object]:
    return {
        "key": [part[:_LONGEST_TEXT] for part in job.key],
        "kind": job.kind and job.kind[:_LONGEST_TEXT],
        "reason": job.reason,
        "action": job.action,
        "age_seconds": job.age_seconds,
        "silence_seconds": job.silence_seconds,
        "witness": job.witness and job.witness[:_LONGEST_TEXT],
        "reaped_at": job.reaped_at,
    }
