"""The values that a transition writes, as SQL: every name quoted, every value bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import (
    CTE,
    BindParameter,
    ColumnElement,
    FromClause,
    Integer,
    Row,
    TableClause,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
)

from reaper.profile import First, FromColumn, Json, Next, Sql, Value, Variable
from reaper.profile.values import TEXTS, Growth, NextValue
from reaper.sql import expressions as sql
from reaper.sql.conditions import fill_template
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, reserved_alias

_PARAMETER = "found_{}"


class JobColumns(Protocol):
    """The columns of the jobs to end: those of a query, or parameters for one job."""

    @property
    def c(self) -> Any: ...


class BoundRow:
    """The columns of one job to end, as parameters: a row of the query that judged it is bound to them."""

    def __init__(self, to_end: CTE) -> None:
        self.c: Mapping[str, BindParameter[Any]] = {
            column.name: bindparam(_PARAMETER.format(column.name), type_=column.type) for column in to_end.c
        }

    @staticmethod
    def parameters(row: Row[Any]) -> dict[str, Any]:
        return {_PARAMETER.format(name): value for name, value in row._mapping.items()}


@dataclass(frozen=True, slots=True)
class Target:
    """The column that a value is written to; `updated` is the table of the row that is updated, None for a new row."""

    table: str
    column: str
    updated: FromClause | None = None


class ValueCompiler:
    """Values for the jobs to end.

    `audit_fields` are the texts that are the same for every job of a sweep; a `message` among them is a person's own.
    """

    def __init__(self, tables: ProfileTables, audit_fields: Mapping[str, Element]) -> None:
        self._tables, self._audit_fields = tables, audit_fields

    def assignments(
        self,
        table: TableClause,
        name: str,
        values: Mapping[str, Value],
        job: JobColumns,
        *,
        updated: FromClause | None = None,
    ) -> dict[ColumnElement[Any], Element]:
        """Each column of the table that is written, and its value. `name` is the table's name in the profile."""
        return {
            table.c[column]: sql.assigned(self.value(value, job, Target(name, column, updated)))
            for column, value in values.items()
        }

    def value(self, value: Value, job: JobColumns, target: Target) -> Element:
        """A value for `target`, for each job of `job`."""
        if isinstance(value, Variable):
            return self._variable(value, job, target)
        if isinstance(value, FromColumn):
            return self._from_column(value, job, target)
        if isinstance(value, First):
            return func.coalesce(*(self.value(part, job, target) for part in value.first))
        if isinstance(value, Json):
            return sql.json_object({name: self._json_member(part, job, target) for name, part in value.members.items()})
        if isinstance(value, Next):
            return self._next(value.series, job, target)
        if isinstance(value, Sql):
            return fill_template(value.sql, self._in_sql(value, job))
        return sql.untyped(value)

    def _in_sql(self, value: Sql, job: JobColumns) -> dict[str, Element]:
        """What stands in the braces of the user's SQL."""
        columns = {name: self.row_column(name, job) for name in self._tables.row_columns}
        known = {name: part.name for name, part in value.variables.items()}
        return columns | {
            name: sql.now() if variable == "now" else self._known(variable, job) for name, variable in known.items()
        }

    def row_column(self, column: str, job: JobColumns) -> Element:
        """A column of the job's row as it was before the transition."""
        element: Element = job.c[self._tables.row_alias(column)]
        return element

    def _variable(self, value: Variable, job: JobColumns, target: Target) -> Element:
        if value.name == "now":
            return sql.from_instant(self._moment(value, job), self._tables.stored_time(target.table, target.column))
        if value.name == "null":
            return sql.untyped(None)
        known = self._known(value.name, job)
        return known if value.most is None else _at_most(known, value.most, is_text=value.name in TEXTS)

    def _known(self, name: str, job: JobColumns) -> Element:
        known: Element = self._audit_fields[name] if name in self._audit_fields else job.c[name]
        return known

    def _moment(self, value: Variable, job: JobColumns) -> Element:
        """Now, or later."""
        if value.plus is None and value.grows is None:
            return sql.now()
        if value.grows is None and value.jitter is None:
            return sql.add_seconds(sql.now(), value.plus or 0)
        seconds = _double(value.plus or 0)
        if value.grows is not None:
            seconds = func.least(seconds + self._grown(value.grows, job), _double(value.grows.at_most))
        if value.jitter is not None:
            seconds = seconds * (_double(1) - _double(value.jitter) * sql.random_share())
        return sql.add_seconds(sql.now(), seconds)

    def _grown(self, growth: Growth, job: JobColumns) -> Element:
        counted = func.coalesce(cast(self.row_column(growth.column, job), sql.FLOAT), _double(0))
        number = func.greatest(func.least(counted, _double(growth.largest_number)), _double(0))
        if growth.power is not None:
            return func.power(number, _double(growth.power))
        return func.power(_double(growth.base or 1), number)

    def _from_column(self, value: FromColumn, job: JobColumns, target: Target) -> Element:
        column = self.row_column(value.column, job)
        if value.plus is not None:
            return func.coalesce(column, 0) + value.plus
        if value.append is not None:
            return sql.json_append(column, self._json_member(value.append, job, target))
        return column

    def _json_member(self, value: Value, job: JobColumns, target: Target) -> Element:
        """A value inside a JSON document, where no column gives it a type."""
        if isinstance(value, bool | int | float | str):
            return literal(value)
        if isinstance(value, Variable) and value.name == "now":
            return self._moment(value, job)
        if isinstance(value, Variable) and value.name == "null":
            return sql.null_text()
        return self.value(value, job, target)

    # --- the next value beyond those that exist ------------------------------------------------------------------

    def _next(self, beyond: NextValue, job: JobColumns, target: Target) -> Element:
        newest = self._newest(beyond, job)
        if beyond.step is not None:
            return self._next_number(beyond.step, newest, target)
        next_moment = self._next_moment(beyond, newest, target)
        return sql.from_instant(next_moment, self._tables.stored_time(target.table, target.column))

    def _newest(self, beyond: NextValue, job: JobColumns) -> Element:
        existing = self._tables.table(beyond.table).alias(reserved_alias("there"))
        matching = [existing.c[column] == self.row_column(own, job) for column, own in beyond.match.items()]
        newest = select(func.max(existing.c[beyond.column])).where(*matching)
        return (newest.correlate(job) if isinstance(job, FromClause) else newest).scalar_subquery()

    def _next_number(self, step: int, newest: Element, target: Target) -> Element:
        if target.updated is None:
            return func.coalesce(newest, 0) + step
        own: Element = target.updated.c[target.column]
        ahead = (cast(func.floor((newest - own) / cast(literal(step), sql.FLOAT)), Integer) + 1) * step
        return case((and_(newest.is_not(None), newest >= own), own + ahead), else_=own)

    def _next_moment(self, beyond: NextValue, newest: Element, target: Target) -> Element:
        newest = sql.exact_instant(newest, self._tables.stored_time(beyond.table, beyond.column))
        interval_seconds = self._interval_seconds(beyond, target)
        if target.updated is None:
            return func.coalesce(sql.add_seconds(newest, interval_seconds), sql.now())
        stored = self._tables.stored_time(target.table, target.column)
        own = sql.exact_instant(target.updated.c[target.column], stored)
        steps = func.floor(cast(sql.seconds_between(newest, own), sql.FLOAT) / interval_seconds) + 1
        is_taken: ColumnElement[bool] = newest >= own
        return case((and_(newest.is_not(None), is_taken), sql.add_seconds(own, steps * interval_seconds)), else_=own)

    @staticmethod
    def _interval_seconds(beyond: NextValue, target: Target) -> Element:
        if beyond.every_column is None or target.updated is None:
            return cast(literal(beyond.every), sql.FLOAT)
        column: Element = func.coalesce(cast(target.updated.c[beyond.every_column], sql.FLOAT), 0.0)
        # An interval of zero or less reaches no next moment: a division by zero makes the database refuse the row.
        return case((column > literal(0.0), column), else_=literal(1.0) / (column - column))


def _double(number: float) -> Element:
    return cast(literal(float(number)), sql.FLOAT)


def _at_most(value: Element, most: int, *, is_text: bool) -> Element:
    """So many characters of a text, or a number that is no larger."""
    if is_text:
        return func.substr(value, 1, most)
    limit = cast(literal(most), sql.FLOAT)
    return case((value > limit, limit), else_=value)
