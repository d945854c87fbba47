"""Many jobs ended for a reason other than their silence: batch by batch, with the claims of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from reaper.model import FailedTransition, Key
from reaper.source import Candidate, Source
from reaper.sweep.batches import BatchRunner
from reaper.sweep.listeners import SweepListener


@dataclass(slots=True)
class BulkResult:
    """What became of the jobs. `stopped`: somebody told to, between two batches."""

    reaped: int = 0
    lost: int = 0
    locked: list[Key] = field(default_factory=list)
    failures: list[FailedTransition] = field(default_factory=list)
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """Who does it: from which host, in batches of which size, until `stopping`, telling whom."""

    host: str
    batch_size: int
    listener: SweepListener
    stopping: Callable[[], bool] = lambda: False


def end_in_bulk(
    source: Source,
    connection: Connection,
    reap: BatchRunner,
    batches: Iterable[Sequence[Candidate]],
    run_id: str,
    hand: BulkOptions,
) -> BulkResult:
    """End the jobs of these batches. Raises DBAPIError or TooManyRefused; what was done is told to the listener."""
    toll = BulkResult()

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
