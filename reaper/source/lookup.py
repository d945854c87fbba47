"""Looking jobs up: for the report, for `explain`, for the log. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, false, func, literal, not_, select
from sqlalchemy.types import String

from reaper.errors import ReaperError
from reaper.model import Evidence, Key, Verdict
from reaper.profile import FromColumn, Insert, Json, Scalar, Value, Variable
from reaper.source.evidence import evidence_cte, evidence_select, read_evidence
from reaper.sql import expressions as sql
from reaper.sql.tables import key_parameters, reserved_alias
from reaper.staleness.rule import EvaluationContext, Rule


class JobLookup:
    """The look-ups for one rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self._schema = rule, rule.tables
        self._jobs = rule.tables.jobs
        self._key = rule.tables.key(self._jobs)
        self._text = rule.tables.key_text(self._jobs)

    def find(self, connection: Connection, key: Sequence[str]) -> Key | None:
        """The key of the job that these texts name, as the database spells it; None when there is no such job.

        Raises DBAPIError when a text does not fit the type of its column.
        """
        named = [sql.named(mine, text) for mine, text in zip(self._key, key, strict=True)]
        row = connection.execute(select(*self._text).where(*named, self._schema.is_job(self._jobs))).one_or_none()
        return tuple(row) if row is not None else None

    def keys(
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
        where = self._having(verdict, context)
        if kind is not None:
            where.append(self.rule.kind(self._jobs) == literal(kind, String))
        return self._oldest(connection, where, limit, offset)

    def overdue(self, connection: Connection, context: EvaluationContext, limit: int) -> list[Key]:
        """Jobs past their timeout, stale or spared, oldest start first."""
        return self._oldest(connection, [self.rule.past_timeout(self._jobs, context)], limit, 0)

    def _having(self, verdict: Verdict | None, context: EvaluationContext) -> list[ColumnElement[bool]]:
        """Of the shapes of the rule those that need not work out the verdict of every running job."""
        late = func.coalesce(self.rule.older_than_timeout(self._jobs, context), False)
        running = self._schema.running(self._jobs)
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
        self, connection: Connection, where: Sequence[ColumnElement[bool]], limit: int, offset: int
    ) -> list[Key]:
        query = select(*self._text).where(*where).order_by(self.rule.started(self._jobs), *self._key)
        return [tuple(row) for row in connection.execute(query.limit(limit).offset(offset))]

    def tasks(self, connection: Connection, ids: Collection[str]) -> set[str]:
        """Those of Celery's tasks that there is a job for, whatever its state.

        Raises ReaperError for a profile that does not know Celery's tasks.
        """
        task = self._schema.profile.task
        if task is None:
            raise ReaperError(f"profile {self._schema.profile.name!r} does not know Celery's tasks")
        named = sql.text_of(self._jobs.c[task.task])
        return set(connection.execute(select(named).where(sql.one_of(named, ids))).scalars())

    def evidence(self, connection: Connection, context: EvaluationContext, keys: Sequence[Key]) -> list[Evidence]:
        """What the rule says of these jobs and what that rests on, in this order; jobs that are gone are left out."""
        if not keys:
            return []
        job = evidence_cte(self.rule, self._jobs, context, self._schema.key_in_batch(self._key))
        rows = connection.execute(evidence_select(job, len(self._key)), key_parameters(keys))
        found = {e.key: e for e in (read_evidence(row, len(self._key)) for row in rows)}
        return [found[key] for key in keys if key in found]

    def audits(self, connection: Connection, key: Key) -> list[dict[str, Any]]:
        """The evidence that earlier reaps of this job wrote, newest first."""
        inserts = [step for action in self._schema.profile.actions.values() for step in action.also]
        kept = {insert.table: insert for insert in inserts if isinstance(insert, Insert) and _evidence(insert)}
        return [evidence for insert in kept.values() for evidence in self._written(connection, insert, key)]

    def _written(self, connection: Connection, insert: Insert, key: Key) -> list[dict[str, Any]]:
        table = self._schema.table(insert.table).alias(reserved_alias("audit"))
        same = [
            table.c[name] == (self._jobs.c[value.column] if isinstance(value, FromColumn) else sql.untyped(value))
            for name, value in insert.values.items()
            if _repeats(value)
        ]
        place = _evidence(insert)
        evidence = sql.member(table.c[place[0]], place[1:])
        query = select(evidence).select_from(table.join(self._jobs, and_(*same)))
        query = query.where(self._schema.key_in_batch(self._key), self._schema.is_job(self._jobs))
        for name, value in insert.values.items():
            if isinstance(value, Variable) and value.name == "now":
                query = query.order_by(table.c[name].desc())
        rows = connection.execute(query.limit(10), key_parameters([key]))
        return [found for (found,) in rows if isinstance(found, dict)]


def _repeats(value: Value) -> bool:
    """Every insert for the job writes the same."""
    if isinstance(value, FromColumn):
        return value.plus is None and value.append is None
    return isinstance(value, Scalar)


def _evidence(insert: Insert) -> tuple[str, ...]:
    """Where it writes the evidence: a column, and the members of the JSON in it; empty when it does not."""
    for column, value in insert.values.items():
        if place := _evidence_in(value):
            return (column, *place[1:])
    return ()


def _evidence_in(value: Value) -> tuple[str, ...]:
    if isinstance(value, Variable) and value.name == "evidence":
        return ("",)
    if isinstance(value, Json):
        for name, member in value.members.items():
            if place := _evidence_in(member):
                return ("", name, *place[1:])
    return ()
