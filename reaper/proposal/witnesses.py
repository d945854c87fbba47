"""Where a job's signs of life may come from: its own columns, rows of tables that refer to it, its children."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reaper.catalog import Catalog, NotVisible, QueryFailed
from reaper.catalog.tables import Table
from reaper.model import TimestampFormat
from reaper.proposal.looks import Looks
from reaper.proposal.moments import MomentColumn, format_of
from reaper.proposal.states import RunningRows
from reaper.proposal.words import IS_PARENT, Moment, moment_of, words

TimedColumn = tuple[str, str, TimestampFormat]
"""A table as the profile calls it, a column of it, and the format of its moments."""

_NO_SIGNS = (Moment.DELETED, Moment.DEADLINE, Moment.PLANNED)


class EventRows(NamedTuple):
    """A table whose rows belong to a job. `column` has the job's key, `at` the moments; `certain`: by a foreign key."""

    name: str
    column: str
    at: Mapping[str, TimestampFormat]
    certain: bool


class ProposedWitness(NamedTuple):
    """A witness as in a profile, why, whether that is certain, and its columns with moments."""

    value: Mapping[str, Any]
    why: str
    sure: bool
    timed: Sequence[TimedColumn]


def event_rows(catalog: Catalog, looks: Looks, name_of: Mapping[tuple[str, str], str]) -> list[EventRows]:
    """The tables that refer to the jobs, by a foreign key or by a column that is named after them.

    `name_of` has the tables of the database and how a profile calls each.
    """
    jobs, found = looks.table, list[EventRows]()
    if len(looks.key) != 1:
        return []
    referring = set(catalog.referring(jobs))
    named = {place for place in name_of if place[0] == jobs.schema} - {(jobs.schema, jobs.name)}
    expected = {f"{name}_id" for name in (jobs.name.casefold(), jobs.name.casefold().removesuffix("s"))}
    tables = catalog.every_table()
    for place in sorted(referring | named):
        if place not in name_of or not (place in referring or expected & {c.casefold() for c in tables[place]}):
            continue
        try:
            table = catalog.find_table(".".join(place))
        except (NotVisible, QueryFailed):
            continue
        if table is not None and (rows := _rows_of(table, name_of[place], looks, expected)) is not None:
            found.append(rows)
    return found


def _rows_of(table: Table, name: str, looks: Looks, expected: set[str]) -> EventRows | None:
    at = {
        column.name: found[0]
        for column in table.columns.values()
        if (found := format_of(column, ())) and found[1] and moment_of(column.name) not in _NO_SIGNS
    }
    keys = [
        next(iter(f.columns)) for f in table.foreign_keys if f.refers_to == looks.table.identity and len(f.columns) == 1
    ]
    key_type = looks.column(looks.key[0]).type
    alike = [c.name for c in table.columns.values() if c.name.casefold() in expected and c.type == key_type]
    if not at or not (keys or alike):
        return None
    return EventRows(name, (keys or alike)[0], at, bool(keys))


def proposed_witnesses(
    jobs: str, looks: Looks, moments: Mapping[str, MomentColumn], running: RunningRows, events: Sequence[EventRows]
) -> list[ProposedWitness]:
    """Those of the table `jobs`, as the profile calls it."""
    own = list(_own_columns(jobs, looks, moments, running))
    rows = [
        ProposedWitness(
            {"witness": rows.name, "events": {"table": rows.name, "job": rows.column, "at": list(rows.at)}},
            f"its rows refer to the jobs by {rows.column}" + ("" if rows.certain else ", without a foreign key"),
            rows.certain,
            [(rows.name, column, format_) for column, format_ in rows.at.items()],
        )
        for rows in events
    ]
    return [*own, *rows, *_children(jobs, looks, moments)]


def _own_columns(
    jobs: str, looks: Looks, moments: Mapping[str, MomentColumn], running: RunningRows
) -> Iterator[ProposedWitness]:
    has_heartbeat = any(moment.role is Moment.ALIVE for moment in moments.values())
    for moment in moments.values():
        moved = len(looks.moved.get(moment.name, frozenset()) & running.keys)
        seen = f"it moved in {moved} of {len(running.keys)} running jobs between two looks" if moved else ""
        timed = [(jobs, moment.name, moment.format)]
        if moment.role is Moment.DEADLINE and (moved or _is_lease(moment.name)):
            why = seen or "by its name, a worker has the job until then"
            yield ProposedWitness({"witness": moment.name, "deadline": moment.name}, why, bool(moved), timed)
        elif moment.role is Moment.ALIVE or (moved and moment.role not in _NO_SIGNS):
            yield ProposedWitness({"witness": moment.name, "column": moment.name}, seen or "by its name", True, timed)
        elif moment.role is Moment.CHANGED and not has_heartbeat:
            why = "by its name it changes while a job runs, and it was not seen to: if it does not, it does no harm"
            yield ProposedWitness({"witness": moment.name, "column": moment.name}, why, False, timed)


def _is_lease(name: str) -> bool:
    return bool({"lease", "lock", "locked", "claim", "claimed", "visible"} & set(words(name)))


def _children(jobs: str, looks: Looks, moments: Mapping[str, MomentColumn]) -> Iterator[ProposedWitness]:
    table = looks.table
    keys = [key.columns for key in table.foreign_keys if key.refers_to == table.identity and len(key.columns) == 1]
    parents = [name for columns in keys for name in columns if IS_PARENT & set(words(name))]
    roles = (Moment.CREATED, Moment.STARTED, Moment.FINISHED)
    at = [moment for moment in moments.values() if moment.role in roles and moment.certain]
    if parents and at and len(looks.key) == 1:
        yield ProposedWitness(
            {"witness": "child job", "children": {"parent": parents[0], "at": [moment.name for moment in at]}},
            f"{parents[0]} refers to the table itself",
            True,
            [(jobs, moment.name, moment.format) for moment in at],
        )
