"""The values that a transition writes, as SQL: every name quoted, every value bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import ColumnElement, FromClause, Integer, String, and_, case, cast, func, literal, select

from reaper.profile import First, FromColumn, Json, Next, Sql, Value, Variable
from reaper.profile.values import NextValue
from reaper.source.evidence import row_alias
from reaper.sql import expressions as sql
from reaper.sql.conditions import templated
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, reserved_alias


@dataclass(frozen=True, slots=True)
class Target:
    """Where a value goes: a column of a table; `row` is the row that is updated, None for a new one."""

    table: str
    column: str
    row: FromClause | None = None


class Judged(Protocol):
    """Judged jobs, by their columns: those of a query, or parameters to bind one of them to."""

    @property
    def c(self) -> Any: ...


class ValueCompiler:
    """Values for the jobs of one judged set of rows.

    `given` are the texts that are the same for every job of a sweep; a `message` among them is a person's own.
    """

    def __init__(self, schema: ProfileTables, given: dict[str, str]) -> None:
        self._schema, self._given = schema, given

    def value(self, value: Value, job: Judged, target: Target) -> Element:
        """A value for `target`, for each job of `job`."""
        if isinstance(value, Variable):
            return self._known(value, job, target)
        if isinstance(value, FromColumn):
            return self._column(value, job, target)
        if isinstance(value, First):
            return func.coalesce(*(self.value(part, job, target) for part in value.first))
        if isinstance(value, Json):
            return sql.json_object({name: self._member(part, job, target) for name, part in value.members.items()})
        if isinstance(value, Next):
            return self._next(value.series, job, target)
        if isinstance(value, Sql):
            return templated(value.sql, {name: self._copy(name, job) for name in self._schema.profile.row_columns()})
        return sql.untyped(value)

    def _known(self, value: Variable, job: Judged, target: Target) -> Element:
        if value.name == "now":
            return sql.from_instant(_now(value), self._schema.time(target.table))
        if value.name in self._given:
            return literal(self._given[value.name], String)
        if value.name == "null":
            return sql.untyped(None)
        known: Element = job.c[value.name]
        return known

    def _column(self, value: FromColumn, job: Judged, target: Target) -> Element:
        column = self._copy(value.column, job)
        if value.plus is not None:
            return func.coalesce(column, 0) + value.plus
        if value.append is not None:
            return sql.appended(column, self._member(value.append, job, target))
        return column

    def _member(self, value: Value, job: Judged, target: Target) -> Element:
        """A value inside a JSON document, where nothing else says of what type it is."""
        if isinstance(value, bool | int | float | str):
            return literal(value)
        if isinstance(value, Variable) and value.name == "now":
            return _now(value)
        if isinstance(value, Variable) and value.name == "null":
            return sql.no_text()
        return self.value(value, job, target)

    def _copy(self, column: str, job: Judged) -> Element:
        copy: Element = job.c[row_alias(self._schema.profile, column)]
        return copy

    # --- what comes next ---------------------------------------------------------------------------------------

    def _next(self, beyond: NextValue, job: Judged, target: Target) -> Element:
        newest = self._newest(beyond, job)
        if beyond.step is not None:
            return self._next_number(beyond.step, newest, target)
        return sql.from_instant(self._next_moment(beyond, newest, target), self._schema.time(target.table))

    def _newest(self, beyond: NextValue, job: Judged) -> Element:
        there = self._schema.table(beyond.table).alias(reserved_alias("there"))
        mine = [there.c[theirs] == self._copy(ours, job) for theirs, ours in beyond.match.items()]
        found = select(func.max(there.c[beyond.column])).where(*mine)
        return (found.correlate(job) if isinstance(job, FromClause) else found).scalar_subquery()

    def _next_number(self, step: int, newest: Element, target: Target) -> Element:
        if target.row is None:
            return func.coalesce(newest, 0) + step
        own: Element = target.row.c[target.column]
        ahead = (cast(func.floor((newest - own) / cast(literal(step), sql.FLOAT)), Integer) + 1) * step
        return case((and_(newest.is_not(None), newest >= own), own + ahead), else_=own)

    def _next_moment(self, beyond: NextValue, newest: Element, target: Target) -> Element:
        newest = self._schema.instant(beyond.table, newest)
        every = self._every(beyond, target)
        if target.row is None:
            return func.coalesce(sql.later(newest, every), sql.now())
        own = self._schema.instant(target.table, target.row.c[target.column])
        steps = func.floor(cast(sql.seconds(newest, own), sql.FLOAT) / every) + 1
        reached: ColumnElement[bool] = newest >= own
        return case((and_(newest.is_not(None), reached), sql.later(own, steps * every)), else_=own)

    @staticmethod
    def _every(beyond: NextValue, target: Target) -> Element:
        if beyond.every_column is None or target.row is None:
            return cast(literal(beyond.every), sql.FLOAT)
        every: Element = func.coalesce(cast(target.row.c[beyond.every_column], sql.FLOAT), 0.0)
        # No step, or one backwards, leads nowhere: the database is made to refuse it, and says so.
        return case((every > literal(0.0), every), else_=literal(1.0) / (every - every))


def _now(value: Variable) -> Element:
    return sql.now() if value.plus is None else sql.later(sql.now(), value.plus)
