"""The one rule of what is stale, as one SQL expression.

    last_sign = the newest sign of life among the profile's witnesses, else the start
    stale     = running
                and started   < now - timeout(kind)
                and last_sign < cutoff(stall(kind))

Sweep, dry run, report, explain and the API ask the database this rule, and nothing renders it in Python. It has two
shapes, made here from the same parts: "no sign since the cutoff" of each witness, for the survey of a whole table,
which lets the planner stop at the first witness that has one; and "the newest sign is older than the cutoff", for
jobs that are given by their keys. A test holds them equal. Thresholds reach the database as bound moments of its own
clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Float,
    FromClause,
    Select,
    String,
    and_,
    case,
    func,
    literal,
    not_,
    select,
)

from reaper import sql
from reaper.duration import in_words
from reaper.hearing import LONG_AGO, Cutoff, Hearing
from reaper.model import Limit, Thresholds, Verdict
from reaper.profile import Alive
from reaper.schema import Schema, own_name
from reaper.sql import Element

START = "start"
"""The witness of a job that has shown no sign of life since it started."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What the rule is asked against: the database's clock, and how far back silence reaches."""

    now: datetime
    cutoffs: Mapping[float, Cutoff]

    @classmethod
    def of(cls, hearing: Hearing, thresholds: Thresholds) -> Moment:
        stalls = {thresholds.stall.seconds}
        stalls |= {limits.stall.seconds for limits in thresholds.kinds.values() if limits.stall}
        return cls(hearing.now, {stall: hearing.cutoff(stall) for stall in stalls})

    def past(self, seconds: float) -> datetime:
        """The moment that lies `seconds` back; as far as dates go, when that is too far."""
        try:
            return self.now - timedelta(seconds=seconds)
        except OverflowError:
            return LONG_AGO


class Rule:
    """The rule for one profile and one set of thresholds."""

    def __init__(self, schema: Schema, thresholds: Thresholds) -> None:
        self.schema = schema
        self.thresholds = thresholds
        self._jobs = schema.profile.jobs
        self._alive = schema.profile.alive

    # --- the parts -----------------------------------------------------------------------------------------

    def started(self, jobs: FromClause) -> Element:
        """The first start column that is not NULL."""
        columns = [jobs.c[name] for name in self._jobs.started]
        return func.coalesce(*columns, type_=sql.INSTANT) if len(columns) > 1 else columns[0]

    def started_from(self, jobs: FromClause) -> Element:
        """The name of the column that `started` took."""
        named = [(jobs.c[name].is_not(None), literal(name, String)) for name in self._jobs.started]
        return case(*named, else_=None)

    def kind(self, jobs: FromClause) -> Element:
        """What the job does, as text."""
        return sql.text_of(jobs.c[self._jobs.kind]) if self._jobs.kind else sql.no_text()

    def signs(self, alive: Alive, jobs: FromClause) -> tuple[Select[tuple[datetime]] | None, Element]:
        """Where a witness keeps its signs: the rows of a job and the moment of each, or a column of its own."""
        if alive.events:
            table = self.schema.table(alive.events.table).alias(own_name("sign"))
            written: Element = table.c[alive.events.at]
            mine = Schema.same([table.c[name] for name in alive.events.job], self.schema.key(jobs))
            return select(written).where(mine), written
        if alive.children:
            child = self.schema.jobs.alias(own_name("child"))
            moments = [child.c[name] for name in alive.children.at]
            at: Element = case((self.schema.running(child), sql.now()), else_=sql.newest(*moments))
            parent = [child.c[name] for name in alive.children.parent]
            mine = Schema.same(parent, self.schema.key(jobs))
            itself = Schema.same(self.schema.key(child), self.schema.key(jobs))
            # Follows from `mine`, but not for the planner: without it, it reads every job there has ever been.
            child_of_any = [column.is_not(None) for column in parent]
            return select(at).where(mine, not_(itself), *child_of_any), at
        if alive.column is None:
            raise ValueError(f"witness {alive.witness!r} has no place where signs stand")
        return None, jobs.c[alive.column]

    # --- the rule ------------------------------------------------------------------------------------------

    def began_before_limit(self, jobs: FromClause, moment: Moment) -> ColumnElement[bool]:
        """Started longer ago than its timeout, whether it still runs or not."""
        return self.started(jobs) < self._by_kind(jobs, lambda t, _: sql.instant(moment.past(t.seconds)))

    def past_timeout(self, jobs: FromClause, moment: Moment) -> ColumnElement[bool]:
        """Running, and for longer than its timeout."""
        return and_(self.schema.running(jobs), self.began_before_limit(jobs, moment))

    def silent(self, jobs: FromClause, moment: Moment) -> ColumnElement[bool]:
        """No sign of life since the cutoff, not even the start."""
        cutoff = self._cutoff(jobs, moment)
        return and_(self.started(jobs) < cutoff, *(self._unheard(a, jobs, cutoff) for a in self._alive))

    def heard(self, jobs: FromClause, moment: Moment) -> ColumnElement[bool]:
        """The contrary of `silent`, by the newest signs.

        For few rows of many: the planner cannot answer it by reading all signs since the cutoff.
        """
        signs = [self.started(jobs), *self.newest_signs(jobs)]
        return sql.newest(*signs) >= self._cutoff(jobs, moment)

    def stale(self, jobs: FromClause, moment: Moment) -> ColumnElement[bool]:
        """Running, past its timeout, and silent: to be ended."""
        return and_(self.past_timeout(jobs, moment), self.silent(jobs, moment))

    def still_stale(self, jobs: FromClause, moment: Moment) -> ColumnElement[bool]:
        """The same, for a few jobs that are given by their keys.

        A planner with old statistics may answer `silent` by reading all signs since the cutoff. Among those is every
        audit event of the sweep itself: batch by batch, there would be more of them to read.
        """
        return and_(self.past_timeout(jobs, moment), not_(self.heard(jobs, moment)))

    def _unheard(self, alive: Alive, jobs: FromClause, cutoff: Element) -> ColumnElement[bool]:
        rows, at = self.signs(alive, jobs)
        if rows is None:
            return func.coalesce(at < cutoff, True)
        return not_(rows.where(at >= cutoff).exists())

    def verdict(self, jobs: FromClause, moment: Moment) -> Element:
        """The name of the verdict on any row of the table, running or not."""
        return case(
            (
                func.coalesce(self.schema.running(jobs), False).is_(False),
                literal(Verdict.ENDED.value, String),
            ),
            (self.still_stale(jobs, moment), literal(Verdict.STALE.value, String)),
            (self.past_timeout(jobs, moment), literal(Verdict.SPARED.value, String)),
            else_=literal(Verdict.YOUNG.value, String),
        )

    # --- what a verdict rests on ----------------------------------------------------------------------------

    def newest_signs(self, jobs: FromClause) -> list[Element]:
        """The newest sign of each witness, in the profile's order; NULL where there is none."""
        found: list[Element] = []
        for alive in self._alive:
            rows, at = self.signs(alive, jobs)
            found.append(at if rows is None else rows.with_only_columns(func.max(at)).scalar_subquery())
        return found

    def limits(self, jobs: FromClause, moment: Moment) -> dict[str, Element]:
        """The thresholds that apply to a row, where each came from, and how far back silence reaches."""
        return {
            "timeout_seconds": self._by_kind(jobs, lambda t, _: literal(t.seconds, Float)),
            "timeout_from": self._by_kind(jobs, lambda t, _: literal(t.origin, String)),
            "timeout_words": self._by_kind(jobs, lambda t, _: literal(in_words(t.seconds), String)),
            "stall_words": self._by_kind(jobs, lambda _, s: literal(in_words(s.seconds), String)),
            "stall_seconds": self._by_kind(jobs, lambda _, s: literal(s.seconds, Float)),
            "stall_from": self._by_kind(jobs, lambda _, s: literal(s.origin, String)),
            "audible_since": self._cutoff(jobs, moment),
            "floor": self._by_kind(jobs, lambda _, s: sql.instant(moment.cutoffs[s.seconds].floor)),
            "estimate": self._by_kind(jobs, lambda _, s: sql.instant(moment.cutoffs[s.seconds].estimate)),
        }

    def _cutoff(self, jobs: FromClause, moment: Moment) -> Element:
        return self._by_kind(jobs, lambda _, s: sql.instant(moment.cutoffs[s.seconds].at))

    def _by_kind(self, jobs: FromClause, of: Callable[[Limit, Limit], Element]) -> Element:
        """A value per kind: what the kind's own thresholds make of it, else what the source's do."""
        default = of(self.thresholds.timeout, self.thresholds.stall)
        if not self.thresholds.kinds or not self._jobs.kind:
            return default
        whens: Sequence[tuple[ColumnElement[bool], Element]] = [
            (
                self.kind(jobs) == literal(kind, String),
                of(self.thresholds.timeout_of(kind), self.thresholds.stall_of(kind)),
            )
            for kind in self.thresholds.kinds
        ]
        return case(*whens, else_=default)
