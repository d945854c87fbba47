"""The limits of the kinds that have thresholds of their own, as a small relation: a row for each kind.

A statement joins the jobs with it, so that its text and its plan are the same however many kinds there are. The rows
are the same in each evaluation: the server makes moments of the thresholds. What the relation does not have is of
another kind: the limits of the source apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Float, FromClause, String, Subquery, case, func, literal_column, select, text
from sqlalchemy.types import TypeEngine

from reaper.common.durations import format_duration
from reaper.model import Threshold, Thresholds
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.relations import SmallRelation, relation_parameters
from reaper.sql.tables import reserved_alias
from reaper.staleness.parameters import NEWEST_CUTOFF, NOW, PREVIOUS_NOW
from reaper.staleness.silence_cutoffs import SilenceCutoffs

KIND = "kind"
STARTED_BEFORE, PREVIOUS_STARTED_BEFORE = "started_before", "previous_started_before"
CUTOFF, FLOOR, ESTIMATE = "cutoff", "floor", "estimate"
EARLIER_CUTOFF = "earlier_cutoff"
"""The cutoff where it is earlier than that of the shortest stall window."""
TIMEOUT_SECONDS, TIMEOUT_WORDS, TIMEOUT_FROM = "timeout_seconds", "timeout_words", "timeout_from"
STALL_SECONDS, STALL_WORDS, STALL_FROM = "stall_seconds", "stall_words", "stall_from"

_THRESHOLDS: Mapping[str, TypeEngine[Any]] = {KIND: String(), TIMEOUT_SECONDS: Float(), STALL_SECONDS: Float()}
_MOMENTS = (STARTED_BEFORE, PREVIOUS_STARTED_BEFORE, CUTOFF, EARLIER_CUTOFF, FLOOR, ESTIMATE)
_WORDS: Mapping[str, TypeEngine[Any]] = dict.fromkeys(
    (KIND, TIMEOUT_WORDS, STALL_WORDS, TIMEOUT_FROM, STALL_FROM), String()
)
_TYPES: Mapping[str, TypeEngine[Any]] = {**_WORDS, **_THRESHOLDS, **dict.fromkeys(_MOMENTS, sql.INSTANT)}
_RELATION, _IN_WORDS = reserved_alias("limits"), reserved_alias("limits_in_words")
PARAMETERS = (*relation_parameters(_RELATION, _THRESHOLDS), *relation_parameters(_IN_WORDS, _WORDS))
"""The parameters of a statement that reads the relation."""
_LONGEST_SECONDS = 1e10
"""A timeout that is longer lies before all moments that count."""


class KindLimits:
    """The relation in the statements of one set of thresholds.

    `by_name`: a kind has a name beside what its column has, and limits may be given for either.
    """

    def __init__(self, thresholds: Thresholds, *, by_name: bool) -> None:
        self._thresholds = thresholds
        self._suffixes = ["", *(["_by_code"] if by_name else [])]

    def joined(self, jobs: FromClause, kinds: Sequence[Element], *, in_words: bool = False) -> FromClause:
        """The jobs with the limits of each of their kinds, the first of which comes first; also as texts `in_words`."""
        joined = jobs
        for suffix, kind in zip(self._suffixes, kinds, strict=True):
            limits: list[FromClause] = [self._limits(f"{_RELATION}{suffix}")]
            if in_words:
                limits.append(SmallRelation(_IN_WORDS, _WORDS, self._words()).rows(f"{_IN_WORDS}{suffix}"))
            for relation in limits:
                joined = joined.outerjoin(relation, relation.c[KIND] == kind)
        return joined

    def limit(self, column: str, default: Element) -> Element:
        """A limit of the job's kind, else `default`."""
        return func.coalesce(*self._columns(column), default, type_=_TYPES[column])

    def earlier_cutoff(self, default: Element) -> Element:
        """The cutoff of the job's kind, else `default`; NULL where it is that of the shortest stall window."""
        of_kinds = zip(self._columns(CUTOFF), self._columns(EARLIER_CUTOFF), strict=True)
        return case(*((cutoff.is_not(None), before) for cutoff, before in of_kinds), else_=earlier(default))

    def _columns(self, column: str) -> list[Element]:
        """The column in the limits of each of the job's kinds."""
        relation = _IN_WORDS if column in _WORDS else _RELATION
        # Not as a column of the relation: a subquery about one job would then read from the relation itself.
        return [literal_column(f"{relation}{suffix}.{column}", _TYPES[column]) for suffix in self._suffixes]

    def _limits(self, alias: str) -> Subquery:
        """The limits of each kind in this evaluation."""
        of_kind = SmallRelation(_RELATION, _THRESHOLDS, self._seconds()).rows(f"{alias}_of_kind")
        cutoffs = SilenceCutoffs(f"{alias}_audible", of_kind.c[STALL_SECONDS])
        longest: Element = literal_column(f"{_LONGEST_SECONDS:.1f}", Float)
        timeout: Element = func.least(of_kind.c[TIMEOUT_SECONDS], longest, type_=Float())
        before = (sql.add_seconds(sql.instant_parameter(now), -timeout) for now in (NOW, PREVIOUS_NOW))
        silence = cutoffs.cutoff, earlier(cutoffs.cutoff), cutoffs.floor, cutoffs.estimate
        moments = zip(_MOMENTS, (*before, *silence), strict=True)
        columns = [*of_kind.c, *(moment.label(name) for name, moment in moments)]
        limits = select(*columns).select_from(cutoffs.joined(of_kind))
        # Distinct for PostgreSQL's planner, which then knows that the join gives one row for each job; and for MariaDB,
        # which then keeps the rows with an index for the join.
        by_kind = text(f"DISTINCT ON ({alias}_of_kind.{KIND})")
        limits = limits.prefix_with(by_kind, dialect="postgresql").prefix_with("DISTINCT", dialect="mysql")
        return limits.prefix_with("DISTINCT", dialect="mariadb").subquery(alias)

    def _seconds(self) -> list[tuple[str, float, float]]:
        return [(kind, timeout.seconds, stall.seconds) for kind, timeout, stall in self._of_kinds()]

    def _words(self) -> list[tuple[str, ...]]:
        return [
            (kind, *(format_duration(limit.seconds) for limit in limits), *(limit.origin for limit in limits))
            for kind, *limits in self._of_kinds()
        ]

    def _of_kinds(self) -> Iterator[tuple[str, Threshold, Threshold]]:
        for kind in self._thresholds.kinds:
            yield kind, self._thresholds.timeout_of(kind), self._thresholds.stall_of(kind)


def earlier(cutoff: Element) -> Element:
    """The cutoff where it is earlier than that of the shortest stall window; NULL elsewhere."""
    return case((cutoff < sql.instant_parameter(NEWEST_CUTOFF), cutoff), else_=sql.null_instant())
