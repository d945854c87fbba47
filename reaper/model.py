"""The values that all parts of the program exchange. No behaviour, no dependencies.

Moments from the database are ISO 8601 texts in UTC, made by the database: they are shown, logged and written, but not
calculated with. Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

Key = tuple[str, ...]
"""A job's primary key as the database writes it: one text per key column, in the profile's order."""


class Verdict(StrEnum):
    """The rule's result for one job."""

    YOUNG = "young"  # running, not past its timeout
    SPARED = "spared"  # past its timeout, and alive
    STALE = "stale"  # past its timeout, and silent for longer than its stall window
    ENDED = "ended"  # not running


class Reason(StrEnum):
    """Why a job was ended. It is written as the job's error code."""

    JOB_TIMEOUT = "JobTimeout"
    WORKER_LOST = "WorkerLost"
    MANUAL_TIMEOUT = "ManualTimeout"
    INTERRUPTED = "Interrupted"


class TimestampFormat(StrEnum):
    """How a column stores a moment."""

    TIMESTAMPTZ = "timestamptz"
    NAIVE = "naive"  # a timestamp without a time zone
    EPOCH_S = "epoch s"
    EPOCH_MS = "epoch ms"
    ISO_TEXT = "iso text"  # a text such as 2026-07-01T12:00:00Z, of ISO 8601


class StoredTime(NamedTuple):
    """How a column stores a moment: the format, and the zone of moments that do not name theirs.

    The zone is a name of the tz database ("America/New_York") or an offset from UTC ("-05:00"). None: it is not said,
    and UTC is assumed for as long as nothing speaks against it.
    """

    format: TimestampFormat
    zone: str | None = None

    @property
    def is_local(self) -> bool:
        """Moments are stored in local time, which has hours that come twice, and hours that are left out."""
        return self.zone not in (None, "UTC")


TIMESTAMPTZ = StoredTime(TimestampFormat.TIMESTAMPTZ)


class Outcome(StrEnum):
    """How a sweep ended."""

    DONE = "done"
    STANDBY = "standby"  # another replica holds the lease
    HELD = "held"  # the breaker is open
    STOPPED = "stopped"  # the daemon is stopping: ended between two batches
    HALTED = "halted"  # the supervisor is halted: no job is ended
    QUIET = "quiet"  # a maintenance window of the source: no job is ended
    OBSERVED = "observed"  # the source is only observed: no job is ended
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold in seconds, and where it was set (a file and line, a variable, "default")."""

    seconds: float
    origin: str


@dataclass(frozen=True, slots=True)
class KindThresholds:
    """The thresholds of one kind; None: the source's apply."""

    timeout: Threshold | None = None
    stall: Threshold | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of one source: its own or the defaults, and those of single kinds.

    Of the timeouts and stall windows in jobs' own rows, only those longer than `row_timeouts_above` and
    `row_stalls_above`, in seconds, count.
    """

    timeout: Threshold
    stall: Threshold
    kinds: Mapping[str, KindThresholds] = field(default_factory=dict)
    row_timeouts_above: float = 0.0
    row_stalls_above: float = 0.0

    @property
    def shortest_timeout_seconds(self) -> float:
        """The shortest timeout of any kind."""
        return min([self.timeout.seconds, *(kind.timeout.seconds for kind in self.kinds.values() if kind.timeout)])

    @property
    def shortest_stall_seconds(self) -> float:
        """The shortest stall window of any kind."""
        return min([self.stall.seconds, *(kind.stall.seconds for kind in self.kinds.values() if kind.stall)])

    @property
    def longest_stall_seconds(self) -> float:
        """The longest stall window of any kind."""
        return max([self.stall.seconds, *(kind.stall.seconds for kind in self.kinds.values() if kind.stall)])

    def at_least(self, timeout: Threshold, stall: Threshold) -> Thresholds:
        """These for every job, but for kinds and rows whose own limits are longer: those hold."""
        kinds = {
            kind: KindThresholds(_if_longer(own.timeout, timeout), _if_longer(own.stall, stall))
            for kind, own in self.kinds.items()
        }
        longer = {kind: own for kind, own in kinds.items() if own.timeout or own.stall}
        return Thresholds(timeout, stall, longer, timeout.seconds, stall.seconds)

    def timeout_of(self, kind: str | None) -> Threshold:
        of_kind = self.kinds.get(kind) if kind is not None else None
        return (of_kind.timeout if of_kind else None) or self.timeout

    def stall_of(self, kind: str | None) -> Threshold:
        of_kind = self.kinds.get(kind) if kind is not None else None
        return (of_kind.stall if of_kind else None) or self.stall


def _if_longer(own: Threshold | None, limit: Threshold) -> Threshold | None:
    return own if own is not None and own.seconds > limit.seconds else None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the database knew of one job at one moment, and the verdict that follows from it.

    A job whose last sign is older than `audible_since` is silent; time before `deaf_until` does not count.
    `stale_in_seconds` says when a running job would become stale if it stayed silent; None for a job that is stale or
    does not run. `unknown` says which witness could not be asked, or the moments of which column are unknown: the job
    is then spared, and its age, its silence and its last sign are None as far as they rest on such moments. `action` is
    what a sweep would do with the job, where the source's action is a choice between two. Of a log: `start_lost` says
    that no entry starts the job, so that its first known one is taken for its start, and `ended_by` and `ended_at` are
    the type and the moment of the entry that ended it. `future_sign` is its newest sign of life in the future, as it
    was written: it counts from when the reaper first saw it, which is what `signs` and `last_sign` have. `not_running`
    says of a job that does not run which of the profile's conditions do not hold for it. `never` is the configured
    pattern for kinds that are never ended which its kind matches. `worker` names the worker that holds it, where a
    witness of the profile says which one that is. `worker_lost` says since when that worker is gone, where the job is
    stale for that alone.
    """

    key: Key
    kind: str | None
    status: str | None
    verdict: Verdict
    started: str | None
    started_from: str | None
    last_sign: str | None
    witness: str | None
    age_seconds: float | None
    silence_seconds: float | None
    timeout_seconds: float
    timeout_from: str
    stall_seconds: float
    stall_from: str
    audible_since: str | None
    deaf_until: str | None
    judged_at: str | None
    unknown: str | None = None
    stale_in_seconds: float | None = None
    signs: Mapping[str, str | None] = field(default_factory=dict)
    action: str | None = None
    start_lost: bool = False
    ended_by: str | None = None
    ended_at: str | None = None
    future_sign: str | None = None
    not_running: Sequence[str] = ()
    never: str | None = None
    worker: str | None = None
    worker_lost: str | None = None


class PostTransitionState(NamedTuple):
    """The state of a job just after its transition, where its row stays. Later states are compared with it.

    `epoch` is that moment in seconds since 1970. `identity` is that of the job's run: it changes when the job starts
    again, as is expected of a job that was `requeued`. `moments` are those that the transition wrote to the row, by
    column, as the database writes them.
    """

    epoch: float
    identity: tuple[Any, ...]
    status: str | None
    requeued: bool
    moments: Mapping[str, str] = {}


class DeletedRows(NamedTuple):
    """Rows of one table that were deleted with a job: how many, and the first of them, cut where they are long."""

    table: str
    total: int
    rows: Sequence[Mapping[str, str | None]]


class ReapedJob(NamedTuple):
    """One job that was ended by an action of its profile, as of the transition. A start at -infinity has no age.

    `task` is its id in Celery, for a job that is a Celery task. `evidence` is what it was ended for, where nothing of
    that stays in the database. `reaped_at` is just after the transition. `state_after` is the state then; None where
    the row is gone or on its next run already, and for most jobs of a very large sweep. `deleted` are the rows
    that were deleted, as far as the profile keeps them.
    """

    key: Key
    reason: str
    kind: str | None
    age_seconds: float | None
    silence_seconds: float | None
    witness: str | None
    task: str | None = None
    evidence: Mapping[str, Any] | None = None
    reaped_at: str | None = None
    state_after: PostTransitionState | None = None
    deleted: Sequence[DeletedRows] = ()
    action: str = "fail"


@dataclass(frozen=True, slots=True)
class LateSign:
    """A job that showed life after it was ended: it was alive, or its worker does not know of the end yet.

    `what` is "event" for a sign of life, from `witness` at `at`, and "status" when another program changed the job's
    status from `status_then` to `status`; `finished` when the new status is an end. `told_before`: an earlier late sign
    of the job was reported. The other fields are what it was ended for.
    """

    key: Key
    kind: str | None
    reason: str
    reaped_at: str | None
    silence_seconds: float | None
    last_witness: str | None
    what: str
    witness: str | None
    at: str | None
    status: str | None
    status_then: str | None = None
    finished: bool = False
    told_before: bool = False
    age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LockHolder:
    """The transaction that holds a row lock. Fields that our role may not see are None.

    `table` has the locked row; None: it is the job's own.
    """

    pid: int | None
    application: str | None
    user: str | None
    state: str | None
    since: str | None
    held_seconds: float | None
    table: str | None = None


@dataclass(frozen=True, slots=True)
class LockedCandidate:
    """A candidate whose row another transaction holds: it is alive, however silent it is."""

    key: Key
    held_seconds: float
    overdue: bool
    holder: LockHolder | None


@dataclass(frozen=True, slots=True)
class JobHold:
    """An operator's decision: until a moment of the database's clock, nothing ends this job, whatever its verdict."""

    source: str
    key: Key
    until: datetime
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class KeptJob:
    """A job that is not ended because of a hold (`hold` is True) or of its kind; `why` says so in words."""

    key: Key
    hold: bool
    why: str


@dataclass(frozen=True, slots=True)
class FailedTransition:
    """A candidate that the database refused to end, and its error message."""

    key: Key
    error: str


@dataclass(frozen=True, slots=True)
class RefusalCause:
    """How many jobs the database refuses to end for one cause. `key` and `error` are those of the first of them.

    `due_in_seconds`: until the first of them is tried again; 0 when one is due.
    """

    key: Key
    error: str
    jobs: int
    due_in_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class JobCounts:
    """The running jobs of a source, counted in the snapshot of the survey.

    `most_overdue` is the age of the job furthest past its timeout, as a multiple of that; 0 where none is past it.
    `refused` are those of the stale jobs that the database refused to end before, as far as that is known. `vanished`
    are the witnesses of which jobs that had signs of life have none at all any more. `without_start`: no start column
    has a moment, so they count from when the reaper first saw them; `start_unknown` are those of them that it does not
    remember, and that are young. `kept` are those of the stale jobs that an operator holds, or whose kind is never
    ended. `worker_lost` are those of the stale jobs that are so only because their worker is gone, and `lost_young`
    those of these that are not past their timeout. `workers_gone`: so many workers went at about the same time, and
    no other one has written a heartbeat lately.
    """

    running: int
    past_timeout: int
    stale: int
    oldest_started_epoch: float | None
    most_overdue: float = 0.0
    refused: int = 0
    vanished: Sequence[str] = ()
    without_start: int = 0
    start_unknown: int = 0
    kept: int = 0
    worker_lost: int = 0
    lost_young: int = 0
    workers_gone: int = 0

    @property
    def spared(self) -> int:
        """Past their timeout, and alive."""
        return max(0, self.past_timeout - (self.stale - self.lost_young))


@dataclass(frozen=True, slots=True)
class DowntimeNotice:
    """The last time in which the database was away: from `away_from` (None: not known) to `silence_counts_from`.

    Before `nothing_before` no job is ended for its silence; None: jobs that were silent before that time are. The
    moments are on the database's clock, in ISO 8601. `why` says what is known.
    """

    away_from: str | None
    silence_counts_from: str
    nothing_before: str | None
    why: str


@dataclass(frozen=True, slots=True)
class FutureSigns:
    """How many running jobs past their timeout have signs of life in the future, and the first of them.

    `job` is its name, and `state` its newest such sign as it is stored, from `witness`, with the number of entries.
    `complete`: there are no more than `jobs`.
    """

    jobs: int
    complete: bool
    job: str | None = None
    witness: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class SweepReport:
    """One pass over one source.

    `failures` are the first of the jobs that the database refused in this sweep, and `refused_now` how many those are;
    `refused_total` counts with them those that it refused before and that were left alone, and `refusals` are all of
    these by cause. `postponed` were not tried, because refusals had taken too long. `deaf_seconds` is how
    much further back than the stall window silence was measured because of downtime; infinite while no job can be
    silent; `downtime` says why, and until when. `witness_trouble` says why the witness outside the database could not
    be asked; `revoke_trouble`, why tasks of ended jobs may still be executed. `looked_back`: jobs that were ended
    earlier were looked at; `late` are those that showed life, and `late_trouble` says why they could not be read.
    `judged_at` is the database's clock when the sweep began. `spelling` says what the database spells otherwise than
    the profile; `diverted`, which of its names mean other tables to the role by now; `unknown_moments`, why the moments
    of columns are unknown, whose jobs are spared. `start_lost` are those of
    `census` whose start was lost, where the sweep ends these too; `start_lost_trouble` says why they could not be
    found. `future_signs`: None when this sweep did not look for them; `future_signs_trouble` says why it could not.
    `kept` are the first of those stale jobs that `census` counts as kept; `holds`: so many jobs operators hold. `cap`:
    the outcome is HELD because of the cap on how many jobs are ended in a while, and why; None where the breaker holds
    it; of a dry run, why the cap would hold it. `quiet_until`: the end of the quiet time that held it; of a dry
    run, that would hold it. With the outcome OBSERVED, `would_reap` are the first of the jobs that no sweep
    before has named. `own_limits`
    jobs are as old as was asked for, and young by the limit of their kind or row.
    """

    source: str
    sweep_id: str
    outcome: Outcome
    duration_seconds: float
    census: JobCounts | None = None
    reaped: int = 0
    lost: int = 0
    newly_spared: Sequence[Evidence] = ()
    newly_spared_total: int = 0
    locked: Sequence[LockedCandidate] = ()
    locked_total: int = 0
    failures: Sequence[FailedTransition] = ()
    refused_now: int = 0
    refused_total: int = 0
    refusals: Sequence[RefusalCause] = ()
    postponed: int = 0
    would_reap: Sequence[Evidence] = ()
    longest_transaction_seconds: float = 0.0
    deaf_seconds: float = 0.0
    downtime: DowntimeNotice | None = None
    database_away: bool = False
    asked_witness: bool = False
    late: Sequence[LateSign] = ()
    looked_back: bool = False
    late_trouble: str | None = None
    witness_trouble: str | None = None
    revoke_trouble: str | None = None
    leads: bool = False
    judged_at: str | None = None
    spelling: Sequence[str] = ()
    diverted: Sequence[str] = ()
    unknown_moments: Sequence[str] = ()
    error: str | None = None
    dry_run: bool = False
    start_lost: JobCounts | None = None
    start_lost_trouble: str | None = None
    future_signs: FutureSigns | None = None
    future_signs_trouble: str | None = None
    kept: Sequence[KeptJob] = ()
    holds: int = 0
    cap: str | None = None
    quiet_until: str | None = None
    own_limits: int = 0

    @property
    def succeeded(self) -> bool:
        """All of its work is done. A standby's is not: it only knows that another replica holds the lease."""
        return self.outcome in (Outcome.DONE, Outcome.QUIET, Outcome.OBSERVED)

    @property
    def stale_remaining(self) -> int | None:
        """How many of the stale jobs that it found still exist, those that are kept left out; None when it ended before
        they were counted, and where it was to leave them.
        """
        if self.census is None or self.outcome in (Outcome.STANDBY, Outcome.OBSERVED):
            return None
        return max(0, self.census.stale - self.census.kept - self.reaped - self.lost)


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """One pass that deletes the finished jobs of a source: those that ended before `before`.

    `found` is how many there were, where they were counted. `left` were found and then left alone: another transaction
    held their rows, an operator holds them, or they had changed. `refusals` is how many rows the database refuses to
    delete, now or before, by the error message of the first with each cause. `quiet_until`: the end of the quiet time
    that held it.
    """

    source: str
    outcome: Outcome
    duration_seconds: float
    before: str | None = None
    found: int | None = None
    purged: int = 0
    left: int = 0
    refusals: Mapping[str, int] = field(default_factory=dict)
    longest_transaction_seconds: float = 0.0
    database_away: bool = False
    error: str | None = None
    dry_run: bool = False
    quiet_until: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A change requested over HTTP: the name of the token, the client's address, the action, its target and result."""

    who: str
    remote: str
    action: str
    target: str
    result: str
    details: Mapping[str, Any] = field(default_factory=dict)


DISTANT_PAST = datetime(1, 1, 1, tzinfo=UTC)
"""Stands for a moment earlier than all others."""


@dataclass(frozen=True, slots=True)
class ServerClock:
    """One successful reading of the database: its clock, and the start of its server."""

    now: datetime
    server_started: datetime
