"""The one rule of what is stale, as one SQL expression.

    last_sign = the newest sign of life among the profile's witnesses, else the start
    stale     = running
                and started   < now - timeout(kind)
                and last_sign < cutoff(stall(kind))

Sweep, dry run, report, explain and the API all have the database evaluate this rule; nothing evaluates it in Python. It
has two forms, made here from the same parts: "no sign since the cutoff" of each witness, for the survey of a whole
table, where the planner can stop at the first witness with a sign; and "the newest sign is older than the cutoff", for
jobs that are given by their keys. A test holds the two equal. Thresholds reach the database as moments of its own
clock, which are parameters: see `reaper.staleness.parameters`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Float,
    FromClause,
    Numeric,
    String,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
)

from reaper.common.durations import format_duration
from reaper.common.messages import FIRST_SEEN
from reaper.model import Threshold, Verdict
from reaper.profile import Witness
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness import parameters
from reaper.staleness.celery_liveness import CeleryLiveness
from reaper.staleness.counted_signs import CountedSigns
from reaper.staleness.first_seen import first_seen
from reaper.staleness.future_signs import may_be_ahead
from reaper.staleness.parameters import RuleParameters
from reaper.staleness.signs import Signs
from reaper.staleness.unknown_moments import UnknownMoments

_SHORTEST_TIMEOUT, _LONGEST_TIMEOUT = 1e-3, 1e10
"""What a timeout in a job's own row may be, in seconds."""

START = "start"
"""The witness of a job that has shown no sign of life since its start."""


class Rule:
    """The rule for one profile and one set of thresholds, whose values are parameters of the statement.

    For one thread: SQLAlchemy's objects are not shared between threads.
    """

    def __init__(self, tables: ProfileTables, rule_parameters: RuleParameters) -> None:
        self.tables = tables
        self._thresholds = rule_parameters.thresholds
        self._jobs = tables.profile.jobs
        self._witnesses = tables.profile.alive
        self._celery = CeleryLiveness(tables)
        has_max_age = rule_parameters.max_age_seconds is not None
        self._written_signs = Signs(tables, self._celery, has_max_age=has_max_age)
        self._signs = CountedSigns(tables, self._written_signs)
        self._moments = UnknownMoments(tables, self._written_signs, rule_parameters.columns_without_zone)

    # --- the rule ------------------------------------------------------------------------------------------

    def stale(self, jobs: FromClause) -> ColumnElement[bool]:
        """Running, past its timeout, and silent: to be ended."""
        return and_(self.past_timeout(jobs), self.silent(jobs))

    def still_stale(self, jobs: FromClause) -> ColumnElement[bool]:
        """The same, for a few jobs that are given by their keys.

        A planner with old statistics may answer `silent` by reading all signs since the cutoff. Among those is every
        audit event of the sweep itself: with each batch, there would be more of them to read.
        """
        return and_(self.past_timeout(jobs), not_(self.has_recent_sign(jobs)))

    def past_timeout(self, jobs: FromClause) -> ColumnElement[bool]:
        """Running, and for longer than its timeout."""
        return and_(self.tables.running(jobs), self.older_than_timeout(jobs))

    def older_than_timeout(self, jobs: FromClause, *, previously: bool = False) -> ColumnElement[bool]:
        """Started longer ago than its timeout, running or not; `previously`: at the previous evaluation."""
        started_before = parameters.PREVIOUS_STARTED_BEFORE if previously else parameters.STARTED_BEFORE
        by_thresholds = self.started(jobs) < self._moment_by_kind(jobs, started_before)
        own_timeout = self._own_timeout(jobs)
        if own_timeout is None:
            return by_thresholds
        now = sql.instant_parameter(parameters.PREVIOUS_NOW if previously else parameters.NOW)
        # A start before all time has no age that could be compared: it is past every timeout.
        past_own = func.coalesce(sql.seconds_between(now, self.started(jobs)) > own_timeout, self.started(jobs) < now)
        return case((own_timeout.is_not(None), past_own), else_=by_thresholds)

    def silent(self, jobs: FromClause) -> ColumnElement[bool]:
        """No sign of life since the cutoff, not even the start, and no witness that could not be asked."""
        return and_(
            self.started(jobs) < self._cutoff(jobs),
            *(self._signs.none_since(witness, jobs, self._cutoff(jobs)) for witness in self._witnesses),
            not_(self.unknown(jobs)),
        )

    def has_recent_sign(self, jobs: FromClause) -> ColumnElement[bool]:
        """The opposite of `silent`, by the newest signs.

        For a few rows of many: the planner cannot answer it by reading all signs since the cutoff.
        """
        return or_(self.last_sign(jobs) >= self._cutoff(jobs), self.unknown(jobs))

    def last_sign(self, jobs: FromClause) -> Element:
        """The newest sign of life, else the start."""
        return sql.newest(self.started(jobs), *self.newest_signs(jobs))

    def unknown(self, jobs: FromClause) -> ColumnElement[bool]:
        """A witness could not be asked about the job, or the moments of one are unknown: it may be alive."""
        return or_(self._celery.unknown(jobs), self._moments.unknown(jobs))

    def verdict(self, jobs: FromClause) -> Element:
        """The name of the verdict on any row of the table, running or not."""
        return case(
            (
                func.coalesce(self.tables.running(jobs), False).is_(False),
                literal(Verdict.ENDED.value, String),
            ),
            (self.still_stale(jobs), literal(Verdict.STALE.value, String)),
            (self.past_timeout(jobs), literal(Verdict.SPARED.value, String)),
            else_=literal(Verdict.YOUNG.value, String),
        )

    def started(self, jobs: FromClause) -> Element:
        """The start; where no column has one, when the reaper first saw the job; NULL where it has not yet."""
        return func.coalesce(self.tables.started(jobs), first_seen(self.tables, jobs), type_=sql.INSTANT)

    # --- its parts, for evidence and messages ---------------------------------------------------------------

    def started_from(self, jobs: FromClause) -> Element:
        """The name of the column that holds the start: the first start column that has a moment. Where the start
        was lost, also of which entry.
        """
        which = " of its first known entry" if self.tables.start_lost else ""
        starts = [(name, self.tables.start(jobs, name)) for name in self._jobs.started]
        columns = [(start.is_not(None), literal(f"{name}{which}", String)) for name, start in starts]
        by_reaper = (first_seen(self.tables, jobs).is_not(None), literal(FIRST_SEEN, String))
        return case(*columns, by_reaper, else_=None)

    def kind(self, jobs: FromClause) -> Element:
        """The job's kind, as text: its name where the profile says where that is and a row has it."""
        if self._jobs.kind is None:
            return sql.null_text()
        kind, kind_name = sql.text_of(jobs.c[self._jobs.kind]), self._jobs.kind_name
        if kind_name is None:
            return kind
        names = self.tables.table(kind_name.table).alias(reserved_alias("kind"))
        same = [names.c[theirs] == jobs.c[ours] for theirs, ours in kind_name.match.items()]
        # An aggregate: the database need not know that there is one row at most.
        name = select(func.max(sql.text_of(names.c[kind_name.column]))).where(*same).correlate(jobs).scalar_subquery()
        return func.coalesce(name, kind)

    def newest_signs(self, jobs: FromClause, witnesses: Sequence[Witness] | None = None) -> list[Element]:
        """The newest sign of each witness of the profile, or of these, as it counts; NULL where there is none."""
        return [self._signs.newest(witness, jobs) for witness in (self._witnesses if witnesses is None else witnesses)]

    def newest_as_written(self, witness: Witness, jobs: FromClause) -> Element:
        """The newest sign of a witness as it is stored, in the future or not; NULL without one."""
        signs = self._written_signs.of(witness, jobs)
        if signs.rows is None:
            return signs.at
        return sql.to_instant(signs.rows.with_only_columns(func.max(signs.at)).scalar_subquery(), signs.time)

    def newest_signs_until_now(self, jobs: FromClause, witnesses: Sequence[Witness]) -> list[Element]:
        """The newest sign of each of these witnesses that is not in the future; NULL where there is none."""
        return [self._signs.newest_until_now(witness, jobs) for witness in witnesses]

    def newest_in_future(self, jobs: FromClause) -> Element:
        """The newest sign in the future, as it was written; NULL where there is none."""
        ahead = [self._signs.newest_ahead(witness, jobs) for witness in self._witnesses if may_be_ahead(witness)]
        return sql.newest(*ahead) if ahead else sql.null_instant()

    def signs_in_future(self, witness: Witness, jobs: FromClause) -> tuple[ColumnElement[bool], Element]:
        """Whether a job has signs of this witness in the future, and their state."""
        return self._signs.has_ahead(witness, jobs), self._signs.state(witness, jobs)

    def remembered_in_future(self, key_text: Sequence[Element]) -> Element:
        """What is remembered of a job's signs in the future, as a text; NULL where nothing is."""
        ahead = [witness for witness in self._witnesses if may_be_ahead(witness)]
        states = [self._signs.remembered_state(witness, key_text) for witness in ahead]
        return func.coalesce(*states, type_=String) if states else sql.null_text()

    def why_unknown(self, jobs: FromClause) -> Element:
        """Which witness could not be asked, or which moments are unknown, as a text; NULL when all are known."""
        return func.coalesce(self._celery.why_unknown(jobs), self._moments.why(jobs), type_=String)

    @property
    def may_be_unknown(self) -> bool:
        """Whether there are jobs of which something may be unknown."""
        return self.tables.profile.task is not None or self._moments.possible

    def most_overdue(self, jobs: FromClause) -> Element:
        """An aggregate: the age of the job furthest past its timeout, as a multiple of that; NULL where none runs.

        Without meaning where no job is past its timeout.
        """
        timeout = self._timeout(jobs)["timeout_seconds"]
        now, limit = sql.epoch(sql.instant_parameter(parameters.NOW)), func.nullif(timeout, 0)
        if isinstance(timeout, BindParameter):
            # One timeout for all jobs: then it is the oldest job, which costs nothing to find.
            return (now - sql.epoch(func.min(self.started(jobs)))) / limit
        multiple = (now - sql.epoch(self.started(jobs))) / limit
        return func.max(case((self.older_than_timeout(jobs), multiple), else_=null()))

    # --- thresholds -------------------------------------------------------------------------------------------

    def limits(self, jobs: FromClause) -> dict[str, Element]:
        """The thresholds that apply to a row, where each came from, and how far back silence reaches."""
        return {
            **self._timeout(jobs),
            "stall_words": self._by_kind(jobs, lambda _, s: literal(format_duration(s.seconds), String)),
            "stall_seconds": self._by_kind(jobs, lambda _, s: literal(s.seconds, Float)),
            "stall_from": self._by_kind(jobs, lambda _, s: literal(s.origin, String)),
            "audible_since": self._cutoff(jobs),
            "floor": self._moment_by_kind(jobs, parameters.FLOOR),
            "estimate": self._moment_by_kind(jobs, parameters.ESTIMATE),
        }

    def _timeout(self, jobs: FromClause) -> dict[str, Element]:
        """The timeout in the job's own row, else that of its kind, else that of the source."""
        by_thresholds = {
            "timeout_seconds": self._by_kind(jobs, lambda t, _: literal(t.seconds, Float)),
            "timeout_from": self._by_kind(jobs, lambda t, _: literal(t.origin, String)),
            "timeout_words": self._by_kind(jobs, lambda t, _: literal(format_duration(t.seconds), String)),
        }
        own_timeout, limits = self._own_timeout(jobs), self.tables.profile.limits
        if own_timeout is None or limits is None:
            return by_thresholds
        origin = literal(f"column {limits.timeout.column}", String)
        own = {
            "timeout_seconds": own_timeout,
            "timeout_from": origin,
            "timeout_words": sql.duration_text(own_timeout),
        }
        return {name: case((own_timeout.is_not(None), own[name]), else_=value) for name, value in by_thresholds.items()}

    def _own_timeout(self, jobs: FromClause) -> Element | None:
        """The timeout in the job's own row, in seconds; NULL for none, which many systems write as 0 or -1.

        What no duration can be is the longest or the shortest: one such row must not make the statement fail for all.
        """
        limits = self.tables.profile.limits
        if limits is None:
            return None
        column, unit = limits.timeout.column, limits.timeout.seconds
        duration: Element = jobs.c[column]
        if self.tables.profile.column_kinds.get(self._jobs.table, {}).get(column) in ("interval", "time"):
            duration, unit = sql.interval_seconds(duration), 1.0
        return case(
            (duration >= _exact(_LONGEST_TIMEOUT / unit), literal(_LONGEST_TIMEOUT, sql.FLOAT)),
            (duration >= _exact(_SHORTEST_TIMEOUT / unit), cast(duration, sql.FLOAT) * unit),
            (duration > literal(0), literal(_SHORTEST_TIMEOUT, sql.FLOAT)),
            else_=null(),
        )

    def _cutoff(self, jobs: FromClause) -> Element:
        """The moment since which the job must have shown a sign of life."""
        return self._moment_by_kind(jobs, parameters.CUTOFF)

    def _moment_by_kind(self, jobs: FromClause, name: str) -> Element:
        """The parameter with this name for the job's kind, else that of the source."""
        names = (name.format(n) for n in range(len(self._thresholds.by_kind)))
        return self._choice_by_kind(jobs, map(sql.instant_parameter, names))

    def _by_kind(self, jobs: FromClause, value_of: Callable[[Threshold, Threshold], Element]) -> Element:
        """A value from the timeout and the stall window of the job's kind, else from those of the source."""
        return self._choice_by_kind(jobs, (value_of(timeout, stall) for _, timeout, stall in self._thresholds.by_kind))

    def _choice_by_kind(self, jobs: FromClause, values: Iterable[Element]) -> Element:
        """The value for the job's kind; `values` are in the order of `Thresholds.by_kind`."""
        default, *others = values
        if not others or not self._jobs.kind:
            return default
        whens: Sequence[tuple[ColumnElement[bool], Element]] = [
            (self._is_of_kind(jobs, kind), value) for kind, value in zip(self._thresholds.kinds, others, strict=True)
        ]
        return case(*whens, else_=default)

    def _is_of_kind(self, jobs: FromClause, kind: str) -> ColumnElement[bool]:
        """The job's kind has this name, or this is what its column has."""
        is_named: ColumnElement[bool] = self.kind(jobs) == literal(kind, String)
        if self._jobs.kind is None or self._jobs.kind_name is None:
            return is_named
        return or_(is_named, sql.text_of(jobs.c[self._jobs.kind]) == literal(kind, String))


def _exact(number: float) -> Element:
    """A decimal number, with which a column of any numeric type can be compared: not all decimals fit into a float."""
    return literal_column(f"{number:.12f}", Numeric)
