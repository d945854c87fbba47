"""One place where jobs live: a database and a profile."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from reaper.database.connections import read_server_clock, transaction
from reaper.database.dialect import dialect_of
from reaper.database.lease import Lease
from reaper.database.timeouts import Timeouts
from reaper.errors import RowsHidden
from reaper.liveness import LivenessProbe
from reaper.model import Key, LockHolder, Reason, Thresholds
from reaper.profile import Profile
from reaper.profile.related_tables import liveness_tables
from reaper.source.claim import Claim
from reaper.source.database_access import DatabaseAccess
from reaper.source.job_lookup import JobLookup
from reaper.source.post_transition import PostTransition
from reaper.source.survey import Survey
from reaper.source.transition.audit_event import AuditInfo
from reaper.source.transition.second_check import Predicate
from reaper.sql.tables import ProfileTables
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule

_NOTHING_JUDGED = "signs of life that are not seen are no silence, so nothing is judged"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """The options of one source.

    `action` is what is done with its stale jobs. `probe` is asked about them once per sweep; their tasks wait in
    `queues`. A job that a live worker executes is left alone until it is older than `max_age` seconds.
    """

    action: str = "fail"
    probe: LivenessProbe | None = None
    queues: tuple[str, ...] = ()
    max_age: float | None = None


class Source(DatabaseAccess):
    """A profile on a database: what the sweep and the commands need to judge jobs and to end them."""

    def __init__(
        self,
        name: str,
        url: str,
        profile: Profile,
        thresholds: Thresholds,
        timeouts: Timeouts,
        options: SourceOptions = SourceOptions(),
    ) -> None:
        super().__init__(name, url, timeouts)
        self.profile, self.thresholds, self.options = profile, thresholds, options
        self.rule = Rule(ProfileTables(profile), thresholds, options.queues, options.max_age)
        self.survey = Survey(self.rule)
        self.lookup = JobLookup(self.rule)
        self.post_transition = PostTransition(self.rule)

    # --- judging -------------------------------------------------------------------------------------------------

    def begin_evaluation(self, connection: Connection, downtime: DowntimeTracker) -> EvaluationContext:
        """Read the database's clock, record the contact in `downtime`, and fix the moment to judge by.

        From now on `downtime` also records when the database stands still.
        Raises DatabaseUnavailable when the database takes no changes now.
        """
        started = time.monotonic()
        with transaction(connection, self.timeouts):
            downtime.record_contact(read_server_clock(connection))
            hidden = dialect_of(connection).hidden_rows(connection, liveness_tables(self.profile), _NOTHING_JUDGED)
        self._downtime = downtime
        self._record_stall_if_slow(connection, time.monotonic() - started)
        return replace(EvaluationContext.of(downtime, self.thresholds), row_security_reason=hidden)

    def ask_probe(self, context: EvaluationContext) -> EvaluationContext:
        """The context with the report of the probe, where the source has one. Asks it once.

        Call it before the rule is used. Raises RowsHidden when signs of life may be hidden from the role: a job whose
        signs cannot be seen is not silent.
        """
        if context.row_security_reason is not None:
            raise RowsHidden(context.row_security_reason)
        probe = self.options.probe
        return replace(context, liveness=probe.ask()) if probe else context

    def require_visible_rows(self, connection: Connection, tables: Collection[str], consequence: str) -> None:
        """Raises RowsHidden, with this consequence in its message, when rows of these tables may be hidden."""
        if (hidden := dialect_of(connection).hidden_rows(connection, tables, consequence)) is not None:
            raise RowsHidden(hidden)

    # --- ending --------------------------------------------------------------------------------------------------

    def claim(
        self,
        context: EvaluationContext,
        audit_info: AuditInfo,
        action: str | None = None,
        predicate: Predicate | None = None,
    ) -> Claim:
        """The statements that end jobs as of this moment: those that are stale, or that `predicate` chooses.

        With an operator's own decision (`MANUAL_TIMEOUT`) the jobs are not judged.
        """
        return Claim(
            self.rule,
            context,
            audit_info,
            predicate=predicate or audit_info.reason is not Reason.MANUAL_TIMEOUT,
            action=action or self.options.action,
            single_statement=self.engine.dialect.name == "postgresql",
        )

    def fallback_claim(
        self, context: EvaluationContext, audit_info: AuditInfo, predicate: Predicate | None = None
    ) -> Claim | None:
        """How to end a job whose transition a unique key does not allow; None where it is to be left alone."""
        branches = self.profile.branches(self.options.action)
        fails = any(action.unique_violation == "fail" for _, action in branches)
        return self.claim(context, audit_info, "fail", predicate) if fails else None

    def lock_holder(self, connection: Connection, key: Key) -> LockHolder | None:
        """The transaction that has held the job's row longest; None when none does, or when it cannot be found out."""
        return dialect_of(connection).lock_holder(connection, self.rule.tables, key)

    def lease(self, ttl_seconds: float) -> Lease:
        return Lease(self.engine, self.rule.tables, ttl_seconds)
