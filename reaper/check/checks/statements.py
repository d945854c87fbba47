"""Has PostgreSQL plan the statements of a sweep, as the connected role and in a transaction that only reads.

EXPLAIN without ANALYZE parses a statement, checks its types and the role's privileges, and runs nothing of it. But a
planner calls functions of the tables' owners, in views, policies and indexes: `examine` looks for these beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.check.finding import Finding, error
from reaper.database.errors import short_message
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.source import AuditInfo, Source
from reaper.source.evidence import evidence_query
from reaper.source.reap import BatchLocks, make_transition
from reaper.source.survey import MAX_READ, MAX_SPARED, candidates_query, newly_spared_query
from reaper.source.survey_counts import count_query, past_timeout_query
from reaper.source.transition.second_check import is_stale
from reaper.sql.expressions import OWN_PATH
from reaper.sql.keys import KEY_COLUMN_VALUES
from reaper.sql.statement import CompiledStatement
from reaper.staleness.downtime import DowntimeTracker

_AUDIT_INFO = AuditInfo(source="", sweep_id="", host="")


def check_statements(source: Source) -> Iterator[Finding]:
    """Findings about what a sweep of the source would run, on PostgreSQL. For a source where nothing else is an error.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    try:
        yield from _refused(source)
    except DatabaseUnavailable:
        raise
    except (ReaperError, DBAPIError) as failed:
        if isinstance(failed, DBAPIError) and failed.connection_invalidated:
            raise
        yield error(source.configured_profile.jobs.table, f"every sweep would fail: {short_message(failed)}")


def _refused(source: Source) -> Iterator[Finding]:
    """Raises what keeps a sweep from its first statement."""
    with source.connect() as connection:
        if connection.dialect.name != "postgresql":
            return
        values = _values(source, connection)
        for purpose, statement in _statements(source, connection):
            text, parameters = statement.bound(values)
            try:
                with source.transaction(connection, read_only=True):
                    connection.exec_driver_sql(f"EXPLAIN {text}", parameters)
            except DBAPIError as refused:
                if refused.connection_invalidated:
                    raise
                message = f"every sweep would fail: the database refuses {purpose}: {short_message(refused)}"
                yield error(source.configured_profile.jobs.table, message)


def _values(source: Source, connection: Connection) -> dict[str, Any]:
    """The values of all parameters: those of this moment, of an empty batch, and of a sweep without a name."""
    context = source.begin_evaluation(connection, DowntimeTracker(0))
    return {
        **source.statements.values(context, context),
        **source.statements.identity_values,
        **_AUDIT_INFO.values,
        **{KEY_COLUMN_VALUES.format(n): [] for n in range(len(source.profile.jobs.key))},
        OWN_PATH: "",
        MAX_READ: 1,
        MAX_SPARED: 1,
    }


def _statements(source: Source, connection: Connection) -> Iterator[tuple[str, CompiledStatement]]:
    """What a sweep runs, each with its purpose."""
    statements, dialect, action = source.statements, connection.dialect, source.options.action
    yield "the count of the running jobs", statements.compiled(dialect, count_query)
    yield "the count of the jobs past their timeout", statements.compiled(dialect, past_timeout_query)
    yield "the survey for stale jobs", statements.compiled(dialect, candidates_query)
    yield "the look for jobs that are spared", statements.compiled(dialect, newly_spared_query)
    yield "the reading of evidence", statements.compiled(dialect, evidence_query, action)
    locks = statements.get(dialect, BatchLocks)
    yield "the lock of a batch", locks.lock_rows
    for n, lock in enumerate(lock for locks_of_part in locks.related_row_locks for lock in locks_of_part):
        yield f"the lock of jobs.parts.{n // 2}", lock
    for name in dict.fromkeys([action, *(["fail"] if source.has_fallback else [])]):
        transition = statements.get(dialect, make_transition, name, is_stale, tuple(_AUDIT_INFO.fields))
        yield from ((f"the transition {name!r}", statement) for statement in transition.statements.values())
