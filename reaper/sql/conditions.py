"""Conditions of a profile as SQL: every name quoted, every value bound."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, FromClause, and_, true

from reaper.model import TimestampFormat
from reaper.profile import Condition, Conditions, Now, Scalar
from reaper.profile.sql_template import pieces
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element


def holds(conditions: Conditions, row: FromClause, time: TimestampFormat) -> ColumnElement[bool]:
    """All of them hold for a row of a table that stores moments so."""
    return and_(true(), *(_one(condition, row, time) for condition in conditions))


def templated(template: str, columns: FromClause | dict[str, Element]) -> Element:
    """SQL of the user's own, with columns in its places."""
    found = columns if isinstance(columns, dict) else columns.c
    parts: list[str | Element] = []
    for piece in pieces(template):
        parts += [piece.sql, *([found[piece.column]] if piece.column else [])]
    return sql.raw_sql(parts)


def among(column: Element, values: Iterable[Scalar]) -> ColumnElement[bool]:
    """The column holds one of the values."""
    bound = [sql.untyped(value) for value in values]
    return column == bound[0] if len(bound) == 1 else column.in_(bound)


def _one(condition: Condition, row: FromClause, time: TimestampFormat) -> ColumnElement[bool]:
    if condition.sql is not None:
        return templated(condition.sql, row)
    column: Element = row.c[condition.column or ""]
    if condition.values is not None:
        return among(column, condition.values)
    if condition.not_in is not None:
        return column.not_in([sql.untyped(value) for value in condition.not_in])
    if condition.null is not None:
        return column.is_(None) if condition.null == "null" else column.is_not(None)
    if condition.less_than is not None:
        return column < _bound(condition.less_than, time)
    return column > _bound(condition.greater_than, time)


def _bound(value: Now | Scalar | None, time: TimestampFormat) -> Element:
    return sql.from_instant(sql.now(), time) if isinstance(value, Now) else sql.untyped(value)
