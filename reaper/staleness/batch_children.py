"""The newest signs of the children of a few jobs, read once for all of them.

The children of one job are found by an index on their parent, if there is one. For a thousand jobs, a thousand looks
without it read the whole table a thousand times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import CTE, ColumnElement, FromClause, func, literal_column, select

from reaper.profile import Witness
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness.signs import Signs

IsOfBatch = Callable[[Sequence[Element]], ColumnElement[bool]]
"""Whether columns are the key of one of the jobs."""

_NEWEST, _PARENT = "newest", "parent_{}"


class BatchChildren:
    """For the witnesses of one profile that are children, in statements about a few jobs."""

    def __init__(self, tables: ProfileTables, signs: Signs, is_of_batch: IsOfBatch) -> None:
        self._tables, self._signs, self._is_of_batch = tables, signs, is_of_batch

    def joined(self, jobs: FromClause) -> FromClause:
        """The jobs with the newest signs of their children."""
        joined = jobs
        for name, newest in self._newest_signs():
            rows = newest.alias(name)
            parent = [rows.c[_PARENT.format(n)] for n in range(len(self._tables.profile.jobs.key))]
            joined = joined.outerjoin(rows, ProfileTables.keys_equal(parent, self._tables.key(jobs)))
        return joined

    def newest(self, witness: Witness) -> Element:
        """The newest sign of a job's children; NULL where there is none. In a statement that reads from `joined`."""
        # Not as a column: a subquery about one job would then read from all of these rows.
        return literal_column(f"{self._name(witness)}.{_NEWEST}", sql.INSTANT)

    def _newest_signs(self) -> Iterator[tuple[str, CTE]]:
        for witness in self._tables.profile.alive:
            if witness.children is not None:
                child, at = self._signs.child(witness, witness.children)
                parent = [child.c[name] for name in witness.children.parent]
                is_own_parent = ProfileTables.keys_equal(self._tables.key(child), parent)
                columns: list[Any] = [column.label(_PARENT.format(n)) for n, column in enumerate(parent)]
                rows = select(*columns, func.max(at).label(_NEWEST)).where(self._is_of_batch(parent), ~is_own_parent)
                name = self._name(witness)
                yield name, rows.group_by(*parent).cte(f"{name}_rows").prefix_with("MATERIALIZED", dialect="postgresql")

    def _name(self, witness: Witness) -> str:
        return reserved_alias(f"children_{self._tables.profile.alive.index(witness)}")
