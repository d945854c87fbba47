"""Looks for running jobs none of whose start columns has a moment. Changes nothing."""

from __future__ import annotations

from sqlalchemy import Connection, Integer, Select, select

from reaper.source.statements import SourceStatements
from reaper.source.survey import version_columns
from reaper.sql import expressions as sql
from reaper.sql.keys import is_whole
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.first_seen import first_seen, name_of
from reaper.staleness.reap_moments import bare_table
from reaper.staleness.rule import Rule

MAX_JOBS = 10_000
"""Of a source. Further ones are looked at when some of these have ended."""
_LIMIT = "reaper_max_read"


def jobs_without_start(
    statements: SourceStatements, connection: Connection, context: EvaluationContext
) -> tuple[dict[str, str], bool]:
    """By their names, what identifies the run of each: the table and the claim; and whether these are all.

    Inside a transaction. Raises DBAPIError.
    """
    width, table = len(statements.profile.jobs.key), bare_table(statements.profile.jobs.table)
    values = statements.values(context) | {_LIMIT: MAX_JOBS + 1}
    rows = statements.execute(connection, values, without_start_query).all()
    # The version begins with the start, which these have not.
    whole = [row for row in rows[:MAX_JOBS] if is_whole(row[:width])]
    states = {name_of(tuple(row[:width])): "|".join((table, *map(str, row[width + 1 :]))) for row in whole}
    return states, len(rows) <= MAX_JOBS


def without_start_query(rule: Rule) -> Select[tuple[str, ...]]:
    """The keys and the versions of running jobs without a start, those first that are remembered: they grow old."""
    tables, jobs = rule.tables, rule.tables.jobs
    running = tables.search_condition(jobs), tables.running(jobs), tables.started(jobs).is_(None)
    keys = select(*tables.key_text(jobs), *version_columns(rule, jobs)).where(*running)
    is_new = first_seen(tables, jobs).is_(None)
    return keys.order_by(is_new, *tables.key(jobs)).limit(sql.parameter(_LIMIT, Integer()))
