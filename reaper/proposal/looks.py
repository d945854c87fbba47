"""Reads a few rows of a table of jobs, twice: what values occur, how they go together, and what moves while jobs run.

Values are read as texts that are cut in length. Each query is short: it reads by a key, or is cut off by the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Executable, String, TableClause, case, func, literal, null, select

from reaper.catalog import Catalog, QueryFailed
from reaper.catalog.tables import Column, Table
from reaper.profile.real_tables import listed_values
from reaper.proposal.words import IS_STATE, StateMeaning, state_of, words
from reaper.sql import expressions as sql
from reaper.sql.tables import table_of

NEWEST_ROWS, ROWS_OF_A_STATE = 1000, 50
MOST_STATES, LONGEST_STATE = 20, 40
READABLE = frozenset(("text", "enum", "integer", "number", "boolean", "uuid", "timestamptz", "timestamp", "datetime"))

Key = tuple[str | None, ...]
Row = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Looks:
    """Rows of a table by their keys, as texts, and the columns whose values changed between the two looks.

    `moved` has, for each such column, the keys of the rows in which it did while their state stayed, and `moved_to` the
    values that it then had. `now` is the database's clock at the last look. `not_read` is why no row could be read.
    """

    table: Table
    key: tuple[str, ...]
    key_is_unique: bool
    now: datetime
    rows: Mapping[Key, Row] = field(default_factory=dict)
    moved: Mapping[str, frozenset[Key]] = field(default_factory=dict)
    moved_to: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    not_read: str | None = None

    def column(self, name: str) -> Column:
        return self.table.columns[name]


def key_of(table: Table) -> tuple[tuple[str, ...], bool]:
    """The columns that tell one row from another, and whether the database says so; none where nothing shows it."""
    unique = [
        index
        for index in table.indexes
        if index.unique and index.valid and index.predicate is None and None not in index.columns
    ]
    named = [tuple(name for name in index.columns if name is not None) for index in unique]
    strict = [columns for columns in named if not any(table.columns[name].nullable for name in columns)]
    if strict:
        primary = {index.name for index in unique if index.name == "PRIMARY" or index.name.endswith("_pkey")}
        by_name = {columns: index.name for columns, index in zip(named, unique, strict=True)}
        return min(strict, key=lambda columns: (by_name[columns] not in primary, len(columns))), True
    ids = [name for name in table.columns if words(name)[-1:] in (("id",), ("uuid",), ("key",), ("no",))]
    return tuple(sorted(ids, key=lambda name: len(words(name)))[:1]), False


def first_look(catalog: Catalog, table: Table) -> Looks:
    """Some rows of each state, and the newest ones."""
    key, unique = key_of(table)
    looks = Looks(table, key, unique, catalog.server.now)
    if table.reading_calls_others:
        return _without_rows(looks, "to read it would call functions that are not the server's own")
    if not key:
        return _without_rows(looks, "it has no unique key without NULL, and no column is named as one")
    if not table.readable(table.columns):
        return _without_rows(looks, "the connected role may not read all of its columns")
    try:
        rows = _rows(catalog, table, key, _queries(catalog, table, key))
    except QueryFailed as failed:
        return _without_rows(looks, str(failed))
    return replace(looks, rows=rows)


def second_look(catalog: Catalog, before: Looks) -> Looks:
    """The same rows again, and what has moved in them."""
    if not before.rows:
        return before
    states = [name for name, column in before.table.columns.items() if may_be_state(column)]
    try:
        after = _rows(catalog, before.table, before.key, _queries(catalog, before.table, before.key))
    except QueryFailed:
        return before
    both = [(key, before.rows[key], row) for key, row in after.items() if key in before.rows]
    steady = [(key, old, new) for key, old, new in both if all(old[name] == new[name] for name in states)]
    moved = {
        name: frozenset(key for key, old, new in steady if old[name] != new[name])
        for name in before.table.columns
        if name not in states
    }
    found = {name: keys for name, keys in moved.items() if keys}
    moved_to = {name: [after[key][name] for key in keys] for name, keys in found.items()}
    return replace(before, now=catalog.server.now, moved=found, moved_to=moved_to)


def may_be_state(column: Column) -> bool:
    """Whether the column may say by its name, or by the values that it can have, in which state a job is."""
    if column.family not in ("text", "enum", "integer", "boolean") and not is_switch(column):
        return False
    if IS_STATE & set(words(column.name)):
        return True
    if column.labels:
        return any(state_of(label) is StateMeaning.RUNNING for label in column.labels)
    return is_switch(column) and state_of(column.name) in (StateMeaning.RUNNING, StateMeaning.DONE)


def is_switch(column: Column) -> bool:
    """Whether the column says yes or no: on MariaDB with a number, as it has no type for that."""
    return column.family == "boolean" or column.type == "tinyint(1)"


def possible_values(table: Table, column: Column) -> tuple[str, ...]:
    """The only values that the column can have, as far as the catalog says so."""
    if column.labels:
        return column.labels
    for check in table.checks:
        if check.columns == {column.name} and (values := listed_values(check.expression, column.name)):
            return values
    return ()


def _without_rows(looks: Looks, why: str) -> Looks:
    return replace(looks, not_read=why)


def _rows(catalog: Catalog, table: Table, key: Sequence[str], queries: Iterable[Executable]) -> dict[Key, Row]:
    rows = dict[Key, Row]()
    for query in queries:
        try:
            found = catalog.query(query, of_profile=False)
        except QueryFailed:
            if not rows:
                raise
            continue  # such as a state that no index finds: what is known of the others counts
        for values in found:
            row = dict(zip(table.columns, values, strict=True))
            rows.setdefault(tuple(row[name] for name in key), row)
    return rows


def _queries(catalog: Catalog, table: Table, key: Sequence[str]) -> Iterator[Executable]:
    stored = table_of(f"{table.schema}.{table.name}", table.columns)
    everything = select(*(_shown(column, stored.c[name]) for name, column in table.columns.items()))
    yield everything.order_by(*(stored.c[name].desc() for name in key)).limit(NEWEST_ROWS)
    for name, column in table.columns.items():
        if may_be_state(column):
            for value in _values(catalog, table, column, stored):
                same = stored.c[name].is_(None) if value is None else stored.c[name] == sql.untyped(value)
                yield everything.where(same).limit(ROWS_OF_A_STATE)


def _values(catalog: Catalog, table: Table, column: Column, stored: TableClause) -> Sequence[str | None]:
    """The values of a state, NULL among them."""
    if possible := possible_values(table, column):
        return (*possible, *([None] if column.nullable else []))
    shown = _shown(column, stored.c[column.name]).label("value")
    try:
        rows = catalog.query(select(shown).distinct().limit(MOST_STATES + 1), of_profile=False)
    except QueryFailed:
        return ()
    values = [row.value for row in rows]
    return values if len(values) <= MOST_STATES and all(len(v or "") <= LONGEST_STATE for v in values) else ()


def _shown(column: Column, stored: ColumnElement[object]) -> ColumnElement[str | None]:
    """The value as a text, cut; of other types than plain ones only whether there is one."""
    if column.family in READABLE or is_switch(column):
        return func.left(sql.text_of(stored), LONGEST_STATE + 25, type_=String)
    return case((stored.is_(None), null()), else_=literal("x", String))
