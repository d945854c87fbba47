"""Deletes the finished jobs of one source that are older than the retention: one pass.

The pass goes from the oldest end onwards: it reads a page of keys, then deletes that page batch by batch. Nothing is
kept between two passes: the next one begins with what an interrupted one has left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.database.connections import read_server_clock
from reaper.database.errors import ErrorKind, classify, is_lock_timeout, short_message
from reaper.database.lease import Lease
from reaper.errors import DatabaseUnavailable, KeyNotUnique, NotPurgeable, RowsHidden, SpellingUnclear, TooManyFailures
from reaper.model import Key, Outcome, PurgeReport
from reaper.profile import Profile
from reaper.profile.related_tables import purge_guard_tables
from reaper.source import Candidate, Source
from reaper.source.purge import JobPurge, purge_cutoff
from reaper.sweep.batch_bisection import BatchBisection
from reaper.sweep.candidate_spool import CandidateSpool

_PAGE_SIZE = 200_000
_MAX_REFUSED_IN_A_ROW = 1000
_MAX_REASONS = 20
_OTHER_REASONS = "other reasons"
_ROWS_MAY_BE_HIDDEN = "a hidden row may need a finished job, so nothing is deleted"


class PurgeListener(Protocol):
    """Called during a purge."""

    def purging(self, source: str, found: int | None) -> None:
        """From now on rows are deleted; `found` is how many there are, where they were counted."""

    def purged(self, source: str, rows: int) -> None:
        """A batch has been deleted, and that is committed."""


class NullPurgeListener:
    """Ignores everything: the report has it all."""

    def purging(self, source: str, found: int | None) -> None: ...

    def purged(self, source: str, rows: int) -> None: ...


@dataclass(frozen=True, slots=True)
class PurgeOptions:
    """How one purge is to be done. With `count`, the rows to delete are counted first; a dry run always counts them.

    Each page of `page_size` rows is one read: without an index on the end, it scans the whole table. `should_stop` is
    asked between batches.
    """

    days_to_keep: float
    batch_size: int
    dry_run: bool = False
    count: bool = False
    page_size: int = _PAGE_SIZE
    should_stop: Callable[[], bool] = lambda: False


def require_purgeable(profile: Profile) -> None:
    """Raises NotPurgeable, saying why, for a profile whose jobs cannot be purged."""
    if profile.jobs.log is not None:
        raise NotPurgeable(
            f"profile {profile.name!r}: a purge of logs is not supported; drop old partitions of "
            f"{profile.jobs.table} instead"
        )
    if profile.purge is None:
        raise NotPurgeable(f"profile {profile.name!r} has no [purge]: it does not say which jobs are finished")


def purge(source: Source, options: PurgeOptions, listener: PurgeListener, lease: Lease | None = None) -> PurgeReport:
    """Delete the jobs that ended more than `days_to_keep` ago. The lease is released at the end.

    Raises NotPurgeable, but never for trouble with the database: the report has it.
    """
    require_purgeable(source.profile)
    begun = time.monotonic()
    run = _PurgeRun(source, options, listener, lease)
    error: str | None = None
    away = False
    try:
        outcome = run.run()
    except DatabaseUnavailable as problem:
        outcome, error, away = Outcome.FAILED, str(problem), True
    except (DBAPIError, KeyNotUnique, TooManyFailures, RowsHidden, SpellingUnclear) as problem:
        outcome, error = Outcome.FAILED, short_message(problem)
        away = isinstance(problem, DBAPIError) and classify(problem) is ErrorKind.UNAVAILABLE
    finally:
        if lease is not None:
            lease.release()
    return run.report(outcome, error, away=away, duration=time.monotonic() - begun)


class _PurgeRun:
    """The progress of one purge. Use `purge`."""

    def __init__(self, source: Source, options: PurgeOptions, listener: PurgeListener, lease: Lease | None) -> None:
        self._source, self._options, self._listener, self._lease = source, options, listener, lease
        self._before: str | None = None
        self._found: int | None = None
        self._purged = self._left = self._refused_in_a_row = 0
        self._refusals: Counter[str] = Counter()
        self._longest = 0.0
        self._bisection = BatchBisection[Key](is_lock_timeout)

    def run(self) -> Outcome:
        with self._source.connect() as connection:
            with self._source.transaction(connection):
                read_server_clock(connection)
                guards = purge_guard_tables(self._source.profile)
                self._source.require_visible_rows(connection, guards, _ROWS_MAY_BE_HIDDEN)
                before = purge_cutoff(connection, self._options.days_to_keep)
            self._before = before.isoformat()
            if self._lease is not None and not self._lease.acquire():
                return Outcome.STANDBY
            job_purge = JobPurge(self._source.statements, before)
            with self._source.transaction(connection, read_only=True):
                job_purge.require_unique_key(connection)
            if self._options.count or self._options.dry_run:
                with self._source.transaction(connection, read_only=True):
                    self._found = job_purge.count(connection)
            if self._options.dry_run:
                return Outcome.DONE
            self._listener.purging(self._source.name, self._found)
            return self._delete_pages(connection, job_purge)

    def _delete_pages(self, connection: Connection, job_purge: JobPurge) -> Outcome:
        after: Candidate | None = None
        while True:
            with CandidateSpool(self._options.batch_size) as page:
                with self._source.transaction(connection, read_only=True):
                    page.fill(self._page(connection, job_purge, after))
                for batch in page.batches():
                    if (outcome := self._reason_to_stop()) is not None:
                        return outcome
                    self._delete(connection, job_purge, [row.key for row in batch])
                    after = batch[-1]
                if page.count < self._options.page_size:
                    return Outcome.STOPPED if self._options.should_stop() else Outcome.DONE

    def _page(self, connection: Connection, job_purge: JobPurge, after: Candidate | None) -> Iterator[Candidate]:
        for row in job_purge.stream(connection, after, self._options.page_size):
            if self._options.should_stop():
                return
            yield row

    def _reason_to_stop(self) -> Outcome | None:
        if self._options.should_stop():
            return Outcome.STOPPED
        if self._lease is not None and not self._lease.renew_if_due():
            return Outcome.STANDBY
        return None

    # --- one batch -------------------------------------------------------------------------------------------

    def _delete(self, connection: Connection, job_purge: JobPurge, keys: Sequence[Key]) -> None:
        attempt = partial(self._attempt, connection, job_purge)
        self._bisection.run(keys, attempt, self._refuse, self._options.should_stop)

    def _attempt(self, connection: Connection, job_purge: JobPurge, keys: Sequence[Key], _last: bool) -> None:
        """One transaction."""
        begun = time.monotonic()
        try:
            with self._source.transaction(connection):
                deleted = job_purge.run(connection, keys)
        finally:
            self._longest = max(self._longest, time.monotonic() - begun)
        self._purged += deleted
        self._left += len(keys) - deleted
        if deleted:
            self._refused_in_a_row = 0
            self._listener.purged(self._source.name, deleted)

    def _refuse(self, _key: Key, error: Exception) -> None:
        """A row that cannot be deleted. Raises TooManyFailures when one after the other is refused."""
        if isinstance(error, DBAPIError) and is_lock_timeout(error):
            self._left += 1
            return
        reason = short_message(error)
        counted = reason in self._refusals or len(self._refusals) < _MAX_REASONS
        self._refusals[reason if counted else _OTHER_REASONS] += 1
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= _MAX_REFUSED_IN_A_ROW:
            raise TooManyFailures(f"the database refused {self._refused_in_a_row} jobs one after the other: {reason}")

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
