"""When nearly everything falls silent at once, that is an outage of the witness, not a mass death."""

from __future__ import annotations

from dataclasses import dataclass

from reaper.model import JobCounts

NEVER_HELD = 50
"""Fewer stale jobs than this never hold a sweep, whatever is configured."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Holds a sweep that would end more than `minimum` jobs and more than `share` of the running ones."""

    minimum: int
    share: float

    def opens(self, census: JobCounts) -> bool:
        return census.stale > max(self.minimum, NEVER_HELD) and census.stale > self.share * census.running

    def reason(self, census: JobCounts) -> str:
        return (
            f"{census.stale} of {census.running} running jobs fell silent: more than {max(self.minimum, NEVER_HELD)} "
            f"and more than {self.share:.0%} of them"
        )
