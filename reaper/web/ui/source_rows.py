"""The table of sources: one row for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.model import JobCounts, Outcome, SweepReport
from reaper.scheduling.scheduler import State
from reaper.web.ui.formatting import When, ago, brief, duration, visible
from reaper.web.ui.next_step import SourceView

_SHOWN_ELSEWHERE = ("halted by", "breaker open", "cap reached")
"""Beginnings of problems that the page shows in another place."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source.

    `away` is its database's error when it could not be reached, `unread` any other error with which it could not be
    read for this page. `breaker` says why the breaker holds its sweeps, `cap` why the cap does, and `release` how many
    jobs are held, or 0. `limits` says which cap and which quiet times it has.
    """

    name: str
    profile: str
    role: str
    schedule: str
    away: str | None
    unread: str | None
    succeeded: When
    last: str
    last_outcome: str
    census: JobCounts | None
    start_lost: JobCounts | None
    problems: Sequence[str]
    breaker: str | None
    cap: str | None
    quiet: str | None
    observed: str | None
    release: int
    limits: str


def source_row(source: SourceView, error: ReaperError | None) -> SourceRow:
    """`error`: the source could not be read for this page."""
    status, held = source.status, source.held_back
    report = status.report
    away = _away(report) or (str(error) if isinstance(error, DatabaseUnavailable) else None)
    unread = str(error) if error is not None and away is None else None
    cap = report.cap if report is not None and held is not None else None
    return SourceRow(
        name=status.name,
        profile=status.profile,
        role=_role(report),
        schedule=_schedule(source),
        away=visible(away) if away else None,
        unread=visible(unread) if unread else None,
        succeeded=_succeeded(report, status.succeeded_seconds_ago),
        last=_last(report),
        last_outcome=report.outcome.value if report else "none",
        census=source.census,
        start_lost=source.start_lost,
        problems=[visible(problem) for problem in status.problems if not problem.startswith(_SHOWN_ELSEWHERE)],
        breaker=source.breaker.reason(held) if held is not None and cap is None else None,
        cap=visible(cap) if cap is not None else None,
        quiet=visible(source.decisions.quiet) if source.decisions.quiet is not None else None,
        observed=visible(source.decisions.observed) if source.decisions.observed is not None else None,
        release=held.stale if held is not None else 0,
        limits=source.limits,
    )


def _away(report: SweepReport | None) -> str | None:
    return (report.error or "away") if report is not None and report.database_away else None


def _role(report: SweepReport | None) -> str:
    if report is None:
        return "not known yet"
    if report.outcome is Outcome.STANDBY:
        return "standby"
    if report.leads:
        return "leader"
    return "unknown" if report.outcome is Outcome.FAILED else "no lease"


def _succeeded(report: SweepReport | None, seconds: float | None) -> When:
    if seconds is None and report is not None and report.outcome is Outcome.STANDBY:
        return When("stands by")
    return ago(seconds)


def _schedule(source: SourceView) -> str:
    seconds = source.status.next_seconds
    if source.status.sweeping:
        return "sweeping now"
    if seconds is None:
        return "no more" if source.state is State.FINISHED else "not scheduled yet"
    only_looks = source.halted is not None or source.decisions.quiet or source.decisions.observed
    looks = "looks" if only_looks else "sweeps"
    return f"{looks} in {duration(seconds)}" if seconds >= 1 else f"{looks} any moment"


def _last(report: SweepReport | None) -> str:
    if report is None:
        return "none yet"
    reaped = f", {report.reaped} reaped" if report.reaped else ""
    return f"{report.outcome} in {brief(report.duration_seconds)}{reaped}"
