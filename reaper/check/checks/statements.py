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
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, literal, null, select, update
from sqlalchemy.exc import DBAPIError

from reaper.catalog import QUERY_SECONDS
from reaper.check.finding import Finding, Level
from reaper.database.errors import error_number, short_message
from reaper.errors import DatabaseUnavailable, ReaperError
from reaper.profile import Update
from reaper.source import AuditInfo, Source
from reaper.source.evidence import evidence_query
from reaper.source.purge_statements import (
    BEFORE,
    BEFORE_IN_EVERY_ZONE,
    BEFORE_MS,
    BEFORE_S,
    LIMIT,
    PurgeStatements,
    page_query,
)
from reaper.source.purge_statements import count_query as purge_count_query
from reaper.source.reap import BatchLocks, make_transition
from reaper.source.survey import (
    MAX_READ,
    MAX_SPARED,
    candidates_query,
    lost_count_query,
    lost_query,
    newly_spared_query,
)
from reaper.source.survey_counts import count_query, past_timeout_query
from reaper.source.transition.second_check import is_stale, is_worker_lost
from reaper.source.worker_look import holding_query, idle_query
from reaper.sql.expressions import OWN_PATH
from reaper.sql.keys import KEY_COLUMN_VALUES, STORED_KEYS, WHOLE_KEYS
from reaper.sql.statement import CompiledStatement, StatementCompiler
from reaper.sql.tables import reserved_alias
from reaper.staleness.downtime import DowntimeTracker

_NOT_UPDATABLE = 1348
"""MariaDB's number of the error for a column of a view that is no column of a table."""
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_AUDIT_INFO = AuditInfo(source="", sweep_id="", host="")


class Planned(NamedTuple):
    """A statement of a sweep or of a purge. `of_batch`: it works on the jobs of a batch alone, else on all."""

    purpose: str
    statement: CompiledStatement
    of_batch: bool = True


def check_statements(source: Source, *, purges: bool = False) -> Iterator[Finding]:
    """Findings about what a sweep of the source would run, and a purge. For a source where nothing else is an error.

    `purges`: the source purges on schedule; else what a purge lacks is only a note.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    yield from or_failure(source, _refused(source, Level.ERROR if purges else Level.NOTE))


def or_failure(source: Source, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings, and as the last one what keeps a sweep from its first statement, which the iterator raises.

    Raises DatabaseUnavailable.
    """
    try:
        yield from findings
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
        values = values_on_no_job(source, connection)
        if connection.dialect.name != "postgresql":
            yield from _unwritable_columns(source, connection)
        for work, level, statements in (
            ("sweep", Level.ERROR, sweep_statements(source, connection)),
            ("purge", purge_level, purge_statements(source, connection)),
        ):
            for planned in statements:
                try:
                    _plan(source, connection, planned.statement, values)
                except DBAPIError as refused:
                    if refused.connection_invalidated:
                        raise
                    yield refusal(source, level, f"every {work} would fail", planned.purpose, refused)


def _unwritable_columns(source: Source, connection: Connection) -> Iterator[Finding]:
    """Columns that the actions of a sweep set and a view computes.

    MariaDB says so when it prepares an update of several tables, and else only when it runs the update.
    """
    one = select(literal(1).label("n")).subquery(reserved_alias("one"))
    compiler = StatementCompiler(connection.dialect)
    for table, column in dict.fromkeys(_set_columns(source)):
        rows = source.tables.table(table)
        setting = update(rows).values({rows.c[column]: null()}).where(one.c.n == 1)
        try:
            _plan(source, connection, compiler(setting), {})
        except DBAPIError as refused:
            if error_number(refused) != _NOT_UPDATABLE:
                continue  # what else it refuses is found with the real statement
            message = "every sweep would fail: the column is computed by a view, so that no action can set it"
            yield Finding(Level.ERROR, f"{table}.{column}", f"{message}: {short_message(refused)}")


def _set_columns(source: Source) -> Iterator[tuple[str, str]]:
    """Each table and column that an action of a sweep sets in a row that exists."""
    profile = source.profile
    for name, _ in actions_of_sweep(source):
        for _, action in profile.branches(name):
            yield from ((profile.jobs.table, column) for column in action.assign or ())
            updates = (step for step in action.also if isinstance(step, Update))
            yield from ((step.table, column) for step in updates for column in step.assign)


def refusal(source: Source, level: Level, consequence: str, purpose: str, refused: DBAPIError) -> Finding:
    """The finding about a statement that the database refuses."""
    message = f"{consequence}: the database refuses {purpose}: {short_message(refused)}"
    return Finding(level, source.configured_profile.jobs.table, message)


def _plan(source: Source, connection: Connection, statement: CompiledStatement, values: dict[str, Any]) -> None:
    text, parameters = bound_on_no_job(statement, values)
    if connection.dialect.name == "postgresql":
        with source.transaction(connection, read_only=True):
            connection.exec_driver_sql(f"EXPLAIN {text}", parameters)
        return
    with rolled_back(source, connection):
        whole = connection.connection.cursor().mogrify(text, parameters)
        connection.exec_driver_sql("PREPARE reaper_check FROM %(statement)s", {"statement": whole})
        connection.exec_driver_sql("DEALLOCATE PREPARE reaper_check")


def bound_on_no_job(statement: CompiledStatement, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text and the parameters for the driver. What a transition binds for each job is NULL, which equals no key."""
    return statement.bound({**dict.fromkeys(statement.parameters), **values})


@contextmanager
def rolled_back(source: Source, connection: Connection) -> Iterator[None]:
    """A short transaction that changes nothing."""
    with source.transaction(connection, at_most=QUERY_SECONDS):
        yield
        connection.exec_driver_sql("ROLLBACK")


def values_on_no_job(source: Source, connection: Connection) -> dict[str, Any]:
    """The values of all parameters: those of this moment, of a batch without jobs, and of a sweep without a name."""
    context, width = source.begin_evaluation(connection, DowntimeTracker(0)), len(source.profile.jobs.key)
    columns = [KEY_COLUMN_VALUES.format(n) for n in range(width)]
    # MariaDB has no empty list; NULL in one equals nothing.
    nothing: list[object] = [] if connection.dialect.name == "postgresql" else [None]
    whole_keys = {name: [(None,) * width] for name in (WHOLE_KEYS, STORED_KEYS)}
    return {
        **source.statements.values(context, context),
        **source.statements.identity_values,
        **replace(_AUDIT_INFO, action="").values,
        **dict.fromkeys(columns, nothing),
        **whole_keys,
        OWN_PATH: "",
        MAX_READ: 1,
        MAX_SPARED: 1,
        BEFORE: _LONG_AGO,
        BEFORE_IN_EVERY_ZONE: _LONG_AGO,
        BEFORE_S: 0,
        BEFORE_MS: 0,
        LIMIT: 1,
    }


def purge_statements(source: Source, connection: Connection) -> Iterator[Planned]:
    """What a purge runs; nothing where the profile has none."""
    if source.profile.purge is None or source.profile.jobs.log is not None:
        return
    statements, dialect = source.statements, connection.dialect
    yield Planned("the count of what may be deleted", statements.compiled(dialect, purge_count_query), False)
    yield Planned("the look for what may be deleted", statements.compiled(dialect, page_query, False), False)
    purge = statements.get(dialect, PurgeStatements)
    yield Planned("the lock of what is deleted", purge.lock)
    yield from (Planned(f"the delete of purge.also.{n}", delete) for n, delete in enumerate(purge.delete_related))
    yield Planned("the delete of finished jobs", purge.delete)


def sweep_statements(source: Source, connection: Connection) -> Iterator[Planned]:
    """What a sweep runs."""
    statements, dialect, action = source.statements, connection.dialect, source.options.action
    yield Planned("the count of the running jobs", statements.compiled(dialect, count_query), False)
    yield Planned("the count of the jobs past their timeout", statements.compiled(dialect, past_timeout_query), False)
    yield Planned("the survey for stale jobs", statements.compiled(dialect, candidates_query), False)
    yield Planned("the look for jobs that are spared", statements.compiled(dialect, newly_spared_query), False)
    yield Planned("the reading of evidence", statements.compiled(dialect, evidence_query, action))
    locks = statements.get(dialect, BatchLocks)
    yield Planned("the lock of a batch", locks.lock_rows)
    for n, lock in enumerate(lock for locks_of_part in locks.related_row_locks for lock in locks_of_part):
        yield Planned(f"the lock of jobs.parts.{n // 2}", lock)
    for action, audit_fields in actions_of_sweep(source):
        transition = statements.get(dialect, make_transition, action, is_stale, audit_fields)
        purpose = f"the transition {action!r}"
        yield from (Planned(purpose, statement) for statement in transition.statements.values())
    if source.options.gone_after_seconds is not None:
        yield from _statements_of_lost_workers(source, dialect)


def _statements_of_lost_workers(source: Source, dialect: Dialect) -> Iterator[Planned]:
    statements, action = source.statements, source.options.worker_lost_action
    yield Planned("the look at the workers of running jobs", statements.compiled(dialect, holding_query), False)
    yield Planned("the look at workers without jobs", statements.compiled(dialect, idle_query), False)
    yield Planned("the count of jobs whose worker is gone", statements.compiled(dialect, lost_count_query), False)
    yield Planned("the survey for jobs whose worker is gone", statements.compiled(dialect, lost_query), False)
    fields = tuple(source.naming(_AUDIT_INFO, action).fields)
    transition = statements.get(dialect, make_transition, action, is_worker_lost, fields)
    purpose = f"the transition {action!r} of jobs whose worker is gone"
    yield from (Planned(purpose, statement) for statement in transition.statements.values())


def actions_of_sweep(source: Source) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The actions by which a sweep ends jobs, each with the names of the audit fields that it is given."""
    for action in dict.fromkeys([source.options.action, *(["fail"] if source.has_fallback else [])]):
        yield action, tuple(source.naming(_AUDIT_INFO, action).fields)
