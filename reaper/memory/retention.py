"""Bounds the tables of the state file: rows that are too old are deleted, and so are the oldest of too many."""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, select

from reaper.memory.schema import NOW


def delete_expired(connection: Connection, table: Table, max_age_seconds: float) -> float:
    """Delete the rows that were recorded longer ago than that. Returns the moment now, for new rows."""
    now: float = connection.execute(select(NOW)).scalar_one()
    connection.execute(delete(table).where(table.c.recorded_epoch < now - max_age_seconds))
    return now


def keep_newest(
    connection: Connection,
    table: Table,
    most: int,
    order: Column[float] | Column[int],
    *conditions: ColumnElement[bool],
) -> None:
    """Of the rows that meet these conditions, keep so many: those that are last in this order."""
    newest = select(order).where(*conditions).order_by(order.desc())
    cut = connection.execute(newest.offset(most - 1).limit(1)).scalar()
    if cut is not None:
        connection.execute(delete(table).where(*conditions, order < cut))
