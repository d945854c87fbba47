"""What the reports of several sources come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reaper.operations.looking import Report


@dataclass(frozen=True, slots=True)
class Summary:
    """How much is stuck. `orphaned_tasks` are counted once, however many sources share their broker.

    `unknown` names the sources of which not all is known: those in trouble, and those whose workers could not be asked.
    """

    total_stuck_jobs: int
    stuck_jobs: Mapping[str, int]
    orphaned_tasks: int
    unknown: Sequence[str]


def summary_of(reports: Mapping[str, Report | None]) -> Summary:
    """By source; None for one that could not be asked."""
    told = {name: report for name, report in reports.items() if report}
    stuck = {name: report.census.stale for name, report in told.items()}
    orphans = {orphan for report in told.values() for orphan in report.orphans or ()}
    known = {name for name, report in told.items() if report.testimony is None or report.orphans is not None}
    return Summary(
        total_stuck_jobs=sum(stuck.values()) + len(orphans),
        stuck_jobs=stuck,
        orphaned_tasks=len(orphans),
        unknown=[name for name in reports if name not in known],
    )


def in_words(summary: Summary) -> str:
    """In one line."""
    each = ", ".join(f"{count} of {name}" for name, count in summary.stuck_jobs.items())
    parts = [*([each] if each else []), f"{summary.orphaned_tasks} orphaned task(s)"]
    unknown = f" Not all is known of {', '.join(summary.unknown)}." if summary.unknown else ""
    return f"Stuck in all: {summary.total_stuck_jobs} ({', '.join(parts)}).{unknown}"
