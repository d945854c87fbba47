"""Cancelling what is older than some minutes and silent for as long: noetl's own command, with the reaper's care."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from reaper.common import messages
from reaper.model import Key, Outcome, SweepReport
from reaper.source import Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep import summary
from reaper.sweep.breaker import Breaker

MAX_MINUTES = 3650 * 24 * 60


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """What was found and done; of a dry run, what would be. `ids` are numbers where the keys are, and the first of
    `count` where there are very many.
    """

    minutes: int
    dry_run: bool
    found: int
    count: int
    ids: Sequence[int | str]
    notes: Sequence[str]

    @property
    def message(self) -> str:
        if not self.found:
            return f"No stuck executions found older than {self.minutes} minutes"
        did = "[DRY RUN] Would cancel" if self.dry_run else "Cancelled"
        return f"{did} {self.count} stuck executions older than {self.minutes} minutes"


def cleanup_result(
    minutes: int, report: SweepReport, keys: Sequence[Key], breaker: Breaker, most: int | None = None
) -> CleanupResult:
    """What a sweep with these minutes as both its thresholds came to.

    `keys`: what it ended; of a dry run, `stale`; the first `most` of them.
    """
    ids = sorted(map(_identifier, keys), key=lambda each: (isinstance(each, str), each))
    found = report.census.stale if report.census else 0
    if report.dry_run:
        # The keys were read after the report was made, and are all that there are unless they are very many.
        found = len(ids) if most is None or len(ids) < most else max(found, len(ids))
    count = found if report.dry_run else report.reaped
    return CleanupResult(minutes, report.dry_run, found, count, ids, list(_notes(report, breaker)))


def stale_keys(source: Source, downtime: DowntimeTracker, most: int | None = None) -> list[Key]:
    """All of them, or the first `most`, where a report names a hundred. Raises DatabaseAway and DBAPIError."""
    with source.connect() as connection:
        context = source.ask_probe(source.begin_evaluation(connection, downtime))
        with source.transaction(connection, read_only=True):
            return [candidate.key for candidate in islice(source.survey.stream(connection, context), most)]


def _identifier(key: Key) -> int | str:
    """A key as a number, when it is one."""
    name = messages.format_key(key)
    return int(name) if name.isascii() and name.isdigit() and str(int(name)) == name else name


def _notes(report: SweepReport, breaker: Breaker) -> Iterator[str]:
    """Why something was spared although it looks stuck."""
    if report.census is not None:
        if report.outcome is Outcome.HELD:
            yield f"Held by the breaker: {breaker.reason(report.census)}. With force they are cancelled all the same."
        elif report.dry_run and breaker.opens(report.census):
            yield f"The breaker would hold this: {breaker.reason(report.census)}. With force it does not."
    if report.outcome is Outcome.HALTED:
        yield "Somebody has halted the supervisor meanwhile; the rest is still there."
    if report.outcome is Outcome.STOPPED:
        yield "Stopped between two batches; the rest is still there."
    if report.lost:
        yield f"{report.lost} execution(s) moved meanwhile, and were left alone."
    yield from summary.locked_lines(report)
    yield from summary.refused_lines(report)
    yield from summary.unknown_lines(report)
    yield from summary.downtime_lines(report)
