"""The silence cutoff of any stall window, as SQL: the spans of audible time are a small relation.

A statement joins it with stall windows, of kinds or of jobs, so that its text is the same however often the database
was away, and however many windows there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Float, FromClause, and_, func, literal_column
from sqlalchemy.types import TypeEngine

from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.relations import SmallRelation, relation_parameters, relation_values
from reaper.sql.tables import reserved_alias
from reaper.staleness.audible_time import AudibleSpan

_LONGER_THAN, _UP_TO = "longer_than", "up_to"
_AT, _FLOOR, _ESTIMATE = "cutoff_at", "floor", "estimate"
_ENDLESS = 1e300

_COLUMNS: Mapping[str, TypeEngine[Any]] = {
    **dict.fromkeys((_LONGER_THAN, _UP_TO), Float()),
    **dict.fromkeys((_AT, _FLOOR, _ESTIMATE), sql.INSTANT),
}
_RELATION = reserved_alias("audible")
PARAMETERS = tuple(relation_parameters(_RELATION, _COLUMNS))
"""The parameters of a statement that reads the relation."""


class SilenceCutoffs:
    """The cutoffs of the stall windows in a column of other rows, in a statement that reads from `joined`."""

    def __init__(self, alias: str, stall_seconds: Element) -> None:
        self._alias, self._stall = alias, stall_seconds

    def joined(self, rows: FromClause) -> FromClause:
        """The other rows, each with the span of its stall window; with none where it has no window."""
        spans = SmallRelation(_RELATION, _COLUMNS).rows(self._alias)
        is_of_span = and_(spans.c[_LONGER_THAN] < self._stall, self._stall <= spans.c[_UP_TO])
        return rows.outerjoin(spans, is_of_span)

    @property
    def cutoff(self) -> Element:
        return self._earlier(_AT)

    @property
    def floor(self) -> Element:
        return self._column(_FLOOR)

    @property
    def estimate(self) -> Element:
        return self._earlier(_ESTIMATE)

    def _earlier(self, column: str) -> Element:
        """The moment in a column less what the window is longer; that before all others stays what it is."""
        longer = self._column(_LONGER_THAN) - self._stall
        at = self._column(column)
        return func.coalesce(sql.add_seconds(at, longer), at, type_=sql.INSTANT)

    def _column(self, name: str) -> Element:
        # Not as a column of the relation: a subquery about one job would then read from the relation itself.
        return literal_column(f"{self._alias}.{name}", _COLUMNS[name])


def values(spans: Sequence[AudibleSpan]) -> dict[str, Any]:
    """The values of the parameters."""
    limits = [span.longer_than.total_seconds() for span in spans]
    rows = [
        (longer_than, up_to, span.cutoff.at, span.cutoff.not_before, span.cutoff.earliest_possible)
        for (longer_than, up_to), span in zip(pairwise([*limits, _ENDLESS]), spans, strict=True)
    ]
    return relation_values(_RELATION, _COLUMNS, rows)
