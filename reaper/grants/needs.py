"""The privileges that a source needs, table by table: the one list behind `reaper check` and `reaper grants`.

Limitation: what a piece of `sql` in a profile calls, or reads beyond the columns that it names, is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from reaper.config import SourceSettings
from reaper.profile import Action, Delete, Profile
from reaper.profile.audit_events import audit_inserts, columns_that_find
from reaper.profile.column_usage import row_writes
from reaper.profile.columns import columns_read, condition_columns
from reaper.source.duplicates import next_value_columns


@dataclass(frozen=True, slots=True)
class Workload:
    """What the role does besides reading: it ends jobs by `action` (None: by any action of the profile).

    With `purge` it also deletes finished jobs.
    """

    action: str | None = None
    purge: bool = False


EVERY_ACTION = Workload()


def workload_of(source: SourceSettings) -> Workload:
    """The daemon's workload: it sweeps with the source's action, and purges where a schedule is set."""
    return Workload(source.action, purge=source.purge.cron is not None)


@dataclass(slots=True)
class RequiredPrivileges:
    """The privileges needed on one table. `select`, `update` and `insert` are columns.

    `lock_rows_by` names a column that the table has for sure; rows are locked where it is set. `lock_table`: the whole
    table is locked against writers. `read_row_holder`: the reaper asks which transaction holds a row.
    """

    select: set[str] = field(default_factory=set)
    update: set[str] = field(default_factory=set)
    insert: set[str] = field(default_factory=set)
    inserts: bool = False
    delete: bool = False
    lock_rows_by: str | None = None
    lock_table: bool = False
    read_row_holder: bool = False

    def writes(self, event: str) -> bool:
        """Whether rows are written by this kind of statement: INSERT, UPDATE or DELETE."""
        return {"INSERT": self.inserts, "UPDATE": bool(self.update), "DELETE": self.delete}[event]


def required_privileges(profile: Profile, workload: Workload) -> dict[str, RequiredPrivileges]:
    """By the table's name in the profile; without the tables that this workload does not touch."""
    narrowed = _narrowed(profile, workload)
    required: dict[str, RequiredPrivileges] = {}

    def on(table: str) -> RequiredPrivileges:
        return required.setdefault(table, RequiredPrivileges())

    for table, columns in columns_read(narrowed).items():
        on(table).select |= columns
    # The statement that judges also reads every column that any of the actions would copy.
    for table, column in (profile.real_column(profile.jobs.table, name) for name in profile.row_columns()):
        on(table).select.add(column)
    for table, columns in (*_audit_columns(profile), *_next_value_columns(profile)):
        on(table).select |= columns
    for writing in row_writes(narrowed):
        need = on(writing.table)
        (need.insert if writing.inserts else need.update).update(writing.values)
        need.inserts |= writing.inserts
    for table in _deleted_from(narrowed, workload):
        on(table).delete = True
    for table, column in locked_tables(narrowed).items():
        on(table).lock_rows_by, on(table).read_row_holder = column, True
    jobs, log = on(profile.jobs.table), profile.jobs.log
    jobs.lock_table = log is not None and log.lock == "table"
    return required


def _narrowed(profile: Profile, workload: Workload) -> Profile:
    """The profile without the actions and purge steps that are not used; when jobs finish is read all the same."""
    purge = profile.purge
    if purge and not workload.purge:
        purge = purge.model_copy(update={"needed": (), "also": ()})
    return profile.model_copy(update={"actions": actions_of(profile, workload.action), "purge": purge})


def actions_of(profile: Profile, action: str | None) -> Mapping[str, Action]:
    """The actions that `action` can lead to, by name, including one that another falls back on."""
    if action is None:
        return profile.actions
    arms = [arm for _, arm in profile.branches(action)]
    chosen = {name: candidate for name, candidate in profile.actions.items() if any(candidate is arm for arm in arms)}
    if any(arm.unique_violation == "fail" for arm in arms):
        chosen["fail"] = profile.actions["fail"]
    return chosen


def locked_tables(profile: Profile) -> dict[str, str]:
    """Tables whose rows are locked before anything is changed, each with a column that it has for sure."""
    jobs = {} if profile.jobs.log else {profile.jobs.table: profile.jobs.key[0]}
    return jobs | {part.table: next(iter(part.match)) for part in profile.jobs.parts}


def _audit_columns(profile: Profile) -> Iterator[tuple[str, set[str]]]:
    """Audit rows of earlier reaps are found by the values that all of them share, newest first."""
    for table, insert in audit_inserts(profile).items():
        yield table, columns_that_find(insert)


def _next_value_columns(profile: Profile) -> Iterator[tuple[str, set[str]]]:
    """A report names next values that are already taken, whatever the action is."""
    for place in next_value_columns(profile):
        yield place.table, {place.column, *place.key, *place.belonging.values(), *condition_columns(place.where)}
        yield place.beyond.table, {place.beyond.column, *place.belonging}


def _deleted_from(profile: Profile, workload: Workload) -> Iterator[str]:
    for action in profile.actions.values():
        if action.delete:
            yield profile.jobs.table
        yield from (step.table for step in action.also if isinstance(step, Delete))
    if profile.purge and workload.purge:
        yield profile.jobs.table
        yield from (step.table for step in profile.purge.also)
