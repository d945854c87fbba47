"""What a liveness report says of each job, as SQL. The report is bound into the rule, which alone decides.

A job whose task a Celery worker or the broker has is alive. A job whose task is nowhere, or which has none, is silent
if workers of its queue have answered and no message of that queue can be its own. Otherwise it is unknown, and spared.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    String,
    and_,
    case,
    false,
    func,
    literal,
    not_,
    null,
    true,
)

from reaper.profile import CeleryTask
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables
from reaper.staleness import parameters


class CeleryLiveness:
    """Expressions for one profile. The values of `reaper.staleness.parameters` say what the report knows."""

    def __init__(self, tables: ProfileTables) -> None:
        self._tables, self._task = tables, tables.profile.task

    def sign(self, task: CeleryTask, jobs: FromClause, too_old: ColumnElement[bool]) -> Element:
        """A sign of life now, for a job whose task is alive; none for a task that is executed and `too_old`."""
        alive, executing = (_is_in(jobs, task.task, ids) for ids in (parameters.ALIVE, parameters.EXECUTING))
        hung = and_(executing, self._may_have_started(jobs), too_old)
        return case((and_(alive, not_(hung)), sql.now()), else_=sql.null_instant())

    def unknown(self, jobs: FromClause) -> ColumnElement[bool]:
        """The report says nothing of the job: it may be alive."""
        return self.why_unknown(jobs).is_not(None) if self._task else false()

    def why_unknown(self, jobs: FromClause) -> Element:
        """Why the report says nothing of the job; NULL when it does."""
        task = self._task
        if task is None:
            return sql.null_text()
        # Also for a job without a task's id: it may have been sent before the id was written.
        not_asked, unreliable = sql.parameter(parameters.NOT_ASKED, String()), self._unreliable(task, jobs)
        # Also for a task that has started: a late acknowledgement brings its message back, and so does a retry.
        may_wait = self._in_queue(task, jobs, parameters.BACKLOG, parameters.HAS_BACKLOG)
        return case(
            (not_asked.is_not(None), not_asked),
            (_is_in(jobs, task.task, parameters.ALIVE), null()),
            (unreliable.is_not(None), unreliable),
            (
                not_(self._in_queue(task, jobs, parameters.SERVED, parameters.IS_SERVED)),
                literal("Celery: no worker of its queue has answered", String),
            ),
            (may_wait, literal("Celery: it may be one of the messages that wait in its queue", String)),
            else_=null(),
        )

    def _in_queue(self, task: CeleryTask, jobs: FromClause, queues: str, of_all: str) -> ColumnElement[bool]:
        """The job's queue is one of `queues`; where no column names its queue, what `of_all` says of it."""
        if task.queue is not None:
            return _is_in(jobs, task.queue, queues)
        return sql.parameter(of_all, Boolean()).is_(true())

    def _unreliable(self, task: CeleryTask, jobs: FromClause) -> Element:
        """Why the job's queue is not served although workers answered; NULL when it is, or when none answered."""
        if task.queue is not None:
            reasons = sql.parameter(parameters.UNRELIABLE, sql.DOCUMENT)
            return sql.json_text_member(reasons, sql.text_of(jobs.c[task.queue]))
        return sql.parameter(parameters.UNRELIABLE_QUEUE, String())

    def _may_have_started(self, jobs: FromClause) -> ColumnElement[bool]:
        """The row has the job's start, and not only a moment to fall back on, such as its creation.

        A worker that took the job late may not have written the start yet: the job's age is then that of its waiting.
        """
        started = self._tables.profile.jobs.started
        return self._tables.start(jobs, started[0]).is_not(None) if len(started) > 1 else true()


def _is_in(jobs: FromClause, column: str, texts: str) -> ColumnElement[bool]:
    """The text in the column is one of those of a parameter."""
    return func.coalesce(sql.text_in(sql.text_of(jobs.c[column]), sql.parameter(texts, sql.TEXTS)), False)
