"""What a sweep comes to, line by line, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from reaper.common import messages
from reaper.model import LockedCandidate, Outcome, SweepReport
from reaper.sweep.breaker import Breaker


def sweep_summary(report: SweepReport, breaker: Breaker, named: int) -> Iterator[str]:
    """All but the single jobs. Of those that were ended, `named` have been shown already."""
    if report.reaped > named:
        yield f"... and {report.reaped - named} more."
    if report.dry_run and report.census is not None:
        yield from _preview(report, breaker)
    elif report.outcome is Outcome.HELD and report.census is not None:
        yield f"Held by the breaker: {breaker.reason(report.census)}. `reaper sweep --force` goes through once."
    elif report.outcome is Outcome.STANDBY and not report.reaped:
        yield "Not swept: another replica holds the lease."
    elif report.outcome is not Outcome.FAILED or report.reaped:
        yield f"Reaped {report.reaped} stale job(s)."
    if report.outcome is Outcome.HALTED:
        yield "Halted: nothing more is ended."
    if report.outcome is Outcome.STOPPED:
        yield "Stopped between two batches; the rest waits for the next sweep."
    if report.census is not None:
        yield f"Of {messages.describe_counts(report.census)}."
    if report.lost:
        yield f"{report.lost} job(s) moved between the survey and the lock, and were left alone."
    yield from locked_lines(report)
    yield from refused_lines(report)
    if report.revoke_trouble is not None:
        yield f"Celery's workers: {report.revoke_trouble}."
    yield from unknown_lines(report)
    yield from downtime_lines(report)


def _preview(report: SweepReport, breaker: Breaker) -> Iterator[str]:
    if report.census is None:
        return
    if report.census.stale > len(report.would_reap):
        yield f"... and {report.census.stale - len(report.would_reap)} more."
    yield f"Would reap {report.census.stale} stale job(s). Nothing was changed."
    if breaker.opens(report.census):
        yield f"The breaker would hold this sweep: {breaker.reason(report.census)}."


def refused_lines(report: SweepReport) -> Iterator[str]:
    """Jobs that the database did not let go."""
    yield from (f"Refused by the database: {messages.format_key(job.key)}: {job.error}" for job in report.failures)


def locked_lines(report: SweepReport) -> Iterator[str]:
    """Jobs whose rows somebody holds."""
    yield from (_locked_line(job) for job in report.locked)
    if report.locked_total > len(report.locked):
        yield f"... and {report.locked_total - len(report.locked)} more rows are held."


def _locked_line(job: LockedCandidate) -> str:
    overdue = ", longer than its stall window" if job.overdue else ""
    return f"Alive, its row is held{overdue}: {messages.format_key(job.key)} by {messages.describe_holder(job.holder)}"


def unknown_lines(report: SweepReport) -> Iterator[str]:
    """Silent jobs that are not stale, for a witness could not be asked."""
    for reason, count in Counter(job.unknown for job in report.newly_spared if messages.spared_as_unknown(job)).items():
        yield f"{count} job(s) have been silent for longer than their stall window and were spared. {reason}"


def downtime_lines(report: SweepReport) -> Iterator[str]:
    """Silent jobs that are not stale, for nobody could have heard them."""
    silent = [job for job in report.newly_spared if messages.spared_by_downtime(job)]
    if not silent:
        return
    since = next((job.deaf_until for job in silent if job.deaf_until), None)
    soonest = min((job.stale_in_seconds for job in silent if job.stale_in_seconds is not None), default=None)
    yield (
        f"{len(silent)} job(s) have been silent for longer than their stall window and were spared: the database "
        f"server was started lately, and silence from before {since or 'then'} does not count"
        + (f". The first becomes stale in {messages.format_optional_duration(soonest)}" if soonest is not None else "")
        + ". (REAPER_RESTART_GRACE=0 trusts silence across a restart.)"
    )
