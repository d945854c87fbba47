"""Which privileges a source needs: the one list behind `reaper check` and `reaper grants`.

Limitation: what a piece of `sql` in a profile calls or reads beyond the columns that it names is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reaper.catalog.tables import Call, Table, Trigger
from reaper.config import SourceSettings
from reaper.database.postgresql.row_security import RowRestriction
from reaper.profile import Action, Delete, FromColumn, Profile, Scalar, Value
from reaper.profile.columns import asked, columns_read
from reaper.profile.related_tables import liveness_tables, purge_guard_tables, task_tables
from reaper.profile.usage import is_known, writings
from reaper.profile.values import walk
from reaper.source.duplicates import next_value_columns
from reaper.sql.tables import reserved_alias

Missing = dict[str, list[str]]
"""Columns by privilege; without columns, it is one on the table as a whole."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What there is to do beside looking: jobs are ended by `action` (None: by any that the profile has).

    `purge`: what has finished is deleted.
    """

    action: str | None = None
    purge: bool = False


EVERY_ACTION = Workload()

BORROWED = "with the role's own rights, not as SECURITY DEFINER: what else that reads or writes is yours to grant"
"""Said after `borrowing`."""


@dataclass(slots=True)
class RequiredPrivileges:
    """What has to be allowed on one table.

    Rows are locked where `lock` names a column, one that every such table has; all of it is, where `close`. Of a row
    that somebody holds it is asked who that is, where `holder`.
    """

    select: set[str] = field(default_factory=set)
    update: set[str] = field(default_factory=set)
    insert: set[str] = field(default_factory=set)
    inserts: bool = False
    delete: bool = False
    lock: str | None = None
    close: bool = False
    holder: bool = False

    def writes(self, event: str) -> bool:
        """There are such statements: INSERT, UPDATE, DELETE."""
        return {"INSERT": self.inserts, "UPDATE": bool(self.update), "DELETE": self.delete}[event]


def needs(profile: Profile, duties: Workload) -> dict[str, RequiredPrivileges]:
    """By the table's name in the profile. One that these duties do not touch is not there."""
    own = _narrowed(profile, duties)
    found: dict[str, RequiredPrivileges] = {}

    def of(table: str) -> RequiredPrivileges:
        return found.setdefault(table, RequiredPrivileges())

    for table, columns in columns_read(own).items():
        of(table).select |= columns
    # A statement that judges carries along what any of the actions would copy.
    of(profile.jobs.table).select |= profile.row_columns()
    for table, columns in (*_looked_back_at(profile), *_looked_ahead_to(profile)):
        of(table).select |= columns
    for writing in writings(own):
        need = of(writing.table)
        (need.insert if writing.inserts else need.update).update(writing.values)
        need.inserts |= writing.inserts
    for table in _deleted_from(own, duties):
        of(table).delete = True
    for table, column in locked(own).items():
        of(table).lock = column
    jobs, log = of(profile.jobs.table), profile.jobs.log
    jobs.holder, jobs.close = log is None, log is not None and log.lock == "table"
    return found


def _narrowed(profile: Profile, duties: Workload) -> Profile:
    """The profile without what is not done; when and how jobs finish is looked at all the same."""
    purge = profile.purge
    if purge and not duties.purge:
        purge = purge.model_copy(update={"needed": (), "also": ()})
    return profile.model_copy(update={"actions": actions_of(profile, duties.action), "purge": purge})


def actions_of(profile: Profile, action: str | None) -> Mapping[str, Action]:
    """The actions that a choice comes down to, by their names; of those, too, that another one falls back on."""
    if action is None:
        return profile.actions
    arms = [arm for _, arm in profile.branches(action)]
    chosen = {name: each for name, each in profile.actions.items() if any(each is arm for arm in arms)}
    if any(arm.unique_violation == "fail" for arm in arms):
        chosen["fail"] = profile.actions["fail"]
    return chosen


def locked(profile: Profile) -> dict[str, str]:
    """Tables whose rows are locked before anything is changed, and a column that each has for sure."""
    found = {} if profile.jobs.log else {profile.jobs.table: profile.jobs.key[0]}
    return found | {part.table: next(iter(part.match)) for part in profile.jobs.parts}


def _looked_back_at(profile: Profile) -> Iterator[tuple[str, set[str]]]:
    """The rows of earlier reaps are looked up by what does not differ between them, newest first."""
    for writing in writings(profile):
        if writing.inserts and any(is_known(part, "evidence") for v in writing.values.values() for part in walk(v)):
            yield writing.table, {name for name, value in writing.values.items() if _looked_at(value)}


def _looked_ahead_to(profile: Profile) -> Iterator[tuple[str, set[str]]]:
    """A report tells of values that are due and taken, whatever the action."""
    for place in next_value_columns(profile):
        yield place.table, {place.column, *place.key, *place.belonging.values(), *asked(place.where)}
        yield place.beyond.table, {place.beyond.column, *place.belonging}


def _looked_at(value: Value) -> bool:
    if isinstance(value, FromColumn):
        return value.plus is None and value.append is None
    if isinstance(value, Scalar):
        return True
    return is_known(value, "now") or any(is_known(part, "evidence") for part in walk(value))


def _deleted_from(profile: Profile, duties: Workload) -> Iterator[str]:
    for action in profile.actions.values():
        if action.delete:
            yield profile.jobs.table
        yield from (step.table for step in action.also if isinstance(step, Delete))
    if profile.purge and duties.purge:
        yield profile.jobs.table
        yield from (step.table for step in profile.purge.also)


# --- what of that a role has not -----------------------------------------------------------------------------------


def missing(need: RequiredPrivileges, table: Table) -> Missing:
    """What the role lacks of privileges on the table and on those of its columns that there are."""
    rights, there = table.rights, set(table.columns)
    wanted = {
        "SELECT": (need.select & there) - rights.select,
        "UPDATE": (need.update & there) - rights.update,
        "INSERT": (need.insert & there) - rights.insert,
    }
    # FOR UPDATE asks for UPDATE on any one column: those that an action sets will do.
    if not (rights.lock or need.update & there) and need.lock in there:
        wanted["UPDATE"] = {need.lock}
    found = {privilege: sorted(columns) for privilege, columns in wanted.items() if columns}
    if need.delete and not rights.delete:
        found["DELETE"] = []
    if not rights.shape:
        found["REFERENCES"] = []
    return found


def lacks_holder(need: RequiredPrivileges, table: Table) -> bool:
    """The role may not ask a row who holds it."""
    return need.holder and not table.rights.holder


def lacks_close(need: RequiredPrivileges, table: Table, granted: Missing) -> bool:
    """The role may not lock the table, nor could it with these privileges."""
    return need.close and not table.rights.close and "DELETE" not in granted


def lacks_sequences(need: RequiredPrivileges, table: Table) -> Iterator[tuple[str, tuple[str, str]]]:
    """Sequences whose next value the role may not take, by the columns that an insert leaves to them."""
    if need.inserts:
        for column, sequences in sorted(table.rights.sequences.items()):
            if table.rights.eager or column not in need.insert:
                yield from ((column, sequence) for sequence in sequences)


def lacks_functions(need: RequiredPrivileges, table: Table) -> Iterator[str]:
    """Functions that the server calls for a row that is written, and that the role may not execute."""
    for function, calls in sorted(table.rights.functions.items()):
        if any(_happens(call, need) for call in calls):
            yield function


def _happens(call: Call, need: RequiredPrivileges) -> bool:
    if not need.writes(call.event) or not call.columns:
        return need.writes(call.event)
    if call.event == "INSERT":
        return (call.columns <= need.insert) != call.left_out
    return bool(call.columns & need.update)


# --- what else there is to know ------------------------------------------------------------------------------------


def hides(need: RequiredPrivileges, table: Table) -> list[RowRestriction]:
    """Row-level security in the way of what has to be allowed."""
    wanted = {"SELECT": True, "INSERT": need.inserts, "UPDATE": bool(need.update or need.lock), "DELETE": need.delete}
    return [each for each in table.hiding if wanted[each.command]]


def skipped_because_hidden(name: str, profile: Profile, duties: Workload) -> str | None:
    """What is not done while rows of this table may be hidden; None where they are merely left alone."""
    lost = {
        "among them signs of life, so sweeps judge nothing": liveness_tables(profile),
        "so no task is taken for an orphan": task_tables(profile),
        "so nothing is purged": purge_guard_tables(profile) if duties.purge else (),
    }
    return ", ".join(so for so, tables in lost.items() if name in tables) or None


def firing(need: RequiredPrivileges, table: Table) -> list[Trigger]:
    """The triggers that fire, apart from the fence."""
    return [
        each
        for each in table.triggers
        if need.writes(each.event)
        and not (each.event == "UPDATE" and each.columns and not each.columns & need.update)
        and not each.name.startswith(reserved_alias("fence"))
    ]


def seen_through(need: RequiredPrivileges, table: Table) -> str | None:
    """What it takes to read a view, beside the view itself, in words; None where there is no such thing."""
    if not (table.behind and need.select):
        return None
    return f"read with the role's own rights; what that takes is yours to grant: {', '.join(table.behind)}"


def runs_as_role(need: RequiredPrivileges, table: Table) -> list[str]:
    """What is called with the rights of the role, and may ask for more than stands here, in words."""
    fired = [f"the trigger {each} calls {each.calls}" for each in firing(need, table) if each.calls]
    left_out = [column for column in sorted(table.makers) if need.inserts and column not in need.insert]
    return [*dict.fromkeys(fired), *(f"the default of {column} calls {table.makers[column]}" for column in left_out)]


def difference(more: Missing, base: Missing) -> Missing:
    """What of the one is not in the other."""
    found: Missing = {}
    for privilege, columns in more.items():
        left = [column for column in columns if column not in base.get(privilege, ())]
        if left or (not columns and privilege not in base):
            found[privilege] = left
    return found


def workload_of(found: SourceSettings) -> Workload:
    """To sweep with the source's action, and to purge where that is scheduled."""
    return Workload(found.action, purge=found.purge.cron is not None)
