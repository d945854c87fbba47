"""Finds columns of numbers in which running jobs have some that can only be in another unit. Changes nothing.

The rule spares each such job by itself; this is how a sweep comes to say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Select, literal, select

from reaper.profile.columns import TableColumn
from reaper.source.statements import SourceStatements
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule
from reaper.staleness.unknown_moments import columns_of_numbers, describe_other_unit


def columns_in_other_unit(
    statements: SourceStatements, connection: Connection, context: EvaluationContext
) -> Mapping[TableColumn, str]:
    """Those columns, with why such moments are unknown. Inside a transaction. Raises DBAPIError."""
    profile, values = statements.profile, statements.values(context)
    found = {
        column: statements.execute(connection, values, job_in_other_unit_query, column).first()
        for column in columns_of_numbers(profile)
    }
    return {column: describe_other_unit(profile, column) for column, row in found.items() if row is not None}


def job_in_other_unit_query(rule: Rule, column: TableColumn) -> Select[Any]:
    """A row, if a running job has a moment in this column that is in another unit."""
    tables, jobs = rule.tables, rule.tables.jobs
    running = tables.search_condition(jobs), tables.running(jobs)
    return select(literal(1)).select_from(jobs).where(*running, rule.in_other_unit(column, jobs)).limit(1)
