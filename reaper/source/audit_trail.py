"""Reads the audit events of a job's earlier reaps. `reaper.source.transition.audit_event` writes them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, select

from reaper.model import Key
from reaper.profile import FromColumn, Insert, Json, Scalar, Value, Variable
from reaper.sql import expressions as sql
from reaper.sql.keys import key_parameters
from reaper.sql.tables import ProfileTables, reserved_alias

_MAX_EVENTS = 10


def audit_evidence(tables: ProfileTables, connection: Connection, key: Key) -> list[dict[str, Any]]:
    """The evidence in the newest audit events of the job, newest first."""
    steps = [step for action in tables.profile.actions.values() for step in action.also]
    inserts = {step.table: step for step in steps if isinstance(step, Insert) and _evidence_path(step)}
    return [evidence for insert in inserts.values() for evidence in _read(tables, connection, insert, key)]


def _read(tables: ProfileTables, connection: Connection, insert: Insert, key: Key) -> list[dict[str, Any]]:
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
    rows = connection.execute(query.limit(_MAX_EVENTS), key_parameters([key]))
    return [evidence for (evidence,) in rows if isinstance(evidence, dict)]


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
