"""What a liveness report says of each job, as SQL. The report is bound into the rule, which alone decides.

A job whose task a Celery worker or the broker has is alive. A job whose task is nowhere is silent if workers of its
queue have answered and no message of that queue can be its own. Otherwise it is unknown, and spared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import ColumnElement, FromClause, String, and_, case, false, func, literal, not_, null, or_, true

from reaper.liveness import LivenessReport
from reaper.profile import CeleryTask
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables


class CeleryLiveness:
    """Expressions for one profile. `queues` are those that its jobs may be in, where no column says so."""

    def __init__(self, tables: ProfileTables, queues: Sequence[str]) -> None:
        self._tables, self._queues = tables, frozenset(queues)
        self._task = tables.profile.task

    def sign(
        self, task: CeleryTask, jobs: FromClause, liveness: LivenessReport | None, too_old: ColumnElement[bool]
    ) -> Element:
        """A sign of life now, for a job whose task is alive; none for one that is executed and `too_old`."""
        if liveness is None:
            return sql.null_instant()
        alive, executing = self._in(task, jobs, liveness.alive), self._in(task, jobs, liveness.executing)
        hung = and_(executing, self._may_have_started(jobs), too_old)
        return case((and_(alive, not_(hung)), sql.now()), else_=sql.null_instant())

    def unknown(self, jobs: FromClause, liveness: LivenessReport | None) -> ColumnElement[bool]:
        """The report says nothing of the job: it may be alive."""
        return self.why_unknown(jobs, liveness).is_not(None) if self._task else false()

    def why_unknown(self, jobs: FromClause, liveness: LivenessReport | None) -> Element:
        """Why the report says nothing of the job; NULL when it does."""
        task = self._task
        if task is None:
            return sql.null_text()
        has_task = jobs.c[task.task].is_not(None)
        if liveness is None or liveness.trouble is not None:
            trouble = "was not asked" if liveness is None else liveness.trouble
            return case((has_task, literal(f"Celery: {trouble}", String)), else_=null())
        not_served = not_(self._served(task, jobs, liveness))
        # Also for a task that has started: a late acknowledgement brings its message back, and so does a retry.
        may_wait = self._may_wait(task, jobs, liveness)
        return case(
            (or_(not_(has_task), self._in(task, jobs, liveness.alive)), null()),
            *(
                (in_queue, literal(f"Celery: {why}", String))
                for in_queue, why in self._unreliable(task, jobs, liveness)
            ),
            (not_served, literal("Celery: no worker of its queue has answered", String)),
            (may_wait, literal("Celery: it may be one of the messages that wait in its queue", String)),
            else_=null(),
        )

    def _in(self, task: CeleryTask, jobs: FromClause, ids: Collection[str]) -> ColumnElement[bool]:
        return func.coalesce(sql.text_in(sql.text_of(jobs.c[task.task]), ids), False)

    def _served(self, task: CeleryTask, jobs: FromClause, liveness: LivenessReport) -> ColumnElement[bool]:
        """Workers of the job's queue have answered; where no column names its queue, of all that it may be in."""
        if task.queue is not None:
            return func.coalesce(sql.text_in(sql.text_of(jobs.c[task.queue]), liveness.queues), False)
        return true() if self._queues | liveness.known <= liveness.queues else false()

    def _may_wait(self, task: CeleryTask, jobs: FromClause, liveness: LivenessReport) -> ColumnElement[bool]:
        """Messages that could not be read wait in the job's queue, or in one that it may be in."""
        if task.queue is not None:
            return func.coalesce(sql.text_in(sql.text_of(jobs.c[task.queue]), liveness.backlog), False)
        return true() if (self._queues | liveness.known) & liveness.backlog else false()

    def _unreliable(
        self, task: CeleryTask, jobs: FromClause, liveness: LivenessReport
    ) -> Iterator[tuple[ColumnElement[bool], str]]:
        """For each queue that is not served although workers answered: the jobs that may be in it, and why."""
        for queue, why in liveness.unreliable.items():
            if task.queue is not None:
                yield func.coalesce(sql.text_in(sql.text_of(jobs.c[task.queue]), [queue]), False), why
            elif queue in self._queues | liveness.known:
                yield true(), why

    def _may_have_started(self, jobs: FromClause) -> ColumnElement[bool]:
        """The row has the job's start, and not only a moment to fall back on, such as its creation.

        A worker that took the job late may not have written the start yet: the job's age is then that of its waiting.
        """
        started = self._tables.profile.jobs.started
        return jobs.c[started[0]].is_not(None) if len(started) > 1 else true()
