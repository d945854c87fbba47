"""Reads the audit events of a job's earlier reaps. `reaper.source.transition.audit_event` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Select, and_, select

from reaper.profile import FromColumn, Insert, Json, Profile, Scalar, Value, Variable
from reaper.sql import expressions as sql
from reaper.sql.tables import reserved_alias
from reaper.sql.types import document_of
from reaper.staleness.rule import Rule

_MAX_EVENTS = 10


def audit_tables(profile: Profile) -> Sequence[str]:
    """The tables with audit events that have the evidence."""
    return tuple(_audit_inserts(profile))


def read_audits(rows: Iterable[Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """The evidence in rows of `audit_query`."""
    documents = (document_of(document) for (document,) in rows)
    return (document for document in documents if isinstance(document, dict))


def _audit_inserts(profile: Profile) -> dict[str, Insert]:
    steps = [step for action in profile.actions.values() for step in action.also]
    return {step.table: step for step in steps if isinstance(step, Insert) and _evidence_path(step)}


def audit_query(rule: Rule, table: str) -> Select[Any]:
    """The evidence in the newest audit events of one job in one of `audit_tables`, newest first."""
    tables, insert = rule.tables, _audit_inserts(rule.tables.profile)[table]
    jobs, events = tables.jobs, tables.table(insert.table).alias(reserved_alias("audit"))
    same_values = [
        events.c[name] == (jobs.c[value.column] if isinstance(value, FromColumn) else sql.untyped(value))
        for name, value in insert.values.items()
        if _is_always_equal(value)
    ]
    column, *members = _evidence_path(insert)
    query = select(sql.json_member(events.c[column], members)).select_from(events.join(jobs, and_(*same_values)))
    query = query.where(tables.key_in_batch(jobs), tables.is_job(jobs))
    for name, value in insert.values.items():
        if isinstance(value, Variable) and value.name == "now":
            query = query.order_by(events.c[name].desc())
    return query.limit(_MAX_EVENTS)


def _is_always_equal(value: Value) -> bool:
    """Every insert for one job writes the same value."""
    if isinstance(value, FromColumn):
        return value.plus is None and value.append is None
    return isinstance(value, Scalar)


def _evidence_path(insert: Insert) -> tuple[str, ...]:
    """The column with the evidence, and the path in its JSON; empty when the insert does not write the evidence."""
    for column, value in insert.values.items():
        path = _path_in(value)
        if path is not None:
            return (column, *path)
    return ()


def _path_in(value: Value) -> tuple[str, ...] | None:
    if isinstance(value, Variable) and value.name == "evidence":
        return ()
    if isinstance(value, Json):
        for name, member in value.members.items():
            path = _path_in(member)
            if path is not None:
                return (name, *path)
    return None
