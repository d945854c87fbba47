"""Ends many jobs for another reason than their silence: batch by batch, with the claims of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from reaper.common import messages
from reaper.model import FailedTransition, KeptJob, Key, RefusalCause
from reaper.source import Candidate, Source
from reaper.sweep.batch_runner import BatchRunner
from reaper.sweep.listeners import SweepListener
from reaper.sweep.options import MAX_LISTED
from reaper.sweep.refused_jobs import RefusalTally
from reaper.sweep.summary import kept_lines, refused_lines


@dataclass(slots=True)
class BulkResult:
    """What became of the jobs. `stopped`: it was stopped between two batches, and jobs are left; `quiet` says why where
    a quiet time of the source did that.

    `failures` are the first of the jobs that the database refused to end, and `refusals` all of them by cause;
    `postponed` were not tried, or not for long enough, because refusals had taken too long.
    """

    reaped: int = 0
    lost: int = 0
    locked: list[Key] = field(default_factory=list)
    kept: list[KeptJob] = field(default_factory=list)
    failures: list[FailedTransition] = field(default_factory=list)
    refusals: Sequence[RefusalCause] = ()
    postponed: int = 0
    stopped: bool = False
    quiet: str | None = None


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """From which host, in batches of how many jobs. `should_stop` is asked before each batch."""

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
    """End the jobs of these batches, and tell the listener of each batch.

    Raises DBAPIError and StateUnavailable; the listener has been called for what was done before.
    """
    result, tally = BulkResult(), RefusalTally()

    def until_stopped() -> Iterator[Sequence[Candidate]]:
        for batch in batches:
            if (until := source.quiet_until()) is not None:
                result.quiet = source.options.quiet.why(until)
            if result.quiet is not None or options.should_stop():
                result.stopped = True
                return
            yield batch

    for batch_result in runner.run(connection, until_stopped()):
        result.reaped += len(batch_result.reaped)
        result.lost += batch_result.lost
        result.locked += batch_result.locked
        result.kept += batch_result.kept
        result.failures += batch_result.failures[: MAX_LISTED - len(result.failures)]
        tally.add(batch_result.failures)
        result.postponed += len(batch_result.cut_off)
        if batch_result.reaped:
            options.listener.reaped(source.name, run_id, batch_result.reaped)
    result.refusals = tally.causes()
    result.postponed += runner.postponed
    result.stopped = result.stopped or (runner.postponed > 0 and options.should_stop())
    return result


def bulk_summary(result: BulkResult) -> Iterator[str]:
    """Which jobs were not ended, and why, line by line."""
    if result.quiet is not None:
        yield f"Stopped: {result.quiet}; the rest is still there."
    elif result.stopped:
        yield "Stopped between two batches; the rest is still there."
    if result.lost:
        yield f"{result.lost} job(s) moved meanwhile, and were left alone."
    yield from (f"Alive, its row is held: {messages.format_key(key)}" for key in result.locked)
    yield from kept_lines(result.kept, len(result.kept))
    yield from refused_lines(result.refusals)
    if result.postponed:
        yield f"{result.postponed} job(s) were not tried: refusals of the database took too long."
