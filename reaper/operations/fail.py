"""One job ended by a person: a sweep's lock, transition and audit event, without asking the rule."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from reaper.common import messages
from reaper.errors import JobChanged
from reaper.model import Key, ReapedJob, Reason, Verdict
from reaper.source import AuditInfo, Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.listeners import SweepListener


@dataclass(frozen=True, slots=True)
class ManualEnd:
    """Who wants jobs ended, from which host, why, and by which action. All of it is written to the audit event."""

    operator: str
    host: str
    reason: str
    action: str = "fail"

    @property
    def message(self) -> str:
        """The job's error message, which also says who it was: not every job has an audit event."""
        what = "Manually marked FAILED by operator" if self.action == "fail" else f"Action {self.action!r} by operator"
        return f"{what}: {self.reason} ({self.operator})"

    def audit_info(self, source: str, run_id: str) -> AuditInfo:
        """What goes into every audit event of it."""
        return AuditInfo(
            source=source,
            sweep_id=run_id,
            host=self.host,
            reason=Reason.MANUAL_TIMEOUT,
            message=self.message,
            operator=self.operator,
            action=None if self.action == "fail" else self.action,
        )


@dataclass(frozen=True, slots=True)
class ExpectedStart:
    """The job as somebody saw it when they decided: its start, as evidence tells it."""

    started: str | None

    def same(self, started: str | None) -> bool:
        """Whether that is the same start, however it is written."""
        if started is None or self.started is None:
            return started == self.started
        try:
            return datetime.fromisoformat(started) == datetime.fromisoformat(self.started)
        except (ValueError, TypeError):  # one that Python's dates cannot hold, or one without a time zone
            return started == self.started


def fail(
    source: Source,
    downtime: DowntimeTracker,
    key: Key,
    decision: ManualEnd,
    listener: SweepListener,
    observed: ExpectedStart | None = None,
) -> ReapedJob:
    """End a running job, whatever its signs of life, and tell the listener.

    Raises JobMoved, with the reason in words, for a job that does not run, that is not the one that was observed, or
    whose row somebody holds; DatabaseAway; HalfDone or DBAPIError when the database refuses.
    """
    run_id = uuid.uuid4().hex[:12]
    with source.connect() as connection:
        context = source.begin_evaluation(connection, downtime)
        claim = source.claim(context, decision.audit_info(source.name, run_id), decision.action)
        reaped, held = list[ReapedJob](), False
        with source.transaction(connection):
            # What is claimed has been seen before it is compared: a start between the two is not the one seen here.
            if running := claim.current(connection, [key]):
                _compare(source, connection, context, key, observed)
                claimed = claim.run(connection, running)
                reaped, held = [*claimed.reaped], bool(claimed.locked)
        if reaped:  # and committed
            listener.reaped(source.name, run_id, reaped)
            return reaped[0]
        with source.transaction(connection, read_only=True):
            if held:
                holder = source.lock_holder(connection, key)
                raise JobChanged(f"is alive: its row is held by {messages.describe_holder(holder)}")
            raise JobChanged(_what_it_is(source, connection, context, key))


def _compare(
    source: Source, connection: Connection, context: EvaluationContext, key: Key, observed: ExpectedStart | None
) -> None:
    if observed is None:
        return
    found = source.lookup.evidence(connection, context, [key])
    if found and not observed.same(found[0].started):
        raise JobChanged(f"was started anew: it runs since {found[0].started}, not since {observed.started}")


def _what_it_is(source: Source, connection: Connection, context: EvaluationContext, key: Key) -> str:
    found = source.lookup.evidence(connection, context, [key])
    if not found:
        return "is gone"
    if found[0].verdict is Verdict.ENDED:
        return f"is not running: its status is {found[0].status}"
    return "was started anew just now; look at it again"
