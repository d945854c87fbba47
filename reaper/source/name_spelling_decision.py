"""Decides how a database spells what a profile names: once, at the first contact, for all sources that share it.

Rows that are written later change nothing: a start or a reload decides again. Only while the
database has no table of jobs, or none of their states as free text, is it asked again at the next contact.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Executable, Row, String, func, select, union

from reaper.database.dialect import Dialect
from reaper.profile import Profile
from reaper.profile.name_spelling import SampledColumn, Spelling, spelling_of
from reaper.sql import expressions as sql
from reaper.sql.tables import reserved_alias, table_of

LONGEST_VALUE = 1000
"""Characters of a value that are read: what is longer is no state."""

SAMPLE_ROWS = 1000
"""How many rows are read to learn which values a column of free text has. An index adds those that are asked for."""

Execute = Callable[[Executable], Sequence[Row[Any]]]


class SpellingDecision:
    """The decision for one profile on one database. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.current: Spelling | None = None
        """What was decided; None before that."""

    def make(self, read: Callable[[], Spelling]) -> Spelling:
        """The spelling that was decided, else what `read` returns; that is kept when it is final."""
        with self._lock:
            if self.current is not None:
                return self.current
            spelling = read()
            self.current = spelling if spelling.decided else None
            return spelling

    def renew_if(self, decided: Spelling) -> None:
        """The same, unless another source has decided again already."""
        with self._lock:
            if self.current is decided:
                self.current = None

    def renew(self) -> None:
        """Decide again at the next contact: a sweep in progress takes the new spelling when it next connects."""
        with self._lock:
            self.current = None


def read_spelling(
    dialect: Dialect,
    execute: Execute,
    profile: Profile,
    path: Sequence[str],
    may_sample: Callable[[SampledColumn], bool] = lambda _sampled: True,
) -> Spelling:
    """How the database spells the profile now. Reads a few rows, by an index where there is one. Changes nothing.

    On PostgreSQL, bare names of tables are looked up in the schemas of `path`. Where the values of a column may not be
    read, they are taken to be spelled as in the profile.
    Raises SpellingUnclear, and whatever `execute` raises.
    """
    tables = dialect.real_tables(execute, profile.tables, path)
    return spelling_of(profile, tables, lambda sampled: _sample(execute, sampled) if may_sample(sampled) else ())


def _sample(execute: Execute, sampled: SampledColumn) -> Collection[str]:
    """Values of a column of free text: those in its newest rows, and of `texts` those that an index finds."""
    table = table_of(sampled.table, (sampled.column, *sampled.newest_by), sampled.schema)
    column = table.c[sampled.column]
    newest = select(column).order_by(*(table.c[name].desc() for name in sampled.newest_by)).limit(SAMPLE_ROWS)
    rows = newest.subquery(reserved_alias("newest"))
    value = func.left(sql.text_of(rows.c[sampled.column]), LONGEST_VALUE, type_=String)
    queries = [select(value.label("value")).distinct()]
    if sampled.indexed:
        # The value itself, not the one that was asked for: where case does not matter, the two may differ.
        equal = (select(sql.text_of(column)).where(column == sql.untyped(text)).limit(1) for text in sampled.texts)
        queries += [select(one.scalar_subquery().label("value")) for one in equal]
    return [row.value for row in execute(union(*queries)) if row.value is not None]
