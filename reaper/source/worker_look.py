"""Reads the workers of a source: which hold running jobs, which hold none, and the state of each. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import Connection, Integer, Select, Subquery, literal, not_, select

from reaper.source.statements import SourceStatements
from reaper.sql import expressions as sql
from reaper.sql.tables import reserved_alias
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule
from reaper.staleness.worker_states import WorkerStates

MAX_WORKERS = 5_000
"""Of a source, with running jobs. With more of them none is taken for gone; of the others, the newest are read."""
_LIMIT = "reaper_max_read"


class WorkerLook(NamedTuple):
    """The state of each worker, by its identity: of those that hold running jobs, and of the others."""

    holding: Mapping[str, str] = {}
    idle: Mapping[str, str] = {}


def worker_look(statements: SourceStatements, connection: Connection, context: EvaluationContext) -> WorkerLook:
    """The workers now; none where too many hold running jobs. Inside a transaction. Raises DBAPIError."""
    values = statements.values(context) | {_LIMIT: MAX_WORKERS + 1}
    holding = statements.execute(connection, values, holding_query).all()
    if len(holding) > MAX_WORKERS:
        # A part would be wrong: a worker that is left out may have come back in between.
        return WorkerLook()
    idle = statements.execute(connection, values | {_LIMIT: MAX_WORKERS}, idle_query).all()
    return WorkerLook(*({row.worker: row.state for row in rows if None not in row} for rows in (holding, idle)))


def holding_query(rule: Rule) -> Select[tuple[str, str]]:
    """The workers of the running jobs."""
    workers, held_by = _workers(rule), _held_by(rule)
    name = workers.identity(list(held_by.c))
    found = select(name.label("worker"), workers.state(list(held_by.c), held_by).label("state"))
    return found.select_from(held_by).limit(sql.parameter(_LIMIT, Integer()))


def idle_query(rule: Rule) -> Select[tuple[str, str]]:
    """The workers that no running job names, those with the newest heartbeats first."""
    workers, held_by = _workers(rule), _held_by(rule)
    name = workers.identity(workers.of_row())
    beat = workers.heartbeat()
    found = select(name.label("worker"), sql.text_of(beat).label("state")).select_from(workers.row)
    holds = select(literal(1)).select_from(held_by).where(*workers.matches(list(held_by.c))).correlate(workers.row)
    idle = found.where(workers.is_worker, beat.is_not(None), not_(holds.exists()))
    return idle.order_by(beat.desc()).limit(sql.parameter(_LIMIT, Integer()))


def _workers(rule: Rule) -> WorkerStates:
    if rule.worker_states is None:
        raise ValueError("no job of this source is stale for its worker")
    return rule.worker_states


def _held_by(rule: Rule) -> Subquery:
    """What names the workers of the running jobs, each once."""
    tables, jobs = rule.tables, rule.tables.jobs
    named = [value.label(f"match_{n}") for n, value in enumerate(_workers(rule).of_job(jobs))]
    running = select(*named).where(tables.search_condition(jobs), tables.running(jobs))
    held_by = running.distinct().subquery(reserved_alias("all_held_by"))
    return select(*held_by.c).where(*(column.is_not(None) for column in held_by.c)).subquery(reserved_alias("holders"))
