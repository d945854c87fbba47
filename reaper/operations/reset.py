"""Emergency reset: ends every running job of some sources by an operator's decision, without the rule.

First it counts: the jobs that run are noted, and what waits for them at the broker. Then exactly those jobs are ended,
so that the number in the question is the most that can be ended. Last their Celery tasks are removed.

What others can do between these steps:

- A worker finishes a job, or takes up the next: a job that has moved since the count is left alone, and a new one is
  not touched.
- A second reaper, or an operator, ends a job: it is not running any more, and is left alone with its task.
- Another session holds the row of a job: job and task are left alone. Only the tasks of jobs that this reset has ended
  are removed.
- The process is killed after a commit and before the removal: those jobs have ended, and their messages stay, so
  workers may still run them. In the other order, a job whose message is gone could stay in the state running.
- A failover without the commit: the job runs again, and its message is gone. The next sweep finds it silent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from reaper.config import Settings, SourceSettings
from reaper.liveness import TaskRemoval
from reaper.model import Evidence, JobCounts, KeptJob, ReapedJob
from reaper.operations.end_in_batches import BulkOptions, BulkResult, end_in_bulk
from reaper.operations.fail import ManualEnd
from reaper.operations.message_room import require_room
from reaper.operations.sources import create_one_off_source, create_one_off_sources, in_order_of_ending
from reaper.source import Source
from reaper.source.kept_jobs import KeptTally
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.reap_moments import bare_table
from reaper.sweep.batch_runner import BatchRunner
from reaper.sweep.candidate_spool import CandidateSpool
from reaper.sweep.listeners import SweepListener
from reaper.sweep.options import new_sweep_id

MAX_PREVIEWED = 20


@dataclass(frozen=True, slots=True)
class ResetTarget:
    """One source to reset. `counting` sees its jobs as they will be when the targets before it have been reset."""

    source: Source
    counting: Source


@dataclass(frozen=True, slots=True)
class ResetPlan:
    """What a reset of one source would end: how many jobs of each kind, and the first MAX_PREVIEWED, oldest first.

    `kept` are the first of `kept_total` jobs that run and are not ended: operators hold them, or their kind is never
    ended. `kinds` counts them, too.

    `tasks`: what would become of their Celery tasks; None for a profile without Celery tasks, and where no job has one.
    `without_task`: how many jobs have no Celery task although the profile knows where it would be.
    """

    source: Source
    running: int
    kinds: Sequence[tuple[str | None, int]]
    first: Sequence[Evidence]
    tasks: TaskRemoval | None
    without_task: int
    candidates: CandidateSpool
    kept: Sequence[KeptJob] = ()
    kept_total: int = 0


@dataclass(frozen=True, slots=True)
class ResetResult:
    """What became of the jobs, and of their Celery tasks; `tasks` is None as in the plan, and when no job was ended."""

    ended: BulkResult
    tasks: TaskRemoval | None = None

    @property
    def tasks_left(self) -> bool:
        """Whether a worker may still execute a task of an ended job, now or later."""
        tasks = self.tasks
        if tasks is None:
            return False
        return bool(tasks.trouble or tasks.still_executing or (tasks.left and not tasks.workers))


# --- which sources ---------------------------------------------------------------------------------------------------


def targets(settings: Settings, selected: Sequence[SourceSettings]) -> list[ResetTarget]:
    """The sources in the order of their reset: one whose jobs wait for the jobs of another one is after that one.

    A scheduled task of vuls counts as running only while none of its runs does. Its runs end before it, so it is
    counted without them.
    """
    by_name = {source.name: source for source in selected}
    tables = {bare_table(source.profile.jobs.table) for source in selected}
    ordered = in_order_of_ending(create_one_off_sources(settings, selected))
    return [_target(settings, source, by_name[source.name], tables) for source in ordered]


def _target(settings: Settings, source: Source, own: SourceSettings, tables: Collection[str]) -> ResetTarget:
    running = own.profile.jobs.running
    if running is None:
        return ResetTarget(source, source)
    left = tuple(missing for missing in running.missing if bare_table(missing.table) not in tables)
    if left == running.missing:
        return ResetTarget(source, source)
    jobs = own.profile.jobs.model_copy(update={"running": running.model_copy(update={"missing": left})})
    counted = replace(own, profile=own.profile.model_copy(update={"jobs": jobs}))
    return ResetTarget(source, create_one_off_source(settings, counted, decision=source.decision))


# --- count -----------------------------------------------------------------------------------------------------------


@contextmanager
def plan(target: ResetTarget, downtime: DowntimeTracker, batch_size: int, decision: ManualEnd) -> Iterator[ResetPlan]:
    """Count, and change nothing. Raises MessageTooLong, DatabaseUnavailable and DBAPIError."""
    counting = target.counting
    with CandidateSpool(batch_size) as candidates:
        with counting.connect() as connection:
            context = counting.begin_evaluation(connection, downtime)
            require_room(counting, connection, decision.message, decision.action)
            with counting.transaction(connection, read_only=True):
                holds, kept = counting.holds(context), KeptTally(MAX_PREVIEWED)
                candidates.fill(kept.take_out(counting.survey.stream_running(connection), holds))
                kinds = counting.survey.kinds(connection)
                keys = counting.lookup.list_keys(connection, context, verdict=None, kind=None, limit=MAX_PREVIEWED)
                # A reset takes `fail`, not the action that a sweep would choose.
                previewed = counting.lookup.evidence(connection, context, keys)
                first = [replace(job, action=None) for job in previewed if not (job.never or job.key in holds)]
                tasks = counting.lookup.running_tasks(connection)
        probe = target.source.options.probe
        removal = probe.remove_tasks(tasks, dry_run=True) if probe is not None and tasks else None
        without_task = max(candidates.count - len(tasks), 0) if probe is not None else 0
        yield ResetPlan(
            target.source,
            candidates.count,
            kinds,
            first,
            removal,
            without_task,
            candidates,
            kept.first,
            kept.total,
        )


# --- end -------------------------------------------------------------------------------------------------------------


def reset(plan: ResetPlan, downtime: DowntimeTracker, decision: ManualEnd, options: BulkOptions) -> ResetResult:
    """End the jobs of the plan, and then remove their tasks.

    Raises QuietTime, DatabaseUnavailable, StateUnavailable and DBAPIError; the tasks of the jobs that were ended before
    are removed all the same.
    """
    source, run_id, listener = plan.source, new_sweep_id(), _TaskCollector(options.listener)
    removal: TaskRemoval | None = None
    try:
        with source.connect() as connection:
            context = source.begin_evaluation(connection, downtime)
            source.require_not_quiet()
            claim = source.claim(context, decision.audit_info(source.name, run_id), decision.action)
            runner = BatchRunner(source, claim, should_stop=options.should_stop)
            own = replace(options, listener=listener)
            ended = end_in_bulk(source, connection, runner, plan.candidates.batches(), run_id, own)
    finally:
        if source.options.probe is not None and listener.tasks:
            removal = source.options.probe.remove_tasks(listener.tasks)
    return ResetResult(ended, removal)


class _TaskCollector:
    """A listener that passes everything on, and keeps the Celery tasks of the jobs that were ended."""

    def __init__(self, listener: SweepListener) -> None:
        self._listener = listener
        self.tasks: list[str] = []

    def reaped(self, source: str, sweep_id: str, batch: Sequence[ReapedJob]) -> None:
        self.tasks += [job.task for job in batch if job.task]
        self._listener.reaped(source, sweep_id, batch)

    def surveyed(self, source: str, census: JobCounts) -> None:
        self._listener.surveyed(source, census)
