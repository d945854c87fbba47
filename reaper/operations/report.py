"""Reports the running jobs of one source, as the rule judges them now; and the totals of several sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.config import Settings
from reaper.database.errors import ErrorKind, classify, short_message
from reaper.errors import ReaperError
from reaper.liveness import LivenessReport
from reaper.memory import kept_refused_jobs
from reaper.model import Evidence, JobCounts, Key, LockHolder, RefusalCause, Verdict
from reaper.operations.orphaned_tasks import Orphan, find_orphans
from reaper.operations.reasons_not_ended import command_guards
from reaper.operations.sources import new_downtime_tracker
from reaper.source import Source, with_stale
from reaper.source.duplicates import DuplicateNextValue, find_duplicates
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.reasons_not_ended import UNGUARDED, Left, SourceGuards
from reaper.sweep.refused_jobs import causes_of

DEFAULT_LIMIT = 50
"""How many jobs are listed unless the caller says how many."""


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """Which of the running jobs to list: after the first `offset`, at most `limit`; None is any verdict or kind."""

    verdict: Verdict | None
    kind: str | None
    limit: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class StartLostReport:
    """The running jobs of a log whose start was lost, oldest first; there are `more`."""

    census: JobCounts
    jobs: Sequence[Evidence]
    more: bool


@dataclass(frozen=True, slots=True)
class Report:
    """One source at one moment. `has_stale`: there are stale jobs of the kind that was asked for, listed or not.

    `more`: there are more jobs than `jobs` lists. `liveness` is the answer of Celery's workers, where they are asked,
    and `orphans` the tasks that belong to no job; None when that is not known. `duplicates` are rows whose next run
    exists already; None when that is not known. `start_lost` are the jobs whose start was lost, which neither `census`
    nor `jobs` has; None where they are not looked for, and when they are not known. `refused` are the stale jobs that
    the daemon of this state directory has set aside, since the database refuses to end them. `guards` are what keeps
    sweeps from ending stale jobs, as far as the process that reports knows it. `notes` says why something is not known.
    """

    census: JobCounts
    jobs: Sequence[Evidence]
    holders: Mapping[Key, LockHolder]
    more: bool
    has_stale: bool
    liveness: LivenessReport | None = None
    orphans: Sequence[Orphan] | None = None
    duplicates: Sequence[DuplicateNextValue] | None = None
    notes: Sequence[str] = ()
    start_lost: StartLostReport | None = None
    refused: Sequence[RefusalCause] = ()
    guards: SourceGuards = UNGUARDED

    def left(self, job: Evidence) -> Sequence[Left]:
        """Why one of its jobs is left; empty for one that is not silent, or will be ended."""
        return self.guards.of_job(job, self.holders.get(job.key))


def report(source: Source, downtime: DowntimeTracker, query: ReportQuery, *, at_most: float = inf) -> Report:
    """Everything about one source but its orphans; a statement may take `at_most` seconds.

    Raises DatabaseUnavailable and DBAPIError.
    """
    with source.connect() as connection:
        lookup, survey = source.lookup, source.survey
        context = source.ask_probe(source.begin_evaluation(connection, downtime))
        with source.transaction(connection, read_only=True, at_most=at_most):
            census = survey.census_with_stale(connection, context, source.known_holds(context))
            keys = lookup.list_keys(
                connection,
                context,
                verdict=query.verdict,
                kind=query.kind,
                limit=query.limit + 1,
                offset=query.offset,
            )
            jobs = lookup.evidence(connection, context, keys[: query.limit])
            has_stale = census.stale > 0 and (
                query.kind is None
                or bool(lookup.list_keys(connection, context, verdict=Verdict.STALE, kind=query.kind, limit=1))
            )
        holders = _holders(source, connection, jobs, at_most)
        duplicates, notes = _duplicates(source, connection, at_most)
        lost, lost_notes = _start_lost(source, connection, context, query.limit, at_most)
    return Report(
        census,
        jobs,
        holders,
        len(keys) > query.limit,
        has_stale,
        context.liveness,
        duplicates=duplicates,
        notes=[*notes, *lost_notes],
        start_lost=lost,
    )


def report_with_orphans(settings: Settings, source: Source, query: ReportQuery) -> Report:
    """Everything about one source. When its orphans cannot be found, a note says why."""
    result = report(source, new_downtime_tracker(settings), query)
    guards = command_guards(settings, source, result.census) if result.census.stale else UNGUARDED
    result = replace(result, refused=_refused(settings, source), guards=guards)
    if result.liveness is None or result.liveness.trouble is not None:
        return result
    try:
        return replace(result, orphans=find_orphans(settings, source, result.liveness))
    except ReaperError as error:
        return replace(result, notes=[*result.notes, str(error).removeprefix(f"source {source.name}: ")])


def _refused(settings: Settings, source: Source) -> Sequence[RefusalCause]:
    return causes_of(kept_refused_jobs(settings.state_dir).load(source.name)) if settings.state_dir else ()


def overdue_jobs(
    source: Source, downtime: DowntimeTracker, limit: int = DEFAULT_LIMIT, *, at_most: float = inf
) -> Report:
    """The jobs past their timeout, stale and spared, oldest first; a statement may take `at_most` seconds.

    Raises DatabaseUnavailable and DBAPIError.
    """
    with source.connect() as connection:
        context = source.ask_probe(source.begin_evaluation(connection, downtime))
        with source.transaction(connection, read_only=True, at_most=at_most):
            census = source.survey.census_with_stale(connection, context, source.known_holds(context))
            keys = source.lookup.overdue_keys(connection, context, limit + 1)
            jobs = source.lookup.evidence(connection, context, keys[:limit])
        holders = _holders(source, connection, jobs, at_most)
        lost, notes = _start_lost(source, connection, context, limit, at_most)
    more = len(keys) > limit
    return Report(census, jobs, holders, more, census.stale > 0, context.liveness, notes=notes, start_lost=lost)


def kinds(source: Source, *, at_most: float = inf) -> Sequence[tuple[str | None, int]]:
    """How many jobs of each kind run, most first. Raises DatabaseUnavailable and DBAPIError."""
    with source.connect() as connection, source.transaction(connection, read_only=True, at_most=at_most):
        return source.survey.kinds(connection)


def _holders(
    source: Source, connection: Connection, jobs: Sequence[Evidence], at_most: float
) -> Mapping[Key, LockHolder]:
    """The sessions that have rows of stale jobs, or rows that belong to these, locked."""
    stale = [job.key for job in jobs if job.verdict is Verdict.STALE]
    return source.lock_holders(connection, stale, at_most=at_most)


def _start_lost(
    source: Source, connection: Connection, context: EvaluationContext, limit: int, at_most: float
) -> tuple[StartLostReport | None, list[str]]:
    """In a transaction of its own: without an index it may take too long, and the others are reported all the same."""
    view = source.start_lost
    if view is None:
        return None, []
    try:
        with source.transaction(connection, read_only=True, at_most=at_most):
            keys = view.lookup.list_keys(connection, context, verdict=None, kind=None, limit=limit + 1)
            jobs = view.lookup.evidence(connection, context, keys)
            if more := len(keys) > limit:
                counts = view.survey.census_with_stale(connection, context)
            else:
                counts = _census(view, connection, context, jobs)
    except DBAPIError as error:
        if classify(error) is ErrorKind.UNAVAILABLE:
            raise
        return None, [f"it is not known which jobs have lost their start: {short_message(error)}"]
    return StartLostReport(counts, jobs[:limit], more), []


def _census(view: Source, connection: Connection, context: EvaluationContext, jobs: Sequence[Evidence]) -> JobCounts:
    """The counts. Each costs a read of all recent entries: none is made where `jobs`, which are all, answer it."""
    if not jobs:
        return JobCounts(0, 0, 0, None)
    return with_stale(view.survey.census(connection, context), sum(job.verdict is Verdict.STALE for job in jobs))


def _duplicates(
    source: Source, connection: Connection, at_most: float
) -> tuple[list[DuplicateNextValue] | None, list[str]]:
    """In a transaction of its own: when the role may not read that table, the jobs are reported all the same."""
    try:
        with source.transaction(connection, read_only=True, at_most=at_most):
            return find_duplicates(connection, source.tables), []
    except DBAPIError as error:
        if classify(error) is ErrorKind.UNAVAILABLE:
            raise
        return None, [f"it is not known whether a next run exists already: {short_message(error)}"]


@dataclass(frozen=True, slots=True)
class Totals:
    """How much is stuck. `orphaned_tasks` are counted once, however many sources share their broker.

    `unknown` names the sources that are not counted in full: those that failed, and those whose workers could not be
    asked.
    """

    total_stuck_jobs: int
    stuck_jobs: Mapping[str, int]
    orphaned_tasks: int
    unknown: Sequence[str]


def totals_of(reports: Mapping[str, Report | None]) -> Totals:
    """The totals of these reports, by source; None is a source that failed."""
    received = {name: report for name, report in reports.items() if report}
    stuck = {name: report.census.stale for name, report in received.items()}
    orphans = {orphan for report in received.values() for orphan in report.orphans or ()}
    known = {name for name, report in received.items() if report.liveness is None or report.orphans is not None}
    return Totals(
        total_stuck_jobs=sum(stuck.values()) + len(orphans),
        stuck_jobs=stuck,
        orphaned_tasks=len(orphans),
        unknown=[name for name in reports if name not in known],
    )


def describe_totals(totals: Totals) -> str:
    """In one line."""
    by_source = ", ".join(f"{count} of {name}" for name, count in totals.stuck_jobs.items())
    parts = [*([by_source] if by_source else []), f"{totals.orphaned_tasks} orphaned task(s)"]
    unknown = f" Not all is known of {', '.join(totals.unknown)}." if totals.unknown else ""
    return f"Stuck in all: {totals.total_stuck_jobs} ({', '.join(parts)}).{unknown}"
