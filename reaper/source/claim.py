"""Ending jobs: lock, judge again, act.

One transaction ends one batch, in three steps:

1. lock the candidates by key, skipping rows that somebody holds: whoever holds a row is alive; the rows that belong to
   a job are locked with it, all of them or it is left alone;
2. in a new statement, whose snapshot sees everything committed before the lock, ask the rule again and, for what is
   still stale, make the transition and write the audit event with its evidence;
3. commit.

Between any two of these a worker can commit a sign of life only through a lock on the job's row (the foreign key of
its event needs a key-share lock, its own finish an update lock), and all rows of step 2 are locked by step 1. A second
reaper skips what this one has locked, and finds it ended afterwards. If the process dies anywhere before the commit,
the server rolls everything back.

Jobs that exist only as a log have no row to lock. Step 1 is then an advisory lock for each job, which keeps a second
reaper out, and, with `lock = "table"`, a SHARE ROW EXCLUSIVE lock on the log. It waits a moment for entries that are
being written, no longer, and keeps others from being written for the rest of the transaction: what step 2 does not
see can only come after the commit. With `lock = "job"` nobody waits; a job system that numbers the entries of a job one
after the other then meets our entry's number, or we meet its, and whoever comes second is refused by the unique key and
looks again. One that numbers them otherwise may write an entry between step 2 and the commit, and needs the table's
lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, TextClause, and_, func, literal, select, text
from sqlalchemy.exc import DBAPIError

from reaper.database.errors import sqlstate
from reaper.errors import LogBusy
from reaper.model import Key, ReapedJob
from reaper.profile import Related
from reaper.source.audit import AuditInfo
from reaper.source.followup import MAX_FOLLOWED, FollowUp
from reaper.source.survey import Candidate, version_columns
from reaper.source.transition.multi_statement import MultiStatementTransition
from reaper.source.transition.second_check import Predicate, SecondCheck
from reaper.source.transition.single_statement import SingleStatementTransition
from reaper.sql import expressions as sql
from reaper.sql.keys import key_parameters
from reaper.sql.tables import ProfileTables, reserved_alias
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule

_NOT_AVAILABLE = "55P03"
_LOG_LOCK_MS = 200
# Longer than PostgreSQL's usual deadlock_timeout, after which autovacuum makes way for whoever waits for it.
_PATIENT_MS = 1500


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """What became of a batch. `reaped + lost + locked` are all of it."""

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
        """`at_once` is for servers that can change rows inside a query."""
        self._schema: ProfileTables = rule.tables
        self._rule, self._context, self._audit_info = rule, context, audit_info
        self._width = len(rule.tables.profile.jobs.key)
        judging = SecondCheck(rule, context, audit_info.as_fields(), predicate)
        self.transition = (
            SingleStatementTransition(rule, judging, action)
            if single_statement
            else MultiStatementTransition(rule, judging, action)
        )
        self.follow_up, self._followed = FollowUp(rule), MAX_FOLLOWED
        self.still_running = self._still_running()
        self.lock_rows = self._lock()
        self.log_lock = self._lock_log()
        self.related_row_locks = [self._parts(part) for part in rule.tables.profile.jobs.parts]

    def run(self, connection: Connection, batch: Sequence[Candidate], *, long_wait: bool = False) -> ClaimResult:
        """End what is stale of the batch, inside the caller's transaction; a `patient` one waits longer for a log.

        Raises DBAPIError when the database refuses any of it, HalfDone when transition and audit came apart, LogBusy
        when a log could not be locked.
        """
        claims = {c.key: c.version for c in batch}
        rows = connection.execute(self.lock_rows, key_parameters(claims))
        held = {row[: self._width]: row[self._width :] for row in rows}
        mine = self._with_all_parts(connection, [key for key, claim in held.items() if claims[key] == claim])
        if mine:
            self._lock_the_log(connection, _PATIENT_MS if long_wait else _LOG_LOCK_MS)
        reaped = self._act(connection, mine) if mine else []
        whole = set(mine)
        missing = [key for key in claims if key not in held or (key not in whole and claims[key] == held[key])]
        locked = self._locked(connection, missing, claims) if missing else []
        return ClaimResult(reaped=reaped, lost=len(batch) - len(reaped) - len(locked), locked=locked)

    def current(self, connection: Connection, keys: Sequence[Key]) -> list[Candidate]:
        """Those of the jobs that run, as they are now, whether somebody holds their rows or not."""
        rows = connection.execute(self.still_running, key_parameters(keys))
        return [Candidate(row[: self._width], row[self._width :]) for row in rows]

    def _with_all_parts(self, connection: Connection, keys: Sequence[Key]) -> list[Key]:
        """Those of the jobs whose parts nobody else holds; the parts are locked from now on."""
        whole = list(keys)
        for there, lock in self.related_row_locks:
            if whole:
                held = Counter(tuple(row) for row in connection.execute(lock, key_parameters(whole)))
                all_there = Counter(tuple(row) for row in connection.execute(there, key_parameters(whole)))
                whole = [key for key in whole if held[key] == all_there[key]]
        return whole

    def _lock_the_log(self, connection: Connection, wait_ms: int) -> None:
        if not self.log_lock:
            return
        timeouts, lock = self.log_lock
        try:
            connection.execute(timeouts, {"wait": f"{wait_ms}"})
            connection.execute(lock)
        except DBAPIError as error:
            if sqlstate(error) == _NOT_AVAILABLE:
                raise LogBusy(f"{self._schema.profile.jobs.table}: somebody is writing") from error
            raise

    def _act(self, connection: Connection, keys: Sequence[Key]) -> list[ReapedJob]:
        reason = self._audit_info.reason.value
        if not (told := self.transition.run(connection, keys)):
            return []
        # Looking at every job once more would take a twentieth of a mass reap, of which most are forgotten at once.
        at, remains = self.follow_up.states_after(connection, {job.key: job.action for job in told[: self._followed]})
        self._followed = max(0, self._followed - len(remains))
        return [ReapedJob(job.key, reason, *job[1:-1], at, remains.get(job.key)) for job in told]

    def _locked(self, connection: Connection, missing: Sequence[Key], claims: dict[Key, tuple[Any, ...]]) -> list[Key]:
        return [job.key for job in self.current(connection, missing) if claims[job.key] == job.version]

    # --- statements ----------------------------------------------------------------------------------------

    def _still_running(self) -> Select[Any]:
        jobs = self._schema.jobs
        mine = and_(self._schema.key_in_batch(jobs), self._schema.running(jobs))
        return select(*self._schema.key_text(jobs), *version_columns(self._rule)).where(mine)

    def _lock(self) -> Select[Any]:
        if self._schema.profile.jobs.log is None:
            return self.still_running.with_for_update(skip_locked=True)
        # Found first and locked then: a row that another condition rules out must not be locked on the way.
        found = self.still_running.cte(reserved_alias("running")).prefix_with("MATERIALIZED", dialect="postgresql")
        place = literal(f"{self._schema.profile.name} {self._schema.profile.jobs.table} ")
        named = sql.concat(place, *(part for n in range(self._width) for part in (list(found.c)[n], " ")))
        return select(found).where(func.pg_try_advisory_xact_lock(func.hashtextextended(named, 0)))

    def _lock_log(self) -> list[TextClause | sql.LockTable]:
        """Keeps entries from being written until the transaction ends."""
        log = self._schema.profile.jobs.log
        if log is None or log.lock != "table":
            return []
        timeouts = text("SELECT set_config('lock_timeout', :wait, true)")
        return [timeouts.bindparams(wait=f"{_LOG_LOCK_MS}"), sql.LockTable(self._schema.jobs)]

    def _parts(self, part: Related) -> tuple[Select[Any], Select[Any]]:
        """The rows that belong to the jobs of a batch: each with the job's key; and the same, locked."""
        jobs = self._schema.jobs
        theirs = self._schema.table(part.table).alias(reserved_alias("part"))
        joined = jobs.join(theirs, self._schema.belongs_to_job(part, theirs, jobs))
        there = select(*self._schema.key_text(jobs)).select_from(joined).where(self._schema.key_in_batch(jobs))
        return there, there.with_for_update(skip_locked=True, of=theirs)
