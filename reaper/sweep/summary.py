"""What a sweep came to, in words for people: line by line, in one line, and the totals of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reaper.common import messages
from reaper.common.terminal import shown
from reaper.model import KeptJob, LockedCandidate, Outcome, RefusalCause, SweepReport
from reaper.sweep.breaker import Breaker, look_first

_MAX_ERROR_LENGTH = 200


def sweep_summary(report: SweepReport, breaker: Breaker, listed: int) -> Iterator[str]:
    """Everything but the single jobs. Of the ended jobs, `listed` have been shown already."""
    if report.reaped > listed:
        yield f"... and {report.reaped - listed} more."
    if report.dry_run and report.census is not None:
        yield from _preview(report, breaker)
    elif report.outcome is Outcome.HELD and report.census is not None:
        yield f"Held by the {describe_hold(report, breaker)}."
        yield f"{look_first(report.source)}. If they are dead, {release_command(report)}."
    elif report.outcome is Outcome.STANDBY and not report.reaped:
        yield "Not swept: another replica holds the lease."
    elif report.outcome is not Outcome.FAILED or report.reaped:
        yield f"Reaped {report.reaped} stale job(s)."
    if report.outcome is Outcome.HALTED:
        yield "Halted: nothing more is ended."
    if report.outcome is Outcome.OBSERVED:
        yield "Observed only: nothing is ended."
    if report.outcome is Outcome.QUIET:
        yield f"Quiet until {report.quiet_until}: nothing more is ended."
    if report.outcome is Outcome.STOPPED:
        yield "Stopped between two batches; the rest waits for the next sweep."
    if report.census is not None:
        yield f"Of {messages.describe_counts(report.census)}."
    if report.start_lost is not None and report.start_lost.running:
        yield f"Among them are jobs whose start was lost: {messages.describe_counts(report.start_lost)}."
    if report.start_lost_trouble is not None:
        yield f"Jobs whose start was lost could not be looked for: {report.start_lost_trouble}."
    if report.future_signs is not None and report.future_signs.jobs:
        yield (
            f"{report.future_signs.jobs} job(s) past their timeout have a sign of life in the future, which counts "
            "from when the reaper first saw it."
        )
    if report.future_signs_trouble is not None:
        yield f"Signs of life in the future could not be looked for: {report.future_signs_trouble}."
    if report.own_limits:
        yield f"Spared: {report.own_limits} job(s) as old, because the limit of their kind or their row is longer."
    for why in report.unknown_moments:
        yield f"{why}; its jobs are left alone."
    if report.lost:
        yield f"{report.lost} job(s) moved between the survey and the lock, and were left alone."
    yield from kept_lines(report.kept, report.census.kept if report.census else len(report.kept))
    yield from locked_lines(report)
    yield from refused_lines(report.refusals)
    if report.postponed:
        yield f"{report.postponed} job(s) wait for the next sweep: refusals of the database took too long."
    if report.revoke_trouble is not None:
        yield f"Celery's workers: {report.revoke_trouble}."
    yield from unknown_lines(report)
    yield from downtime_lines(report)


def release_command(report: SweepReport) -> str:
    """The command that lets the jobs pass which the breaker or the cap holds, and what it does."""
    stale = report.census.stale if report.census else "N"
    return f"`reaper sweep --source {report.source} --release {stale}` ends as many, or fewer"


def _preview(report: SweepReport, breaker: Breaker) -> Iterator[str]:
    if report.census is None:
        return
    would_reap = report.census.stale - report.census.kept
    if would_reap > len(report.would_reap):
        yield f"... and {would_reap - len(report.would_reap)} more."
    yield f"Would reap {would_reap} stale job(s). Nothing was changed."
    if report.quiet_until is not None:
        yield f"It is quiet until {report.quiet_until}: a sweep would end nothing before."
    if report.cap is not None:
        yield f"The cap would hold this sweep: {report.cap}. {look_first(report.source)}."
    if breaker.opens(report.census):
        yield f"The breaker would hold this sweep: {breaker.reason(report.census)}. {look_first(report.source)}."


def describe_hold(report: SweepReport, breaker: Breaker) -> str:
    """Which of breaker and cap holds a sweep, and why."""
    if report.cap is not None:
        return f"cap: {report.cap}"
    return f"breaker: {breaker.reason(report.census)}" if report.census else "breaker"


def kept_lines(kept: Sequence[KeptJob], total: int) -> Iterator[str]:
    """Jobs that are left alone because operators hold them, or because of their kind."""
    yield from (f"Left alone, {job.why}: {messages.format_key(job.key)}" for job in kept)
    if total > len(kept):
        yield f"... and {total - len(kept)} more that are held, or of a kind that is never ended."


def refused_lines(refusals: Iterable[RefusalCause]) -> Iterator[str]:
    """Jobs that the database refuses to end: the first for each cause, and how many more there are."""
    for cause in refusals:
        more = f" ({cause.jobs - 1:,} more like this)" if cause.jobs > 1 else ""
        again = (
            f"; tried again in {messages.format_optional_duration(cause.due_in_seconds)}"
            if cause.due_in_seconds
            else ""
        )
        yield f"Refused by the database: {messages.format_key(cause.key)}: {cause.error}{more}{again}"


def locked_lines(report: SweepReport) -> Iterator[str]:
    """Jobs whose row another session has locked."""
    yield from (_locked_line(job) for job in report.locked)
    if report.locked_total > len(report.locked):
        yield f"... and {report.locked_total - len(report.locked)} more rows are held."


def _locked_line(job: LockedCandidate) -> str:
    overdue = ", locked for longer than its stall window" if job.overdue else ""
    return f"Alive{overdue}: {messages.format_key(job.key)}: {messages.describe_lock(job.holder)}"


def unknown_lines(report: SweepReport) -> Iterator[str]:
    """Jobs that were spared because a witness could not be asked, or because their moments are unknown."""
    jobs = (job for job in report.newly_spared if messages.spared_as_unknown(job))
    for (reason, is_known), count in Counter((job.unknown, job.silence_seconds is not None) for job in jobs).items():
        silent = "for longer than their stall window" if is_known else "for an unknown time"
        yield f"{count} job(s) have been silent {silent} and were spared. {reason}"


def downtime_lines(report: SweepReport) -> Iterator[str]:
    """Silent jobs that were spared because the database was away, so that their signs of life could not be written."""
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


def sweep_in_one_line(report: SweepReport | None) -> str:
    """The last sweep of a source, with the database's time; for systemd's status. None: there was none."""
    if report is None:
        return "waiting for the first sweep"
    at = f" at {report.judged_at[:19].replace('T', ' ')} UTC" if report.judged_at else ""
    return f"{_outcome(report)}{at}"


def _outcome(report: SweepReport) -> str:
    running, stale = (report.census.running, report.census.stale) if report.census else (0, 0)
    match report.outcome:
        case Outcome.DONE:
            spared = report.census.spared if report.census else 0
            return f"swept, {running} running, {spared} spared, {report.reaped} reaped"
        case Outcome.STANDBY:
            return "stands by, another replica sweeps"
        case Outcome.HELD if report.cap is not None:
            return f"held by the cap, {stale} of {running} running jobs fell silent"
        case Outcome.HELD:
            return f"breaker open, {stale} of {running} running jobs fell silent"
        case Outcome.HALTED:
            return f"halted, {running} running, {stale} stale"
        case Outcome.QUIET:
            return f"quiet until {report.quiet_until}, {running} running, {stale} stale"
        case Outcome.OBSERVED:
            return f"observed, {running} running, {stale} stale"
        case Outcome.STOPPED:
            return "stopped between two batches"
        case Outcome.FAILED:
            return f"{'database away' if report.database_away else 'sweep failed'}, {error_in_one_line(report.error)}"


def error_in_one_line(error: str | None) -> str:
    """Without line breaks and other control characters, and cut in length."""
    return shown(" ".join((error or "").split())[:_MAX_ERROR_LENGTH])


@dataclass(frozen=True, slots=True)
class SweepTotals:
    """The counts of several sweeps together, as far as they got so far as to count. `to_end`: stale, and not kept."""

    stale: int
    to_end: int
    reaped: int
    spared: int


def sweep_totals(reports: Iterable[SweepReport]) -> SweepTotals:
    reports = list(reports)
    counted = [report.census for report in reports if report.census]
    return SweepTotals(
        stale=sum(census.stale for census in counted),
        to_end=sum(census.stale - census.kept for census in counted),
        reaped=sum(report.reaped for report in reports),
        spared=sum(census.spared for census in counted),
    )
