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

from reaper.hearing import Hearing
from reaper.model import DatabaseAway, Reason, RowsHidden, Thresholds
from reaper.profile import Profile
from reaper.profile.places import decisive
from reaper.rule import Moment, Rule
from reaper.schema import Schema
from reaper.source.afterlife import FOLLOWED, Afterlife, Seen, Sign
from reaper.source.claim import Claim, LogBusy
from reaper.source.dialect import dialect_of
from reaper.source.holders import holder_of
from reaper.source.judging import Judge
from reaper.source.kept import Kept
from reaper.source.lease import Lease
from reaper.source.patience import Patience
from reaper.source.pulse import Pulse
from reaper.source.reading import Reading
from reaper.source.session import look, make_engine, transaction
from reaper.source.stamp import Stamp
from reaper.source.survey import Candidate, Survey, with_stale
from reaper.source.told import HalfDone
from reaper.source.trouble import Trouble, in_one_line, trouble
from reaper.witness import Witness

__all__ = [
    "FOLLOWED",
    "Candidate",
    "Claim",
    "HalfDone",
    "Judge",
    "Lease",
    "LogBusy",
    "Patience",
    "Reading",
    "Seen",
    "Sign",
    "Source",
    "Stamp",
    "Survey",
    "Trouble",
    "holder_of",
    "in_one_line",
    "look",
    "trouble",
    "with_stale",
]


_AT_ONCE_SECONDS = 5.0
_CONNECTING = "reaper.connecting"
_NO_SILENCE = "signs of life that are not seen are no silence, so nothing is judged"


@dataclass(frozen=True, slots=True)
class Habits:
    """What is particular to one source.

    `action` is what becomes of its stale jobs. `witness` is asked about them once per sweep; they wait in `queues`,
    and one that a live worker executes is left alone until it is older than `max_age` seconds.
    """

    action: str = "fail"
    witness: Witness | None = None
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
        patience: Patience,
        habits: Habits = Habits(),
    ) -> None:
        self.name, self.profile, self.thresholds = name, profile, thresholds
        self.engine: Engine = make_engine(url, name, patience)
        self.pulse = Pulse(self.engine)
        self._kept = Kept(self.engine, patience.connect)
        # Whoever drops a source says goodbye to the server.
        weakref.finalize(self, self._kept.close)
        self.habits = habits
        self.rule = Rule(Schema(profile), thresholds, habits.queues, habits.max_age)
        self.survey = Survey(self.rule)
        self.reading = Reading(self.rule)
        self.afterlife = Afterlife(self.rule)
        self._patience = patience
        self._hearing: Hearing | None = None
        self._noticing = threading.Lock()

    def connect(self) -> AbstractContextManager[Connection]:
        """A new connection. Raises DatabaseAway when there is none to be had."""
        return self._connected(self.engine.connect)

    def connect_again(self) -> AbstractContextManager[Connection]:
        """The connection of the last sweep, if it still lives. Raises DatabaseAway when there is none to be had."""
        return self._connected(self._kept.connection)

    def hang_up(self) -> None:
        """Keep no connection."""
        self._kept.close()

    @contextmanager
    def _connected(self, connect: Callable[[], AbstractContextManager[Connection]]) -> Iterator[Connection]:
        begun = time.monotonic()
        self.pulse.beat()
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(connect())
            except DBAPIError as error:
                raise DatabaseAway(in_one_line(error)) from error
            connection.info[_CONNECTING] = time.monotonic() - begun
            yield connection

    @contextmanager
    def transaction(self, connection: Connection, *, read_only: bool = False, at_most: float = inf) -> Iterator[None]:
        """One short transaction with its time limits set; a statement may take no longer than `at_most` seconds."""
        begun = time.monotonic()
        patience = replace(self._patience, statement=min(self._patience.statement, at_most))
        with transaction(connection, patience, read_only=read_only):
            self._notice(connection.info.pop(_CONNECTING, 0.0) + time.monotonic() - begun)
            yield
            done = time.monotonic()
        self._notice(time.monotonic() - done)

    def meet(self, connection: Connection, hearing: Hearing) -> Moment:
        """Look at the database's clock, tell `hearing`, and fix the moment to judge by.

        From now on `hearing` is also told when the database has stood still.
        Raises DatabaseAway when nothing can be written there now.
        """
        begun = time.monotonic()
        with transaction(connection, self._patience):
            hearing.met(look(connection))
            hidden = dialect_of(connection).hidden_rows(connection, decisive(self.profile), _NO_SILENCE)
        self._hearing = hearing
        self._notice(connection.info.pop(_CONNECTING, 0.0) + time.monotonic() - begun)
        return replace(Moment.of(hearing, self.thresholds), hidden=hidden)

    def insist_on(self, connection: Connection, tables: Collection[str], so: str) -> None:
        """Raises RowsHidden where the database may keep rows of these tables from us; `so` says what follows."""
        if (hidden := dialect_of(connection).hidden_rows(connection, tables, so)) is not None:
            raise RowsHidden(hidden)

    def consult(self, moment: Moment) -> Moment:
        """The moment with what the witness outside the database says, where there is one. Asks it once.

        Whoever goes by the rule asks here first. Raises RowsHidden when the database may keep signs of life from us:
        a job whose signs cannot be seen is not silent.
        """
        if moment.hidden is not None:
            raise RowsHidden(moment.hidden)
        witness = self.habits.witness
        return replace(moment, testimony=witness.ask()) if witness else moment

    def _notice(self, seconds: float) -> None:
        """The database took so long for what it does at once: with more than a little, it stood still."""
        if self._hearing is not None and seconds > _AT_ONCE_SECONDS:
            with self._noticing:  # batches are worked off on two threads
                self._hearing.stood_still(seconds)

    def claim(self, moment: Moment, stamp: Stamp, action: str | None = None, judge: Judge | None = None) -> Claim:
        """The statements that end jobs as of this moment, judged by the rule or by `judge`.

        An operator's own decision is not judged.
        """
        by = judge or stamp.reason is not Reason.MANUAL_TIMEOUT
        chosen, at_once = action or self.habits.action, self.engine.dialect.name == "postgresql"
        return Claim(self.rule, moment, stamp, judge=by, action=chosen, at_once=at_once)

    def instead(self, moment: Moment, stamp: Stamp, judge: Judge | None = None) -> Claim | None:
        """How to end a job whose transition a unique key does not allow; None where it is to be left alone."""
        arms = self.profile.arms(self.habits.action)
        failing = any(action.unique_violation == "fail" for _, action in arms)
        return self.claim(moment, stamp, "fail", judge) if failing else None

    def lease(self, ttl_seconds: float) -> Lease:
        return Lease(self.engine, self.rule.schema, ttl_seconds)
