"""What a role lacks of the privileges that a source needs, and what else in its tables affects it."""

from __future__ import annotations

from collections.abc import Iterator

from reaper.catalog.tables import FunctionCall, Table, Trigger
from reaper.database.postgresql.row_security import RowRestriction
from reaper.grants.needs import RequiredPrivileges, Workload
from reaper.profile import Profile
from reaper.profile.related_tables import liveness_tables, purge_guard_tables, task_tables
from reaper.sql.tables import reserved_alias

MissingPrivileges = dict[str, list[str]]
"""Columns by privilege. An empty list stands for the privilege on the whole table."""

AS_ROLE = "with the role's own privileges (no SECURITY DEFINER): grant the role what that reads or writes"
"""The end of a sentence that begins with a list from `calls_as_role`."""


def missing_privileges(need: RequiredPrivileges, table: Table) -> MissingPrivileges:
    """The privileges that the role lacks on the table and on those of the needed columns that exist."""
    granted, existing = table.privileges, set(table.columns)
    columns = {
        "SELECT": (need.select & existing) - granted.select,
        "UPDATE": (need.update & existing) - granted.update,
        "INSERT": (need.insert & existing) - granted.insert,
    }
    # FOR UPDATE needs UPDATE on any one column; a column that an action sets is enough.
    if not (granted.lock_rows or need.update & existing) and need.lock_rows_by in existing:
        columns["UPDATE"] = {need.lock_rows_by}
    missing = {privilege: sorted(names) for privilege, names in columns.items() if names}
    if need.delete and not granted.delete:
        missing["DELETE"] = []
    if not granted.see_structure:
        missing["REFERENCES"] = []
    return missing


def additional_privileges(missing: MissingPrivileges, base: MissingPrivileges) -> MissingPrivileges:
    """The privileges of `missing` that are not in `base`."""
    additional: MissingPrivileges = {}
    for privilege, columns in missing.items():
        left = [column for column in columns if column not in base.get(privilege, ())]
        if left or (not columns and privilege not in base):
            additional[privilege] = left
    return additional


def lacks_row_holder(need: RequiredPrivileges, table: Table) -> bool:
    """The role may not read which transaction holds a row (PostgreSQL: SELECT on xmax)."""
    return need.read_row_holder and not table.privileges.read_row_holder


def lacks_table_lock(need: RequiredPrivileges, table: Table, granted: MissingPrivileges) -> bool:
    """The role may not lock the table against writers, and could not with the privileges `granted` either."""
    return need.lock_table and not table.privileges.lock_table and "DELETE" not in granted


def missing_sequences(need: RequiredPrivileges, table: Table) -> Iterator[tuple[str, tuple[str, str]]]:
    """Columns that an insert fills from a sequence which the role may not use, each with the sequence."""
    if need.inserts:
        for column, sequences in sorted(table.privileges.denied_sequences.items()):
            if table.privileges.sequences_always_needed or column not in need.insert:
                yield from ((column, sequence) for sequence in sequences)


def missing_functions(need: RequiredPrivileges, table: Table) -> Iterator[str]:
    """Functions that the server calls for a written row and that the role may not execute."""
    for function, calls in sorted(table.privileges.denied_functions.items()):
        if any(_happens(call, need) for call in calls):
            yield function


def _happens(call: FunctionCall, need: RequiredPrivileges) -> bool:
    if not need.writes(call.event) or not call.columns:
        return need.writes(call.event)
    if call.event == "INSERT":
        return (call.columns <= need.insert) != call.when_omitted
    return bool(call.columns & need.update)


# --- what else in a table affects the role ---------------------------------------------------------------------------


def row_restrictions(need: RequiredPrivileges, table: Table) -> list[RowRestriction]:
    """The row-level security that may block what the role needs to do."""
    needed = {
        "SELECT": True,
        "INSERT": need.inserts,
        "UPDATE": bool(need.update or need.lock_rows_by),
        "DELETE": need.delete,
    }
    return [restriction for restriction in table.row_restrictions if needed[restriction.command]]


def work_skipped_when_hidden(name: str, profile: Profile, workload: Workload) -> str | None:
    """What the reaper leaves undone while rows of this table may be hidden.

    None for a table whose hidden rows are only left alone.
    """
    skipped = {
        "including signs of life, so sweeps judge no job": liveness_tables(profile),
        "so no task is treated as an orphan": task_tables(profile),
        "so nothing is purged": purge_guard_tables(profile) if workload.purge else (),
    }
    return ", ".join(consequence for consequence, tables in skipped.items() if name in tables) or None


def fired_triggers(need: RequiredPrivileges, table: Table) -> list[Trigger]:
    """The triggers that the role's writes fire, without the fence."""
    return [
        trigger
        for trigger in table.triggers
        if need.writes(trigger.event)
        and not (trigger.event == "UPDATE" and trigger.columns and not trigger.columns & need.update)
        and not trigger.name.startswith(reserved_alias("fence"))
    ]


def view_requirements(need: RequiredPrivileges, table: Table) -> str | None:
    """What the role needs to read a view, besides SELECT on the view itself; None where that is enough."""
    if not (table.view_requirements and need.select):
        return None
    return f"read with the role's own privileges; grant the role what that takes: {', '.join(table.view_requirements)}"


def calls_as_role(need: RequiredPrivileges, table: Table) -> list[str]:
    """Functions that run with the role's privileges and may need more than this package knows, as phrases."""
    fired = [
        f"the trigger {trigger} calls {trigger.function_as_role}"
        for trigger in fired_triggers(need, table)
        if trigger.function_as_role
    ]
    functions = table.default_functions
    omitted = [column for column in sorted(functions) if need.inserts and column not in need.insert]
    return [*dict.fromkeys(fired), *(f"the default of {column} calls {functions[column]}" for column in omitted)]
