"""Finds rows, such as those of schedules, whose next value exists already: their next run raises a duplicate key.

Only rows whose next value an action of the profile sets. A running job with that value is no duplicate: it is the row
that was due. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, FromClause, Row, Select, func, literal, not_, select

from reaper.model import Key
from reaper.profile import Conditions, Next, NextValue, Profile, Update
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, reserved_alias

_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class NextValueColumn:
    """A column whose value must not exist yet in the table of `beyond`.

    `key` are the columns that identify its rows. `belonging` has the columns of the table of `beyond`, and for each the
    column of the row that it equals.
    """

    table: str
    column: str
    beyond: NextValue
    key: tuple[str, ...]
    belonging: Mapping[str, str]
    where: Conditions
    resolved_by: str | None


@dataclass(frozen=True, slots=True)
class DuplicateNextValue:
    """Rows of `table` whose `column` has a value that exists already in the table `by`.

    `rows` is how many there are; `keys` are the first few of them, by `columns`.
    """

    table: str
    column: str
    by: str
    rows: int
    columns: tuple[str, ...]
    keys: list[Key]
    resolved_by: str | None

    def __str__(self) -> str:
        """One line, without the table."""
        rows, them = ("1 row", "it") if self.rows == 1 else (f"{self.rows} rows", "them")
        named = f"{'/'.join(self.columns)} {', '.join('/'.join(key) for key in self.keys)}"
        more = ", …" if self.rows > len(self.keys) else ""
        fix = (
            f"a source with the profile {self.resolved_by} moves {them} on"
            if self.resolved_by
            else f"move {them} beyond every one that exists"
        )
        return (
            f"{rows} whose next {self.column} exists in {self.by} already ({named}{more}): "
            f"the next run raises a duplicate key; {fix}"
        )


def next_value_columns(profile: Profile) -> list[NextValueColumn]:
    """The columns whose next value an action of the profile sets, each once."""
    columns: list[NextValueColumn] = []
    for column in _columns_of_actions(profile):
        if column not in columns:
            columns.append(column)
    return columns


def _columns_of_actions(profile: Profile) -> Iterator[NextValueColumn]:
    for action in profile.actions.values():
        for step in action.also:
            if isinstance(step, Update):
                for column, value in step.assign.items():
                    if isinstance(value, Next) and (belonging := _belonging(step, value.series)):
                        key = tuple(step.match)
                        yield NextValueColumn(
                            step.table, column, value.series, key, belonging, step.where, step.resolved_by
                        )


def _belonging(step: Update, beyond: NextValue) -> dict[str, str]:
    """Which columns of the row and of the table of `beyond` equal the same columns of a job.

    Empty when they cannot be compared without a job, and for a step on the table of `beyond` itself, where each row
    would be its own duplicate.
    """
    row_columns = {job_column: column for column, job_column in step.match.items()}
    if step.table == beyond.table or not row_columns.keys() >= set(beyond.match.values()):
        return {}
    return {column: row_columns[job_column] for column, job_column in beyond.match.items()}


def duplicates_query(tables: ProfileTables, column: NextValueColumn) -> Select[Any]:
    """The first few of the rows: their keys as text, and as the last column how many there are in all."""
    row = tables.table(column.table).alias(reserved_alias("row"))
    existing = tables.table(column.beyond.table).alias(reserved_alias("there"))
    equal = [existing.c[name] == row.c[own] for name, own in column.belonging.items()]
    equal.append(existing.c[column.beyond.column] == _converted(tables, column, row))
    if column.beyond.table == tables.profile.jobs.table:
        equal.append(not_(tables.running(existing)))
    exists = select(literal(1)).where(*equal).correlate(row).exists()
    key = [row.c[name] for name in column.key]
    query = select(*map(sql.text_of, key), func.count().over())
    is_due = tables.conditions_hold(column.where, row, column.table)
    return query.where(is_due, exists).order_by(*key).limit(_MAX_SHOWN)


def _converted(tables: ProfileTables, column: NextValueColumn, row: FromClause) -> Element:
    """The row's value, as the table of `beyond` stores it."""
    own, beyond = row.c[column.column], tables.stored_time(column.beyond.table, column.beyond.column)
    stored = tables.stored_time(column.table, column.column)
    if column.beyond.step is not None or stored == beyond:
        return own
    return sql.from_instant(sql.exact_instant(own, stored), beyond)


def read_duplicates(column: NextValueColumn, rows: Sequence[Row[Any]]) -> DuplicateNextValue | None:
    """The rows of `duplicates_query` as a value; None when there are none."""
    if not rows:
        return None
    keys: list[Key] = [tuple(row[:-1]) for row in rows]
    return DuplicateNextValue(
        column.table, column.column, column.beyond.table, rows[0][-1], column.key, keys, column.resolved_by
    )


def find_duplicates(connection: Connection, tables: ProfileTables) -> list[DuplicateNextValue]:
    """All rows whose next value exists already. Inside a transaction. Raises DBAPIError."""
    results = (
        (column, connection.execute(duplicates_query(tables, column)).all())
        for column in next_value_columns(tables.profile)
    )
    return [duplicate for column, rows in results if (duplicate := read_duplicates(column, rows))]
