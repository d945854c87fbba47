"""How one sweep is to be done: limits, guards, and when to stop."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from reaper.config import Settings
from reaper.model import JobCounts
from reaper.sweep.breaker import Breaker

MAX_LISTED = 100
"""How many jobs of each sort a report lists; the rest are only counted."""


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """How one sweep is to be done.

    Both callables are asked between batches: `should_stop` ends the sweep; `is_halted` ends it too, and a sweep that
    begins halted still surveys. Neither the breaker nor the cap of a source holds a sweep with at most
    `override_breaker_up_to` stale jobs, which is the number that the person who released it has seen.
    """

    host: str
    batch_size: int
    breaker: Breaker
    dry_run: bool = False
    should_stop: Callable[[], bool] = lambda: False
    is_halted: Callable[[], bool] = lambda: False
    override_breaker_up_to: int = 0

    @classmethod
    def from_settings(cls, settings: Settings, *, dry_run: bool = False) -> SweepOptions:
        """A sweep by this host, as configured."""
        return cls(
            host=socket.gethostname(),
            batch_size=settings.batch_size,
            breaker=Breaker.from_settings(settings),
            dry_run=dry_run,
        )

    def held_by_breaker(self, census: JobCounts) -> bool:
        return self.breaker.opens(census) and not self.released(census)

    def released(self, census: JobCounts) -> bool:
        """Whether a person has seen these counts, and lets the sweep go through."""
        return 0 < census.stale <= self.override_breaker_up_to


def new_sweep_id() -> str:
    """An id for a sweep, or for jobs that are ended by hand together: 12 hexadecimal digits, in every audit event."""
    return uuid.uuid4().hex[:12]
