"""One conversation with Celery's workers, held in a process of its own: `python -m reaper.liveness.inspect`.

In a process of its own, as only a process can be ended: name resolution, TLS and a broker that accepts and never
answers block for as long as they please. And nothing of Celery's stays behind in the daemon: no thread, no socket,
no logging, no 30 MiB of modules.

The process reads an `Order` from its standard input (so that no password stands in the table of processes) and writes
an `Account` to its standard output, both as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class InspectRequest:
    """What to ask whom, until when."""

    broker_url: str
    until: float
    """On the machine's monotonic clock, which all of its processes share."""
    inbox: str
    """A name for the queue of replies; a witness keeps it, so that at most one is ever left behind."""
    queues: tuple[str, ...] = ()
    """Queues to look at, besides those that the workers name."""
    transport_options: Mapping[str, Any] = field(default_factory=dict)
    revoke: tuple[str, ...] = ()
    """Not empty: nothing is asked; these tasks are revoked and terminated."""
    signal: str = "SIGTERM"

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> InspectRequest:
        given = json.loads(text)
        return cls(**{**given, "queues": tuple(given["queues"]), "revoke": tuple(given["revoke"])})


@dataclass(slots=True)
class Worker:
    """What one name answered: a worker, or several that were given the same name."""

    complete_answers: int = 0
    """How many processes of that name answered every question of every round."""
    queues: list[list[str]] = field(default_factory=list)
    """What each of them consumes."""
    pid: int | None = None
    """Its main process."""
    uptime_seconds: float | None = None
    pool: str | None = None
    """The pool's implementation, such as `celery.concurrency.prefork:TaskPool`."""
    executing: dict[str, str] = field(default_factory=dict)
    """id → task name."""
    held: dict[str, str] = field(default_factory=dict)
    """id → task name: reserved, or scheduled for later."""


@dataclass(slots=True)
class InspectReply:
    """What the workers and the broker said."""

    workers: dict[str, Worker] = field(default_factory=dict)
    queued: dict[str, str] = field(default_factory=dict)
    """id → task name of messages that the broker was seen to keep: waiting, or delivered and not acknowledged."""
    waiting: list[str] = field(default_factory=list)
    """Queues that hold messages whose ids could not be read."""
    listeners: int | None = None
    """How many workers the broker handed the questions to; None where it does not say."""
    consumers: dict[str, int] | None = None
    """How many consumers each queue has; a queue is missing where that could not be found out. None as above."""
    trouble: str | None = None

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> InspectReply:
        given = json.loads(text)
        given["workers"] = {name: Worker(**worker) for name, worker in given["workers"].items()}
        return cls(**given)
