"""Looks up jobs: for the report, for `explain`, for the log. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, String, false, func, not_, or_, select

from reaper.errors import ReaperError, key_not_unique
from reaper.model import Evidence, Key, Verdict
from reaper.source.audit_trail import AuditEvent, audit_query, audit_tables, read_audits
from reaper.source.evidence import evidence_query, read_evidence
from reaper.source.reap_writes import signs_without_reaps_query
from reaper.source.statements import SourceStatements
from reaper.sql import expressions as sql
from reaper.sql.keys import key_parameters
from reaper.sql.types import document_of
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.first_seen import name_of
from reaper.staleness.rule import Rule

_TYPED, _KIND, _LIMIT, _OFFSET, _TASKS = (
    "reaper_typed_{}",
    "reaper_kind",
    "reaper_limit",
    "reaper_offset",
    "reaper_tasks",
)


class JobLookup:
    """The look-ups of one source. `action` is what a sweep does with its stale jobs, and `worker_lost_action` with
    those whose worker is gone. `requeues_used_up` returns the names of those that are failed instead of started again.
    """

    def __init__(
        self,
        statements: SourceStatements,
        action: str,
        worker_lost_action: str,
        requeues_used_up: Callable[[], Collection[str]],
    ) -> None:
        self._statements, self._profile, self._action = statements, statements.profile, action
        self._worker_lost_action, self._requeues_used_up = worker_lost_action, requeues_used_up
        self._width = len(statements.profile.jobs.key)

    def find(self, connection: Connection, key: Sequence[str]) -> Key | None:
        """The key of the job that a person typed as these texts, as the database writes it; None without such a job.

        Raises DBAPIError when a text does not fit the type of its column.
        """
        typed = {_TYPED.format(n): text for n, text in enumerate(key)}
        rows = self._statements.execute(connection, typed, _find_query).fetchmany(2)
        self._require_unique([tuple(row) for row in rows])
        return tuple(rows[0]) if rows else None

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
        values = self._statements.values(context) | {_KIND: kind, _LIMIT: limit, _OFFSET: offset}
        rows = self._statements.execute(connection, values, _list_query, verdict, kind is not None)
        return [tuple(row) for row in rows]

    def overdue_keys(self, connection: Connection, context: EvaluationContext, limit: int) -> list[Key]:
        """Stale and spared jobs, oldest start first."""
        values = self._statements.values(context) | {_LIMIT: limit, _OFFSET: 0}
        return [tuple(row) for row in self._statements.execute(connection, values, _overdue_query)]

    def existing_tasks(self, connection: Connection, ids: Collection[str]) -> set[str]:
        """Those of the Celery tasks that have a job, whatever its status.

        Raises ReaperError for a profile without Celery tasks.
        """
        if self._profile.task is None:
            raise ReaperError(f"profile {self._profile.name!r} does not know Celery's tasks")
        return set(self._statements.execute(connection, {_TASKS: sorted(ids)}, _tasks_query).scalars())

    def running_tasks(self, connection: Connection) -> list[str]:
        """The Celery tasks of all running jobs; none for a profile without Celery tasks."""
        if self._profile.task is None:
            return []
        return list(self._statements.execute(connection, {}, _running_tasks_query).scalars())

    def evidence(self, connection: Connection, context: EvaluationContext, keys: Sequence[Key]) -> list[Evidence]:
        """The verdict on each of the jobs and its evidence, in this order; jobs that do not exist are left out.

        Raises KeyNotUnique when several jobs have one of the keys.
        """
        if not keys:
            return []
        values = self._statements.values(context) | key_parameters(keys)
        rows = self._statements.execute(connection, values, evidence_query, self._action)
        read = [self._with_action(read_evidence(row, self._width)) for row in rows]
        if any(evidence.verdict is Verdict.STALE for evidence in read):
            used_up = self._requeues_used_up()
            read = [replace(job, action="fail") if name_of(job.key) in used_up else job for job in read]
        self._require_unique([evidence.key for evidence in read])
        by_key = {evidence.key: evidence for evidence in read}
        return [by_key[key] for key in keys if key in by_key]

    def _with_action(self, evidence: Evidence) -> Evidence:
        if evidence.worker_lost is None or self._worker_lost_action == self._action:
            return evidence
        return replace(evidence, action=self._worker_lost_action)

    def signs_without_reaps(
        self, connection: Connection, context: EvaluationContext, key: Key
    ) -> Mapping[str, str | None]:
        """The newest sign of each witness of a job, without what the reaper is known to have written."""
        values = self._statements.values(context) | key_parameters([key])
        row = self._statements.execute(connection, values, signs_without_reaps_query).first()
        return document_of(row[0]) if row else {}

    def _require_unique(self, keys: Sequence[Key]) -> None:
        """A log has one job for each key, however many entries."""
        if len(set(keys)) < len(keys) and self._profile.jobs.log is None:
            [(example, _)] = Counter(keys).most_common(1)
            raise key_not_unique(self._profile.jobs.table, self._profile.jobs.key, example)

    def audits(self, connection: Connection, key: Key) -> list[dict[str, Any]]:
        """The evidence in `audit_events`."""
        return [event.evidence for event in self.audit_events(connection, key)]

    def audit_events(self, connection: Connection, key: Key) -> list[AuditEvent]:
        """The audit events that earlier reaps of this job wrote, newest first in each table of them."""
        tables = [
            self._statements.execute(connection, key_parameters([key]), audit_query, table)
            for table in audit_tables(self._profile)
        ]
        return [event for rows in tables for event in read_audits(rows)]


# --- statements --------------------------------------------------------------------------------------------------


def _find_query(rule: Rule) -> Select[Any]:
    tables, jobs = rule.tables, rule.tables.jobs
    typed = [sql.parameter(_TYPED.format(n)) for n in range(len(tables.profile.jobs.key))]
    equal = [sql.equals_typed_text(column, text) for column, text in zip(tables.key(jobs), typed, strict=True)]
    return select(*tables.key_text(jobs)).where(*equal, tables.is_job(jobs))


def _list_query(rule: Rule, verdict: Verdict | None, of_one_kind: bool) -> Select[Any]:
    conditions = _with_verdict(rule, verdict)
    if of_one_kind:
        conditions.append(rule.kind(rule.tables.jobs) == sql.parameter(_KIND, String()))
    return _oldest(rule, conditions)


def _overdue_query(rule: Rule) -> Select[Any]:
    jobs = rule.tables.jobs
    return _oldest(rule, [or_(rule.past_timeout(jobs), rule.worker_lost(jobs))])


def _with_verdict(rule: Rule, verdict: Verdict | None) -> list[ColumnElement[bool]]:
    """Those forms of the rule that need not compute the verdict of every running job."""
    jobs = rule.tables.jobs
    late, running = func.coalesce(rule.older_than_timeout(jobs), False), rule.tables.running(jobs)
    match verdict:
        case None:
            return [running]
        case Verdict.STALE:
            return [or_(rule.stale(jobs), rule.worker_lost(jobs))]
        case Verdict.YOUNG:
            return [running, not_(late), *_worker_is_not_lost(rule)]
        case Verdict.SPARED:
            return [running, late, not_(func.coalesce(rule.still_stale(jobs), False)), *_worker_is_not_lost(rule)]
        case Verdict.ENDED:
            return [false()]


def _worker_is_not_lost(rule: Rule) -> list[ColumnElement[bool]]:
    """Nothing where no job is stale for its worker."""
    return [] if rule.worker_states is None else [not_(func.coalesce(rule.worker_lost(rule.tables.jobs), False))]


def _oldest(rule: Rule, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    tables, jobs = rule.tables, rule.tables.jobs
    listed = select(*tables.key_text(jobs)).select_from(rule.from_jobs(jobs))
    keys = listed.where(tables.search_condition(jobs), *conditions)
    query = keys.order_by(tables.started(jobs), *tables.key(jobs))
    return query.limit(sql.parameter(_LIMIT, Integer())).offset(sql.parameter(_OFFSET, Integer()))


def _running_tasks_query(rule: Rule) -> Select[Any]:
    jobs, task = rule.tables.jobs, rule.tables.profile.task
    assert task is not None
    column = jobs.c[task.task]
    return select(sql.text_of(column)).where(rule.tables.running(jobs), column.is_not(None))


def _tasks_query(rule: Rule) -> Select[Any]:
    task = rule.tables.profile.task
    if task is None:
        raise ValueError("the profile has no Celery tasks")
    task_id = sql.text_of(rule.tables.jobs.c[task.task])
    return select(task_id).where(sql.text_in(task_id, sql.parameter(_TASKS, sql.TEXTS)))
