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

from reaper.database.connections import read_server_clock
from reaper.database.errors import ErrorKind, classify, short_message
from reaper.database.lease import Lease
from reaper.errors import DatabaseUnavailable, NotPurgeable, PartialTransition, RowsHidden, TooManyFailures
from reaper.model import Key, Outcome, PurgeReport
from reaper.profile import Profile
from reaper.profile.related_tables import purge_guard_tables
from reaper.source import Candidate, Source
from reaper.source.purge import PurgeStatements, is_lock_timeout, purge_cutoff
from reaper.sweep.candidate_spool import CandidateSpool

_PAGE = 200_000
_TRIES = 3
_MOST_REFUSED = 1000
_MOST_SLOW = 12
_MOST_REASONS = 20
_OTHER_REASONS = "other reasons"
_MAY_BE_NEEDED = "what needs a finished job may be among them, so nothing is deleted"


class PurgeListener(Protocol):
    """Told while a purge works."""

    def purging(self, source: str, found: int | None) -> None:
        """From now on rows are deleted; `found` is how many there are, where they were counted."""

    def purged(self, source: str, rows: int) -> None:
        """A batch has been committed."""


@dataclass(frozen=True, slots=True)
class PurgeOptions:
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


def purge(source: Source, options: PurgeOptions, listener: PurgeListener, lease: Lease | None = None) -> PurgeReport:
    """Delete what ended more than `days_to_keep` ago.

    Raises NotPurgeable, but never for trouble with the database: the report tells it. The lease is given back.
    """
    check(source.profile)
    begun = time.monotonic()
    state = _Walk(source, options, listener, lease)
    error: str | None = None
    away = False
    try:
        outcome = state.run()
    except DatabaseUnavailable as problem:
        outcome, error, away = Outcome.FAILED, str(problem), True
    except (DBAPIError, TooManyFailures, RowsHidden) as problem:
        outcome, error = Outcome.FAILED, short_message(problem)
        away = isinstance(problem, DBAPIError) and classify(problem) is ErrorKind.UNAVAILABLE
    finally:
        if lease is not None:
            lease.release()
    return state.report(outcome, error, away=away, duration=time.monotonic() - begun)


class _Walk:
    """The state of one pass while it runs. Use `purge`."""

    def __init__(self, source: Source, options: PurgeOptions, listener: PurgeListener, lease: Lease | None) -> None:
        self._source, self._options, self._listener, self._lease = source, options, listener, lease
        self._before: str | None = None
        self._found: int | None = None
        self._purged = self._left = self._in_a_row = self._slow = 0
        self._refusals: Counter[str] = Counter()
        self._longest = 0.0

    def run(self) -> Outcome:
        with self._source.connect() as connection:
            with self._source.transaction(connection):
                read_server_clock(connection)
                self._source.require_visible_rows(connection, purge_guard_tables(self._source.profile), _MAY_BE_NEEDED)
                before = purge_cutoff(connection, self._options.days_to_keep)
            self._before = before.isoformat()
            if self._lease is not None and not self._lease.acquire():
                return Outcome.STANDBY
            purging = PurgeStatements(self._source.rule.tables, before)
            if self._options.count or self._options.dry_run:
                with self._source.transaction(connection, read_only=True):
                    self._found = purging.count(connection)
            if self._options.dry_run:
                return Outcome.DONE
            self._listener.purging(self._source.name, self._found)
            return self._walk(connection, purging)

    def _walk(self, connection: Connection, purging: PurgeStatements) -> Outcome:
        after: Candidate | None = None
        while True:
            with CandidateSpool(self._options.batch_size) as page:
                with self._source.transaction(connection, read_only=True):
                    page.fill(self._page(connection, purging, after))
                for batch in page.batches():
                    if (ended := self._told_to_end()) is not None:
                        return ended
                    self._delete(connection, purging, [row.key for row in batch])
                    after = batch[-1]
                if page.count < self._options.page_size:
                    return Outcome.STOPPED if self._options.stopping() else Outcome.DONE

    def _page(self, connection: Connection, purging: PurgeStatements, after: Candidate | None) -> Iterator[Candidate]:
        for row in purging.stream(connection, after, self._options.page_size):
            if self._options.stopping():
                return
            yield row

    def _told_to_end(self) -> Outcome | None:
        if self._options.stopping():
            return Outcome.STOPPED
        if self._lease is not None and not self._lease.renew_if_due():
            return Outcome.STANDBY
        return None

    # --- one batch -------------------------------------------------------------------------------------------

    def _delete(
        self, connection: Connection, purging: PurgeStatements, keys: Sequence[Key], tries: int = _TRIES
    ) -> None:
        """Delete a batch; when the database refuses it, its halves, down to the one row that is to blame."""
        try:
            self._once(connection, purging, keys)
        except DBAPIError as error:
            kind = classify(error)
            if kind is ErrorKind.TRANSIENT and tries > 1:
                self._delete(connection, purging, keys, tries - 1)
            elif is_lock_timeout(error) or kind in (ErrorKind.ROW, ErrorKind.DUPLICATE, ErrorKind.TRANSIENT):
                self._divide(connection, purging, keys, error)
            elif kind is ErrorKind.TIMEOUT and self._slow < _MOST_SLOW:
                self._slow += 1
                self._divide(connection, purging, keys, error)
            else:
                raise
        except PartialTransition as error:
            self._divide(connection, purging, keys, error)

    def _once(self, connection: Connection, purging: PurgeStatements, keys: Sequence[Key]) -> None:
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

    def _divide(self, connection: Connection, purging: PurgeStatements, keys: Sequence[Key], error: Exception) -> None:
        if len(keys) > 1:
            middle = len(keys) // 2
            for half in (keys[:middle], keys[middle:]):
                if not self._options.stopping():
                    self._delete(connection, purging, half)
        elif isinstance(error, DBAPIError) and is_lock_timeout(error):
            self._left += 1
        else:
            self._refused(short_message(error))

    def _refused(self, reason: str) -> None:
        known = reason in self._refusals or len(self._refusals) < _MOST_REASONS
        self._refusals[reason if known else _OTHER_REASONS] += 1
        self._in_a_row += 1
        if self._in_a_row >= _MOST_REFUSED:
            raise TooManyFailures(f"the database refused {self._in_a_row} jobs one after the other: {reason}")

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
            dry_run=self._options.dry_run,
        )
