"""Many jobs ended for a reason other than their silence: batch by batch, with the claims of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from reaper.model import FailedTransition, Key
from reaper.source import Candidate, Source
from reaper.sweep.batch_runner import BatchRunner
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
    should_stop: Callable[[], bool] = lambda: False


def end_in_bulk(
    source: Source,
    connection: Connection,
    runner: BatchRunner,
    batches: Iterable[Sequence[Candidate]],
    run_id: str,
    options: BulkOptions,
) -> BulkResult:
    """End the jobs of these batches. Raises DBAPIError or TooManyRefused; what was done is told to the listener."""
    result = BulkResult()

    def willing() -> Iterator[Sequence[Candidate]]:
        for batch in batches:
            if options.should_stop():
                result.stopped = True
                return
            yield batch

    for done in runner.run(connection, willing()):
        result.reaped += len(done.reaped)
        result.lost += done.lost
        result.locked += done.locked
        result.failures += done.failures
        if done.reaped:
            options.listener.reaped(source.name, run_id, done.reaped)
    return result
