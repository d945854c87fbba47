"""What a sweep is given: how it is to be done, what is known of those before it, and who is told while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reaper.model import JobCounts
from reaper.sweep.breaker import Breaker

MAX_LISTED = 100
"""How many single jobs of a sort a report names; the rest are counted."""


@dataclass(frozen=True, slots=True)
class SweepOptions:
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
    should_stop: Callable[[], bool] = lambda: False
    is_halted: Callable[[], bool] = lambda: False
    override_breaker_up_to: int = 0

    def held_by_breaker(self, census: JobCounts) -> bool:
        """The breaker holds the sweep."""
        return self.breaker.opens(census) and not self.force and census.stale > self.override_breaker_up_to
