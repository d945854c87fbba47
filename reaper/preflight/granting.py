"""`reaper grants`: the statements that give a role what it needs, and no more.

What is needed stands in `reaper.preflight.needs`, where `reaper check` reads it too: the statements are those that it
would print for a role that has been granted nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reaper.preflight.ground import Ground
from reaper.preflight.mariadb_remedies import MariaDBRemedies
from reaper.preflight.needs import (
    BORROWED,
    EVERY_ACTION,
    Duties,
    Missing,
    Need,
    actions_of,
    beyond,
    borrowing,
    hides,
    lacks_close,
    lacks_functions,
    lacks_holder,
    lacks_sequences,
    missing,
    needs,
    seen_through,
    undone,
)
from reaper.preflight.tables import Table
from reaper.profile import Profile
from reaper.source.fence.definition import NotFenceable, definition


class Extra(StrEnum):
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

    extra: Extra
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


def granting(profile: Profile, duties: Duties, ground: Ground) -> Grants:
    """What the duties ask for, and each extra that this profile has a use for."""
    scribe = _Scribe(profile, duties, ground)
    return Grants(
        create=None if ground.there else Grant(ground.remedies.create_role(), ground.remedies.way_in),
        needed=list(scribe.needed()),
        options=list(scribe.options()),
        notes=[*ground.notes, *scribe.notes()],
    )


class _Scribe:
    def __init__(self, profile: Profile, duties: Duties, ground: Ground) -> None:
        self._profile, self._duties, self._ground = profile, duties, ground
        self._remedies = ground.remedies
        self._base = needs(profile, duties)

    def needed(self) -> Iterator[Grant]:
        yield from (Grant(sql, "connect") for sql in self._remedies.grant_connect())
        yield from self._schemas(self._base)
        if self._ground.astray:
            path = self._remedies.look_in(self._ground.astray, self._ground.path or ())
            yield Grant(path, "find tables that are named without their schema")
        for name, table in self._ground.tables.items():
            if name in self._base:
                yield from self._on(name, table)

    def _schemas(self, names: Iterable[str]) -> Iterator[Grant]:
        bare = {t.schema: None for n in names if (t := self._ground.tables.get(n)) and not t.rights.usage and t.schema}
        for schema in sorted(bare):
            yield Grant(self._remedies.grant_schema(schema), "reach its tables")

    def _on(self, name: str, table: Table) -> Iterator[Grant]:
        need = self._base[name]
        lacking = missing(need, table)
        if lacking:
            yield Grant(self._remedies.grant(table, lacking), f"{name}: {_why(need, lacking)}")
        if lacks_holder(need, table):
            yield Grant(self._remedies.grant_holder(table), f"{name}: tell who holds a row")
        if lacks_close(need, table, lacking):
            yield Grant(self._remedies.grant_close(table), f"{name}: {self._remedies.why_close(table)}")
        for column, sequence in lacks_sequences(need, table):
            yield Grant(self._remedies.grant_sequence(*sequence), f"{name}.{column}: its default")
        for function in lacks_functions(need, table):
            yield Grant(self._remedies.grant_function(function), f"{name}: called when a row is written")

    # --- what not everybody wants ------------------------------------------------------------------------------

    def options(self) -> Iterator[Option]:
        chosen = set(actions_of(self._profile, self._duties.action))
        others = sorted(set(self._profile.actions) - chosen)
        every = Duties(EVERY_ACTION.action, self._duties.purge)
        found = [
            Option(Extra.ACTIONS, f"for actions that a person chooses: {', '.join(others)}", self._more(every)),
            Option(Extra.PURGE, "for `reaper purge`", self._more(Duties(self._duties.action, purge=True))),
            Option(Extra.FENCE, "for `reaper fence install`, where not the owner does that", list(self._fence())),
            Option(Extra.HOLDERS, "to name who holds the row of a locked job", list(self._holders())),
        ]
        return (option for option in found if option.grants)

    def _more(self, duties: Duties) -> list[Grant]:
        found: list[Grant] = []
        wanted = needs(self._profile, duties)
        found += self._schemas(set(wanted) - set(self._base))
        for name, need in wanted.items():
            if (table := self._ground.tables.get(name)) is not None:
                base = missing(self._base[name], table) if name in self._base else {}
                if lacking := beyond(missing(need, table), base):
                    found.append(Grant(self._remedies.grant(table, lacking), f"{name}: {_why(need, lacking)}"))
        return found

    def _fence(self) -> Iterator[Grant]:
        table = self._ground.tables.get(self._profile.jobs.table)
        try:
            fence = definition(self._profile)
        except NotFenceable:
            return
        if table is None:
            return
        if isinstance(self._remedies, MariaDBRemedies):
            # The trigger works with the rights of whoever installs it, at each write of each worker.
            reads = {*fence.ended, *fence.reasons, *fence.kept, *fence.started, *fence.claim}
            reads |= {fence.state} if fence.state else set()
            rights = {"SELECT": sorted(reads), "UPDATE": sorted(fence.kept), "TRIGGER": []}
            yield Grant(self._remedies.grant(table, rights), "the trigger, and what it does")
            return
        if table.schema:
            yield Grant(self._remedies.grant_create(table.schema), "the trigger's function")
        yield Grant(self._remedies.grant(table, {"TRIGGER": []}), "the trigger")

    def _holders(self) -> Iterator[Grant]:
        yield Grant(self._remedies.grant_sessions(), "the sessions of others")

    # --- what no statement here changes ------------------------------------------------------------------------

    def notes(self) -> Iterator[str]:
        for name, table in self._ground.tables.items():
            if (need := self._base.get(name)) is None:
                continue
            for fix in dict.fromkeys(self._remedies.see_all(hiding) for hiding in hides(need, table)):
                so = undone(name, self._profile, self._duties) or "which are left alone then"
                yield f"{name}: row-level security may hide rows from the role, {so}; before the first sweep: {fix}"
            if (more := seen_through(need, table)) is not None:
                yield f"{name}: a view, {more}"
            if calls := borrowing(need, table):
                yield f"{name}: {', '.join(calls)} {BORROWED}"


_WHY = {
    "SELECT": "read",
    "UPDATE": "change",
    "INSERT": "insert",
    "DELETE": "delete",
    "REFERENCES": "show `reaper check` its columns and keys",
}
_TO_LOCK = "lock rows, which takes UPDATE on any one column"


def _why(need: Need, lacking: Missing) -> str:
    told = _WHY if need.update else {**_WHY, "UPDATE": _TO_LOCK}
    return ", ".join(told[privilege] for privilege in lacking)
