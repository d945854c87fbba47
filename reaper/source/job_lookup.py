"""Looks up jobs: for the report, for `explain`, for the log. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, false, func, literal, not_, select
from sqlalchemy.types import String

from reaper.errors import ReaperError
from reaper.model import Evidence, Key, Verdict
from reaper.source.audit_trail import audit_evidence
from reaper.source.evidence import evidence_cte, evidence_select, read_evidence
from reaper.sql import expressions as sql
from reaper.sql.keys import key_parameters
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule


class JobLookup:
    """The look-ups for one rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self._tables = rule, rule.tables
        self._jobs = rule.tables.jobs
        self._key = rule.tables.key(self._jobs)
        self._key_text = rule.tables.key_text(self._jobs)

    def find(self, connection: Connection, key: Sequence[str]) -> Key | None:
        """The key of the job that a person typed as these texts, as the database writes it; None without such a job.

        Raises DBAPIError when a text does not fit the type of its column.
        """
        equal = [sql.equals_typed_text(column, text) for column, text in zip(self._key, key, strict=True)]
        row = connection.execute(select(*self._key_text).where(*equal, self._tables.is_job(self._jobs))).one_or_none()
        return tuple(row) if row is not None else None

    def list_keys(
        self,
        connection: Connection,
        context: EvaluationContext,
        *,
        verdict: Verdict | None,
        kind: str | None,
        limit: int,
        offset: int = 0,
    ) -> list[Key]:
        """Running jobs, oldest start first, after the first `offset`."""
        conditions = self._with_verdict(verdict, context)
        if kind is not None:
            conditions.append(self.rule.kind(self._jobs) == literal(kind, String))
        return self._oldest(connection, conditions, limit, offset)

    def overdue_keys(self, connection: Connection, context: EvaluationContext, limit: int) -> list[Key]:
        """Jobs past their timeout, stale or spared, oldest start first."""
        return self._oldest(connection, [self.rule.past_timeout(self._jobs, context)], limit, 0)

    def _with_verdict(self, verdict: Verdict | None, context: EvaluationContext) -> list[ColumnElement[bool]]:
        """Those forms of the rule that need not compute the verdict of every running job."""
        late = func.coalesce(self.rule.older_than_timeout(self._jobs, context), False)
        running = self._tables.running(self._jobs)
        match verdict:
            case None:
                return [running]
            case Verdict.STALE:
                return [self.rule.stale(self._jobs, context)]
            case Verdict.YOUNG:
                return [running, not_(late)]
            case Verdict.SPARED:
                return [running, late, not_(func.coalesce(self.rule.still_stale(self._jobs, context), False))]
            case Verdict.ENDED:
                return [false()]

    def _oldest(
        self, connection: Connection, conditions: Sequence[ColumnElement[bool]], limit: int, offset: int
    ) -> list[Key]:
        query = select(*self._key_text).where(*conditions).order_by(self._tables.started(self._jobs), *self._key)
        return [tuple(row) for row in connection.execute(query.limit(limit).offset(offset))]

    def existing_tasks(self, connection: Connection, ids: Collection[str]) -> set[str]:
        """Those of the Celery tasks that have a job, whatever its status.

        Raises ReaperError for a profile without Celery tasks.
        """
        task = self._tables.profile.task
        if task is None:
            raise ReaperError(f"profile {self._tables.profile.name!r} does not know Celery's tasks")
        task_id = sql.text_of(self._jobs.c[task.task])
        return set(connection.execute(select(task_id).where(sql.text_in(task_id, ids))).scalars())

    def evidence(self, connection: Connection, context: EvaluationContext, keys: Sequence[Key]) -> list[Evidence]:
        """The verdict on each of the jobs and its evidence, in this order; jobs that do not exist are left out."""
        if not keys:
            return []
        job = evidence_cte(self.rule, self._jobs, context, self._tables.key_in_batch(self._jobs))
        rows = connection.execute(evidence_select(job, len(self._key)), key_parameters(keys))
        by_key = {evidence.key: evidence for evidence in (read_evidence(row, len(self._key)) for row in rows)}
        return [by_key[key] for key in keys if key in by_key]

    def audits(self, connection: Connection, key: Key) -> list[dict[str, Any]]:
        """The evidence that earlier reaps of this job wrote, newest first."""
        return audit_evidence(self._tables, connection, key)
