"""A profile's conditions as SQL: every name quoted, every value bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from sqlalchemy import ColumnElement, and_, or_, true

from reaper.model import StoredTime
from reaper.profile import Condition, Conditions, Now, Scalar
from reaper.profile.conditions import OtherColumn
from reaper.profile.sql_template import pieces
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element

TimeOf = Callable[[str], StoredTime]
"""How a column of the row stores moments."""


class Columns(Protocol):
    """The columns of a row, by name: those of a table, or those that a job has in its own row and beside it."""

    @property
    def c(self) -> Any: ...


def all_hold(conditions: Conditions, row: Columns, time_of: TimeOf) -> ColumnElement[bool]:
    """All of the conditions hold for a row."""
    return and_(true(), *(holds(condition, row, time_of) for condition in conditions))


def fill_template(template: str, columns: Columns | dict[str, Element]) -> Element:
    """The user's own SQL, with columns in its placeholders."""
    by_name = columns if isinstance(columns, dict) else columns.c
    parts: list[str | Element] = []
    for piece in pieces(template):
        parts += [piece.sql, *([by_name[piece.column]] if piece.column else [])]
    return sql.raw_sql(parts)


def is_one_of(column: Element, values: Iterable[Scalar]) -> ColumnElement[bool]:
    """The column holds one of the values."""
    bound = [sql.untyped(value) for value in values]
    return column == bound[0] if len(bound) == 1 else column.in_(bound)


def holds(condition: Condition, row: Columns, time_of: TimeOf) -> ColumnElement[bool]:
    """One condition holds for a row; NULL where it compares with NULL."""
    if condition.sql is not None:
        return fill_template(condition.sql, row)
    if condition.any_of is not None:
        return or_(*(holds(part, row, time_of) for part in condition.any_of))
    column: Element = row.c[condition.column or ""]
    if condition.values is not None or condition.not_in is not None:
        met = _meets_list(column, condition)
        return or_(met, column.is_(None)) if condition.or_null else met
    if condition.null is not None:
        return column.is_(None) if condition.null == "null" else column.is_not(None)
    if isinstance(condition.bound, OtherColumn):
        column, other = _as_comparable(condition.column or "", condition.bound.column, row, time_of)
        return column < other if condition.less_than is not None else column > other
    operand = _operand(condition, condition.bound, time_of)
    return column < operand if condition.less_than is not None else column > operand


def _meets_list(column: Element, condition: Condition) -> ColumnElement[bool]:
    if condition.values is not None:
        return is_one_of(column, condition.values)
    return column.not_in([sql.untyped(value) for value in condition.not_in or ()])


def _as_comparable(one: str, other: str, row: Columns, time_of: TimeOf) -> list[Element]:
    """Two columns as they are stored; where they store moments in different ways, the moments."""
    stored = [(row.c[name], time_of(name)) for name in (one, other)]
    same = stored[0][1] == stored[1][1]
    return [column if same else sql.exact_instant(column, time) for column, time in stored]


def _operand(condition: Condition, value: Now | Scalar | None, time_of: TimeOf) -> Element:
    if not isinstance(value, Now):
        return sql.untyped(value)
    return sql.from_instant(sql.now(), time_of(condition.column or ""))
