"""A job that kills its workers: sweeps start it again a few times, and then fail it.

Many systems count no attempt when a worker dies, so that such a job would go round for ever. What counts here is only
how often a sweep has started it again. Two processes that sweep at the same time may count one of two: the job is then
started once more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reaper.model import Key
from reaper.profile import Profile
from reaper.staleness.first_seen import name_of
from reaper.staleness.future_signs import SeenStates

REQUEUE = "requeue"
"""The action that starts a job again."""
MAX_COUNTED = 10_000
"""So many jobs of a table are counted, those that were started again last."""


@dataclass(frozen=True, slots=True)
class RequeueLimit:
    """Sweeps start a job again at most `limit` times, which was set at `origin`. `counts` keeps how often they did."""

    limit: int
    origin: str
    counts: SeenStates

    @property
    def why(self) -> str:
        """Why a job is failed instead, in words."""
        return f"sweeps have started it again {self.limit} times already (requeue_limit, {self.origin})"

    def used_up(self, database: str, table: str) -> frozenset[str]:
        """The names of the jobs that have been started again so often."""
        kept = self.counts.known(database, table)
        return frozenset(name for name, seen in kept.items() if int(seen.state) >= self.limit)

    def count(self, database: str, table: str, requeued: Iterable[Key], ended: Iterable[Key], now: float) -> None:
        """These were started again now; of those that were failed for their count, it begins again."""
        known = self.counts.known(database, table)
        before = {name: int(seen.state) for name, seen in known.items()}
        states = {name: str(before.get(name, 0) + 1) for name in map(name_of, requeued)}
        states |= {name: "0" for name in map(name_of, ended) if name in before}
        if states:
            self.counts.observe(database, table, states, now)


def may_requeue(profile: Profile, action: str) -> bool:
    """Whether the action starts jobs again, or some of them."""
    return REQUEUE in profile.actions and any(
        branch is profile.actions[REQUEUE] for _, branch in profile.branches(action)
    )
