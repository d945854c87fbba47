"""Which jobs are alive according to a witness outside the database, such as Celery's workers.

A probe is asked once per sweep. Its `LivenessReport` says one of three things about each job:

- alive: the id of its task is in `alive`;
- else unknown, and unknown is never dead: there is `trouble`, or its queue is not in `queues`, or is in `backlog`;
- else dead: every worker that could have the task was asked, answered, and does not have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LivenessReport:
    """What a witness outside the database knows of all jobs. Texts have one line and no secrets."""

    alive: frozenset[str] = frozenset()
    """Ids of tasks that a worker executes, has reserved or has scheduled, or whose message the broker keeps."""
    executing: Mapping[str, str] = field(default_factory=dict)
    """The tasks of `alive` that are being executed: id → name of the worker."""
    names: Mapping[str, str] = field(default_factory=dict)
    """id → task name, for all of `alive`."""
    queues: frozenset[str] = frozenset()
    """Served queues: at least one of their workers answered, and none is known that did not."""
    known: frozenset[str] = frozenset()
    """Queues that a worker serves or lately served. A job whose queue is not known may be in any of them."""
    backlog: frozenset[str] = frozenset()
    """Queues with waiting messages whose ids could not be read: a job may be one of them."""
    trouble: str | None = None
    """Why the witness could not be asked: then everything is unknown."""
    unreliable: Mapping[str, str] = field(default_factory=dict)
    """Queue → why it is not served although workers answered."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """The reasons of `unreliable`, each once."""
        return tuple(dict.fromkeys(self.unreliable.values()))


class LivenessProbe(Protocol):
    """A witness outside the database."""

    def ask(self) -> LivenessReport:
        """One inspection of all workers. Never raises when the broker cannot be used: `trouble` says so."""
        ...

    def revoke(self, ids: Sequence[str]) -> None:
        """Have the workers end these tasks, and not start them. Raises ProbeUnavailable when no worker answered."""
        ...
