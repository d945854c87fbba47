"""The limits of the kinds that have thresholds of their own, as a small relation: a row for each kind.

A statement joins the jobs with it, so that its text and its plan are the same however many kinds there are. What the
relation does not have is of another kind: the limits of the source apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Float, FromClause, String, func, literal_column
from sqlalchemy.types import TypeEngine

from reaper.common.durations import format_duration
from reaper.model import DISTANT_PAST, Thresholds
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.relations import SmallRelation, relation_parameters, relation_values
from reaper.sql.tables import reserved_alias
from reaper.staleness.evaluation_context import EvaluationContext

KIND = "kind"
STARTED_BEFORE, PREVIOUS_STARTED_BEFORE = "started_before", "previous_started_before"
CUTOFF, FLOOR, ESTIMATE = "cutoff", "floor", "estimate"
TIMEOUT_SECONDS, TIMEOUT_WORDS, TIMEOUT_FROM = "timeout_seconds", "timeout_words", "timeout_from"
STALL_SECONDS, STALL_WORDS, STALL_FROM = "stall_seconds", "stall_words", "stall_from"

_COLUMNS: Mapping[str, TypeEngine[Any]] = {
    **dict.fromkeys((KIND, TIMEOUT_WORDS, STALL_WORDS, TIMEOUT_FROM, STALL_FROM), String()),
    **dict.fromkeys((TIMEOUT_SECONDS, STALL_SECONDS), Float()),
    **dict.fromkeys((STARTED_BEFORE, PREVIOUS_STARTED_BEFORE, CUTOFF, FLOOR, ESTIMATE), sql.INSTANT),
}
_RELATION = reserved_alias("limits")
PARAMETERS = tuple(relation_parameters(_RELATION, _COLUMNS))
"""The parameters of a statement that reads the relation."""


class KindLimits:
    """The relation in the statements of one set of thresholds.

    `by_name`: a kind has a name beside what its column has, and limits may be given for either.
    """

    def __init__(self, thresholds: Thresholds, *, by_name: bool) -> None:
        texts = (text for row in _fixed(thresholds) for text in row if isinstance(text, str))
        self._text_length = max(map(len, texts))
        self._aliases = [_RELATION, *([reserved_alias("limits_by_code")] if by_name else [])]

    def joined(self, jobs: FromClause, kinds: Sequence[Element]) -> FromClause:
        """The jobs with the limits of each of their kinds, the first of which comes first."""
        joined = jobs
        for alias, kind in zip(self._aliases, kinds, strict=True):
            rows = SmallRelation(_RELATION, _COLUMNS, self._text_length).rows(alias)
            joined = joined.outerjoin(rows, rows.c[KIND] == kind)
        return joined

    def limit(self, column: str, default: Element) -> Element:
        """A limit of the job's kind, else `default`."""
        # Not as a column of the relation: a subquery about one job would then read from the relation itself.
        of_kind = [literal_column(f"{alias}.{column}", _COLUMNS[column]) for alias in self._aliases]
        return func.coalesce(*of_kind, default, type_=_COLUMNS[column])


def values(thresholds: Thresholds, context: EvaluationContext, previous: EvaluationContext | None) -> dict[str, Any]:
    """The values of the parameters in one evaluation. Without a previous one, no job was past its timeout then."""
    rows = [
        (*fixed, *_moments(thresholds, kind, context, previous))
        for kind, fixed in zip(thresholds.kinds, _fixed(thresholds), strict=True)
    ]
    return relation_values(_RELATION, _COLUMNS, rows)


def _fixed(thresholds: Thresholds) -> Iterator[tuple[str | float, ...]]:
    """What is the same in each evaluation: of each kind, its name and its thresholds."""
    for kind in thresholds.kinds:
        timeout, stall = thresholds.timeout_of(kind), thresholds.stall_of(kind)
        words = format_duration(timeout.seconds), format_duration(stall.seconds)
        yield kind, *words, timeout.origin, stall.origin, timeout.seconds, stall.seconds


def _moments(
    thresholds: Thresholds, kind: str, context: EvaluationContext, previous: EvaluationContext | None
) -> tuple[datetime, ...]:
    timeout, cutoff = thresholds.timeout_of(kind).seconds, context.cutoffs[thresholds.stall_of(kind).seconds]
    before = previous.seconds_ago(timeout) if previous else DISTANT_PAST
    return context.seconds_ago(timeout), before, cutoff.at, cutoff.not_before, cutoff.earliest_possible
