"""How each source stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.model import JobCounts, Outcome, SweepReport
from reaper.scheduling.scheduler import State
from reaper.web.ui.formatting import When, ago, brief, duration, visible
from reaper.web.ui.outlook import Outlook

_TOLD_ELSEWHERE = ("halted by", "breaker open")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source's line in the strip.

    `away` is what its database said when it could not be reached, `unread` what else kept the page from reading it
    just now: None while nothing does.

    `breaker` says why it holds the sweeps, and `release` how many jobs would have to be let through: 0 for none.
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
    problems: Sequence[str]
    breaker: str | None
    release: int


def source_row(prospect: Outlook, error: ReaperError | None) -> SourceRow:
    """`error` is what kept the page from reading the source."""
    standing, census = prospect.standing, prospect.census
    report, held = standing.report, prospect.held_back
    away = _away(report) or (str(error) if isinstance(error, DatabaseUnavailable) else None)
    unread = str(error) if error is not None and away is None else None
    return SourceRow(
        name=standing.name,
        profile=standing.profile,
        role=_role(report),
        schedule=_schedule(prospect),
        away=visible(away) if away else None,
        unread=visible(unread) if unread else None,
        succeeded=_succeeded(report, standing.succeeded_seconds_ago),
        last=_last(report),
        last_outcome=report.outcome.value if report else "none",
        census=census,
        problems=[visible(problem) for problem in standing.problems if not problem.startswith(_TOLD_ELSEWHERE)],
        breaker=prospect.breaker.reason(held) if held is not None else None,
        release=held.stale if held is not None else 0,
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


def _schedule(prospect: Outlook) -> str:
    standing, seconds = prospect.standing, prospect.standing.next_seconds
    if standing.sweeping:
        return "sweeping now"
    if seconds is None:
        return "no more" if prospect.state is State.FINISHED else "not scheduled yet"
    look = "looks" if prospect.halted is not None else "sweeps"
    return f"{look} in {duration(seconds)}" if seconds >= 1 else f"{look} any moment"


def _last(report: SweepReport | None) -> str:
    if report is None:
        return "none yet"
    reaped = f", {report.reaped} reaped" if report.reaped else ""
    return f"{report.outcome} in {brief(report.duration_seconds)}{reaped}"
