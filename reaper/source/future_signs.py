"""Looks for running jobs past their timeout that have signs of life in the future. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Select, select

from reaper.common.messages import format_key
from reaper.model import FutureSigns, Key
from reaper.source.statements import SourceStatements
from reaper.sql.keys import is_whole
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.future_signs import name_of, witnesses_ahead
from reaper.staleness.rule import Rule

MAX_READ = 1_000


def future_states(
    statements: SourceStatements, connection: Connection, context: EvaluationContext
) -> tuple[dict[str, str], FutureSigns]:
    """The states of their signs by witness and job, and the number of jobs. Inside a transaction. Raises DBAPIError."""
    states, keys = dict[str, str](), set[Key]()
    first: tuple[str, str, str] | None = None
    complete = True
    for number in witnesses_ahead(statements.profile):
        witness, rows = statements.profile.alive[number].witness, 0
        for key, state in sorted(_states_of_witness(statements, connection, context, number)):
            states[name_of(witness, key)], rows = state, rows + 1
            keys.add(key)
            first = first or (format_key(key), witness, state)
        complete = complete and rows < MAX_READ
    return states, FutureSigns(len(keys), complete, *(first or (None, None, None)))


def add_found(one: FutureSigns, other: FutureSigns) -> FutureSigns:
    """The jobs of both, which have none in common."""
    first = one if one.jobs else other
    complete = one.complete and other.complete
    return FutureSigns(one.jobs + other.jobs, complete, first.job, first.witness, first.state)


def _states_of_witness(
    statements: SourceStatements, connection: Connection, context: EvaluationContext, number: int
) -> Iterator[tuple[Key, str]]:
    width = len(statements.profile.jobs.key)
    for row in statements.execute(connection, statements.values(context), future_states_query, number):
        if row[width] is not None and is_whole(key := tuple(row[:width])):
            yield key, row[width]


def future_states_query(rule: Rule, number: int) -> Select[tuple[str, ...]]:
    """The keys of the jobs with signs of the witness with this number in the future, each with its state."""
    tables, jobs = rule.tables, rule.tables.jobs
    is_ahead, state = rule.signs_in_future(tables.profile.alive[number], jobs)
    query = select(*tables.key_text(jobs), state.label("state"))
    # Without an order: to find the first ones by key, a planner might read all rows of the table.
    query = query.select_from(rule.from_jobs(jobs))
    return query.where(tables.search_condition(jobs), rule.past_timeout(jobs), is_ahead).limit(MAX_READ)
