"""One pass over one source: a function that returns a value. No loop around it, no schedule, no clock of the host."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.hearing import Hearing
from reaper.late import LookedBack, look_back
from reaper.model import (
    Census,
    DatabaseAway,
    Evidence,
    Failure,
    Key,
    Locked,
    Outcome,
    RowsHidden,
    SweepReport,
    Verdict,
)
from reaper.orders import SHOWN, Listener, Memory, Orders
from reaper.reap import Done, Reap, TooManyRefused
from reaper.revoking import Revoking
from reaper.rule import Moment
from reaper.source import (
    Candidate,
    Lease,
    Source,
    Stamp,
    Trouble,
    holder_of,
    in_one_line,
    trouble,
    with_stale,
)
from reaper.spool import Spool

_REFUSED_AGAIN_SECONDS = 600.0


class Sweep:
    """The state of one pass while it runs. Use `sweep`."""

    def __init__(
        self, source: Source, hearing: Hearing, memory: Memory, orders: Orders, lease: Lease | None, listener: Listener
    ) -> None:
        self.source, self.hearing, self.memory, self.orders = source, hearing, memory, orders
        self.lease, self.listener = lease, listener
        self.id = uuid.uuid4().hex[:12]
        self.census: Census | None = None
        self.crossed = self.reaped = self.lost = 0
        self.failures: list[Failure] = []
        self.locked: list[Key] = []
        self.named_locked: list[Locked] = []
        self.newly_spared: list[Evidence] = []
        self.newly_spared_total = 0
        self.would_reap: list[Evidence] = []
        self.refused = 0
        self.longest = self.deaf = 0.0
        self.judged_at: str | None = None
        self.asked = False
        self.witness_trouble: str | None = None
        self.revoking = Revoking(source.habits.witness, memory.revoked)
        self.looked_back: LookedBack | None = None

    def run(self) -> Outcome:
        with self.source.connect() as connection:
            # A standby listens too: the day it takes over it must know what it could not have heard.
            moment = self.source.meet(connection, self.hearing)
        self.judged_at = moment.now.isoformat()
        self.deaf = self.hearing.deaf_seconds(self.source.thresholds.stall.seconds)
        if self.lease is not None and not self.lease.hold():
            return Outcome.STANDBY
        moment = self._consult(moment)
        with self.source.connect_again() as connection, Spool(self.orders.batch_size) as spool:
            outcome = self._pass(connection, moment, spool)
            if outcome not in (Outcome.STOPPED, Outcome.STANDBY) and not self.orders.dry_run:
                self.looked_back = look_back(self.source, connection, moment, self.memory.ended)
            return outcome

    def _pass(self, connection: Connection, moment: Moment, spool: Spool) -> Outcome:
        census = self._survey(connection, moment, spool)
        self._notice_spared(connection, moment)
        if self.orders.dry_run:
            self._preview(connection, moment, spool)
            return Outcome.DONE
        if self.orders.held(census):
            return Outcome.HELD
        if self.orders.halted():
            return Outcome.HALTED
        outcome = self._reap(connection, moment, spool)
        self._name_holders(connection, moment)
        return outcome

    def _consult(self, moment: Moment) -> Moment:
        moment = self.source.consult(moment)
        self.memory.testimony = moment.testimony
        self.asked = moment.testimony is not None
        self.witness_trouble = moment.testimony.trouble if moment.testimony else None
        acting = not self.orders.dry_run and not self.orders.halted()
        if moment.testimony is not None and self.witness_trouble is None and acting:
            self.revoking.again(moment.testimony)
        return moment

    # --- survey ----------------------------------------------------------------------------------------------

    def _survey(self, connection: Connection, moment: Moment, spool: Spool) -> Census:
        """One read finds the candidates, whatever their number; batches then go by key."""
        with self.source.transaction(connection, read_only=True):
            census, self.crossed = self.source.survey.count(connection, moment, self.memory.before)
            spool.fill(self.source.survey.stream(connection, moment))
        self.census = with_stale(census, spool.count)
        self.listener.surveyed(self.source.name, self.census)
        return self.census

    def _notice_spared(self, connection: Connection, moment: Moment) -> None:
        """Jobs that have passed their timeout since the last sweep and live: each is named once."""
        if self.census is None or self.census.spared == 0 or self.crossed == 0:
            self.memory.before = moment
            return
        with self.source.transaction(connection, read_only=True):
            survey = self.source.survey.crossed(moment, self.memory.before, SHOWN + 1, self.census.stale)
            crossed = connection.execute(survey)
            keys = [tuple(row) for row in crossed]
            judged = self.source.reading.evidence(connection, moment, keys)
        spared = [evidence for evidence in judged if evidence.verdict is Verdict.SPARED]
        self.newly_spared_total = len(spared) if len(keys) <= SHOWN else self.crossed
        self.newly_spared = spared[:SHOWN]
        self.memory.before = moment

    def _preview(self, connection: Connection, moment: Moment, spool: Spool) -> None:
        for batch in spool.batches():
            with self.source.transaction(connection, read_only=True):
                keys = [c.key for c in batch][: SHOWN - len(self.would_reap)]
                judged = self.source.reading.evidence(connection, moment, keys)
            self.would_reap += [evidence for evidence in judged if evidence.verdict is Verdict.STALE]
            if len(self.would_reap) >= SHOWN:
                return

    # --- reap ------------------------------------------------------------------------------------------------

    def _reap(self, connection: Connection, moment: Moment, spool: Spool) -> Outcome:
        if spool.count == 0:
            return Outcome.DONE
        stamp = Stamp(source=self.source.name, sweep_id=self.id, host=self.orders.host)
        reap = Reap(self.source, self.source.claim(moment, stamp), self.source.instead(moment, stamp))
        outcome = Outcome.DONE

        def willing() -> Iterator[list[Candidate]]:
            nonlocal outcome
            for batch in spool.batches():
                if self.orders.stopping():
                    outcome = Outcome.STOPPED
                    return
                if self.orders.halted():
                    outcome = Outcome.HALTED
                    return
                if self.lease is not None and not self.lease.keep():
                    outcome = Outcome.STANDBY
                    return
                if kept := self._without_refused(batch):
                    yield kept

        for done in reap.run(connection, willing()):
            self._take(done)
            self.revoking.ended(done.reaped, moment.testimony)
        return outcome

    def _take(self, done: Done) -> None:
        self.reaped += len(done.reaped)
        self.lost += done.lost
        self.locked += done.locked
        self.failures += done.failures
        self.longest = max(self.longest, done.longest)
        self.refused += len(done.failures)
        for failure in done.failures:
            self.memory.refused[failure.key] = time.monotonic() + _REFUSED_AGAIN_SECONDS
        if done.reaped:
            self.listener.reaped(self.source.name, self.id, done.reaped)

    def _without_refused(self, batch: Sequence[Candidate]) -> list[Candidate]:
        """Jobs that the database refused lately are left alone for a while."""
        refused, now = self.memory.refused, time.monotonic()
        for key in [key for key, again in refused.items() if again <= now]:
            del refused[key]
        willing = [candidate for candidate in batch if candidate.key not in refused]
        self.refused += len(batch) - len(willing)
        return willing

    # --- held rows -------------------------------------------------------------------------------------------

    def _name_holders(self, connection: Connection, moment: Moment) -> None:
        """Somebody who keeps a stale job's row locked for longer than its stall window hides a dead job: say who."""
        now, since = time.monotonic(), self.memory.locked_since
        self.memory.locked_since = {key: since.get(key, now) for key in self.locked}
        longest_first = sorted(self.locked, key=self.memory.locked_since.__getitem__)
        for key in longest_first[:SHOWN]:
            with self.source.transaction(connection, read_only=True):
                holder = holder_of(connection, self.source.rule.schema, key)
                judged = self.source.reading.evidence(connection, moment, [key])
            seen = now - self.memory.locked_since[key]
            held = max(seen, holder.held_seconds or 0.0) if holder else seen
            stall = judged[0].stall_seconds if judged else float("inf")
            self.named_locked.append(Locked(key=key, held_seconds=held, overdue=held > stall, holder=holder))


def sweep(
    source: Source, hearing: Hearing, memory: Memory, orders: Orders, lease: Lease | None, listener: Listener
) -> SweepReport:
    """Survey one source and end what is stale. Never raises for trouble with the database: the report tells it."""
    begun = time.monotonic()
    state = Sweep(source, hearing, memory, orders, lease, listener)
    error: str | None = None
    away = deaf = False
    try:
        outcome = state.run()
    except DatabaseAway as problem:
        outcome, error, away, deaf = Outcome.FAILED, str(problem), True, True
    except (DBAPIError, TooManyRefused, RowsHidden) as problem:
        outcome, error = Outcome.FAILED, in_one_line(problem)
        kind = trouble(problem) if isinstance(problem, DBAPIError) else None
        away = kind is Trouble.AWAY
        # A server that was frozen cancels on waking what took too long meanwhile.
        deaf = kind in (Trouble.AWAY, Trouble.SLOW)
    except Exception:
        _let_another_try(lease, orders)
        raise
    if deaf:
        hearing.lost()
    if outcome is Outcome.FAILED or (state.failures and not state.reaped):
        _let_another_try(lease, orders)
    return _report(state, outcome, error, away=away, duration=time.monotonic() - begun)


def _let_another_try(lease: Lease | None, orders: Orders) -> None:
    """What this process cannot do, for want of a privilege or of disk, a replica may: it must not be kept from it.

    Unless it was halted: then nobody is to do it.
    """
    if lease is not None and not orders.halted():
        lease.release()


def failed(source: str, error: str) -> SweepReport:
    """The report of a sweep that did not get far enough to make one."""
    return SweepReport(source=source, sweep_id="", outcome=Outcome.FAILED, duration_seconds=0.0, error=error)


def _report(state: Sweep, outcome: Outcome, error: str | None, *, away: bool, duration: float) -> SweepReport:
    return SweepReport(
        source=state.source.name,
        sweep_id=state.id,
        outcome=outcome,
        duration_seconds=duration,
        census=state.census,
        reaped=state.reaped,
        lost=state.lost,
        newly_spared=tuple(state.newly_spared),
        newly_spared_total=state.newly_spared_total,
        locked=tuple(state.named_locked),
        locked_total=len(state.locked),
        failures=tuple(state.failures),
        refused_total=state.refused,
        would_reap=tuple(state.would_reap),
        longest_transaction_seconds=state.longest,
        deaf_seconds=state.deaf,
        database_away=away,
        asked_witness=state.asked,
        witness_trouble=state.witness_trouble,
        revoke_trouble=state.revoking.trouble,
        looked_back=state.looked_back is not None,
        late=state.looked_back.late if state.looked_back else (),
        late_trouble=state.looked_back.trouble if state.looked_back else None,
        leads=outcome not in (Outcome.STANDBY, Outcome.FAILED),
        judged_at=state.judged_at,
        error=error,
        dry_run=state.orders.dry_run,
    )
