"""What a sweep is given: how it is to be done, what is known of those before it, and who is told while it works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reaper.breaker import Breaker
from reaper.late import Remembered
from reaper.model import Census, Key, Reaped
from reaper.rule import Moment
from reaper.witness import Testimony

SHOWN = 100
"""How many single jobs of a sort a report names; the rest are counted."""


class Listener(Protocol):
    """Told while a sweep works, so that no sweep has to remember all that it did."""

    def reaped(self, source: str, sweep_id: str, batch: Sequence[Reaped]) -> None: ...

    def surveyed(self, source: str, census: Census) -> None: ...


@dataclass(frozen=True, slots=True)
class Orders:
    """How one sweep is to be done.

    `stopping` is asked between batches and ends the sweep; so does `halted`, which lets it look all the same. The
    breaker does not hold one with `force`, nor one with no more than `release` stale jobs: whoever said so had seen
    that many.
    """

    host: str
    batch_size: int
    breaker: Breaker
    force: bool = False
    dry_run: bool = False
    stopping: Callable[[], bool] = lambda: False
    halted: Callable[[], bool] = lambda: False
    release: int = 0

    def held(self, census: Census) -> bool:
        """The breaker holds the sweep."""
        return self.breaker.opens(census) and not self.force and census.stale > self.release


@dataclass(slots=True)
class Memory:
    """What is kept from one sweep of a source to the next: to say each thing once, and not to insist."""

    before: Moment | None = None
    refused: dict[Key, float] = field(default_factory=dict)
    locked_since: dict[Key, float] = field(default_factory=dict)
    revoked: dict[str, str] = field(default_factory=dict)
    """Tasks of ended jobs that a worker had when it was last heard → that worker."""
    ended: Remembered = field(default_factory=Remembered)
    """Jobs that may yet show life, as far as somebody who listens had them remembered."""
    testimony: Testimony | None = None
    """What the witness outside the database said last, where there is one."""
