"""The circuit breaker: when nearly all jobs fall silent at once, their signs of life have failed, not the jobs."""

from __future__ import annotations

from dataclasses import dataclass

from reaper.config import Settings
from reaper.model import JobCounts


@dataclass(frozen=True, slots=True)
class Breaker:
    """Holds a sweep that would end more than `minimum` jobs and more than `share` (0 to 1) of the running jobs."""

    minimum: int
    share: float

    @classmethod
    def from_settings(cls, settings: Settings) -> Breaker:
        return cls(settings.breaker_min, settings.breaker_share)

    def opens(self, census: JobCounts) -> bool:
        """Whether a sweep with these counts is held. Jobs that were refused before have not fallen silent just now, and
        those that are kept are not ended; all are held whose signs have vanished, and all when every worker has gone
        at once.
        """
        stale, running = _counted(census)
        if census.vanished or census.workers_gone:
            return census.stale > census.kept
        return stale > self.minimum and stale > self.share * running

    def reason(self, census: JobCounts) -> str:
        """Why it is held, in words."""
        if census.vanished:
            return (
                f"the signs of life of {', '.join(census.vanished)} have vanished: running jobs that had some have "
                f"none at all any more, and {census.stale} stale jobs may be alive"
            )
        if census.workers_gone:
            return (
                f"{census.workers_gone} workers have gone at about the same time, and no other one has written a "
                f"heartbeat lately: that may be an outage of their heartbeats, and {census.stale} stale jobs may be "
                "alive"
            )
        stale, running = _counted(census)
        return (
            f"{stale} of {running} running jobs fell silent: more than {self.minimum} "
            f"and more than {self.share:.0%} of them"
        )


def _counted(census: JobCounts) -> tuple[int, int]:
    """The stale and the running jobs that count. A job that is kept may have been refused before: then neither."""
    left_out = census.refused + census.kept
    return max(0, census.stale - left_out), max(0, census.running - left_out)


def look_first(source: str) -> str:
    """The command that shows what a sweep of this source would end, to be run before the breaker is passed."""
    return f"Look first: `reaper report --source {source} --verdict stale` shows the jobs"
