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
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Float,
    FromClause,
    Select,
    String,
    and_,
    case,
    cast,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
)

from reaper.common.durations import format_duration
from reaper.liveness import LivenessReport
from reaper.model import DISTANT_PAST, Threshold, Thresholds, TimestampFormat, Verdict
from reaper.profile import Children, Events, Witness
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness.celery_liveness import CeleryLiveness
from reaper.staleness.downtime import DowntimeTracker, SilenceCutoff

START = "start"
"""The witness of a job that has shown no sign of life since it started."""


@dataclass(frozen=True, slots=True)
class EvaluationContext:
    """What the rule is asked against: the database's clock, and how far back silence reaches.

    `hidden` says why signs of life may be kept from the role; None when it sees them all.
    """

    now: datetime
    cutoffs: Mapping[float, SilenceCutoff]
    liveness: LivenessReport | None = None
    row_security_reason: str | None = None

    @classmethod
    def of(
        cls, downtime: DowntimeTracker, thresholds: Thresholds, liveness: LivenessReport | None = None
    ) -> EvaluationContext:
        stalls = {thresholds.stall.seconds}
        stalls |= {limits.stall.seconds for limits in thresholds.kinds.values() if limits.stall}
        return cls(downtime.now, {stall: downtime.cutoff(stall) for stall in stalls}, liveness)

    def seconds_ago(self, seconds: float) -> datetime:
        """The moment that lies `seconds` back; as far as dates go, when that is too far."""
        try:
            return self.now - timedelta(seconds=seconds)
        except OverflowError:
            return DISTANT_PAST


class SignSource(NamedTuple):
    """Where signs of life stand: the rows that belong to a job, and the moment of each in the form it is stored in.

    Without rows the moment is one of the job's own row, or known from elsewhere.
    """

    rows: Select[Any] | None
    at: Element
    time: TimestampFormat = TimestampFormat.TIMESTAMPTZ


class Rule:
    """The rule for one profile and one set of thresholds."""

    def __init__(
        self, schema: ProfileTables, thresholds: Thresholds, queues: Sequence[str] = (), max_age: float | None = None
    ) -> None:
        self.tables = schema
        self.thresholds = thresholds
        self._jobs = schema.profile.jobs
        self._alive = schema.profile.alive
        self._hearsay = CeleryLiveness(schema, queues)
        self._max_age = max_age

    # --- the parts -----------------------------------------------------------------------------------------

    def started(self, jobs: FromClause) -> Element:
        """The first start column that is not NULL."""
        columns = [self._instant(jobs, name) for name in self._jobs.started]
        return func.coalesce(*columns, type_=sql.INSTANT) if len(columns) > 1 else columns[0]

    def started_from(self, jobs: FromClause) -> Element:
        """The name of the column that `started` took."""
        named = [(jobs.c[name].is_not(None), literal(name, String)) for name in self._jobs.started]
        return case(*named, else_=None)

    def kind(self, jobs: FromClause) -> Element:
        """What the job does, as text."""
        return sql.text_of(jobs.c[self._jobs.kind]) if self._jobs.kind else sql.null_text()

    def signs(self, alive: Witness, jobs: FromClause, context: EvaluationContext) -> SignSource:
        """Where a witness keeps its signs."""
        if alive.events:
            return self._events(alive.events, jobs)
        if alive.children:
            return self._children(alive.children, jobs)
        if alive.column:
            return SignSource(None, self._instant(jobs, alive.column))
        if alive.deadline:
            deadline = self._instant(jobs, alive.deadline)
            return SignSource(None, case((deadline > sql.now(), sql.now()), else_=deadline))
        if alive.celery:
            too_old = self._beyond_max_age(jobs, context)
            return SignSource(None, self._hearsay.sign(alive.celery, jobs, context.liveness, too_old))
        raise ValueError(f"witness {alive.witness!r} has no place where signs stand")

    def _events(self, events: Events, jobs: FromClause) -> SignSource:
        table = self.tables.table(events.table).alias(reserved_alias("sign"))
        mine = [table.c[theirs] == jobs.c[ours] for theirs, ours in events.matching(self._jobs.key).items()]
        time = self.tables.timestamp_format(events.table)
        rows = (
            select(literal(1))
            .select_from(table)
            .where(*mine, self.tables.conditions_hold(events.where, table, events.table))
            .correlate(jobs)
        )
        if len(events.at) == 1:
            return SignSource(rows, table.c[events.at[0]], time)
        return SignSource(rows, sql.newest(*(sql.to_instant(table.c[at], time) for at in events.at)))

    def _children(self, children: Children, jobs: FromClause) -> SignSource:
        child = self.tables.jobs.alias(reserved_alias("child"))
        moments = [self._instant(child, name) for name in children.at]
        at: Element = case((self.tables.running(child), sql.now()), else_=sql.newest(*moments))
        parent = [child.c[name] for name in children.parent]
        mine = ProfileTables.keys_equal(parent, self.tables.key(jobs))
        itself = ProfileTables.keys_equal(self.tables.key(child), self.tables.key(jobs))
        # Follows from `mine`, but not for the planner: without it, it reads every job there has ever been.
        child_of_any = [column.is_not(None) for column in parent]
        rows = select(literal(1)).select_from(child).where(mine, not_(itself), *child_of_any).correlate(jobs)
        return SignSource(rows, at)

    def _instant(self, jobs: FromClause, column: str) -> Element:
        return self.tables.instant(self._jobs.table, jobs.c[column])

    # --- the rule ------------------------------------------------------------------------------------------

    def older_than_timeout(self, jobs: FromClause, context: EvaluationContext) -> ColumnElement[bool]:
        """Started longer ago than its timeout, whether it still runs or not."""
        usual = self.started(jobs) < self._by_kind(jobs, lambda t, _: sql.instant(context.seconds_ago(t.seconds)))
        own = self._own_timeout(jobs)
        if own is None:
            return usual
        age = sql.seconds_between(sql.instant(context.now), self.started(jobs))
        return case((own.is_not(None), age > own), else_=usual)

    def _own_timeout(self, jobs: FromClause) -> Element | None:
        """The timeout that stands in the row, in seconds; NULL for none, which many spell 0 or -1."""
        limits = self.tables.profile.limits
        if limits is None:
            return None
        column = jobs.c[limits.timeout.column]
        return case((column > literal(0), cast(column, sql.FLOAT) * limits.timeout.seconds), else_=null())

    def past_timeout(self, jobs: FromClause, context: EvaluationContext) -> ColumnElement[bool]:
        """Running, and for longer than its timeout."""
        return and_(self.tables.running(jobs), self.older_than_timeout(jobs, context))

    def most_overdue(self, jobs: FromClause, context: EvaluationContext) -> Element:
        """An aggregate: how many times its timeout the job furthest past it has been running; NULL where none runs.

        It means nothing where none is past its timeout.
        """
        timeout = self._timeout(jobs)["timeout_seconds"]
        now, limit = sql.epoch(sql.instant(context.now)), func.nullif(timeout, 0)
        if isinstance(timeout, BindParameter):
            # One for all: then it is the oldest, which costs nothing to find.
            return (now - sql.epoch(func.min(self.started(jobs)))) / limit
        times = (now - sql.epoch(self.started(jobs))) / limit
        return func.max(case((self.older_than_timeout(jobs, context), times), else_=null()))

    def silent(self, jobs: FromClause, context: EvaluationContext) -> ColumnElement[bool]:
        """No sign of life since the cutoff, not even the start, and no witness that could not be asked."""
        return and_(
            self.started(jobs) < self._cutoff(jobs, context),
            *(self._no_sign_since_cutoff(alive, jobs, context) for alive in self._alive),
            not_(self.unknown(jobs, context)),
        )

    def has_recent_sign(self, jobs: FromClause, context: EvaluationContext) -> ColumnElement[bool]:
        """The contrary of `silent`, by the newest signs.

        For few rows of many: the planner cannot answer it by reading all signs since the cutoff.
        """
        return or_(self.last_sign(jobs, context) >= self._cutoff(jobs, context), self.unknown(jobs, context))

    def last_sign(self, jobs: FromClause, context: EvaluationContext) -> Element:
        """The newest sign of life, else the start."""
        return sql.newest(self.started(jobs), *self.newest_signs(jobs, context))

    def unknown(self, jobs: FromClause, context: EvaluationContext) -> ColumnElement[bool]:
        """A witness could not be asked about the job: it may be alive."""
        return self._hearsay.unknown(jobs, context.liveness)

    def why_unknown(self, jobs: FromClause, context: EvaluationContext) -> Element:
        """Which witness could not be asked, in words; NULL when all could."""
        return self._hearsay.why_unknown(jobs, context.liveness)

    def _beyond_max_age(self, jobs: FromClause, context: EvaluationContext) -> ColumnElement[bool]:
        """So old that even a worker which executes the job does not keep it alive."""
        if self._max_age is None:
            return false()
        return self.started(jobs) < sql.instant(context.seconds_ago(self._max_age))

    def stale(self, jobs: FromClause, context: EvaluationContext) -> ColumnElement[bool]:
        """Running, past its timeout, and silent: to be ended."""
        return and_(self.past_timeout(jobs, context), self.silent(jobs, context))

    def still_stale(self, jobs: FromClause, context: EvaluationContext) -> ColumnElement[bool]:
        """The same, for a few jobs that are given by their keys.

        A planner with old statistics may answer `silent` by reading all signs since the cutoff. Among those is every
        audit event of the sweep itself: batch by batch, there would be more of them to read.
        """
        return and_(self.past_timeout(jobs, context), not_(self.has_recent_sign(jobs, context)))

    def _no_sign_since_cutoff(
        self, alive: Witness, jobs: FromClause, context: EvaluationContext
    ) -> ColumnElement[bool]:
        signs, cutoff = self.signs(alive, jobs, context), self._cutoff(jobs, context)
        if signs.rows is None:
            return func.coalesce(signs.at < cutoff, True)
        # The cutoff is put into the column's own form, not the other way round: an index on the column is then used.
        return not_(signs.rows.where(signs.at >= sql.from_instant(cutoff, signs.time)).exists())

    def verdict(self, jobs: FromClause, context: EvaluationContext) -> Element:
        """The name of the verdict on any row of the table, running or not."""
        return case(
            (
                func.coalesce(self.tables.running(jobs), False).is_(False),
                literal(Verdict.ENDED.value, String),
            ),
            (self.still_stale(jobs, context), literal(Verdict.STALE.value, String)),
            (self.past_timeout(jobs, context), literal(Verdict.SPARED.value, String)),
            else_=literal(Verdict.YOUNG.value, String),
        )

    # --- what a verdict rests on ----------------------------------------------------------------------------

    def newest_signs(
        self, jobs: FromClause, context: EvaluationContext, witnesses: Sequence[Witness] | None = None
    ) -> list[Element]:
        """The newest sign of each witness, or of these, in their order; NULL where there is none."""
        found: list[Element] = []
        for alive in self._alive if witnesses is None else witnesses:
            signs = self.signs(alive, jobs, context)
            at = signs.at
            if signs.rows is not None:
                at = sql.to_instant(signs.rows.with_only_columns(func.max(at)).scalar_subquery(), signs.time)
            found.append(at)
        return found

    def limits(self, jobs: FromClause, context: EvaluationContext) -> dict[str, Element]:
        """The thresholds that apply to a row, where each came from, and how far back silence reaches."""
        return {
            **self._timeout(jobs),
            "stall_words": self._by_kind(jobs, lambda _, s: literal(format_duration(s.seconds), String)),
            "stall_seconds": self._by_kind(jobs, lambda _, s: literal(s.seconds, Float)),
            "stall_from": self._by_kind(jobs, lambda _, s: literal(s.origin, String)),
            "audible_since": self._cutoff(jobs, context),
            "floor": self._by_kind(jobs, lambda _, s: sql.instant(context.cutoffs[s.seconds].not_before)),
            "estimate": self._by_kind(jobs, lambda _, s: sql.instant(context.cutoffs[s.seconds].earliest_possible)),
        }

    def _timeout(self, jobs: FromClause) -> dict[str, Element]:
        """The row's own timeout, or else the kind's, and so on."""
        usual = {
            "timeout_seconds": self._by_kind(jobs, lambda t, _: literal(t.seconds, Float)),
            "timeout_from": self._by_kind(jobs, lambda t, _: literal(t.origin, String)),
            "timeout_words": self._by_kind(jobs, lambda t, _: literal(format_duration(t.seconds), String)),
        }
        own, limits = self._own_timeout(jobs), self.tables.profile.limits
        if own is None or limits is None:
            return usual
        place = literal(f"column {limits.timeout.column}", String)
        mine = {"timeout_seconds": own, "timeout_from": place, "timeout_words": sql.duration_text(own)}
        return {name: case((own.is_not(None), mine[name]), else_=value) for name, value in usual.items()}

    def _cutoff(self, jobs: FromClause, context: EvaluationContext) -> Element:
        return self._by_kind(jobs, lambda _, s: sql.instant(context.cutoffs[s.seconds].at))

    def _by_kind(self, jobs: FromClause, of: Callable[[Threshold, Threshold], Element]) -> Element:
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
