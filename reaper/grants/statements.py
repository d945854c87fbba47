"""`reaper grants`: the statements that give a role the privileges that it needs, and no more.

`reaper.grants.needs` lists what is needed, for `reaper check` as well: the statements are those that `reaper check`
would print for a role without any grants.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reaper.catalog.mariadb_fix_statements import MariaDBFixes
from reaper.catalog.tables import Table
from reaper.errors import NotFenceable
from reaper.fence.definition import fence_definition
from reaper.grants.catalog_facts import GrantFacts
from reaper.grants.missing import (
    AS_ROLE,
    MissingPrivileges,
    additional_privileges,
    calls_as_role,
    lacks_row_holder,
    lacks_table_lock,
    missing_functions,
    missing_privileges,
    missing_sequences,
    row_restrictions,
    view_requirements,
    work_skipped_when_hidden,
)
from reaper.grants.needs import EVERY_ACTION, RequiredPrivileges, Workload, actions_of, required_privileges
from reaper.profile import Profile


class OptionalGrant(StrEnum):
    """Privileges for work that the settings do not ask for."""

    ACTIONS = "actions"
    PURGE = "purge"
    FENCE = "fence"
    HOLDERS = "holders"


@dataclass(frozen=True, slots=True)
class Grant:
    """One statement, and what it is for."""

    sql: str
    why: str


@dataclass(frozen=True, slots=True)
class Option:
    """The statements of one optional grant."""

    extra: OptionalGrant
    why: str
    grants: Sequence[Grant]


@dataclass(frozen=True, slots=True)
class Grants:
    """All statements for one role on one source. `create` creates the role; None when the role exists."""

    create: Grant | None
    needed: Sequence[Grant]
    options: Sequence[Option]
    notes: Sequence[str]

    def statements(self, extras: Collection[str] = ()) -> Iterator[str]:
        """The statements to execute, in their order, with those of the optional grants `extras`."""
        yield from ([self.create.sql] if self.create else [])
        yield from (grant.sql for grant in self.needed)
        yield from (grant.sql for option in self.options if option.extra in extras for grant in option.grants)


def grants_for(profile: Profile, workload: Workload, facts: GrantFacts) -> Grants:
    """The grants that the workload needs, and each optional grant that this profile has a use for."""
    writer = _GrantWriter(profile, workload, facts)
    return Grants(
        create=None if facts.role_exists else Grant(facts.fixes.create_role(), facts.fixes.login_instructions),
        needed=list(writer.needed()),
        options=list(writer.options()),
        notes=[*facts.notes, *writer.notes()],
    )


class _GrantWriter:
    def __init__(self, profile: Profile, workload: Workload, facts: GrantFacts) -> None:
        self._profile, self._workload, self._facts = profile, workload, facts
        self._fixes = facts.fixes
        self._required = required_privileges(profile, workload)

    def needed(self) -> Iterator[Grant]:
        yield from (Grant(sql, "connect") for sql in self._fixes.grant_connect())
        yield from self._schema_grants(self._required)
        if self._facts.outside_search_path:
            path = self._fixes.extend_search_path(self._facts.outside_search_path, self._facts.search_path or ())
            yield Grant(path, "find tables that are named without their schema")
        for name, table in self._facts.tables.items():
            if name in self._required:
                yield from self._table_grants(name, table)

    def _schema_grants(self, names: Iterable[str]) -> Iterator[Grant]:
        tables = [table for name in names if (table := self._facts.tables.get(name))]
        for schema in sorted({table.schema for table in tables if not table.privileges.use_schema and table.schema}):
            yield Grant(self._fixes.grant_schema(schema), "use the tables in this schema")

    def _table_grants(self, name: str, table: Table) -> Iterator[Grant]:
        need = self._required[name]
        missing = missing_privileges(need, table)
        if missing:
            yield Grant(self._fixes.grant(table, missing), f"{name}: {_purpose(need, missing)}")
        if lacks_row_holder(need, table):
            yield Grant(self._fixes.grant_read_row_holder(table), f"{name}: name the transaction that holds a row")
        if lacks_table_lock(need, table, missing):
            yield Grant(self._fixes.grant_lock_table(table), f"{name}: {self._fixes.lock_table_purpose(table)}")
        for column, sequence in missing_sequences(need, table):
            yield Grant(self._fixes.grant_sequence(*sequence), f"{name}.{column}: its default uses this sequence")
        for function in missing_functions(need, table):
            yield Grant(self._fixes.grant_function(function), f"{name}: the server calls it for a written row")

    # --- optional grants ---------------------------------------------------------------------------------------------

    def options(self) -> Iterator[Option]:
        chosen = set(actions_of(self._profile, self._workload.action))
        others = sorted(set(self._profile.actions) - chosen)
        every_action = Workload(EVERY_ACTION.action, self._workload.purge)
        with_purge = Workload(self._workload.action, purge=True)
        options = [
            Option(
                OptionalGrant.ACTIONS,
                f"for the other actions of `reaper fail --action`: {', '.join(others)}",
                self._additional(every_action),
            ),
            Option(OptionalGrant.PURGE, "for `reaper purge`", self._additional(with_purge)),
            Option(
                OptionalGrant.FENCE,
                "for `reaper fence install`, unless the owner of the table runs it",
                list(self._fence_grants()),
            ),
            Option(
                OptionalGrant.HOLDERS,
                "to name the session that holds the row of a locked job",
                [Grant(self._fixes.grant_sessions(), "see the sessions of other roles")],
            ),
        ]
        return (option for option in options if option.grants)

    def _additional(self, workload: Workload) -> list[Grant]:
        """What this workload needs beyond the needed grants."""
        required = required_privileges(self._profile, workload)
        grants = list(self._schema_grants(set(required) - set(self._required)))
        for name, need in required.items():
            if (table := self._facts.tables.get(name)) is not None:
                base = missing_privileges(self._required[name], table) if name in self._required else {}
                if additional := additional_privileges(missing_privileges(need, table), base):
                    grants.append(Grant(self._fixes.grant(table, additional), f"{name}: {_purpose(need, additional)}"))
        return grants

    def _fence_grants(self) -> Iterator[Grant]:
        table = self._facts.tables.get(self._profile.jobs.table)
        try:
            fence = fence_definition(self._profile)
        except NotFenceable:
            return
        if table is None:
            return
        if isinstance(self._fixes, MariaDBFixes):
            # The trigger runs with the privileges of the user who installs it, at each write of each worker.
            read = {*fence.ended_values, *fence.reason_columns, *fence.kept_columns}
            read |= {*fence.start_columns, *fence.claim_columns}
            read |= {fence.state_column} if fence.state_column else set()
            privileges = {"SELECT": sorted(read), "UPDATE": sorted(fence.kept_columns), "TRIGGER": []}
            yield Grant(self._fixes.grant(table, privileges), "the trigger, and what it does")
            return
        if table.schema:
            yield Grant(self._fixes.grant_create(table.schema), "the trigger's function")
        yield Grant(self._fixes.grant(table, {"TRIGGER": []}), "the trigger")

    # --- what no grant here solves -----------------------------------------------------------------------------------

    def notes(self) -> Iterator[str]:
        for name, table in self._facts.tables.items():
            if (need := self._required.get(name)) is None:
                continue
            fixes = (self._fixes.show_all_rows(restriction) for restriction in row_restrictions(need, table))
            skipped = work_skipped_when_hidden(name, self._profile, self._workload) or "which are then left alone"
            for fix in dict.fromkeys(fixes):
                hidden = f"{name}: row-level security may hide rows from the role, {skipped}"
                yield f"{hidden}; before the first sweep: {fix}"
            if (requirements := view_requirements(need, table)) is not None:
                yield f"{name}: a view, {requirements}"
            if calls := calls_as_role(need, table):
                yield f"{name}: {', '.join(calls)} {AS_ROLE}"


_PURPOSES = {
    "SELECT": "read",
    "UPDATE": "change",
    "INSERT": "insert",
    "DELETE": "delete",
    "REFERENCES": "show `reaper check` its columns and keys",
}
_LOCK_ROWS = "lock rows, which needs UPDATE on any one column"


def _purpose(need: RequiredPrivileges, missing: MissingPrivileges) -> str:
    purposes = _PURPOSES if need.update else {**_PURPOSES, "UPDATE": _LOCK_ROWS}
    return ", ".join(purposes[privilege] for privilege in missing)
