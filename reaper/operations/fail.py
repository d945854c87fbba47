"""Ends one job by an operator's decision: with the lock, transition and audit event of a sweep, without the rule."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from reaper.common import messages
from reaper.errors import JobChanged, JobKept
from reaper.model import KeptJob, Key, ReapedJob, Reason, Verdict
from reaper.operations.message_room import require_room
from reaper.source import AuditInfo, Source
from reaper.staleness.downtime import DowntimeTracker
from reaper.staleness.evaluation_context import EvaluationContext
from reaper.sweep.listeners import SweepListener
from reaper.sweep.options import new_sweep_id


@dataclass(frozen=True, slots=True)
class ManualEnd:
    """An operator's decision: who, from which host, why, and by which of the profile's actions.

    All of it is written to the audit event.
    """

    operator: str
    host: str
    reason: str
    action: str = "fail"

    @property
    def message(self) -> str:
        """The job's error message. It names the operator, since not every profile has an audit event."""
        what = "Manually marked FAILED by operator" if self.action == "fail" else f"Action {self.action!r} by operator"
        return f"{what}: {self.reason} ({self.operator})"

    def audit_info(self, source: str, run_id: str) -> AuditInfo:
        """What every audit event of this decision has in common."""
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
    """The start of the job that the operator saw, as its evidence gave it: another start is another run."""

    started: str | None

    def matches(self, started: str | None) -> bool:
        """Whether both are the same moment, whatever their notation."""
        if started is None or self.started is None:
            return started == self.started
        try:
            return datetime.fromisoformat(started) == datetime.fromisoformat(self.started)
        except (ValueError, TypeError):  # a date that Python cannot hold, or one without a time zone
            return started == self.started


def fail(
    source: Source,
    downtime: DowntimeTracker,
    key: Key,
    decision: ManualEnd,
    listener: SweepListener,
    expected: ExpectedStart | None = None,
) -> ReapedJob:
    """End a running job, whatever its signs of life, and tell the listener.

    Raises JobChanged, with the reason in words, for a job that does not run, that has another start than expected, or
    whose row another session has locked; JobKept for one that an operator holds, or whose kind is never ended.

    Raises MessageTooLong; DatabaseUnavailable; PartialTransition or DBAPIError when the database refuses.
    """
    run_id = new_sweep_id()
    with source.connect() as connection:
        context = source.begin_evaluation(connection, downtime)
        require_room(source, connection, decision.message, decision.action)
        audit_info = decision.audit_info(source.name, run_id)
        claims = [(view, view.claim(context, audit_info, decision.action)) for view in source.views]
        reaped, locked, kept = list[ReapedJob](), False, list[KeptJob]()
        with source.transaction(connection):
            # The claim is read before the start is compared: a run that begins between the two is not claimed.
            current = ((view, claim, claim.current(connection, [key])) for view, claim in claims)
            for view, claim, running in current:
                if not running:
                    continue
                _require_same_start(view, connection, context, key, expected)
                claimed = claim.run(connection, running)
                reaped, locked, kept = [*claimed.reaped], bool(claimed.locked), [*claimed.kept]
                break
        if reaped:  # and committed
            source.remember_reaped(reaped)
            listener.reaped(source.name, run_id, reaped)
            return reaped[0]
        if locked:
            raise JobChanged(f"is alive: {messages.describe_lock(source.lock_holder(connection, key))}")
        if kept:
            raise JobKept(f"is kept: {kept[0].why}. {how_to_end_anyway(source, kept[0])}")
        with source.transaction(connection, read_only=True):
            raise JobChanged(_describe_state(source, connection, context, key))


def how_to_end_anyway(source: Source, kept: KeptJob) -> str:
    """What an operator does first who wants such a job ended."""
    if kept.hold:
        return f"`reaper unhold {messages.format_key(kept.key)} --source {source.name}` takes the hold back"
    return f"Change `never` ({source.options.never_origin}) first"


def _require_same_start(
    view: Source, connection: Connection, context: EvaluationContext, key: Key, expected: ExpectedStart | None
) -> None:
    if expected is None:
        return
    judged = view.lookup.evidence(connection, context, [key])
    if judged and not expected.matches(judged[0].started):
        raise JobChanged(f"was started again: it runs since {judged[0].started}, not since {expected.started}")


def _describe_state(source: Source, connection: Connection, context: EvaluationContext, key: Key) -> str:
    judged = [job for view in source.views for job in view.lookup.evidence(connection, context, [key])]
    if not judged:
        return "is gone"
    if judged[0].verdict is Verdict.ENDED:
        return f"is not running: {messages.describe_verdict(judged[0])}"
    return "was started again just now; look at it again"
