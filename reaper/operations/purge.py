"""Deletes the finished jobs of one source that are older than the retention: one pass.

The pass goes from the oldest end onwards: it reads a page of keys, then deletes that page batch by batch. The next one
begins with what an interrupted one has left.

Jobs that the database refuses to delete are set aside, like those that it refuses to end
(`reaper.sweep.refused_jobs`): they delay no other, and each is tried again after a pause that grows with its refusals.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from reaper.database.connections import read_server_clock
from reaper.database.errors import ErrorKind, classify, is_lock_timeout, short_message
from reaper.database.lease import Lease
from reaper.errors import (
    DatabaseUnavailable,
    KeyNotUnique,
    NotPurgeable,
    RowsHidden,
    SpellingUnclear,
    StateUnavailable,
    TooManyFailures,
)
from reaper.memory import RefusedJobStore
from reaper.model import FailedTransition, Key, Outcome, PurgeReport
from reaper.profile import Profile
from reaper.profile.related_tables import purge_guard_tables
from reaper.source import Candidate, Source
from reaper.source.purge import JobPurge, purge_cutoff
from reaper.sweep.batch_bisection import BatchBisection
from reaper.sweep.candidate_spool import CandidateSpool
from reaper.sweep.refused_jobs import RefusedJobs

_PAGE_SIZE = 200_000
MAX_REFUSED = 25_000
"""How many jobs may be refused in one pass, one by one; further ones wait for the next."""
MAX_REFUSED_SECONDS = 60.0
"""How long slow refusals may take in one pass, in all."""
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

    Each page of `page_size` rows is one read: without an index on the end, it scans the whole table. `should_stop` and
    `is_halted` are asked between batches.
    """

    days_to_keep: float
    batch_size: int
    dry_run: bool = False
    count: bool = False
    page_size: int = _PAGE_SIZE
    should_stop: Callable[[], bool] = lambda: False
    is_halted: Callable[[], bool] = lambda: False


def require_purgeable(profile: Profile) -> None:
    """Raises NotPurgeable, saying why, for a profile whose jobs cannot be purged."""
    if profile.jobs.log is not None:
        raise NotPurgeable(
            f"profile {profile.name!r}: a purge of logs is not supported; drop old partitions of "
            f"{profile.jobs.table} instead"
        )
    if profile.purge is None:
        raise NotPurgeable(f"profile {profile.name!r} has no [purge]: it does not say which jobs are finished")


def refused_by_purges(store: RefusedJobStore | None, source: str) -> RefusedJobs:
    """The jobs that the database refuses to delete, kept apart from those that it refuses to end.

    The name that they are kept by is no name of a source: those have no blanks.
    """
    return RefusedJobs(store, f"{source} purge")


def purge(
    source: Source,
    options: PurgeOptions,
    listener: PurgeListener,
    lease: Lease | None = None,
    refused: RefusedJobs | None = None,
) -> PurgeReport:
    """Delete the jobs that ended more than `days_to_keep` ago. The lease is released at the end.

    `refused` are the jobs that earlier passes have set aside; None: every job is tried.

    Raises NotPurgeable, but never for trouble with the database: the report has it.
    """
    require_purgeable(source.profile)
    begun = time.monotonic()
    run = _PurgeRun(source, options, listener, lease, refused if refused is not None else RefusedJobs())
    error: str | None = None
    away = False
    try:
        outcome = run.run()
    except DatabaseUnavailable as problem:
        outcome, error, away = Outcome.FAILED, str(problem), True
    except (DBAPIError, KeyNotUnique, TooManyFailures, RowsHidden, SpellingUnclear, StateUnavailable) as problem:
        outcome, error = Outcome.FAILED, short_message(problem)
        away = isinstance(problem, DBAPIError) and classify(problem) is ErrorKind.UNAVAILABLE
    finally:
        if lease is not None:
            lease.release()
    return run.report(outcome, error, away=away, duration=time.monotonic() - begun)


class _PurgeRun:
    """The progress of one purge. Use `purge`."""

    def __init__(
        self,
        source: Source,
        options: PurgeOptions,
        listener: PurgeListener,
        lease: Lease | None,
        refused: RefusedJobs,
    ) -> None:
        self._source, self._options, self._listener, self._lease = source, options, listener, lease
        self._refused = refused
        self._before: str | None = None
        self._quiet_until: str | None = None
        self._found: int | None = None
        self._purged = self._left = self._refused_now = self._postponed = 0
        self._longest = 0.0
        self._bisection = BatchBisection[Key](is_lock_timeout)

    def run(self) -> Outcome:
        with self._source.connect() as connection:
            with self._source.transaction(connection):
                self._clock, self._clock_read_at = read_server_clock(connection).now, time.monotonic()
                guards = purge_guard_tables(self._source.profile)
                self._source.require_visible_rows(connection, guards, _ROWS_MAY_BE_HIDDEN)
                before = purge_cutoff(connection, self._options.days_to_keep)
            self._before = before.isoformat()
            if self._lease is not None and not self._lease.acquire():
                return Outcome.STANDBY
            job_purge = JobPurge(self._source.statements, before)
            with self._source.transaction(connection, read_only=True):
                job_purge.require_unique_key(connection)
            observes = self._source.options.observed is not None
            if self._options.count or self._options.dry_run or observes:
                with self._source.transaction(connection, read_only=True):
                    self._found = job_purge.count(connection)
            if self._options.dry_run:
                return Outcome.DONE
            if observes:
                return Outcome.OBSERVED
            if self._is_quiet():
                return Outcome.QUIET
            self._listener.purging(self._source.name, self._found)
            return self._pass(connection, job_purge)

    def _pass(self, connection: Connection, job_purge: JobPurge) -> Outcome:
        """Jobs that were refused before are tried again when all others are done."""
        aside, outcome = dict[Key, Candidate](), Outcome.FAILED
        self._refused.begin_pass()
        try:
            outcome = self._delete_pages(connection, job_purge, aside)
            for batch in self._refused.to_try_again(aside, self._options.batch_size):
                if self._out_of_time or (outcome := self._reason_to_stop() or outcome) is not Outcome.DONE:
                    break
                keys = [row.key for row in batch]
                self._delete(connection, job_purge, keys)
                self._refused.record_tried(keys)
        finally:
            self._refused.end_pass(complete=outcome is Outcome.DONE)
        if self._postponed and outcome is Outcome.DONE:
            waiting = f"{self._postponed} job(s) wait for the next purge"
            raise TooManyFailures(f"{waiting}: refusals of the database were too many, or took too long")
        return outcome

    def _delete_pages(self, connection: Connection, job_purge: JobPurge, aside: dict[Key, Candidate]) -> Outcome:
        after: Candidate | None = None
        while True:
            with CandidateSpool(self._options.batch_size) as page:
                with self._source.transaction(connection, read_only=True):
                    page.fill(self._page(connection, job_purge, after))
                for batch in page.batches():
                    if (outcome := self._reason_to_stop()) is not None:
                        return outcome
                    if fresh := self._refused.set_aside(batch, aside):
                        self._delete(connection, job_purge, [row.key for row in fresh])
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
        if self._options.is_halted():
            return Outcome.HALTED
        if self._is_quiet():
            return Outcome.QUIET
        if self._lease is not None and not self._lease.renew_if_due():
            return Outcome.STANDBY
        return None

    @property
    def _now(self) -> datetime:
        """By the database's clock."""
        return self._clock + timedelta(seconds=time.monotonic() - self._clock_read_at)

    def _is_quiet(self) -> bool:
        """Whether it is a quiet time of the source."""
        until = self._source.options.quiet.until(self._now)
        self._quiet_until = None if until is None else until.isoformat()
        return until is not None

    # --- one batch -------------------------------------------------------------------------------------------

    def _delete(self, connection: Connection, job_purge: JobPurge, keys: Sequence[Key]) -> None:
        """All but those that an operator holds. Raises StateUnavailable when it cannot be known which those are."""
        holds = self._source.holds_at(self._now)
        free = [key for key in keys if key not in holds]
        self._left += len(keys) - len(free)
        if not free:
            return
        attempt = partial(self._attempt, connection, job_purge)
        self._postponed += self._bisection.run(free, attempt, self._refuse, self._should_cut_no_further)

    def _should_cut_no_further(self) -> bool:
        return self._options.should_stop() or self._options.is_halted() or self._out_of_time

    @property
    def _out_of_time(self) -> bool:
        """Whether refusals have taken all of the time that they get: whole batches are still tried."""
        return self._refused_now >= MAX_REFUSED or self._bisection.slow_seconds > MAX_REFUSED_SECONDS

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
            self._listener.purged(self._source.name, deleted)

    def _refuse(self, key: Key, error: Exception) -> None:
        """A row that cannot be deleted, or that another transaction holds."""
        if isinstance(error, DBAPIError) and is_lock_timeout(error):
            self._left += 1
            return
        self._refused_now += 1
        self._refused.record_refused([FailedTransition(key, short_message(error))])

    def _refusals(self) -> dict[str, int]:
        """How many rows are refused for each cause, by the error of the first of them."""
        rows = Counter[str]()
        for cause in self._refused.causes():
            rows[cause.error] += cause.jobs
        return dict(rows)

    def report(self, outcome: Outcome, error: str | None, *, away: bool, duration: float) -> PurgeReport:
        return PurgeReport(
            source=self._source.name,
            outcome=outcome,
            duration_seconds=duration,
            before=self._before,
            found=self._found,
            purged=self._purged,
            left=self._left,
            refusals=self._refusals(),
            longest_transaction_seconds=self._longest,
            database_away=away,
            error=error,
            dry_run=self._options.dry_run,
            quiet_until=self._quiet_until if outcome is Outcome.QUIET else None,
        )
