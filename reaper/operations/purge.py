"""Retention: one pass that deletes the finished jobs of one source. No schedule, no clock of the host.

The walk goes from the oldest end onwards, a page of keys at a time, and from each page batch by batch. Nothing is
remembered between two passes: whatever was interrupted, the next one begins with what is left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.model import DatabaseAway, Key, Outcome, PurgeReport, ReaperError, RowsHidden
from reaper.profile import Profile
from reaper.profile.places import needing
from reaper.reap import TooManyRefused
from reaper.source import Candidate, HalfDone, Lease, Source, Trouble, in_one_line, look, trouble
from reaper.source.purging import Purging, cutoff, held
from reaper.spool import Spool

_PAGE = 200_000
_TRIES = 3
_MOST_REFUSED = 1000
_MOST_SLOW = 12
_MOST_REASONS = 20
_OTHER_REASONS = "other reasons"
_MAY_BE_NEEDED = "what needs a finished job may be among them, so nothing is deleted"


class NotPurgeable(ReaperError):
    """The profile does not say which jobs are finished, or they cannot be deleted one by one."""


class Listener(Protocol):
    """Told while a purge works."""

    def purging(self, source: str, found: int | None) -> None:
        """From now on rows are deleted; `found` is how many there are, where they were counted."""

    def purged(self, source: str, rows: int) -> None:
        """A batch has been committed."""


@dataclass(frozen=True, slots=True)
class Orders:
    """How one purge is to be done. With `count`, what may go is counted first, which a dry run does in any case.

    A page is a read of its own: without an index on the end, each is a scan of the whole table.
    """

    days_to_keep: float
    batch_size: int
    dry_run: bool = False
    count: bool = False
    page_size: int = _PAGE
    stopping: Callable[[], bool] = lambda: False


def check(profile: Profile) -> None:
    """Raises NotPurgeable, saying why."""
    if profile.jobs.log is not None:
        raise NotPurgeable(
            f"profile {profile.name!r}: a purge of logs is not supported; drop old partitions of "
            f"{profile.jobs.table} instead"
        )
    if profile.purge is None:
        raise NotPurgeable(f"profile {profile.name!r} has no [purge]: it does not say which jobs are finished")


def purge(source: Source, orders: Orders, listener: Listener, lease: Lease | None = None) -> PurgeReport:
    """Delete what ended more than `days_to_keep` ago.

    Raises NotPurgeable, but never for trouble with the database: the report tells it. The lease is given back.
    """
    check(source.profile)
    begun = time.monotonic()
    state = _Walk(source, orders, listener, lease)
    error: str | None = None
    away = False
    try:
        outcome = state.run()
    except DatabaseAway as problem:
        outcome, error, away = Outcome.FAILED, str(problem), True
    except (DBAPIError, TooManyRefused, RowsHidden) as problem:
        outcome, error = Outcome.FAILED, in_one_line(problem)
        away = isinstance(problem, DBAPIError) and trouble(problem) is Trouble.AWAY
    finally:
        if lease is not None:
            lease.release()
    return state.report(outcome, error, away=away, duration=time.monotonic() - begun)


class _Walk:
    """The state of one pass while it runs. Use `purge`."""

    def __init__(self, source: Source, orders: Orders, listener: Listener, lease: Lease | None) -> None:
        self._source, self._orders, self._listener, self._lease = source, orders, listener, lease
        self._before: str | None = None
        self._found: int | None = None
        self._purged = self._left = self._in_a_row = self._slow = 0
        self._refusals: Counter[str] = Counter()
        self._longest = 0.0

    def run(self) -> Outcome:
        with self._source.connect() as connection:
            with self._source.transaction(connection):
                look(connection)
                self._source.insist_on(connection, needing(self._source.profile), _MAY_BE_NEEDED)
                before = cutoff(connection, self._orders.days_to_keep)
            self._before = before.isoformat()
            if self._lease is not None and not self._lease.hold():
                return Outcome.STANDBY
            purging = Purging(self._source.rule.schema, before)
            if self._orders.count or self._orders.dry_run:
                with self._source.transaction(connection, read_only=True):
                    self._found = purging.count(connection)
            if self._orders.dry_run:
                return Outcome.DONE
            self._listener.purging(self._source.name, self._found)
            return self._walk(connection, purging)

    def _walk(self, connection: Connection, purging: Purging) -> Outcome:
        after: Candidate | None = None
        while True:
            with Spool(self._orders.batch_size) as page:
                with self._source.transaction(connection, read_only=True):
                    page.fill(self._page(connection, purging, after))
                for batch in page.batches():
                    if (ended := self._told_to_end()) is not None:
                        return ended
                    self._delete(connection, purging, [row.key for row in batch])
                    after = batch[-1]
                if page.count < self._orders.page_size:
                    return Outcome.STOPPED if self._orders.stopping() else Outcome.DONE

    def _page(self, connection: Connection, purging: Purging, after: Candidate | None) -> Iterator[Candidate]:
        for row in purging.stream(connection, after, self._orders.page_size):
            if self._orders.stopping():
                return
            yield row

    def _told_to_end(self) -> Outcome | None:
        if self._orders.stopping():
            return Outcome.STOPPED
        if self._lease is not None and not self._lease.keep():
            return Outcome.STANDBY
        return None

    # --- one batch -------------------------------------------------------------------------------------------

    def _delete(self, connection: Connection, purging: Purging, keys: Sequence[Key], tries: int = _TRIES) -> None:
        """Delete a batch; when the database refuses it, its halves, down to the one row that is to blame."""
        try:
            self._once(connection, purging, keys)
        except DBAPIError as error:
            kind = trouble(error)
            if kind is Trouble.PASSING and tries > 1:
                self._delete(connection, purging, keys, tries - 1)
            elif held(error) or kind in (Trouble.ROW, Trouble.TWIN, Trouble.PASSING):
                self._divide(connection, purging, keys, error)
            elif kind is Trouble.SLOW and self._slow < _MOST_SLOW:
                self._slow += 1
                self._divide(connection, purging, keys, error)
            else:
                raise
        except HalfDone as error:
            self._divide(connection, purging, keys, error)

    def _once(self, connection: Connection, purging: Purging, keys: Sequence[Key]) -> None:
        begun = time.monotonic()
        try:
            with self._source.transaction(connection):
                deleted = purging.run(connection, keys)
        finally:
            self._longest = max(self._longest, time.monotonic() - begun)
        self._purged += deleted
        self._left += len(keys) - deleted
        if deleted:
            self._in_a_row = 0
            self._listener.purged(self._source.name, deleted)

    def _divide(self, connection: Connection, purging: Purging, keys: Sequence[Key], error: Exception) -> None:
        if len(keys) > 1:
            middle = len(keys) // 2
            for half in (keys[:middle], keys[middle:]):
                if not self._orders.stopping():
                    self._delete(connection, purging, half)
        elif isinstance(error, DBAPIError) and held(error):
            self._left += 1
        else:
            self._refused(in_one_line(error))

    def _refused(self, reason: str) -> None:
        known = reason in self._refusals or len(self._refusals) < _MOST_REASONS
        self._refusals[reason if known else _OTHER_REASONS] += 1
        self._in_a_row += 1
        if self._in_a_row >= _MOST_REFUSED:
            raise TooManyRefused(f"the database refused {self._in_a_row} jobs one after the other: {reason}")

    def report(self, outcome: Outcome, error: str | None, *, away: bool, duration: float) -> PurgeReport:
        return PurgeReport(
            source=self._source.name,
            outcome=outcome,
            duration_seconds=duration,
            before=self._before,
            found=self._found,
            purged=self._purged,
            left=self._left,
            refusals=dict(self._refusals),
            longest_transaction_seconds=self._longest,
            database_away=away,
            error=error,
            dry_run=self._orders.dry_run,
        )
