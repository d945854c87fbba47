"""Rows that stand at a value which is taken: what they are due to write exists already. Changes nothing.

Only of rows whose next value an action of the profile sets. A job that runs and stands at that very value is no
obstacle: it is the row that was due.
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

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class NextValueColumn:
    """A column whose value must not be there yet in `beyond`.

    `key` are the columns by which its rows are known; `belonging` are columns of `beyond`, and the column of the row
    that each equals.
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
    """Rows of `table` whose `column` has a value that is taken, in the table `by`.

    `keys` are the first few of them, by `columns`.
    """

    table: str
    column: str
    by: str
    rows: int
    columns: tuple[str, ...]
    keys: list[Key]
    resolved_by: str | None

    def __str__(self) -> str:
        """Without the table, in one line."""
        rows, them = ("1 row", "it") if self.rows == 1 else (f"{self.rows} rows", "them")
        known = f"{'/'.join(self.columns)} {', '.join('/'.join(key) for key in self.keys)}"
        more = ", …" if self.rows > len(self.keys) else ""
        cure = (
            f"a source with the profile {self.resolved_by} moves {them} on"
            if self.resolved_by
            else f"move {them} beyond every one that exists"
        )
        return (
            f"{rows} whose next {self.column} exists in {self.by} already ({known}{more}): "
            f"the next run raises a duplicate key; {cure}"
        )


def places(profile: Profile) -> list[NextValueColumn]:
    """Each once, although several actions set it."""
    found: list[NextValueColumn] = []
    for place in _places(profile):
        if place not in found:
            found.append(place)
    return found


def _places(profile: Profile) -> Iterator[NextValueColumn]:
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
    """By way of the job's columns; empty when those do not lead from the one to the other without a job.

    In a table of its own, each row would stand in its own way.
    """
    own = {ours: theirs for theirs, ours in step.match.items()}
    if step.table == beyond.table or not own.keys() >= set(beyond.match.values()):
        return {}
    return {there: own[ours] for there, ours in beyond.match.items()}


def query(schema: ProfileTables, place: NextValueColumn) -> Select[Any]:
    """The first few of the rows, by their keys as text, and behind those how many there are."""
    row = schema.table(place.table).alias(reserved_alias("row"))
    there = schema.table(place.beyond.table).alias(reserved_alias("there"))
    same = [there.c[theirs] == row.c[ours] for theirs, ours in place.belonging.items()]
    same.append(there.c[place.beyond.column] == _as_there(schema, place, row))
    if place.beyond.table == schema.profile.jobs.table:
        same.append(not_(schema.running(there)))
    exists = select(literal(1)).where(*same).correlate(row).exists()
    key = [row.c[name] for name in place.key]
    asked = select(*map(sql.text_of, key), func.count().over())
    return asked.where(schema.holds(place.where, row, place.table), exists).order_by(*key).limit(_SHOWN)


def _as_there(schema: ProfileTables, place: NextValueColumn, row: FromClause) -> Element:
    """The row's value, as the other table stores it."""
    own, time = row.c[place.column], schema.time(place.beyond.table)
    if place.beyond.step is not None or schema.time(place.table) is time:
        return own
    return sql.from_instant(schema.instant(place.table, own), time)


def parse(place: NextValueColumn, rows: Sequence[Row[Any]]) -> DuplicateNextValue | None:
    """What `question` found; None when nothing is taken."""
    if not rows:
        return None
    keys: list[Key] = [tuple(row[:-1]) for row in rows]
    return DuplicateNextValue(
        place.table, place.column, place.beyond.table, rows[0][-1], place.key, keys, place.resolved_by
    )


def find_taken(connection: Connection, schema: ProfileTables) -> list[DuplicateNextValue]:
    """All that is taken, inside a transaction. Raises DBAPIError."""
    asked = ((place, connection.execute(query(schema, place)).all()) for place in places(schema.profile))
    return [found for place, rows in asked if (found := parse(place, rows))]
