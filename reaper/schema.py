"""A profile's tables as SQLAlchemy sees them: names always quoted, types left to the database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import (
    ColumnElement,
    FromClause,
    TableClause,
    and_,
    bindparam,
    cast,
    column,
    func,
    select,
    table,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import NullType, Text

from reaper.model import Key
from reaper.profile import Profile
from reaper.sql import Element, text_of, untyped


def split_name(name: str) -> tuple[str | None, str]:
    """`schema.table` as its parts; without a dot the search path decides."""
    schema, dot, bare = name.partition(".")
    return (schema, bare) if dot else (None, name)


def own_name(part: str) -> str:
    """What a part of a statement is called, so that no table of the user's is: the wrong one would be meant."""
    return f"reaper_{part}"


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

    def key_text(self, jobs: FromClause) -> list[Element]:
        """The key columns as text: how keys travel, whatever their types."""
        return [text_of(column) for column in self.key(jobs)]

    def keyed(self, keys: Sequence[Element]) -> ColumnElement[bool]:
        """These columns are one of the keys that `key_parameters` binds.

        An array without a type takes that of the column it is compared with, so an index on the key is used. Of a
        key of several columns each is compared so, and then all of them together, as text.
        """
        each = [column == func.any(bindparam(_ANY.format(n), type_=NullType())) for n, column in enumerate(keys)]
        if len(keys) == 1:
            return each[0]
        texts = [cast(bindparam(_ANY.format(n), type_=NullType()), ARRAY(Text)) for n in range(len(keys))]
        columns: list[Element] = [column(f"key_{n}") for n in range(len(keys))]
        wanted = func.unnest(*texts).table_valued(*columns).render_derived(name="wanted")
        return and_(*each, tuple_(*(text_of(key) for key in keys)).in_(select(*wanted.c)))

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


_ANY = "any_{}"


def key_parameters(keys: Iterable[Key]) -> dict[str, str]:
    """The arrays that `Schema.keyed` binds, in the database's own notation."""
    return {_ANY.format(n): _array(texts) for n, texts in enumerate(zip(*keys, strict=True))}


def _array(texts: Iterable[str]) -> str:
    return "{" + ",".join([_quoted(text) for text in texts]) + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
