"""One source's running jobs at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.database.errors import ErrorKind, classify, short_message
from reaper.liveness import LivenessReport
from reaper.model import Evidence, JobCounts, Key, LockHolder, Verdict
from reaper.operations.orphans import Orphan
from reaper.source import Source, with_stale
from reaper.source.duplicates import DuplicateNextValue, find_duplicates
from reaper.staleness.downtime import DowntimeTracker

MAX_LISTED = 50
"""How many jobs are named where nobody said how many."""


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """Which of the running jobs to show: those after the first `offset`, at most `limit`."""

    verdict: Verdict | None
    kind: str | None
    limit: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """One source at one moment. `found` tells whether a stale job is among those asked for, shown or not.

    `testimony` is what Celery's workers said, where they are asked, and `orphans` what belongs to
    no job; None when nobody knows. `taken` tells rows that stand at a value which exists already; None when that could
    not be told, and `notes` then says why.
    """

    census: JobCounts
    jobs: Sequence[Evidence]
    holders: dict[Key, LockHolder]
    more: bool
    found: bool
    liveness: LivenessReport | None = None
    orphans: Sequence[Orphan] | None = None
    taken: Sequence[DuplicateNextValue] | None = None
    notes: Sequence[str] = ()


def report(source: Source, downtime: DowntimeTracker, wanted: ReportQuery, *, at_most: float = inf) -> Report:
    """Everything of one source but its orphans; a statement may take `at_most` seconds.

    Raises DatabaseAway and DBAPIError.
    """
    reading, survey = source.lookup, source.survey
    with source.connect() as connection:
        context = source.ask_probe(source.begin_evaluation(connection, downtime))
        with source.transaction(connection, read_only=True, at_most=at_most):
            census = with_stale(survey.census(connection, context), survey.count_stale(connection, context))
            keys = reading.list_keys(
                connection,
                context,
                verdict=wanted.verdict,
                kind=wanted.kind,
                limit=wanted.limit + 1,
                offset=wanted.offset,
            )
            jobs = reading.evidence(connection, context, keys[: wanted.limit])
            holders = _holders(source, connection, jobs)
            found = census.stale > 0 and (
                wanted.kind is None
                or bool(reading.list_keys(connection, context, verdict=Verdict.STALE, kind=wanted.kind, limit=1))
            )
        taken, notes = _taken(source, connection, at_most)
    return Report(census, jobs, holders, len(keys) > wanted.limit, found, context.liveness, taken=taken, notes=notes)


def overdue_jobs(source: Source, downtime: DowntimeTracker, limit: int = MAX_LISTED, *, at_most: float = inf) -> Report:
    """The jobs past their timeout, stale and spared, oldest first; a statement may take `at_most` seconds.

    Raises DatabaseAway and DBAPIError.
    """
    with source.connect() as connection:
        context = source.ask_probe(source.begin_evaluation(connection, downtime))
        with source.transaction(connection, read_only=True, at_most=at_most):
            stale = source.survey.count_stale(connection, context)
            census = with_stale(source.survey.census(connection, context), stale)
            keys = source.lookup.overdue_keys(connection, context, limit + 1)
            jobs = source.lookup.evidence(connection, context, keys[:limit])
            holders = _holders(source, connection, jobs)
    return Report(census, jobs, holders, len(keys) > limit, stale > 0, context.liveness)


def kinds(source: Source, *, at_most: float = inf) -> Sequence[tuple[str | None, int]]:
    """How many jobs of each kind run, most first. Raises DatabaseAway and DBAPIError."""
    with source.connect() as connection, source.transaction(connection, read_only=True, at_most=at_most):
        return source.survey.kinds(connection)


def _holders(source: Source, connection: Connection, jobs: Sequence[Evidence]) -> dict[Key, LockHolder]:
    """Who holds the rows of those that are stale."""
    stale = [job.key for job in jobs if job.verdict is Verdict.STALE]
    found = {key: source.lock_holder(connection, key) for key in stale}
    return {key: holder for key, holder in found.items() if holder}


def _taken(source: Source, connection: Connection, at_most: float) -> tuple[list[DuplicateNextValue] | None, list[str]]:
    """In a transaction of its own: the role may not read the table, which is no reason to tell nothing of the jobs."""
    try:
        with source.transaction(connection, read_only=True, at_most=at_most):
            return find_duplicates(connection, source.rule.tables), []
    except DBAPIError as error:
        if classify(error) is ErrorKind.UNAVAILABLE:
            raise
        return None, [f"whether a next run exists already could not be told: {short_message(error)}"]


@dataclass(frozen=True, slots=True)
class Totals:
    """How much is stuck. `orphaned_tasks` are counted once, however many sources share their broker.

    `unknown` names the sources of which not all is known: those in trouble, and those whose workers could not be asked.
    """

    total_stuck_jobs: int
    stuck_jobs: Mapping[str, int]
    orphaned_tasks: int
    unknown: Sequence[str]


def totals_of(reports: Mapping[str, Report | None]) -> Totals:
    """By source; None for one that could not be asked."""
    told = {name: report for name, report in reports.items() if report}
    stuck = {name: report.census.stale for name, report in told.items()}
    orphans = {orphan for report in told.values() for orphan in report.orphans or ()}
    known = {name for name, report in told.items() if report.liveness is None or report.orphans is not None}
    return Totals(
        total_stuck_jobs=sum(stuck.values()) + len(orphans),
        stuck_jobs=stuck,
        orphaned_tasks=len(orphans),
        unknown=[name for name in reports if name not in known],
    )


def describe_totals(summary: Totals) -> str:
    """In one line."""
    each = ", ".join(f"{count} of {name}" for name, count in summary.stuck_jobs.items())
    parts = [*([each] if each else []), f"{summary.orphaned_tasks} orphaned task(s)"]
    unknown = f" Not all is known of {', '.join(summary.unknown)}." if summary.unknown else ""
    return f"Stuck in all: {summary.total_stuck_jobs} ({', '.join(parts)}).{unknown}"
