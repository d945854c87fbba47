"""What a witness outside the database has said of a job, as SQL: its testimony is bound, and never the judge.

A job that Celery's workers know is alive. One that none of them knows is silent, if workers of its queue have answered
and no message of its own can still be waiting there; else it is unknown, and spared.
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
    """The testimony of one sweep, for one profile."""

    def __init__(self, schema: ProfileTables, queues: Sequence[str]) -> None:
        self._schema, self._queues = schema, frozenset(queues)
        self._task = schema.profile.task

    def sign(
        self, task: CeleryTask, jobs: FromClause, liveness: LivenessReport | None, too_old: ColumnElement[bool]
    ) -> Element:
        """Now, for a job that a live worker has; for one that is too old, no longer while it is being executed."""
        if liveness is None:
            return sql.null_instant()
        known, executing = self._in(task, jobs, liveness.alive), self._in(task, jobs, liveness.executing)
        hung = and_(executing, self._may_have_begun(jobs), too_old)
        return case((and_(known, not_(hung)), sql.now()), else_=sql.null_instant())

    def why_unknown(self, jobs: FromClause, liveness: LivenessReport | None) -> Element:
        """Why nothing can be said of a job; NULL when something can."""
        task = self._task
        if task is None:
            return sql.null_text()
        asked = jobs.c[task.task].is_not(None)
        if liveness is None or liveness.trouble is not None:
            trouble = "was not asked" if liveness is None else liveness.trouble
            return case((asked, literal(f"Celery: {trouble}", String)), else_=null())
        unserved = not_(self._served(task, jobs, liveness))
        # One that has begun may wait again: a late acknowledgement brings its message back, and so does a retry.
        queued = self._waits(task, jobs, liveness)
        return case(
            (or_(not_(asked), self._in(task, jobs, liveness.alive)), null()),
            *((mine, literal(f"Celery: {why}", String)) for mine, why in self._doubted(task, jobs, liveness)),
            (unserved, literal("Celery: no worker of its queue has answered", String)),
            (queued, literal("Celery: it may be one of the messages that wait in its queue", String)),
            else_=null(),
        )

    def unknown(self, jobs: FromClause, liveness: LivenessReport | None) -> ColumnElement[bool]:
        """Nothing can be said of a job: it may be alive."""
        return self.why_unknown(jobs, liveness).is_not(None) if self._task else false()

    def _in(self, task: CeleryTask, jobs: FromClause, ids: Collection[str]) -> ColumnElement[bool]:
        return func.coalesce(sql.text_in(sql.text_of(jobs.c[task.task]), ids), False)

    def _served(self, task: CeleryTask, jobs: FromClause, liveness: LivenessReport) -> ColumnElement[bool]:
        """Workers of the job's queue have answered; of all that it may be in, where no column tells which it is."""
        if task.queue is not None:
            return func.coalesce(sql.text_in(sql.text_of(jobs.c[task.queue]), liveness.queues), False)
        return true() if self._queues | liveness.known <= liveness.queues else false()

    def _waits(self, task: CeleryTask, jobs: FromClause, liveness: LivenessReport) -> ColumnElement[bool]:
        """Messages wait in the job's queue, or in one that it may be in."""
        if task.queue is not None:
            return func.coalesce(sql.text_in(sql.text_of(jobs.c[task.queue]), liveness.backlog), False)
        return true() if (self._queues | liveness.known) & liveness.backlog else false()

    def _doubted(
        self, task: CeleryTask, jobs: FromClause, liveness: LivenessReport
    ) -> Iterator[tuple[ColumnElement[bool], str]]:
        """Which jobs are in a queue that is not served although workers answered, and why it is not."""
        for queue, why in liveness.unreliable.items():
            if task.queue is not None:
                yield func.coalesce(sql.text_in(sql.text_of(jobs.c[task.queue]), [queue]), False), why
            elif queue in self._queues | liveness.known:
                yield true(), why

    def _may_have_begun(self, jobs: FromClause) -> ColumnElement[bool]:
        """A worker that has taken a job up late may not have said so in its row yet: its age is that of its waiting."""
        started = self._schema.profile.jobs.started
        return jobs.c[started[0]].is_not(None) if len(started) > 1 else true()
