"""One job ended by a person: a sweep's lock, transition and audit event, without asking the rule."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import Connection

from reaper import words
from reaper.hearing import Hearing
from reaper.model import JobMoved, Key, Reaped, Reason, Verdict
from reaper.rule import Moment
from reaper.source import Source, Stamp, holder_of


@dataclass(frozen=True, slots=True)
class Decision:
    """Who wants the job ended, from which host, and why. All of it is written to the audit event."""

    operator: str
    host: str
    reason: str

    @property
    def message(self) -> str:
        """The job's error message."""
        return f"Manually marked FAILED by operator: {self.reason}"


def fail(source: Source, hearing: Hearing, key: Key, decision: Decision) -> Reaped:
    """End a running job, whatever its signs of life.

    Raises JobMoved, with the reason in words, for a job that does not run or whose row somebody holds; DatabaseAway;
    HalfDone or DBAPIError when the database refuses.
    """
    stamp = Stamp(
        source=source.name,
        sweep_id=uuid.uuid4().hex[:12],
        host=decision.host,
        reason=Reason.MANUAL_TIMEOUT,
        message=decision.message,
        operator=decision.operator,
    )
    with source.connect() as connection:
        moment = source.meet(connection, hearing)
        claim = source.claim(moment, stamp)
        held = False
        with source.transaction(connection):
            if running := claim.seen(connection, [key]):
                claimed = claim.run(connection, running)
                if claimed.reaped:
                    return claimed.reaped[0]
                held = bool(claimed.locked)
        with source.transaction(connection, read_only=True):
            if held:
                holder = holder_of(connection, source.rule.schema, key)
                raise JobMoved(f"is alive: its row is held by {words.holder(holder)}")
            raise JobMoved(_what_it_is(source, connection, moment, key))


def _what_it_is(source: Source, connection: Connection, moment: Moment, key: Key) -> str:
    found = source.reading.evidence(connection, moment, [key])
    if not found:
        return "is gone"
    if found[0].verdict is Verdict.ENDED:
        return f"is not running: its status is {found[0].status}"
    return "was started anew just now; look at it again"
