"""Many jobs ended for a reason other than their silence: batch by batch, with the claims of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from reaper.model import Failure, Key
from reaper.orders import Listener
from reaper.reap import Reap
from reaper.source import Candidate, Source


@dataclass(slots=True)
class Toll:
    """What became of the jobs. `stopped`: somebody told to, between two batches."""

    reaped: int = 0
    lost: int = 0
    locked: list[Key] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Hand:
    """Who does it: from which host, in batches of which size, until `stopping`, telling whom."""

    host: str
    batch_size: int
    listener: Listener
    stopping: Callable[[], bool] = lambda: False


def end(
    source: Source, connection: Connection, reap: Reap, batches: Iterable[Sequence[Candidate]], run_id: str, hand: Hand
) -> Toll:
    """End the jobs of these batches. Raises DBAPIError or TooManyRefused; what was done is told to the listener."""
    toll = Toll()

    def willing() -> Iterator[Sequence[Candidate]]:
        for batch in batches:
            if hand.stopping():
                toll.stopped = True
                return
            yield batch

    for done in reap.run(connection, willing()):
        toll.reaped += len(done.reaped)
        toll.lost += done.lost
        toll.locked += done.locked
        toll.failures += done.failures
        if done.reaped:
            hand.listener.reaped(source.name, run_id, done.reaped)
    return toll
