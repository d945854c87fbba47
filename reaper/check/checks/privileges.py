"""Checks that the connected role may do what the daemon does, and notes what other commands would need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from sqlalchemy import select

from reaper.catalog import QueryFailed
from reaper.catalog.tables import Table
from reaper.check.context import CheckContext, listed
from reaper.check.finding import Finding, error, note, warning
from reaper.grants.missing import (
    AS_ROLE,
    MissingPrivileges,
    additional_privileges,
    calls_as_role,
    fired_triggers,
    lacks_row_holder,
    lacks_table_lock,
    missing_functions,
    missing_privileges,
    missing_sequences,
    row_restrictions,
    view_requirements,
    work_skipped_when_hidden,
)
from reaper.grants.needs import Workload, actions_of, required_privileges

_DENIED = {"42501", "1142", "1143", "1356", "1370"}
"""SQLSTATE of PostgreSQL, error numbers of MariaDB."""


def check_privileges(context: CheckContext) -> Iterator[Finding]:
    schemas: set[str] = set()
    for name, table in sorted(context.tables.items()):
        if name in context.required:
            if not table.privileges.use_schema and table.schema not in schemas:
                schemas.add(table.schema)
                message = f"{context.role} may not use the schema {table.schema!r}"
                yield error(name, message, context.catalog.fixes.grant_schema(table.schema))
            yield from _check_table(context, name, table)
        yield from _check_other_work(context, name, table)
    if not context.catalog.server.sees_sessions:
        yield note(
            "server",
            f"{context.role} does not see the state of other sessions in pg_stat_activity: the reaper names the "
            "session that holds the row of a locked job without it",
            context.catalog.fixes.grant_sessions(),
        )


def _check_table(context: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    need, fixes = context.required[name], context.catalog.fixes
    missing = missing_privileges(need, table)
    if missing:
        yield error(name, f"{context.role} may not {_phrase(missing)}", fixes.grant(table, missing))
    if lacks_table_lock(need, table, missing):
        message = f"{context.role} may not LOCK the table, which keeps late entries out while a job is ended"
        yield error(name, message, fixes.grant_lock_table(table))
    if lacks_row_holder(need, table):
        message = f"{context.role} may not SELECT xmax: the reaper cannot name the session that holds a locked row"
        yield note(name, message, fixes.grant_read_row_holder(table))
    if table.kind == "view" and table.readable(need.select & set(table.columns)):
        yield from _check_view(context, name, table)
    yield from _check_called(context, name, table)
    yield from _check_policies(context, name, table)
    yield from _check_triggers(context, name, table)


def _check_view(context: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    """Reads through the view, without any row: only that shows whether the role may."""
    need, view = context.required[name], context.schema.table(name)
    if table.reading_calls_others:
        message = "is a view that calls functions which are not the server's own: whether the role may read what is"
        takes = f"; it takes {', '.join(table.view_requirements)}" if table.view_requirements else ""
        yield note(name, f"{message} behind it was not tried, as that would call them{takes}")
        return
    columns = [view.c[column] for column in sorted(need.select & set(table.columns))]
    try:
        context.catalog.query(select(*columns).limit(0))
    except QueryFailed as failed:
        if failed.code in _DENIED:
            requirements = view_requirements(need, table) or "the catalogs do not say what it needs"
            yield error(name, f"{context.role} may not read what is behind the view ({failed}): {requirements}")


def _check_called(context: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    """What the server uses with the role's privileges while a row is written."""
    need, fixes = context.required[name], context.catalog.fixes
    for column, sequence in missing_sequences(need, table):
        yield error(
            f"{name}.{column}",
            f"{context.role} may not take the next value of the sequence {sequence[1]!r}, the column's default",
            fixes.grant_sequence(*sequence),
        )
    for function in missing_functions(need, table):
        message = f"{context.role} may not EXECUTE the function {function}, which the server calls for a written row"
        yield error(name, message, fixes.grant_function(function))


def _check_policies(context: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    """A hidden sign of life makes a living job look dead, which is an error. Other hidden rows are left alone."""
    commands: dict[str, list[str]] = {}
    for restriction in row_restrictions(context.required[name], table):
        commands.setdefault(context.catalog.fixes.show_all_rows(restriction), []).append(restriction.command)
    for fix, restricted in commands.items():
        if "SELECT" not in restricted:
            message = f"row-level security may not let {context.role} {listed(restricted)}: such jobs are not ended"
            yield warning(name, message, fix)
            continue
        message = f"row-level security may hide rows from {context.role}"
        if skipped := work_skipped_when_hidden(name, context.profile, context.workload):
            yield error(name, f"{message}, {skipped}", fix)
        else:
            yield warning(name, f"{message}: the reaper neither sees nor ends them", fix)


def _check_triggers(context: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    need = context.required[name]
    if names := dict.fromkeys(str(trigger) for trigger in fired_triggers(need, table)):
        yield note(name, f"triggers fire when a job is ended, in the same transaction: {listed(names)}")
    if calls := calls_as_role(need, table):
        yield note(name, f"{listed(calls)} {AS_ROLE}")


# --- work that the daemon does not do --------------------------------------------------------------------------------


def _check_other_work(context: CheckContext, name: str, table: Table) -> Iterator[Finding]:
    """Privileges that `reaper purge` and the other actions would need, beyond the source's settings."""
    grant = context.catalog.fixes.grant
    if missing := _additional(context, name, table, [replace(context.workload, purge=True)]):
        message = f"{context.role} may not {_phrase(missing)}: `reaper purge` cannot delete finished jobs"
        yield note(name, message, grant(table, missing))
    others = sorted(set(context.profile.actions) - set(actions_of(context.profile, context.workload.action)))
    workloads = {action: Workload(action, context.workload.purge) for action in others}
    if missing := _additional(context, name, table, workloads.values()):
        impossible = [action for action in others if _additional(context, name, table, [workloads[action]])]
        message = f"{context.role} may not {_phrase(missing)}: `reaper fail --action` cannot {listed(impossible)}"
        yield note(name, message, grant(table, missing))


def _additional(context: CheckContext, name: str, table: Table, workloads: Iterable[Workload]) -> MissingPrivileges:
    """What is missing for these workloads and not for the context's own."""
    base = missing_privileges(context.required[name], table) if name in context.required else {}
    additional: dict[str, set[str]] = {}
    for workload in workloads:
        if (need := required_privileges(context.profile, workload).get(name)) is not None:
            for privilege, columns in additional_privileges(missing_privileges(need, table), base).items():
                additional.setdefault(privilege, set()).update(columns)
    return {privilege: sorted(columns) for privilege, columns in additional.items()}


def _phrase(missing: MissingPrivileges) -> str:
    return "; ".join(f"{privilege} {listed(columns)}".rstrip() for privilege, columns in missing.items())
