"""Which jobs are alive according to a witness outside the database, such as Celery's workers.

A probe is asked once per sweep. Its `LivenessReport` says one of three things about each job:

- alive: the id of its task is in `alive`;
- else unknown, and unknown is never dead: there is `trouble`, or its queue is not in `queues`, or is in `backlog`;
- else dead: every worker that could have the task was asked, answered, and does not have it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class TaskRemoval:
    """What became of some Celery tasks that are not to run; of a dry run, what would. Texts have one line, no secrets.

    A revocation lives in the memory of the workers that replied: a worker that starts later knows nothing of it.
    """

    executing: int = 0
    """Tasks that a worker executed: revoked and terminated."""
    still_executing: int = 0
    """Those of them that a worker still executed some seconds later."""
    held: int = 0
    """Tasks that a worker has reserved, or keeps until their eta: revoked, so that it throws them away."""
    removed: Mapping[str, int] = field(default_factory=dict)
    """Queue → how many messages were taken out of it."""
    unacknowledged: int = 0
    """Messages that were delivered to a worker that did not reply, and were taken out before they come back."""
    revoked_only: int = 0
    """Tasks of `held` that only their worker's memory keeps from running: if it is restarted, they are delivered
    again."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Queue → why messages of these tasks may still be in it."""
    not_found: int = 0
    """Tasks that no worker that replied has, and whose message is in none of the queues `searched`, but may be in
    another one. 0 where the broker itself names its queues."""
    searched: Sequence[str] = ()
    workers: int = 0
    """How many workers replied."""
    trouble: str | None = None
    """Why nothing could be done."""

    @property
    def messages(self) -> int:
        return sum(self.removed.values())


class LivenessProbe(Protocol):
    """A witness outside the database."""

    def ask(self) -> LivenessReport:
        """One inspection of all workers. Never raises when the broker cannot be used: `trouble` says so."""
        ...

    def revoke(self, ids: Sequence[str]) -> None:
        """Have the workers end these tasks, and not start them. Raises ProbeUnavailable when no worker answered."""
        ...

    def remove_tasks(self, ids: Collection[str], *, dry_run: bool = False) -> TaskRemoval:
        """Revoke and terminate these tasks, and take their messages out of the queues. Never raises: see `trouble`."""
        ...
