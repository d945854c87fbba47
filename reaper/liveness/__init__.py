"""What somebody outside the database says of jobs: signs of life that SQL cannot see.

A witness knows three things of a job: it is alive, it is dead, or nobody can tell. A `Testimony` is asked for
once per sweep and says all of it:

- its id is in `alive`: alive;
- else there is `trouble`, or its queue is not in `served`, or is in `waiting`: unknown, and unknown is never dead;
- else: dead. Everybody who could have it was asked, answered, and does not have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LivenessReport:
    """What a witness outside the database says of all jobs, asked once per sweep."""

    alive: frozenset[str] = frozenset()
    """Ids that a worker executes, has reserved or has scheduled, or whose message the broker was seen to keep."""
    executing: Mapping[str, str] = field(default_factory=dict)
    """Of those, the ones being executed: id → the worker that has it."""
    names: Mapping[str, str] = field(default_factory=dict)
    """id → task name, for all that are alive."""
    queues: frozenset[str] = frozenset()
    """Queues of which at least one worker answered, and none is known to have kept silent."""
    known: frozenset[str] = frozenset()
    """Queues that somebody has been heard to serve, now or lately: a job of no known queue may be in any of them."""
    backlog: frozenset[str] = frozenset()
    """Queues in which messages wait that could not be told apart: a job may be one of them."""
    trouble: str | None = None
    """Why nothing can be said: then everything is unknown. One line, no secret."""
    unreliable: Mapping[str, str] = field(default_factory=dict)
    """Queue → why it is not served although workers answered. One line each, no secret."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """All reasons, each once."""
        return tuple(dict.fromkeys(self.unreliable.values()))


class LivenessProbe(Protocol):
    """Somebody to ask."""

    def ask(self) -> LivenessReport:
        """One inspection of everything. Never raises for trouble with the broker: `trouble` says it."""
        ...

    def revoke(self, ids: Sequence[str]) -> None:
        """Tell the workers to end these tasks, and never to begin them. Raises WitnessAway when none heard it."""
        ...
