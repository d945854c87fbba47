"""Cleans up executions that are older than some minutes and silent for as long, as noetl's own command words it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from reaper.common import messages
from reaper.config import SourceSettings
from reaper.memory import HaltRecord
from reaper.model import JobCounts, Key, Outcome, SweepReport, Threshold
from reaper.operations.guards import describe_halt
from reaper.source import Source
from reaper.source.factory import with_start_lost, with_thresholds
from reaper.source.kept_jobs import without_kept
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep import summary
from reaper.sweep.breaker import Breaker

MAX_MINUTES = 3650 * 24 * 60


@dataclass(frozen=True, slots=True)
class CleanupResult:
    """What was found and cancelled; of a dry run, what would be. `ids` are numbers where the keys are numbers; they may
    be only the first of `count`. `spared` are as old, and are left alone; `notes` say why. `error` is what kept it from
    being done, or from being finished.
    """

    minutes: float
    dry_run: bool
    found: int
    count: int
    ids: Sequence[int | str]
    notes: Sequence[str]
    spared: int = 0
    error: str | None = None

    @property
    def message(self) -> str:
        if self.error is not None:
            done = f"Cancelled {self.count} stuck executions, then failed" if self.count else "Nothing was cancelled"
            return f"{'It is not known what is stuck' if self.dry_run else done}: {self.error}"
        if not self.found:
            return f"No stuck executions found older than {self.minutes} minutes"
        did = "[DRY RUN] Would cancel" if self.dry_run else "Cancelled"
        return f"{did} {self.count} stuck executions older than {self.minutes} minutes"


def settings_for_cleanup(source: SourceSettings, limit: Threshold) -> SourceSettings:
    """The source whose jobs have this timeout and stall window, and whose sweeps also end jobs without a start.

    A longer limit of a job's kind or row holds.
    """
    return with_start_lost(with_thresholds(source, limit, limit))


def as_minutes(seconds: float) -> float:
    """Minutes, whole where they are."""
    minutes = seconds / 60
    return int(minutes) if minutes == int(minutes) else round(minutes, 2)


def cleanup_result(
    minutes: float,
    report: SweepReport,
    keys: Sequence[Key],
    breaker: Breaker,
    limit: int | None = None,
    halt: HaltRecord | None = None,
) -> CleanupResult:
    """The result of a sweep with these minutes as its timeout and its stall window.

    `keys`: the jobs that it ended; of a dry run, `stale_keys`; the first `limit` of them. `halt`: what held the sweep,
    where a halt did.
    """
    ids = sorted(map(_identifier, keys), key=lambda id_: (isinstance(id_, str), id_))
    stale = report.census.stale if report.census else 0
    if report.dry_run:
        # The keys were read after the report was made. They are all there are, unless the limit has cut them.
        stale = len(ids) if limit is None or len(ids) < limit else max(stale, len(ids))
    count = stale if report.dry_run else report.reaped
    spared = (report.census.spared if report.census else 0) + report.own_limits
    notes = [
        *_spared_notes(minutes, report),
        *_own_limit_notes(minutes, report),
        *_start_lost_notes(report),
        *_notes(report, breaker, halt),
    ]
    error = f"the database is away: {report.error}" if report.database_away else report.error
    return CleanupResult(minutes, report.dry_run, stale, count, ids, notes, spared, error)


def stale_keys(source: Source, downtime: DowntimeTracker, limit: int | None = None) -> list[Key]:
    """The keys of all stale jobs that a sweep ends, or of the first `limit`.

    Raises DatabaseUnavailable and DBAPIError.
    """
    with source.connect() as connection:
        context = source.ask_probe(source.begin_evaluation(connection, downtime))
        with source.transaction(connection, read_only=True):
            candidates = (job for view in source.swept_views for job in view.survey.stream(connection, context))
            to_end = without_kept(candidates, source.holds(context))
            return [candidate.key for candidate in islice(to_end, limit)]


def _why_and_how_to_release(census: JobCounts, why: str) -> str:
    release = f'--release {census.stale} cancels as many, or fewer (over HTTP "release": {census.stale})'
    return f"{why}. Look first: a dry run lists them. If they are dead, {release}."


def _identifier(key: Key) -> int | str:
    """A key as a number, where it is one."""
    name = messages.format_key(key)
    return int(name) if name.isascii() and name.isdigit() and str(int(name)) == name else name


def _spared_notes(minutes: float, report: SweepReport) -> Iterator[str]:
    """How many executions are as old, and alive. Silent ones that were spared have a note of their own."""
    spared = report.census.spared if report.census else 0
    silent = sum(map(messages.is_silent, report.newly_spared))
    if spared > silent:
        others = f" (of {spared} that were spared)" if silent else ""
        yield (
            f"Spared: {spared - silent} execution(s) older than {minutes} minutes{others}, because each has shown a "
            f"sign of life within the last {minutes} minutes"
        )


def _own_limit_notes(minutes: float, report: SweepReport) -> Iterator[str]:
    if report.own_limits:
        yield (
            f"Spared: {report.own_limits} execution(s) older than {minutes} minutes, because the limit of their "
            "kind or their row is longer"
        )


def _start_lost_notes(report: SweepReport) -> Iterator[str]:
    """Which of the executions have lost their start, or why that is not known."""
    if report.start_lost is not None and report.start_lost.stale:
        yield (
            f"Start lost: {report.start_lost.stale} of them have no event that starts them; their age is counted from "
            "the first event that is known"
        )
    if report.start_lost_trouble is not None:
        yield f"Executions whose start was lost could not be looked for: {report.start_lost_trouble}"


def _notes(report: SweepReport, breaker: Breaker, halt: HaltRecord | None) -> Iterator[str]:
    """Which executions were spared although they look stuck, and why."""
    if report.census is not None:
        if report.outcome is Outcome.HELD:
            yield f"Held by the {_why_and_how_to_release(report.census, summary.describe_hold(report, breaker))}"
        elif report.dry_run and breaker.opens(report.census):
            why = breaker.reason(report.census)
            yield f"The breaker would hold this: {_why_and_how_to_release(report.census, why)}"
    if report.outcome is Outcome.HALTED:
        who = describe_halt(halt) if halt else "halted"
        yield (
            f"The reaper was {who}; what is not cancelled is still there. `reaper restart` ends the halt; "
            '--while-halted passes it (over HTTP "while_halted": true).'
        )
    if report.quiet_until is not None:
        would = "nothing would be cancelled before" if report.dry_run else "what is not cancelled is still there"
        yield f"Quiet until {report.quiet_until}; {would}."
    if report.outcome is Outcome.STOPPED:
        yield "Stopped between two batches; the rest is still there."
    yield from summary.kept_lines(report.kept, report.census.kept if report.census else len(report.kept))
    if report.lost:
        yield f"{report.lost} execution(s) moved meanwhile, and were left alone."
    yield from summary.locked_lines(report)
    yield from summary.refused_lines(report.refusals)
    yield from summary.unknown_lines(report)
    yield from summary.downtime_lines(report)
