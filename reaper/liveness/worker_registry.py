"""The workers that replied before, and how long a missing one may still be executing its tasks.

A worker that has closed its connection may be dead. It may also be shutting down warmly: it consumes nothing any more,
replies to nothing, and executes its tasks until they end or it is killed. Or the broker or the network was away, and it
executes until it is back. The broker cannot tell these cases apart, only time can: until a worker has been missing for
the whole absence, its queues do not count as served. A new worker of the same name proves nothing: it may have started
while the one before is still shutting down.

A pool that executes in the worker's own process (solo), or shares it cooperatively (gevent, eventlet), cannot reply
while a task is busy, nor send heartbeats, so RabbitMQ closes the connection after some minutes. The silence of such a
worker is likely to mean that it works, so its absence is a day.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

_REPLYING_WHILE_BUSY = ("celery.concurrency.prefork:", "celery.concurrency.thread:")
_ABSENCE_OF_BUSY_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """A worker as of its last reply."""

    queues: frozenset[str]
    replies_while_busy: bool
    pid: int | None = None
    uptime_seconds: float | None = None
    missing_since: float | None = None
    """None: it replied, or may still be connected, in the last round."""

    def succeeds(self, other: KnownWorker) -> bool:
        """Whether this is another process than the one that had the same name before."""
        younger = (self.uptime_seconds or 0) < (other.uptime_seconds or 0)
        return self.pid != other.pid or younger

    def absence_seconds(self, usual_seconds: float) -> float:
        return usual_seconds if self.replies_while_busy else max(usual_seconds, _ABSENCE_OF_BUSY_SECONDS)


def replies_while_busy(pool: str | None) -> bool:
    """Whether a worker with a pool of this implementation can reply while it executes a task."""
    return pool is not None and pool.startswith(_REPLYING_WHILE_BUSY)


@dataclass(slots=True)
class WorkerRegistry:
    """The workers that have replied to a probe. Times are seconds of the monotonic clock."""

    absence_seconds: float
    workers: dict[str, KnownWorker] = field(default_factory=dict)
    _first_round_at: float | None = None
    _last_round_at: float = 0.0

    def update(self, replied: Mapping[str, KnownWorker], connected_without_reply: int, now: float) -> None:
        """A round: these workers replied; so many others are connected and did not, and cannot be named."""
        if self._first_round_at is None:
            self._first_round_at = now
        self._last_round_at = now
        replaced = [
            name for name, worker in replied.items() if name in self.workers and worker.succeeds(self.workers[name])
        ]
        for name in replaced:
            predecessor = self.workers.pop(name)
            self.workers[f"{name} (process {predecessor.pid})"] = predecessor
        for name, worker in list(self.workers.items()):
            # Any of them may be among those that are connected and did not reply: then its absence begins later.
            since = now if connected_without_reply or worker.missing_since is None else worker.missing_since
            self.workers[name] = replace(worker, missing_since=since)
            if now - since >= worker.absence_seconds(self.absence_seconds):
                del self.workers[name]
        self.workers.update(replied)

    def record_failed_round(self, now: float) -> None:
        """The broker could not be asked. That time counts as no worker's absence.

        When it lasts for a whole absence, workers that are not known may have come and gone in it.
        """
        for name, worker in self.workers.items():
            if worker.missing_since is not None:
                self.workers[name] = replace(worker, missing_since=now)
        if now - self._last_round_at >= self.absence_seconds:
            self._first_round_at = None

    @property
    def queues(self) -> frozenset[str]:
        return frozenset[str]().union(*(worker.queues for worker in self.workers.values()))

    def missing(self, queue: str) -> Collection[str]:
        """Names of the workers of this queue that are missing and may still execute tasks."""
        return sorted(
            name for name, worker in self.workers.items() if queue in worker.queues and worker.missing_since is not None
        )

    def listening_seconds(self, now: float) -> float:
        """For how long workers have been asked. A worker that left before is not known."""
        return 0.0 if self._first_round_at is None else now - self._first_round_at
