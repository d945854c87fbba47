"""Refuses a source whose key is not unique among the rows that a command looks at: one job could not be told from
another.

A unique index decides, by the catalogs. Only without one are the rows asked, as those of a view must be: each command
asks about the rows that it looks at, and no others. Entries of a log have their job's key, which is no key of theirs.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from reaper.database.dialect import dialect_of
from reaper.errors import key_not_unique
from reaper.source.statements import Query, SourceStatements
from reaper.sql.statement import Values
from reaper.sql.tables import ProfileTables
from reaper.staleness.rule import Rule


def key_is_unique(connection: Connection, tables: ProfileTables) -> bool:
    """Whether the catalogs say so. Inside a transaction. Raises DBAPIError."""
    jobs = tables.profile.jobs
    return jobs.log is not None or dialect_of(connection).has_unique_key(connection, tables.jobs, jobs.key)


def require_unique_key(
    statements: SourceStatements, connection: Connection, values: Values, query: Query, *arguments: Hashable
) -> None:
    """Raises KeyNotUnique when `query`, made by `shared_key_query`, finds a key. Inside a transaction."""
    example = statements.execute(connection, values, query, *arguments).first()
    if example is not None:
        jobs = statements.profile.jobs
        raise key_not_unique(jobs.table, jobs.key, tuple(example))


def shared_key_query(tables: ProfileTables, *conditions: ColumnElement[bool]) -> Select[Any]:
    """One key that several rows have that meet the conditions. A key with NULL in it is no job's."""
    jobs = tables.jobs
    key = tables.key(jobs)
    rows = select(*tables.key_text(jobs)).where(*conditions, *(column.is_not(None) for column in key))
    return rows.group_by(*key).having(func.count() > 1).limit(1)


def shared_by_running_query(rule: Rule) -> Select[Any]:
    """One key that several running jobs have."""
    tables = rule.tables
    return shared_key_query(tables, tables.search_condition(tables.jobs), tables.running(tables.jobs))
