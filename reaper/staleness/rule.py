"""The one rule of what is stale, as one SQL expression.

    last_sign = the newest sign of life among the profile's witnesses, else the start
    stale     = running
                and (started   < now - timeout(kind) and last_sign < cutoff(stall(kind))
                     or worker_lost)

`worker_lost` is false but for sources that ask for it: see `reaper.staleness.lost_workers`. It is judged apart, since a
job that is stale for it alone has a reason of its own.

Sweep, dry run, report, explain and the API all have the database evaluate this rule; nothing evaluates it in Python. It
has two forms, made here from the same parts: "no sign since the cutoff" of each witness, for the survey of a whole
table, where the planner can stop at the first witness with a sign; and "the newest sign is older than the cutoff", for
jobs that are given by their keys. A test holds the two equal. Thresholds reach the database as moments of its own
clock, which are parameters: see `reaper.staleness.parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Float,
    FromClause,
    String,
    and_,
    case,
    false,
    func,
    literal,
    not_,
    or_,
    select,
)

from reaper.common.durations import format_duration
from reaper.common.messages import FIRST_SEEN
from reaper.model import Verdict
from reaper.profile import Witness
from reaper.profile.columns import TableColumn
from reaper.profile.profile import LimitColumn
from reaper.sql import expressions as sql
from reaper.sql.expressions import Element
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness import kind_limits, parameters
from reaper.staleness.batch_children import BatchChildren, IsOfBatch
from reaper.staleness.celery_liveness import CeleryLiveness
from reaper.staleness.effective_signs import CountedSigns
from reaper.staleness.first_seen import first_seen
from reaper.staleness.future_signs import may_be_ahead
from reaper.staleness.kind_limits import KindLimits
from reaper.staleness.own_limits import own_limit
from reaper.staleness.parameters import RuleParameters
from reaper.staleness.signs import Signs
from reaper.staleness.silence_cutoffs import SilenceCutoffs
from reaper.staleness.unknown_moments import UnknownMoments
from reaper.staleness.worker_states import WorkerStates

_OWN_STALL = reserved_alias("own_stall")
_RUNNING, _LATE, _UNKNOWN, _WORKER_LOST = "is_running", "is_late", "is_unknown", "is_worker_lost"

START = "start"
"""The witness of a job that has shown no sign of life since its start."""


class Rule:
    """The rule for one profile and one set of thresholds, whose values are parameters of the statement.

    For one thread: SQLAlchemy's objects are not shared between threads.
    """

    def __init__(
        self,
        tables: ProfileTables,
        rule_parameters: RuleParameters,
        is_of_batch: IsOfBatch | None = None,
        *,
        without_reaps: bool = False,
    ) -> None:
        """`is_of_batch`: see `of_batch`; `without_reaps`: see `without_reaps`."""
        self.tables = tables
        self._parameters = rule_parameters
        self._thresholds = rule_parameters.thresholds
        self._jobs = tables.profile.jobs
        self._witnesses = tables.profile.alive
        self._celery = CeleryLiveness(tables)
        has_kinds = bool(self._thresholds.kinds) and self._jobs.kind is not None
        self._kind_limits = (
            KindLimits(self._thresholds, by_name=self._jobs.kind_name is not None) if has_kinds else None
        )
        has_max_age = rule_parameters.max_age_seconds is not None
        self._written_signs = signs = Signs(tables, self._celery, has_max_age=has_max_age, without_reaps=without_reaps)
        batch = None if is_of_batch is None else BatchChildren(tables, signs, is_of_batch)
        self._signs = CountedSigns(tables, signs, batch)
        self._moments = UnknownMoments(tables, signs, rule_parameters.columns_without_zone)
        worker = tables.profile.worker if rule_parameters.gone_after_seconds is not None else None
        self.worker_states = None if worker is None else WorkerStates(tables, worker)
        """The workers that may be gone; None where no job is stale for its worker."""

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

    def worker_lost(self, jobs: FromClause) -> ColumnElement[bool]:
        """Running, and its worker is gone: to be ended, past its timeout or not.

        No other witness has seen a sign of life since the worker would have been gone, and none is unknown. A start is
        a sign: a worker that took a job since then has not been gone for so long.
        """
        if self.worker_states is None:
            return false()
        cutoff = sql.instant_parameter(parameters.GONE_CUTOFF)
        others = self.newest_signs(jobs, [witness for witness in self._witnesses if witness.worker is None])
        return and_(
            self.tables.running(jobs),
            self.worker_states.is_gone(jobs),
            self.started(jobs) < cutoff,
            *(func.coalesce(sign < cutoff, True) for sign in others),
            not_(self.unknown(jobs)),
        )

    def lost_alone(self, jobs: FromClause) -> ColumnElement[bool]:
        """Stale only because its worker is gone. For statements that read from `from_jobs`."""
        if self.worker_states is None:
            return false()
        return and_(self.worker_lost(jobs), not_(func.coalesce(self.still_stale(jobs), False)))

    def past_timeout(self, jobs: FromClause) -> ColumnElement[bool]:
        """Running, and for longer than its timeout."""
        return and_(self.tables.running(jobs), self.older_than_timeout(jobs))

    def older_than_timeout(self, jobs: FromClause, *, previously: bool = False) -> ColumnElement[bool]:
        """Started longer ago than its timeout, running or not; `previously`: at the previous evaluation."""
        return self._started_before(jobs, self.started_before(previously=previously), previously=previously)

    def started_before(self, *, previously: bool = False) -> Element:
        """A job that started before this moment is past the timeout of its kind, or was so at the previous evaluation.

        For statements that read from `with_limits`.
        """
        column = kind_limits.PREVIOUS_STARTED_BEFORE if previously else kind_limits.STARTED_BEFORE
        default = parameters.PREVIOUS_STARTED_BEFORE if previously else parameters.STARTED_BEFORE
        return self._limit(column, sql.instant_parameter(default))

    @property
    def newest_started_before(self) -> Element:
        """The same of the kind with the shortest timeout."""
        return sql.instant_parameter(parameters.NEWEST_STARTED_BEFORE)

    def _started_before(
        self, jobs: FromClause, started_before: Element, *, previously: bool = False
    ) -> ColumnElement[bool]:
        """Started before this moment, or longer ago than the timeout in its own row."""
        by_thresholds = self.started(jobs) < started_before
        own_timeout = self._own_timeout(jobs)
        if own_timeout is None:
            return by_thresholds
        now = sql.instant_parameter(parameters.PREVIOUS_NOW if previously else parameters.NOW)
        # A start before all time has no age that could be compared: it is past every timeout.
        past_own = func.coalesce(sql.seconds_between(now, self.started(jobs)) > own_timeout, self.started(jobs) < now)
        return case((own_timeout.is_not(None), past_own), else_=by_thresholds)

    @property
    def limits_vary(self) -> bool:
        """Whether jobs of different kinds have different limits, or jobs have stall windows of their own."""
        return self._kind_limits is not None or self._own_stall_column is not None

    @property
    def limits_are_of_kinds(self) -> bool:
        """Whether kinds have, and no job has a timeout of its own."""
        return self._kind_limits is not None and self._own_timeout_column is None

    def may_be_stale(self, jobs: FromClause) -> ColumnElement[bool]:
        """Holds for each stale job, and asks for no kind: it is stale by the shortest thresholds.

        For a survey: the planner knows how many signs there are since one moment, but not since one for each job. Where
        jobs have stall windows of their own, there is no shortest one: then nothing is asked about signs.
        """
        past_timeout = and_(self.tables.running(jobs), self._started_before(jobs, self.newest_started_before))
        if self._own_stall_column is not None:
            return and_(past_timeout, not_(self.unknown(jobs)))
        newest_cutoff = sql.instant_parameter(parameters.NEWEST_CUTOFF)
        return and_(past_timeout, self._silent_since(jobs, newest_cutoff, of_all=True))

    def cutoff_to_ask(self, jobs: FromClause) -> Element:
        """The cutoff of the job; NULL for that of the shortest stall window, by which `may_be_stale` has judged.

        For statements that read from `from_jobs`.
        """
        if self._own_stall_column is not None:
            return self._cutoff(jobs)
        default = sql.instant_parameter(parameters.CUTOFF)
        return kind_limits.earlier(default) if self._kind_limits is None else self._kind_limits.earlier_cutoff(default)

    def silent_since(self, jobs: FromClause, cutoff: Element) -> ColumnElement[bool]:
        """No sign of life since a cutoff of each job, of which nothing is unknown; true where the cutoff is NULL."""
        none_since = (self._signs.none_since(witness, jobs, cutoff, of_all=False) for witness in self._witnesses)
        return and_(func.coalesce(self.started(jobs) < cutoff, True), *none_since)

    def silent(self, jobs: FromClause) -> ColumnElement[bool]:
        """No sign of life since the cutoff, not even the start, and no witness that could not be asked."""
        return self._silent_since(jobs, self._cutoff(jobs), of_all=not self.limits_vary)

    def _silent_since(self, jobs: FromClause, cutoff: Element, *, of_all: bool) -> ColumnElement[bool]:
        """`of_all`: the cutoff is the same for all jobs."""
        return and_(
            self.started(jobs) < cutoff,
            *(self._signs.none_since(witness, jobs, cutoff, of_all=of_all) for witness in self._witnesses),
            not_(self.unknown(jobs)),
        )

    def has_recent_sign(self, jobs: FromClause) -> ColumnElement[bool]:
        """The opposite of `silent`, by the newest signs. `is_silent` asks the same of a row that has them.

        For a few rows of many: the planner cannot answer it by reading all signs since the cutoff.
        """
        return _recent_or_unknown(self.last_sign(jobs), self._cutoff(jobs), self.unknown(jobs))

    def last_sign(self, jobs: FromClause) -> Element:
        """The newest sign of life, else the start."""
        return sql.newest(self.started(jobs), *self.newest_signs(jobs))

    def unknown(self, jobs: FromClause) -> ColumnElement[bool]:
        """A witness could not be asked about the job, the moments of one are unknown, or it is unknown which row beside
        the job is meant: it may be alive.
        """
        several = (is_several for _, is_several in self.tables.rows_beside_that_are_several(jobs))
        return or_(self._celery.unknown(jobs), self._moments.unknown(jobs), *several)

    def parts_of_silence(self, jobs: FromClause) -> dict[str, Element]:
        """What `is_silent` reads of a row besides its signs and limits."""
        return {_UNKNOWN: self.unknown(jobs)}

    def parts_of_verdict(self, jobs: FromClause) -> dict[str, Element]:
        """What `verdict` reads of any row of the table, running or not, besides its signs and limits."""
        lost = {} if self.worker_states is None else {_WORKER_LOST: self.worker_lost(jobs)}
        return {
            _RUNNING: func.coalesce(self.tables.running(jobs), False),
            _LATE: func.coalesce(self.older_than_timeout(jobs), False),
            **self.parts_of_silence(jobs),
            **lost,
        }

    def is_silent(self, row: FromClause, last_sign: Element) -> ColumnElement[bool]:
        """The same as `silent`, of a row with the columns of `parts_of_silence` and `limits`: each is computed once."""
        return not_(_recent_or_unknown(last_sign, row.c.audible_since, row.c[_UNKNOWN]))

    def verdict(self, row: FromClause, last_sign: Element) -> Element:
        """The name of the verdict on a row with the columns of `parts_of_verdict` and `limits`."""
        late = and_(row.c[_RUNNING], row.c[_LATE])
        lost = [] if self.worker_states is None else [(row.c[_WORKER_LOST], literal(Verdict.STALE.value, String))]
        return case(
            (not_(row.c[_RUNNING]), literal(Verdict.ENDED.value, String)),
            (and_(late, self.is_silent(row, last_sign)), literal(Verdict.STALE.value, String)),
            *lost,
            (late, literal(Verdict.SPARED.value, String)),
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
        kind, kind_name = sql.text_of(self.tables.job_column(jobs, self._jobs.kind)), self._jobs.kind_name
        if kind_name is None:
            return kind
        names = self.tables.table(kind_name.table).alias(reserved_alias("kind"))
        same = [names.c[theirs] == self.tables.job_column(jobs, ours) for theirs, ours in kind_name.match.items()]
        # An aggregate: the database need not know that there is one row at most.
        name = select(func.max(sql.text_of(names.c[kind_name.column]))).where(*same).correlate(jobs).scalar_subquery()
        return func.coalesce(name, kind)

    @property
    def has_never(self) -> bool:
        """Whether jobs of some kinds are never ended."""
        return bool(self._parameters.never) and self._jobs.kind is not None

    def never(self, jobs: FromClause) -> Element:
        """The first configured pattern for kinds that are never ended which the job's kind matches; NULL for none."""
        if not self.has_never:
            return sql.null_text()
        kind = self.kind(jobs)
        patterns = ((sql.matches_glob(kind, glob), literal(glob, String)) for glob in self._parameters.never)
        return case(*patterns, else_=sql.null_text())

    def newest_signs(self, jobs: FromClause, witnesses: Sequence[Witness] | None = None) -> list[Element]:
        """The newest sign of each witness of the profile, or of these, as it counts; NULL where there is none."""
        return [self._signs.newest(witness, jobs) for witness in (self._witnesses if witnesses is None else witnesses)]

    def newest_as_written(self, witness: Witness, column: str, jobs: FromClause) -> Element:
        """The newest sign in this column of a witness as it is stored, in the future or not; NULL without one."""
        signs = self._written_signs.of(witness, jobs)
        if signs.rows is None:
            return signs.at
        if witness.rows is not None and len(witness.rows.at) > 1:
            assert signs.table is not None
            at = self.tables.instant(witness.rows.table, signs.table, column)
            return signs.rows.with_only_columns(func.max(at)).scalar_subquery()
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
        several = [
            case((is_several, literal(f"several rows of {self._jobs.beside[name].table} are its row {name!r}", String)))
            for name, is_several in self.tables.rows_beside_that_are_several(jobs)
        ]
        return func.coalesce(self._celery.why_unknown(jobs), self._moments.why(jobs), *several, type_=String)

    def in_other_unit(self, column: TableColumn, jobs: FromClause) -> ColumnElement[bool]:
        """The job has a number in this column that is not in the unit which the profile says."""
        return self._moments.in_other_unit(column, jobs)

    @property
    def moments_may_be_unknown(self) -> bool:
        """Whether there are jobs whose start, or a sign of life, may be unknown."""
        return self._moments.possible

    def start_is_unknown(self, jobs: FromClause) -> ColumnElement[bool]:
        """It is unknown when the job started: what is read as its start is not it."""
        return self._moments.start(jobs)

    def sign_is_unknown(self, witness: Witness, jobs: FromClause) -> ColumnElement[bool]:
        """The same of the signs of life of this witness."""
        return self._moments.sign(witness, jobs)

    @property
    def may_be_unknown(self) -> bool:
        """Whether there are jobs of which something may be unknown."""
        may_be_several = any(beside.newest is None for beside in self._jobs.beside.values())
        return self.tables.profile.task is not None or self._moments.possible or may_be_several

    def worker(self, jobs: FromClause) -> Element:
        """The worker that holds the job, as a text; NULL where the job names none. For profiles with such a witness."""
        worker = self.tables.profile.worker
        assert worker is not None
        row = self.tables.table(worker.table).alias(reserved_alias("worker"))
        same = [row.c[theirs] == self.tables.job_column(jobs, ours) for theirs, ours in worker.match.items()]
        of_job = _words([sql.text_of(self.tables.job_column(jobs, ours)) for ours in worker.match.values()])
        if worker.name is None:
            return sql.shortened(of_job)
        # An aggregate: the database need not know that there is one row at most.
        name = func.max(_words([sql.text_of(row.c[column]) for column in worker.name]))
        found = select(name).where(*same, self.tables.conditions_hold(worker.where, row, worker.table))
        return sql.shortened(func.coalesce(found.correlate(jobs).scalar_subquery(), of_job))

    def most_overdue(self, jobs: FromClause) -> Element:
        """An aggregate: the age of the job furthest past its timeout, as a multiple of that; NULL where none runs.

        Without meaning where no job is past its timeout.
        """
        timeout = self._timeout(jobs)["timeout_seconds"]
        if isinstance(timeout, BindParameter):
            # One timeout for all jobs: then it is the oldest job, which costs nothing to find.
            return _overdue(func.min(self.started(jobs)), timeout)
        # Of all jobs, since one that is past its timeout is further past it than any that is not.
        return func.max(_overdue(self.started(jobs), timeout))

    def overdue_of_kind(self, started: Element) -> Element:
        """The age of a job without a timeout of its own, as a multiple of the timeout of its kind."""
        return _overdue(started, self._timeout_of_kind)

    # --- thresholds -------------------------------------------------------------------------------------------

    def limits(self, jobs: FromClause) -> dict[str, Element]:
        """The thresholds that apply to a row, where each came from, and how far back silence reaches.

        For statements that read from `from_jobs`, in words.
        """
        return {**self._timeout(jobs), **self._stall(jobs)}

    def _timeout(self, jobs: FromClause) -> dict[str, Element]:
        """The timeout in the job's own row, else that of its kind, else that of the source."""
        timeout = self._thresholds.timeout
        by_thresholds = {
            "timeout_seconds": self._timeout_of_kind,
            "timeout_from": self._limit(kind_limits.TIMEOUT_FROM, literal(timeout.origin, String)),
            "timeout_words": self._limit(kind_limits.TIMEOUT_WORDS, literal(format_duration(timeout.seconds), String)),
        }
        own_timeout, column = self._own_timeout(jobs), self._own_timeout_column
        if own_timeout is None or column is None:
            return by_thresholds
        own = {
            "timeout_seconds": own_timeout,
            "timeout_from": _from(column, "timeout"),
            "timeout_words": sql.duration_text(own_timeout),
        }
        return _own_else(own_timeout, own, by_thresholds)

    def _stall(self, jobs: FromClause) -> dict[str, Element]:
        """The stall window in the job's own row, else that of its kind, else that of the source."""
        stall = self._thresholds.stall
        by_thresholds = {
            "stall_words": self._limit(kind_limits.STALL_WORDS, literal(format_duration(stall.seconds), String)),
            "stall_seconds": self._limit(kind_limits.STALL_SECONDS, literal(stall.seconds, Float)),
            "stall_from": self._limit(kind_limits.STALL_FROM, literal(stall.origin, String)),
            "audible_since": self._cutoff_by_thresholds,
            "floor": self._limit(kind_limits.FLOOR, sql.instant_parameter(parameters.FLOOR)),
            "estimate": self._limit(kind_limits.ESTIMATE, sql.instant_parameter(parameters.ESTIMATE)),
        }
        own_stall, column = self._own_stall(jobs), self._own_stall_column
        if own_stall is None or column is None:
            return by_thresholds
        cutoffs = SilenceCutoffs(_OWN_STALL, own_stall)
        own = {
            "stall_words": sql.duration_text(own_stall),
            "stall_seconds": own_stall,
            "stall_from": _from(column, "stall"),
            "audible_since": cutoffs.cutoff,
            "floor": cutoffs.floor,
            "estimate": cutoffs.estimate,
        }
        return _own_else(own_stall, own, by_thresholds)

    @property
    def _timeout_of_kind(self) -> Element:
        return self._limit(kind_limits.TIMEOUT_SECONDS, literal(self._thresholds.timeout.seconds, Float))

    @property
    def _own_timeout_column(self) -> LimitColumn | None:
        limits = self.tables.profile.limits
        return limits.timeout if limits else None

    @property
    def _own_stall_column(self) -> LimitColumn | None:
        limits = self.tables.profile.limits
        return limits.stall if limits else None

    def _own_timeout(self, jobs: FromClause) -> Element | None:
        """The timeout in the job's own row, in seconds."""
        column = self._own_timeout_column
        return own_limit(self.tables, column, jobs, self._thresholds.row_timeouts_above) if column else None

    def _own_stall(self, jobs: FromClause) -> Element | None:
        """The stall window in the job's own row, in seconds."""
        column = self._own_stall_column
        return own_limit(self.tables, column, jobs, self._thresholds.row_stalls_above) if column else None

    def _cutoff(self, jobs: FromClause) -> Element:
        """The moment since which the job must have shown a sign of life. For statements that read from `from_jobs`."""
        own_stall = self._own_stall(jobs)
        if own_stall is None:
            return self._cutoff_by_thresholds
        own = SilenceCutoffs(_OWN_STALL, own_stall).cutoff
        return func.coalesce(own, self._cutoff_by_thresholds, type_=sql.INSTANT)

    @property
    def _cutoff_by_thresholds(self) -> Element:
        return self._limit(kind_limits.CUTOFF, sql.instant_parameter(parameters.CUTOFF))

    def _limit(self, column: str, default: Element) -> Element:
        """A limit of the job's kind, else that of the source. For statements that read from `with_limits`."""
        return default if self._kind_limits is None else self._kind_limits.limit(column, default)

    # --- what a statement reads from ----------------------------------------------------------------------------

    def of_batch(self, is_of_batch: IsOfBatch = sql.key_in_batch) -> Rule:
        """The same rule for a few jobs: the children of all of them are read once, not once for each.

        Without an index on their parent, a look at the children of one job reads the whole table. `is_of_batch` says
        whether these columns are the key of one of the jobs.
        """
        return Rule(self.tables, self._parameters, is_of_batch)

    def without_reaps(self) -> Rule:
        """The same signs of life without what the reaper wrote, whatever the profile counts. It ends no job: it serves
        to explain one that has ended.
        """
        return Rule(self.tables, self._parameters, without_reaps=True)

    def from_jobs(self, jobs: FromClause, *, in_words: bool = False) -> FromClause:
        """The jobs with their limits: what a statement reads from that asks for any part of the rule.

        `in_words`: also what `limits` gives.
        """
        limited = self.with_limits(self._signs.joined(jobs), self.kinds(jobs), in_words=in_words)
        own_stall = self._own_stall(jobs)
        return limited if own_stall is None else SilenceCutoffs(_OWN_STALL, own_stall).joined(limited)

    def with_timeouts(self, jobs: FromClause) -> FromClause:
        """The same for a statement that asks for timeouts, and for no stall window."""
        return self.with_limits(jobs, self.kinds(jobs))

    def kinds(self, jobs: FromClause) -> list[Element]:
        """What may have limits: the job's kind, and what its column has where that has a name as well."""
        if self._jobs.kind is None:
            return []
        number = (
            [sql.text_of(self.tables.job_column(jobs, self._jobs.kind))] if self._jobs.kind_name is not None else []
        )
        return [self.kind(jobs), *number]

    def with_limits(self, rows: FromClause, kinds: Sequence[Element], *, in_words: bool = False) -> FromClause:
        """The rows with the limits of their kinds: the first of these that has limits."""
        return rows if self._kind_limits is None else self._kind_limits.joined(rows, kinds, in_words=in_words)


def _from(limit: LimitColumn, name: str) -> Element:
    return literal(f"column {limit.column}" if limit.column else f"SQL of limits.{name}", String)


def _own_else(limit: Element, own: Mapping[str, Element], others: Mapping[str, Element]) -> dict[str, Element]:
    """What is said of the limit in a job's own row, where it has one; else what is said of the other limit."""
    return {name: case((limit.is_not(None), own[name]), else_=value) for name, value in others.items()}


def _recent_or_unknown(last_sign: Element, cutoff: Element, unknown: ColumnElement[bool]) -> ColumnElement[bool]:
    """What keeps a job from being silent, by its newest sign."""
    return or_(last_sign >= cutoff, unknown)


def _overdue(started: Element, timeout: Element) -> Element:
    """How long ago that was, as a multiple of the timeout in seconds."""
    age = sql.epoch(sql.instant_parameter(parameters.NOW)) - sql.epoch(started)
    return age / func.nullif(timeout, literal(0.0, sql.FLOAT), type_=sql.FLOAT)


def _words(texts: Sequence[Element]) -> Element:
    """Texts with a space between them; NULL where there is none of them."""
    first, *others = texts
    if not others:
        return first
    return func.nullif(func.trim(sql.concat(first, *(part for text in others for part in (" ", text)))), "")
