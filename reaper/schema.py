"""A profile's tables as SQLAlchemy sees them: names always quoted, types left to the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import (
    ColumnElement,
    FromClause,
    TableClause,
    and_,
    bindparam,
    column,
    func,
    select,
    table,
    tuple_,
)
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import NullType

from reaper.profile import Profile
from reaper.sql import Element, untyped


def split_name(name: str) -> tuple[str | None, str]:
    """`schema.table` as its parts; without a dot the search path decides."""
    schema, dot, bare = name.partition(".")
    return (schema, bare) if dot else (None, name)


def table_of(name: str, columns: Iterable[str]) -> TableClause:
    """A table with these columns."""
    schema, bare = split_name(name)
    return table(
        quoted_name(bare, quote=True),
        *(column(quoted_name(c, quote=True)) for c in sorted(columns)),
        schema=quoted_name(schema, quote=True) if schema else None,
    )


class Schema:
    """The tables that one profile names, each with the columns that it names."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._columns = profile.columns()
        self.jobs = self.table(profile.jobs.table)

    def table(self, name: str) -> TableClause:
        return table_of(name, self._columns[name])

    def key(self, jobs: FromClause) -> list[Element]:
        """The key columns, in the profile's order."""
        return [jobs.c[name] for name in self.profile.jobs.key]

    def keyed(self, keys: Sequence[Element], parameter: str = "key") -> ColumnElement[bool]:
        """These columns are one of the keys bound as one array per column: `key_0`, `key_1`, …"""
        arrays = [bindparam(f"{parameter}_{n}", type_=NullType()) for n in range(len(keys))]
        if len(keys) == 1:
            return keys[0] == func.any(arrays[0])
        columns: list[Element] = [column(f"k{n}") for n in range(len(keys))]
        rows = func.unnest(*arrays).table_valued(*columns, name="wanted")
        return tuple_(*keys).in_(select(*rows.c))

    def running(self, jobs: FromClause) -> ColumnElement[bool]:
        """The job says that it runs."""
        state = jobs.c[self.profile.jobs.running.column]
        values = self.profile.jobs.running.values
        if len(values) == 1:
            return state == untyped(values[0])
        return state.in_([untyped(value) for value in values])

    @staticmethod
    def same(left: Sequence[Element], right: Sequence[Element]) -> ColumnElement[bool]:
        """Two keys are equal, column by column."""
        return and_(*(a == b for a, b in zip(left, right, strict=True)))


def key_parameters(keys: Sequence[tuple[object, ...]], parameter: str = "key") -> dict[str, list[object]]:
    """The arrays that `Schema.keyed` binds."""
    return {f"{parameter}_{n}": list(values) for n, values in enumerate(zip(*keys, strict=True))}
