"""A profile bound to a database: survey, claim, explain."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import inf

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from reaper.database.connections import ActivityClock, CachedConnection, make_engine, read_server_clock, transaction
from reaper.database.dialect import dialect_of
from reaper.database.errors import short_message
from reaper.database.lease import Lease
from reaper.database.timeouts import Timeouts
from reaper.errors import DatabaseUnavailable, RowsHidden
from reaper.liveness import LivenessProbe
from reaper.model import Key, LockHolder, Reason, Thresholds
from reaper.profile import Profile
from reaper.profile.related_tables import liveness_tables
from reaper.source.audit import AuditInfo
from reaper.source.claim import Claim
from reaper.source.followup import FollowUp
from reaper.source.lookup import JobLookup
from reaper.source.survey import Survey
from reaper.source.transition.second_check import Predicate
from reaper.sql.tables import ProfileTables
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.staleness.rule import Rule

_AT_ONCE_SECONDS = 5.0
_CONNECTING = "reaper.connecting"
_NO_SILENCE = "signs of life that are not seen are no silence, so nothing is judged"


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What is particular to one source.

    `action` is what becomes of its stale jobs. `witness` is asked about them once per sweep; they wait in `queues`,
    and one that a live worker executes is left alone until it is older than `max_age` seconds.
    """

    action: str = "fail"
    probe: LivenessProbe | None = None
    queues: tuple[str, ...] = ()
    max_age: float | None = None


class Source:
    """One place where jobs live."""

    def __init__(
        self,
        name: str,
        url: str,
        profile: Profile,
        thresholds: Thresholds,
        timeouts: Timeouts,
        options: SourceOptions = SourceOptions(),
    ) -> None:
        self.name, self.profile, self.thresholds = name, profile, thresholds
        self.engine: Engine = make_engine(url, name, timeouts)
        self.activity = ActivityClock(self.engine)
        self._cached = CachedConnection(self.engine, timeouts.connect)
        # Whoever drops a source says goodbye to the server.
        weakref.finalize(self, self._cached.close)
        self.options = options
        self.rule = Rule(ProfileTables(profile), thresholds, options.queues, options.max_age)
        self.survey = Survey(self.rule)
        self.lookup = JobLookup(self.rule)
        self.follow_up = FollowUp(self.rule)
        self._timeouts = timeouts
        self._downtime: DowntimeTracker | None = None
        self._stall_lock = threading.Lock()

    def connect(self) -> AbstractContextManager[Connection]:
        """A new connection. Raises DatabaseAway when there is none to be had."""
        return self._connected(self.engine.connect)

    def cached_connection(self) -> AbstractContextManager[Connection]:
        """The connection of the last sweep, if it still lives. Raises DatabaseAway when there is none to be had."""
        return self._connected(self._cached.connection)

    def close(self) -> None:
        """Keep no connection."""
        self._cached.close()

    @contextmanager
    def _connected(self, connect: Callable[[], AbstractContextManager[Connection]]) -> Iterator[Connection]:
        begun = time.monotonic()
        self.activity.touch()
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(connect())
            except DBAPIError as error:
                raise DatabaseUnavailable(short_message(error)) from error
            connection.info[_CONNECTING] = time.monotonic() - begun
            yield connection

    @contextmanager
    def transaction(self, connection: Connection, *, read_only: bool = False, at_most: float = inf) -> Iterator[None]:
        """One short transaction with its time limits set; a statement may take no longer than `at_most` seconds."""
        begun = time.monotonic()
        timeouts = replace(self._timeouts, statement=min(self._timeouts.statement, at_most))
        with transaction(connection, timeouts, read_only=read_only):
            self._record_stall_if_slow(connection.info.pop(_CONNECTING, 0.0) + time.monotonic() - begun)
            yield
            done = time.monotonic()
        self._record_stall_if_slow(time.monotonic() - done)

    def begin_evaluation(self, connection: Connection, downtime: DowntimeTracker) -> EvaluationContext:
        """Look at the database's clock, tell `hearing`, and fix the moment to judge by.

        From now on `hearing` is also told when the database has stood still.
        Raises DatabaseAway when nothing can be written there now.
        """
        begun = time.monotonic()
        with transaction(connection, self._timeouts):
            downtime.record_contact(read_server_clock(connection))
            hidden = dialect_of(connection).hidden_rows(connection, liveness_tables(self.profile), _NO_SILENCE)
        self._downtime = downtime
        self._record_stall_if_slow(connection.info.pop(_CONNECTING, 0.0) + time.monotonic() - begun)
        return replace(EvaluationContext.of(downtime, self.thresholds), row_security_reason=hidden)

    def require_visible_rows(self, connection: Connection, tables: Collection[str], consequence: str) -> None:
        """Raises RowsHidden where the database may keep rows of these tables from us; `so` says what follows."""
        if (hidden := dialect_of(connection).hidden_rows(connection, tables, consequence)) is not None:
            raise RowsHidden(hidden)

    def lock_holder(self, connection: Connection, key: Key) -> LockHolder | None:
        """The transaction that has held the job's row longest; None when none does, or when it cannot be found out."""
        return dialect_of(connection).lock_holder(connection, self.rule.tables, key)

    def ask_probe(self, context: EvaluationContext) -> EvaluationContext:
        """The moment with what the witness outside the database says, where there is one. Asks it once.

        Whoever goes by the rule asks here first. Raises RowsHidden when the database may keep signs of life from us:
        a job whose signs cannot be seen is not silent.
        """
        if context.row_security_reason is not None:
            raise RowsHidden(context.row_security_reason)
        witness = self.options.probe
        return replace(context, liveness=witness.ask()) if witness else context

    def _record_stall_if_slow(self, seconds: float) -> None:
        """The database took so long for what it does at once: with more than a little, it stood still."""
        if self._downtime is not None and seconds > _AT_ONCE_SECONDS:
            with self._stall_lock:  # batches are worked off on two threads
                self._downtime.record_stall(seconds)

    def claim(
        self,
        context: EvaluationContext,
        audit_info: AuditInfo,
        action: str | None = None,
        predicate: Predicate | None = None,
    ) -> Claim:
        """The statements that end jobs as of this moment, judged by the rule or by `judge`.

        An operator's own decision is not judged.
        """
        by = predicate or audit_info.reason is not Reason.MANUAL_TIMEOUT
        chosen, at_once = action or self.options.action, self.engine.dialect.name == "postgresql"
        return Claim(self.rule, context, audit_info, predicate=by, action=chosen, single_statement=at_once)

    def fallback_claim(
        self, context: EvaluationContext, audit_info: AuditInfo, predicate: Predicate | None = None
    ) -> Claim | None:
        """How to end a job whose transition a unique key does not allow; None where it is to be left alone."""
        arms = self.profile.branches(self.options.action)
        failing = any(action.unique_violation == "fail" for _, action in arms)
        return self.claim(context, audit_info, "fail", predicate) if failing else None

    def lease(self, ttl_seconds: float) -> Lease:
        return Lease(self.engine, self.rule.tables, ttl_seconds)
