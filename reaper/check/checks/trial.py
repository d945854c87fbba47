"""Has the database run the statements of a sweep and of a purge on no row: `reaper check --try`.

That shows what no plan shows: what a trigger FOR EACH STATEMENT raises, and what MariaDB looks at only when it runs a
statement. Each statement has a transaction of its own, which is rolled back. What is read from all jobs gets a limit of
no row, the list of a batch's keys is empty, and what is bound for one job is NULL, which equals no key.

Limitation: without a row no trigger FOR EACH ROW fires, and no constraint is tested.

What others can do meanwhile: no row is locked, so no worker and no second reaper waits. A log that the profile locks is
locked until the rollback that follows at once; entries wait that long. Where entries are being written, the lock is
given up after the short wait of a sweep. A kill or a failover leaves nothing.

What fires runs with the rights of the connected role. So it has to be the daemon's: an administrator would lend more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, false, insert, select, text
from sqlalchemy.exc import DBAPIError

from reaper.catalog import QUERY_SECONDS
from reaper.check.checks.statements import (
    Planned,
    actions_of_sweep,
    bound_on_no_job,
    or_failure,
    purge_statements,
    refusal,
    rolled_back,
    sweep_statements,
    values_on_no_job,
)
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, Level, error, note
from reaper.database.dialect import dialect_of
from reaper.database.errors import is_lock_timeout, is_timeout, short_message
from reaper.errors import LogBusy
from reaper.grants.missing import fired_triggers
from reaper.profile import Insert
from reaper.source import Source
from reaper.source.reap import BatchLocks
from reaper.source.transition.second_check import SecondCheck, is_stale
from reaper.source.transition.values import BoundRow
from reaper.sql.expressions import OWN_PATH
from reaper.sql.statement import CompiledStatement, StatementCompiler
from reaper.staleness.rule import Rule

OPTION = "--try"
_NO_ROW = ("SELECT FROM (", ") AS reaper_read LIMIT 0")
_NO_ROW_MARIADB = ("SET STATEMENT sql_select_limit = 0 FOR ", "")
"""What comes before and after a query that is to read no row."""
_ROLE = """
SELECT session_user::text AS session, current_user::text AS current, EXISTS (
    SELECT FROM pg_catalog.pg_roles WHERE rolsuper AND rolname IN (session_user, current_user)) AS superuser
"""
_ACCOUNT_MARIADB = "SELECT current_user()"
# A role in force has privileges that its user has not.
_SUPER_MARIADB = """
SELECT EXISTS (SELECT 1 FROM information_schema.user_privileges WHERE privilege_type = 'SUPER' AND (
    grantee = :grantee OR grantee IN (SELECT concat('''', role_name, '''@''''') FROM information_schema.enabled_roles)))
"""


class _Role(NamedTuple):
    """The connected role: as it has logged in, and as it acts."""

    session: str
    current: str
    superuser: bool


def run_on_no_row(context: CheckContext) -> list[str]:
    """What statements of the workload run of others, also when they change no row, as phrases."""
    triggers = (
        f"trigger {trigger.name} on {trigger.partition or name}"
        for name, table in sorted(context.tables.items())
        if name in context.required
        for trigger in fired_triggers(context.required[name], table)
        if trigger.for_each_statement
    )
    calling = (
        f"functions that reads of {name} call"
        for name, table in sorted(context.tables.items())
        if table.reading_calls_others
    )
    return list(dict.fromkeys([*triggers, *calling]))


def try_statements(
    source: Source, runs: Sequence[str], *, purges: bool, announce: Callable[[str], None]
) -> Iterator[Finding]:
    """Findings of the trial, for a source where nothing is an error. `announce` gets the sentence with what `runs` of
    others, before it does.

    Raises DatabaseUnavailable when the database does not answer.
    """
    # Not prepared: that reads rows, and so may call functions.
    with source.connect(prepared=False) as connection, rolled_back(source, connection):
        why = _refused(source, connection)
    if why is not None:
        yield error(OPTION, f"is refused: {why}. Functions and triggers of others would run with its rights")
        return
    work, others = "a sweep and of a purge" if purges else "a sweep", listed(runs) or "no trigger"
    announcement = f"the statements of {work} are run on no row and rolled back, which runs: {others}"
    announce(announcement)
    yield note(OPTION, announcement)
    yield from or_failure(source, _trial(source, purges=purges))


# --- who may -----------------------------------------------------------------------------------------------------


def _refused(source: Source, connection: Connection) -> str | None:
    """Why the connected role may not try; None when it may."""
    on_postgresql = connection.dialect.name == "postgresql"
    role = _role(connection) if on_postgresql else _user(connection)
    configured = source.engine.dialect.create_connect_args(source.engine.url)[1].get("user")
    if role.superuser:
        kind = f"the role {role.session!r} is a superuser" if on_postgresql else f"the user {role.session!r} has SUPER"
        return f"{kind}; run it as the daemon's role"
    if not configured:
        return f"database_url names no role, so the daemon's may be another one than {role.session!r}"
    for acting in role.session, role.current:
        if acting != configured:
            return f"the daemon's role is {configured!r}, as database_url says, and this would run as {acting!r}"
    return None


def _role(connection: Connection) -> _Role:
    return _Role(*connection.execute(text(_ROLE)).one())


def _user(connection: Connection) -> _Role:
    """The account that the server has chosen for the user, which may be an anonymous one."""
    name, _, host = str(connection.execute(text(_ACCOUNT_MARIADB)).scalar_one()).rpartition("@")
    superuser = connection.execute(text(_SUPER_MARIADB), {"grantee": f"'{name}'@'{host}'"}).scalar_one()
    return _Role(name, name, bool(superuser))


# --- what is run ---------------------------------------------------------------------------------------------------


def _sweep(source: Source, connection: Connection) -> Iterator[Planned]:
    """What a sweep runs. Of MariaDB's inserts, which write a row each time, a form that writes none."""
    planned = sweep_statements(source, connection)
    if connection.dialect.name == "postgresql":
        yield from planned
        return
    yield from (one for one in planned if not one.statement.text.startswith("INSERT"))
    for action, audit_fields in actions_of_sweep(source):
        inserts = source.statements.get(connection.dialect, _inserts_of_none, action, audit_fields)
        yield from (Planned(f"the transition {action!r}", statement) for statement in inserts)


def _inserts_of_none(
    rule: Rule, compiler: StatementCompiler, action: str, audit_fields: Sequence[str]
) -> list[CompiledStatement]:
    """The inserts of an action, with the columns of one job bound, from no row."""
    check, tables = SecondCheck(rule, is_stale, audit_fields, action), rule.tables
    job, made = BoundRow(check.to_end), list[CompiledStatement]()
    for _, branch in tables.profile.branches(action):
        for step in branch.also:
            if isinstance(step, Insert):
                table = tables.table(step.table)
                row = check.values.assignments(table, step.table, step.values, job)
                none = select(*row.values()).where(false())
                made.append(compiler(insert(table).from_select([*row], none, include_defaults=False)))
    return made


def _trial(source: Source, *, purges: bool) -> Iterator[Finding]:
    with source.connect() as connection:
        values = values_on_no_job(source, connection)
        yield from _tried(source, connection, "sweep", _sweep(source, connection), values)
        if purges:
            yield from _tried(source, connection, "purge", purge_statements(source, connection), values)
        yield from _try_log_lock(source, connection)


def _tried(
    source: Source, connection: Connection, work: str, statements: Iterable[Planned], values: dict[str, Any]
) -> Iterator[Finding]:
    for planned in statements:
        try:
            _run(source, connection, planned, values)
        except DBAPIError as refused:
            if refused.connection_invalidated:
                raise
            if is_timeout(refused) or is_lock_timeout(refused):
                within = f"was not done within {QUERY_SECONDS:g} s"
                yield note(OPTION, f"{planned.purpose} on no row {within}, and was given up: {short_message(refused)}")
                continue
            yield refusal(source, Level.ERROR, f"every {work} would fail", f"{planned.purpose} on no row", refused)


def _run(source: Source, connection: Connection, planned: Planned, values: dict[str, Any]) -> None:
    with rolled_back(source, connection):
        own_path = {OWN_PATH: dialect_of(connection).own_path(connection)}
        statement, parameters = bound_on_no_job(planned.statement, {**values, **own_path})
        if not planned.of_batch:
            begin, end = _NO_ROW if connection.dialect.name == "postgresql" else _NO_ROW_MARIADB
            statement = f"{begin}{statement}{end}"
        connection.exec_driver_sql(statement, parameters)


def _try_log_lock(source: Source, connection: Connection) -> Iterator[Finding]:
    lock = source.statements.get(connection.dialect, BatchLocks).log_lock
    try:
        with rolled_back(source, connection):
            lock.acquire(connection, long_wait=False)
    except LogBusy as busy:
        yield note(OPTION, f"the lock on the log was given up: {busy}")
    except DBAPIError as refused:
        if refused.connection_invalidated:
            raise
        yield refusal(source, Level.ERROR, "every sweep would fail", "the lock on the log", refused)
