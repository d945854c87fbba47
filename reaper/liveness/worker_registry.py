"""Workers that are known and not to be heard: what their silence means, and for how long.

A worker that has closed its connection may be dead. It may as well be ending warmly: it consumes nothing any more,
answers nothing, and still executes its tasks, for as long as whoever stops it lets it. Or the broker was away, or the
network, and it goes on executing until it is back. The broker tells none of these from the others, only time does:
until a worker has been missing for the whole absence, its queues are not served. Nor is a successor of the same name
any proof: it may have begun while the one before is still ending.

A pool that executes in the worker's own process (solo), or shares it by courtesy (gevent, eventlet), cannot answer
while a task is busy, nor send heartbeats, over which RabbitMQ closes the connection after some minutes: its silence
means that it works, as likely as not. Such a worker is missed for a day.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

_ANSWERS_WHILE_BUSY = ("celery.concurrency.prefork:", "celery.concurrency.thread:")
_ABSENCE_OF_BUSY_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class KnownWorker:
    """What a worker said when it was last heard."""

    queues: frozenset[str]
    answers_while_busy: bool
    pid: int | None = None
    uptime_seconds: float | None = None
    missing_since: float | None = None
    """None: it was heard, or connected, at the last asking."""

    def succeeds(self, other: KnownWorker) -> bool:
        """Whether this is another process than that which had the same name before."""
        younger = (self.uptime_seconds or 0) < (other.uptime_seconds or 0)
        return self.pid != other.pid or younger

    def absence(self, usual: float) -> float:
        return usual if self.answers_while_busy else max(usual, _ABSENCE_OF_BUSY_SECONDS)


def answers_while_busy(pool: str | None) -> bool:
    """Whether a pool of this implementation leaves its worker free to answer."""
    return pool is not None and pool.startswith(_ANSWERS_WHILE_BUSY)


@dataclass(slots=True)
class WorkerRegistry:
    """The workers that a witness has heard. Times are seconds of the monotonic clock."""

    absence_seconds: float
    workers: dict[str, KnownWorker] = field(default_factory=dict)
    _heard_since: float | None = None
    _heard_last: float = 0.0

    def update(self, heard: Mapping[str, KnownWorker], missing_connected: int, now: float) -> None:
        """Some answered; `missing_connected` others are connected and did not, whoever they are."""
        if self._heard_since is None:
            self._heard_since = now
        self._heard_last = now
        for name in [name for name in heard if name in self.workers and heard[name].succeeds(self.workers[name])]:
            gone = self.workers.pop(name)
            self.workers[f"{name} (process {gone.pid})"] = gone
        for name, known in list(self.workers.items()):
            since = now if missing_connected or known.missing_since is None else known.missing_since
            self.workers[name] = replace(known, missing_since=since)
            if now - since >= known.absence(self.absence_seconds):
                del self.workers[name]
        self.workers.update(heard)

    def record_failed_round(self, now: float) -> None:
        """Nobody could be heard: that time is nobody's absence, and newcomers may have come and gone in it."""
        for name, known in self.workers.items():
            if known.missing_since is not None:
                self.workers[name] = replace(known, missing_since=now)
        if now - self._heard_last >= self.absence_seconds:
            self._heard_since = None

    @property
    def queues(self) -> frozenset[str]:
        return frozenset[str]().union(*(known.queues for known in self.workers.values()))

    def missing(self, queue: str) -> Collection[str]:
        """Workers of this queue that may yet be alive."""
        return sorted(
            name for name, known in self.workers.items() if queue in known.queues and known.missing_since is not None
        )

    def listening_seconds(self, now: float) -> float:
        """For how long this circle has been asked: whoever left before is not known in it."""
        return 0.0 if self._heard_since is None else now - self._heard_since
