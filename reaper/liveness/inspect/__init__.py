"""One inspection of Celery's workers, in a process of its own: `python -m reaper.liveness.inspect`.

In a process of its own, since only a process can be stopped at any time: name resolution, TLS, and a broker that
accepts connections and never answers, can each block for as long as they like. And nothing of Celery stays in the
daemon: no thread, no socket, no logging, no 30 MiB of modules.

The process reads an `InspectRequest` from its standard input, so that no password is visible in the list of processes,
and writes an `InspectReply` to its standard output, both as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from reaper.liveness import TaskRemoval


@dataclass(frozen=True, slots=True)
class InspectRequest:
    """Which broker and queues to inspect, or which tasks to revoke or to remove."""

    broker_url: str
    until: float
    """The deadline on the machine's monotonic clock, which all of its processes share."""
    reply_queue: str
    """A name for the queue of replies. A probe always uses the same one, so that at most one is ever left behind."""
    queues: tuple[str, ...] = ()
    """Queues to read, besides those that the workers name."""
    transport_options: Mapping[str, Any] = field(default_factory=dict)
    revoke: tuple[str, ...] = ()
    """Not empty: these tasks are revoked and terminated, and nothing is inspected."""
    signal: str = "SIGTERM"
    remove: tuple[str, ...] = ()
    """Not empty: these tasks are revoked and terminated, and their messages are taken out of the queues."""
    dry_run: bool = False
    """Only count what would be revoked and taken out."""

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> InspectRequest:
        members = json.loads(text)
        return cls(**members | {name: tuple(members[name]) for name in ("queues", "revoke", "remove")})


@dataclass(slots=True)
class WorkerReply:
    """The replies under one worker's name: of a worker, or of several that were given the same name."""

    complete_replies: int = 0
    """How many processes of that name answered every command of every round."""
    queues: list[list[str]] = field(default_factory=list)
    """The queues that each of them consumes."""
    pid: int | None = None
    """The main process."""
    uptime_seconds: float | None = None
    pool: str | None = None
    """The pool's implementation, such as `celery.concurrency.prefork:TaskPool`."""
    executing: dict[str, str] = field(default_factory=dict)
    """id → task name."""
    reserved: dict[str, str] = field(default_factory=dict)
    """id → task name: reserved, or scheduled for later."""


@dataclass(slots=True)
class InspectReply:
    """What the workers and the broker replied."""

    workers: dict[str, WorkerReply] = field(default_factory=dict)
    queued: dict[str, str] = field(default_factory=dict)
    """id → task name of the messages that the broker keeps: waiting, or delivered and not acknowledged."""
    unreadable_queues: list[str] = field(default_factory=list)
    """Queues with messages whose ids could not be read."""
    listeners: int | None = None
    """How many workers the broker delivered the commands to; None where it does not say."""
    consumers: dict[str, int] | None = None
    """How many consumers each queue has; a queue is missing where that could not be found out. None as above."""
    removal: TaskRemoval | None = None
    """The answer to a request with `remove`."""
    trouble: str | None = None

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> InspectReply:
        members = json.loads(text)
        if members["removal"] is not None:
            members["removal"] = TaskRemoval(**members["removal"])
        members["workers"] = {name: WorkerReply(**worker) for name, worker in members["workers"].items()}
        return cls(**members)
