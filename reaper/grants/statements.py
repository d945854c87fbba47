"""`reaper grants`: the statements that give a role what it needs, and no more.

What is needed stands in `reaper.grants.needs`, where `reaper check` reads it too: the statements are those that it
would print for a role that has been granted nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reaper.catalog.mariadb_fixes import MariaDBFixes
from reaper.catalog.tables import Table
from reaper.errors import NotFenceable
from reaper.fence.definition import definition
from reaper.grants.facts import GrantFacts
from reaper.grants.needs import (
    BORROWED,
    EVERY_ACTION,
    Missing,
    RequiredPrivileges,
    Workload,
    actions_of,
    difference,
    hides,
    lacks_close,
    lacks_functions,
    lacks_holder,
    lacks_sequences,
    missing,
    needs,
    runs_as_role,
    seen_through,
    skipped_because_hidden,
)
from reaper.profile import Profile


class OptionalGrant(StrEnum):
    """What a role may be allowed beside what the settings ask for."""

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
    """Statements for something that not everybody wants."""

    extra: OptionalGrant
    why: str
    grants: Sequence[Grant]


@dataclass(frozen=True, slots=True)
class Grants:
    """Everything for one role on one source. `create` makes the role; None when it is there already."""

    create: Grant | None
    needed: Sequence[Grant]
    options: Sequence[Option]
    notes: Sequence[str]

    def statements(self, extras: Collection[str] = ()) -> Iterator[str]:
        """What is to be executed, in that order."""
        yield from ([self.create.sql] if self.create else [])
        yield from (grant.sql for grant in self.needed)
        yield from (grant.sql for option in self.options if option.extra in extras for grant in option.grants)


def granting(profile: Profile, duties: Workload, ground: GrantFacts) -> Grants:
    """What the duties ask for, and each extra that this profile has a use for."""
    scribe = _GrantWriter(profile, duties, ground)
    return Grants(
        create=None if ground.there else Grant(ground.fixes.create_role(), ground.fixes.way_in),
        needed=list(scribe.needed()),
        options=list(scribe.options()),
        notes=[*ground.notes, *scribe.notes()],
    )


class _GrantWriter:
    def __init__(self, profile: Profile, duties: Workload, ground: GrantFacts) -> None:
        self._profile, self._duties, self._ground = profile, duties, ground
        self._fixes = ground.fixes
        self._base = needs(profile, duties)

    def needed(self) -> Iterator[Grant]:
        yield from (Grant(sql, "connect") for sql in self._fixes.grant_connect())
        yield from self._schemas(self._base)
        if self._ground.outside_search_path:
            path = self._fixes.look_in(self._ground.outside_search_path, self._ground.path or ())
            yield Grant(path, "find tables that are named without their schema")
        for name, table in self._ground.tables.items():
            if name in self._base:
                yield from self._on(name, table)

    def _schemas(self, names: Iterable[str]) -> Iterator[Grant]:
        bare = {t.schema: None for n in names if (t := self._ground.tables.get(n)) and not t.rights.usage and t.schema}
        for schema in sorted(bare):
            yield Grant(self._fixes.grant_schema(schema), "reach its tables")

    def _on(self, name: str, table: Table) -> Iterator[Grant]:
        need = self._base[name]
        lacking = missing(need, table)
        if lacking:
            yield Grant(self._fixes.grant(table, lacking), f"{name}: {_why(need, lacking)}")
        if lacks_holder(need, table):
            yield Grant(self._fixes.grant_holder(table), f"{name}: tell who holds a row")
        if lacks_close(need, table, lacking):
            yield Grant(self._fixes.grant_close(table), f"{name}: {self._fixes.why_close(table)}")
        for column, sequence in lacks_sequences(need, table):
            yield Grant(self._fixes.grant_sequence(*sequence), f"{name}.{column}: its default")
        for function in lacks_functions(need, table):
            yield Grant(self._fixes.grant_function(function), f"{name}: called when a row is written")

    # --- what not everybody wants ------------------------------------------------------------------------------

    def options(self) -> Iterator[Option]:
        chosen = set(actions_of(self._profile, self._duties.action))
        others = sorted(set(self._profile.actions) - chosen)
        every = Workload(EVERY_ACTION.action, self._duties.purge)
        found = [
            Option(OptionalGrant.ACTIONS, f"for actions that a person chooses: {', '.join(others)}", self._more(every)),
            Option(OptionalGrant.PURGE, "for `reaper purge`", self._more(Workload(self._duties.action, purge=True))),
            Option(
                OptionalGrant.FENCE, "for `reaper fence install`, where not the owner does that", list(self._fence())
            ),
            Option(OptionalGrant.HOLDERS, "to name who holds the row of a locked job", list(self._holders())),
        ]
        return (option for option in found if option.grants)

    def _more(self, duties: Workload) -> list[Grant]:
        found: list[Grant] = []
        wanted = needs(self._profile, duties)
        found += self._schemas(set(wanted) - set(self._base))
        for name, need in wanted.items():
            if (table := self._ground.tables.get(name)) is not None:
                base = missing(self._base[name], table) if name in self._base else {}
                if lacking := difference(missing(need, table), base):
                    found.append(Grant(self._fixes.grant(table, lacking), f"{name}: {_why(need, lacking)}"))
        return found

    def _fence(self) -> Iterator[Grant]:
        table = self._ground.tables.get(self._profile.jobs.table)
        try:
            fence = definition(self._profile)
        except NotFenceable:
            return
        if table is None:
            return
        if isinstance(self._fixes, MariaDBFixes):
            # The trigger works with the rights of whoever installs it, at each write of each worker.
            reads = {*fence.ended, *fence.reasons, *fence.kept, *fence.started, *fence.claim}
            reads |= {fence.state} if fence.state else set()
            rights = {"SELECT": sorted(reads), "UPDATE": sorted(fence.kept), "TRIGGER": []}
            yield Grant(self._fixes.grant(table, rights), "the trigger, and what it does")
            return
        if table.schema:
            yield Grant(self._fixes.grant_create(table.schema), "the trigger's function")
        yield Grant(self._fixes.grant(table, {"TRIGGER": []}), "the trigger")

    def _holders(self) -> Iterator[Grant]:
        yield Grant(self._fixes.grant_sessions(), "the sessions of others")

    # --- what no statement here changes ------------------------------------------------------------------------

    def notes(self) -> Iterator[str]:
        for name, table in self._ground.tables.items():
            if (need := self._base.get(name)) is None:
                continue
            for fix in dict.fromkeys(self._fixes.see_all(hiding) for hiding in hides(need, table)):
                so = skipped_because_hidden(name, self._profile, self._duties) or "which are left alone then"
                yield f"{name}: row-level security may hide rows from the role, {so}; before the first sweep: {fix}"
            if (more := seen_through(need, table)) is not None:
                yield f"{name}: a view, {more}"
            if calls := runs_as_role(need, table):
                yield f"{name}: {', '.join(calls)} {BORROWED}"


_WHY = {
    "SELECT": "read",
    "UPDATE": "change",
    "INSERT": "insert",
    "DELETE": "delete",
    "REFERENCES": "show `reaper check` its columns and keys",
}
_TO_LOCK = "lock rows, which takes UPDATE on any one column"


def _why(need: RequiredPrivileges, lacking: Missing) -> str:
    told = _WHY if need.update else {**_WHY, "UPDATE": _TO_LOCK}
    return ", ".join(told[privilege] for privilege in lacking)
