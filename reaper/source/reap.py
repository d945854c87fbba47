"""Ending jobs: lock, judge again, act.

One transaction ends one batch, in three steps:

1. Lock the candidates by key, and skip rows that another transaction holds: such a job is alive. The rows that belong
   to a job are locked with it; when one of them is held, the job is left alone.
2. In a new statement, whose snapshot sees everything that was committed before the lock, evaluate the rule again; for
   the jobs that are still stale, make the transition and write the audit event with its evidence.
3. Commit.

What others can do between two of these statements:

- A worker can commit a sign of life only through a lock on the job's row: the foreign key of its event needs a
  key-share lock, its own finish an update lock. Step 1 has locked every row that step 2 changes. So the worker is
  either before step 1, and step 2 sees its sign, or it waits for our commit.
- A second reaper skips the rows that this one has locked, and finds the jobs ended afterwards.
- An operator who fails, requeues or deletes the job by hand needs the same row lock, and waits in the same way.
- If this process is killed, or the server stops or fails over before the commit, the server rolls everything back. A
  failover to a replica without the commit loses the transition together with its audit event; the next sweep ends the
  job again.

Jobs that exist only as an event log have no row to lock: see `reaper.source.event_log_lock`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, select

from reaper.database.dialect import dialect_of
from reaper.errors import key_not_unique
from reaper.model import JobHold, KeptJob, Key, ReapedJob
from reaper.profile import Action, Related
from reaper.source.deleted_rows import read_deleted_rows
from reaper.source.event_log_lock import EventLogLock, lock_jobs
from reaper.source.kept_jobs import kept_by_hold, kept_by_kind
from reaper.source.post_transition_state import MAX_FOLLOWED, PostTransition
from reaper.source.statements import SourceStatements
from reaper.source.survey import Candidate, key_and_version
from reaper.source.transition.audit_event import AuditInfo
from reaper.source.transition.multi_statement import MultiStatementTransition
from reaper.source.transition.second_check import Predicate, SecondCheck, is_stale
from reaper.source.transition.single_statement import SingleStatementTransition
from reaper.sql.keys import key_parameters
from reaper.sql.statement import StatementCompiler, Values
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness.rule import Rule

Transition = SingleStatementTransition | MultiStatementTransition


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What became of a batch. Each job was reaped, or was locked by another transaction, or was kept because of a hold
    or of its kind, or was lost: it changed.
    """

    reaped: Sequence[ReapedJob]
    lost: int
    locked: Sequence[Key]
    kept: Sequence[KeptJob] = ()


class BatchLocks:
    """The statements that lock the jobs of a batch and what belongs to them, the same for every action."""

    def __init__(self, rule: Rule, compiler: StatementCompiler) -> None:
        self.still_running = compiler(still_running_query(rule))
        self.lock_rows = compiler(self.lock_query(rule))
        self.log_lock = EventLogLock(rule.tables, compiler)
        self.never = compiler(_never_query(rule)) if rule.has_never else None
        self.related_row_locks = [
            (compiler(find), compiler(lock))
            for find, lock in (_related_rows(rule.tables, part) for part in rule.tables.profile.jobs.parts)
        ]

    @staticmethod
    def lock_query(rule: Rule) -> Select[Any]:
        """Locks those jobs of a batch that run, and skips those whose rows another transaction holds."""
        still_running = still_running_query(rule).where(rule.tables.are_the_same())
        if rule.tables.profile.jobs.log is None:
            return still_running.with_for_update(skip_locked=True)
        return lock_jobs(rule.tables, still_running)


class Claim:
    """Ends jobs of one source, as of one moment."""

    locks_class = BatchLocks

    def __init__(
        self,
        statements: SourceStatements,
        values: Values,
        audit_info: AuditInfo,
        *,
        predicate: Predicate = is_stale,
        action: str = "fail",
        holds: Callable[[], Mapping[Key, JobHold]] = dict,
    ) -> None:
        """`values` are those of the rule's parameters, and of the predicate's. `holds` returns the jobs that operators
        hold now, and is asked behind the locks of each batch.
        """
        self._statements, self._values = statements, {**values, **audit_info.values}
        self._reason, self._holds = audit_info.reason.value, holds
        self._form = (action, predicate, tuple(audit_info.fields))
        self._width = len(statements.profile.jobs.key)
        self._post_transition, self._snapshots_left = PostTransition(statements), MAX_FOLLOWED

    def locks(self, connection: Connection) -> BatchLocks:
        """The locks on the server of this connection."""
        return self._statements.get(connection.dialect, self.locks_class)

    def run(self, connection: Connection, batch: Sequence[Candidate], *, long_wait: bool = False) -> ClaimResult:
        """End those of the batch that are stale, inside the caller's transaction. `long_wait` is for the lock on a log.

        Raises DBAPIError when the database refuses any of it, PartialTransition when a transition or its audit event is
        missing, LogBusy when a log could not be locked, KeyNotUnique when two of the jobs have one key.
        """
        versions = {candidate.key: candidate.version for candidate in batch}
        locks = self.locks(connection)
        values = {**key_parameters(versions), **self._statements.identity_values}
        rows = locks.lock_rows.execute(connection, values).all()
        locked_versions = {row[: self._width]: row[self._width :] for row in rows}
        if len(locked_versions) < len(rows):
            [(example, _)] = Counter(tuple(row[: self._width]) for row in rows).most_common(1)
            jobs = self._statements.profile.jobs
            raise key_not_unique(jobs.table, jobs.key, example)
        unchanged = [key for key, version in locked_versions.items() if versions[key] == version]
        kept = self.kept(connection, unchanged)
        to_end = [key for key in unchanged if key not in kept] if kept else unchanged
        complete = self._with_related_rows_locked(connection, to_end)
        if complete:
            locks.log_lock.acquire(connection, long_wait=long_wait)
        reaped = self._act(connection, complete) if complete else []
        incomplete = set(to_end) - set(complete)
        not_locked = [key for key in versions if key not in locked_versions or key in incomplete]
        locked = self._locked_by_others(connection, not_locked, versions) if not_locked else []
        lost = len(batch) - len(reaped) - len(locked) - len(kept)
        return ClaimResult(reaped=reaped, lost=lost, locked=locked, kept=list(kept.values()))

    def kept(self, connection: Connection, keys: Sequence[Key]) -> Mapping[Key, KeptJob]:
        """Those of the jobs that no request ends: operators hold them, or their kind is never ended.

        An operator who takes a hold after this waits for no lock: see `reaper.operations.hold`. Raises
        StateUnavailable: then it is not known which jobs are held.
        """
        if not keys:
            return {}
        holds, never = self._holds(), self.locks(connection).never
        kept = {key: kept_by_hold(holds[key]) for key in keys if key in holds}
        if never is not None:
            rows = never.execute(connection, key_parameters(keys)).all()
            kept |= {tuple(row[:-1]): kept_by_kind(tuple(row[:-1]), row[-1]) for row in rows}
        return kept

    def current(self, connection: Connection, keys: Sequence[Key]) -> list[Candidate]:
        """Those of the jobs that run, as they are now, whether another transaction holds their rows or not."""
        rows = self.locks(connection).still_running.execute(connection, key_parameters(keys))
        return [Candidate(row[: self._width], row[self._width :]) for row in rows]

    def _with_related_rows_locked(self, connection: Connection, keys: Sequence[Key]) -> list[Key]:
        """The jobs of whose related rows none is held by another transaction; these rows are locked from now on."""
        complete = list(keys)
        for find, lock in self.locks(connection).related_row_locks:
            if complete:
                keys_of_batch = key_parameters(complete)
                locked = Counter(tuple(row) for row in lock.execute(connection, keys_of_batch))
                existing = Counter(tuple(row) for row in find.execute(connection, keys_of_batch))
                complete = [key for key in complete if locked[key] == existing[key]]
        return complete

    def _act(self, connection: Connection, keys: Sequence[Key]) -> list[ReapedJob]:
        transition = self._statements.get(connection.dialect, make_transition, *self._form)
        # Which action a job gets is known only when its rows are gone.
        deleted = [
            (action, read_deleted_rows(self._statements, connection, action, keys)) for action in transition.actions
        ]
        if not (ended := transition.run(connection, keys, self._values)):
            return []
        # To read every job once more would take a twentieth of a mass reap, most of which is not remembered anyway.
        followed = {job.key: job.action for job in ended[: self._snapshots_left]}
        with dialect_of(connection).pinned_again(connection):
            reaped_at, states_after = self._post_transition.states_after(connection, followed)
        self._snapshots_left = max(0, self._snapshots_left - len(states_after))
        return [
            ReapedJob(
                key=job.key,
                reason=self._reason,
                kind=job.kind,
                age_seconds=job.age,
                silence_seconds=job.silence,
                witness=job.witness,
                task=job.task,
                evidence=job.evidence,
                reaped_at=reaped_at,
                state_after=states_after.get(job.key),
                deleted=next(rows.get(job.key, ()) for action, rows in deleted if action is job.action),
                action=self._name_of(job.action),
            )
            for job in ended
        ]

    def _name_of(self, taken: Action) -> str:
        """The name of the action that a job got: the chosen one, or one of those that it leads to."""
        profile, chosen = self._statements.profile, self._form[0]
        if profile.actions.get(chosen) is taken:
            return chosen
        return next(name for name, action in profile.actions.items() if action is taken)

    def _locked_by_others(
        self, connection: Connection, keys: Sequence[Key], versions: dict[Key, tuple[Any, ...]]
    ) -> list[Key]:
        with dialect_of(connection).pinned_again(connection):
            return [job.key for job in self.current(connection, keys) if versions[job.key] == job.version]


def make_transition(
    rule: Rule, compiler: StatementCompiler, action: str, predicate: Predicate, audit_fields: Sequence[str]
) -> Transition:
    """The transition by an action of those jobs of a batch that `predicate` chooses."""
    second_check = SecondCheck(rule, predicate, audit_fields, action)
    if compiler.dialect.name == "postgresql":
        return SingleStatementTransition(rule, compiler, second_check, action)
    return MultiStatementTransition(rule, compiler, second_check, action)


# --- statements --------------------------------------------------------------------------------------------------


def still_running_query(rule: Rule) -> Select[Any]:
    """Those jobs of a batch that run."""
    tables, jobs = rule.tables, rule.tables.jobs
    return key_and_version(rule).where(and_(tables.key_in_batch(jobs), tables.running(jobs)))


def _never_query(rule: Rule) -> Select[Any]:
    """Those jobs of a batch whose kind is never ended, and the pattern that says so."""
    jobs, never = rule.tables.jobs, rule.never(rule.tables.jobs)
    found = select(*rule.tables.key_text(jobs), never)
    return found.where(rule.tables.key_in_batch(jobs), rule.tables.running(jobs), never.is_not(None))


def _related_rows(tables: ProfileTables, part: Related) -> tuple[Select[Any], Select[Any]]:
    """Finds the rows that belong to the jobs of a batch, each with the job's key; and locks them."""
    jobs = tables.jobs
    row = tables.table(part.table).alias(reserved_alias("part"))
    joined = jobs.join(row, tables.belongs_to_job(part, row, jobs))
    find = select(*tables.key_text(jobs)).select_from(joined).where(tables.key_in_batch(jobs))
    return find, find.with_for_update(skip_locked=True, of=row)
