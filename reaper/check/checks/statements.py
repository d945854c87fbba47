"""Has the database take the statements of a sweep and of a purge as the connected role, without running them.

On PostgreSQL by EXPLAIN, in a transaction that only reads. It parses a statement, checks its types and the role's
privileges, and runs nothing of it. But a planner calls functions of the tables' owners, in views, policies and indexes:
`examine` looks for these beforehand.

On MariaDB by PREPARE, as its EXPLAIN runs stored functions. PREPARE parses a statement, looks its names up, and checks
collations and the role's privileges. It does not plan: no function is called. A transaction that only reads refuses to
prepare a write, so this one does not say that; it is rolled back all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.check.finding import Finding, Level
from reaper.database.errors import short_message
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.source import AuditInfo, Source
from reaper.source.evidence import evidence_query
from reaper.source.purge_statements import BEFORE, BEFORE_MS, BEFORE_S, LIMIT, PurgeStatements, page_query
from reaper.source.purge_statements import count_query as purge_count_query
from reaper.source.reap import BatchLocks, make_transition
from reaper.source.survey import MAX_READ, MAX_SPARED, candidates_query, newly_spared_query
from reaper.source.survey_counts import count_query, past_timeout_query
from reaper.source.transition.second_check import is_stale
from reaper.sql.expressions import OWN_PATH
from reaper.sql.keys import KEY_COLUMN_VALUES, key_parameters
from reaper.sql.statement import CompiledStatement
from reaper.staleness.downtime import DowntimeTracker

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_AUDIT_INFO = AuditInfo(source="", sweep_id="", host="")


def check_statements(source: Source, *, purges: bool = False) -> Iterator[Finding]:
    """Findings about what a sweep of the source would run, and a purge. For a source where nothing else is an error.

    `purges`: the source purges on schedule; else what a purge lacks is only a note.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    try:
        yield from _refused(source, Level.ERROR if purges else Level.NOTE)
    except DatabaseUnavailable:
        raise
    except (ReaperError, DBAPIError) as failed:
        if isinstance(failed, DBAPIError) and failed.connection_invalidated:
            raise
        message = f"every sweep would fail: {short_message(failed)}"
        yield Finding(Level.ERROR, source.configured_profile.jobs.table, message)


def _refused(source: Source, purge_level: Level) -> Iterator[Finding]:
    """Raises what keeps a sweep from its first statement."""
    with source.connect() as connection:
        values = _values(source, connection)
        for work, level, statements in (
            ("sweep", Level.ERROR, _statements(source, connection)),
            ("purge", purge_level, _purge_statements(source, connection)),
        ):
            for purpose, statement in statements:
                try:
                    _try(source, connection, statement, values)
                except DBAPIError as refused:
                    if refused.connection_invalidated:
                        raise
                    message = f"every {work} would fail: the database refuses {purpose}: {short_message(refused)}"
                    yield Finding(level, source.configured_profile.jobs.table, message)


def _try(source: Source, connection: Connection, statement: CompiledStatement, values: dict[str, Any]) -> None:
    # What a transition binds for each job is not known here.
    text, parameters = statement.bound({**dict.fromkeys(statement.parameters), **values})
    if connection.dialect.name == "postgresql":
        with source.transaction(connection, read_only=True):
            connection.exec_driver_sql(f"EXPLAIN {text}", parameters)
        return
    with _rolled_back(source, connection):
        whole = connection.connection.cursor().mogrify(text, parameters)
        connection.exec_driver_sql("PREPARE reaper_check FROM %(statement)s", {"statement": whole})
        connection.exec_driver_sql("DEALLOCATE PREPARE reaper_check")


@contextmanager
def _rolled_back(source: Source, connection: Connection) -> Iterator[None]:
    with source.transaction(connection):
        yield
        connection.exec_driver_sql("ROLLBACK")


def _values(source: Source, connection: Connection) -> dict[str, Any]:
    """The values of all parameters: those of this moment, of a batch without jobs, and of a sweep without a name."""
    context, width = source.begin_evaluation(connection, DowntimeTracker(0)), len(source.profile.jobs.key)
    on_postgresql = connection.dialect.name == "postgresql"
    keys = (
        {KEY_COLUMN_VALUES.format(n): [] for n in range(width)} if on_postgresql else key_parameters([("00",) * width])
    )
    return {
        **source.statements.values(context, context),
        **source.statements.identity_values,
        **replace(_AUDIT_INFO, action="").values,
        **keys,
        OWN_PATH: "",
        MAX_READ: 1,
        MAX_SPARED: 1,
        BEFORE: _LONG_AGO,
        BEFORE_S: 0,
        BEFORE_MS: 0,
        LIMIT: 1,
    }


def _purge_statements(source: Source, connection: Connection) -> Iterator[tuple[str, CompiledStatement]]:
    """What a purge runs, each with its purpose; nothing where the profile has none."""
    if source.profile.purge is None or source.profile.jobs.log is not None:
        return
    statements, dialect = source.statements, connection.dialect
    yield "the count of what may be deleted", statements.compiled(dialect, purge_count_query)
    yield "the look for what may be deleted", statements.compiled(dialect, page_query, False)
    purge = statements.get(dialect, PurgeStatements)
    yield "the lock of what is deleted", purge.lock
    yield from ((f"the delete of purge.also.{n}", delete) for n, delete in enumerate(purge.delete_related))
    yield "the delete of finished jobs", purge.delete


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
        transition = statements.get(
            dialect, make_transition, name, is_stale, tuple(source.naming(_AUDIT_INFO, name).fields)
        )
        yield from ((f"the transition {name!r}", statement) for statement in transition.statements.values())
