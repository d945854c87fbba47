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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, select

from reaper.model import Key, ReapedJob
from reaper.profile import Related
from reaper.source.event_log_lock import EventLogLock, lock_jobs
from reaper.source.post_transition import MAX_FOLLOWED, PostTransition
from reaper.source.survey import Candidate, version_columns
from reaper.source.transition.audit_event import AuditInfo
from reaper.source.transition.multi_statement import MultiStatementTransition
from reaper.source.transition.second_check import Predicate, SecondCheck
from reaper.source.transition.single_statement import SingleStatementTransition
from reaper.sql.keys import key_parameters
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What became of a batch. Each job was reaped, or was locked by another transaction, or was lost: it changed."""

    reaped: Sequence[ReapedJob]
    lost: int
    locked: Sequence[Key]


class Claim:
    """The changing statements for one rule, as of one moment."""

    def __init__(
        self,
        rule: Rule,
        context: EvaluationContext,
        audit_info: AuditInfo,
        *,
        predicate: Predicate | bool = True,
        action: str = "fail",
        single_statement: bool = True,
    ) -> None:
        """`predicate` as in `SecondCheck`. `single_statement` is for servers that can change rows inside a query."""
        self._tables: ProfileTables = rule.tables
        self._rule, self._context, self._audit_info = rule, context, audit_info
        self._width = len(rule.tables.profile.jobs.key)
        second_check = SecondCheck(rule, context, audit_info.as_fields(), predicate)
        self.transition = (
            SingleStatementTransition(rule, second_check, action)
            if single_statement
            else MultiStatementTransition(rule, second_check, action)
        )
        self.post_transition, self._snapshots_left = PostTransition(rule), MAX_FOLLOWED
        self.still_running = self._still_running()
        self.lock_rows = self._lock()
        self.log_lock = EventLogLock(rule.tables)
        self.related_row_locks = [self._related_rows(part) for part in rule.tables.profile.jobs.parts]

    def run(self, connection: Connection, batch: Sequence[Candidate], *, long_wait: bool = False) -> ClaimResult:
        """End those of the batch that are stale, inside the caller's transaction. `long_wait` is for the lock on a log.

        Raises DBAPIError when the database refuses any of it, PartialTransition when a transition or its audit event is
        missing, LogBusy when a log could not be locked.
        """
        versions = {candidate.key: candidate.version for candidate in batch}
        rows = connection.execute(self.lock_rows, key_parameters(versions))
        locked_versions = {row[: self._width]: row[self._width :] for row in rows}
        unchanged = [key for key, version in locked_versions.items() if versions[key] == version]
        complete = self._with_related_rows_locked(connection, unchanged)
        if complete:
            self.log_lock.acquire(connection, long_wait=long_wait)
        reaped = self._act(connection, complete) if complete else []
        incomplete = set(unchanged) - set(complete)
        not_locked = [key for key in versions if key not in locked_versions or key in incomplete]
        locked = self._locked_by_others(connection, not_locked, versions) if not_locked else []
        return ClaimResult(reaped=reaped, lost=len(batch) - len(reaped) - len(locked), locked=locked)

    def current(self, connection: Connection, keys: Sequence[Key]) -> list[Candidate]:
        """Those of the jobs that run, as they are now, whether another transaction holds their rows or not."""
        rows = connection.execute(self.still_running, key_parameters(keys))
        return [Candidate(row[: self._width], row[self._width :]) for row in rows]

    def _with_related_rows_locked(self, connection: Connection, keys: Sequence[Key]) -> list[Key]:
        """The jobs of whose related rows none is held by another transaction; these rows are locked from now on."""
        complete = list(keys)
        for find, lock in self.related_row_locks:
            if complete:
                locked = Counter(tuple(row) for row in connection.execute(lock, key_parameters(complete)))
                existing = Counter(tuple(row) for row in connection.execute(find, key_parameters(complete)))
                complete = [key for key in complete if locked[key] == existing[key]]
        return complete

    def _act(self, connection: Connection, keys: Sequence[Key]) -> list[ReapedJob]:
        reason = self._audit_info.reason.value
        if not (ended := self.transition.run(connection, keys)):
            return []
        # To read every job once more would take a twentieth of a mass reap, most of which is not remembered anyway.
        followed = {job.key: job.action for job in ended[: self._snapshots_left]}
        reaped_at, states_after = self.post_transition.states_after(connection, followed)
        self._snapshots_left = max(0, self._snapshots_left - len(states_after))
        return [
            ReapedJob(
                key=job.key,
                reason=reason,
                kind=job.kind,
                age_seconds=job.age,
                silence_seconds=job.silence,
                witness=job.witness,
                task=job.task,
                evidence=job.evidence,
                reaped_at=reaped_at,
                state_after=states_after.get(job.key),
            )
            for job in ended
        ]

    def _locked_by_others(
        self, connection: Connection, keys: Sequence[Key], versions: dict[Key, tuple[Any, ...]]
    ) -> list[Key]:
        return [job.key for job in self.current(connection, keys) if versions[job.key] == job.version]

    # --- statements ----------------------------------------------------------------------------------------

    def _still_running(self) -> Select[Any]:
        jobs = self._tables.jobs
        is_running_in_batch = and_(self._tables.key_in_batch(jobs), self._tables.running(jobs))
        return select(*self._tables.key_text(jobs), *version_columns(self._rule)).where(is_running_in_batch)

    def _lock(self) -> Select[Any]:
        if self._tables.profile.jobs.log is None:
            return self.still_running.with_for_update(skip_locked=True)
        return lock_jobs(self._tables, self.still_running)

    def _related_rows(self, part: Related) -> tuple[Select[Any], Select[Any]]:
        """Finds the rows that belong to the jobs of a batch, each with the job's key; and locks them."""
        jobs = self._tables.jobs
        row = self._tables.table(part.table).alias(reserved_alias("part"))
        joined = jobs.join(row, self._tables.belongs_to_job(part, row, jobs))
        find = select(*self._tables.key_text(jobs)).select_from(joined).where(self._tables.key_in_batch(jobs))
        return find, find.with_for_update(skip_locked=True, of=row)
